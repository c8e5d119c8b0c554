"""Where the files of a configuration are looked for, and what is said of those that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchai.config import LoadedConfig, default_config, load_config, paths
from benchai.config.load import require_file
from benchai.errors import ConfigError, ModelFileError, UsageError


def load(tmp_path: Path, text: str) -> LoadedConfig:
    folder = tmp_path / "conf"
    folder.mkdir(exist_ok=True)
    file = folder / "benchai.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, {})


def touch(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    return file


def test_the_order_of_the_folders(tmp_path: Path) -> None:
    loaded = load(tmp_path, "models_dir: ../shared\nmodels: {code: {file: a.gguf}}\n")
    own, shared, users = tmp_path / "conf", tmp_path / "shared", paths.models_dir()
    assert loaded.resolve("a.gguf") == own / "a.gguf"
    last = touch(users / "a.gguf")
    assert loaded.resolve("a.gguf") == last
    middle = touch(shared / "a.gguf")
    assert loaded.resolve("a.gguf").samefile(middle)
    first = touch(own / "a.gguf")
    assert loaded.resolve("a.gguf") == first
    assert loaded.model_file("code") == first


def test_without_models_dir(tmp_path: Path) -> None:
    loaded = load(tmp_path, "models: {code: {file: sub/a.gguf}}\n")
    found = touch(paths.models_dir() / "sub" / "a.gguf")
    assert loaded.resolve("sub/a.gguf") == found


def test_absolute_and_home_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(tmp_path, "models_dir: ~/models\nmodels: {code: {file: a.gguf}}\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    touch(paths.models_dir() / "elsewhere" / "a.gguf")
    assert loaded.resolve(str(tmp_path / "x.gguf")) == tmp_path / "x.gguf"
    assert loaded.resolve("~/x.gguf") == tmp_path / "home" / "x.gguf"
    assert loaded.resolve("a.gguf") == tmp_path / "conf" / "a.gguf"
    assert loaded.resolve("a.gguf") != touch(tmp_path / "home" / "models" / "a.gguf")
    assert loaded.resolve("a.gguf") == tmp_path / "home" / "models" / "a.gguf"


def test_the_bundled_model() -> None:
    loaded = LoadedConfig(default_config())
    assert loaded.resolve("builtin:tiny").parts[-3:] == ("benchai", "models", "tiny.gguf")
    assert loaded.name == "the built-in configuration"
    assert loaded.folder == Path.cwd()


def test_a_folder_of_that_name_does_not_hide_the_file(tmp_path: Path) -> None:
    loaded = load(tmp_path, "models_dir: ../shared\nmodels: {code: {file: tiny}}\n")
    (tmp_path / "conf" / "tiny").mkdir()
    file = touch(tmp_path / "shared" / "tiny")
    found = loaded.model_file("code")
    assert found is not None
    assert found.samefile(file)


def test_a_remote_model_has_no_file(tmp_path: Path) -> None:
    loaded = load(tmp_path, "models: {far: {endpoint: 'http://127.0.0.1:1/v1', model: m}}\n")
    assert loaded.model_file("far") is None
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ("", None),
        ("mmproj: no.gguf", "mmproj"),
        ("draft: {file: no.gguf}", "draft"),
        ("lora: [no.gguf]", "lora"),
        ("chat_template_file: no.jinja", "chat_template_file"),
    ],
)
def test_a_warning_for_each_missing_file(tmp_path: Path, settings: str, key: str | None) -> None:
    touch(tmp_path / "conf" / "a.gguf")
    loaded = load(tmp_path, f"models:\n  code:\n    file: a.gguf\n    {settings}\n")
    expected = [f"{loaded.path}:4:"] if key else []
    assert [warning[: len(str(loaded.path)) + 3] for warning in loaded.warnings] == expected
    assert all(f"models.code.{key}" in warning for warning in loaded.warnings)


def test_a_warning_names_place_key_value_and_where_it_was_looked_for(tmp_path: Path) -> None:
    loaded = load(tmp_path, "models:\n  code:\n    file: a.gguf\n")
    (warning,) = loaded.warnings
    place = f"{loaded.path}:3:5: models.code.file = 'a.gguf': missing"
    assert warning.startswith(place)
    assert str(tmp_path / "conf" / "a.gguf") in warning


@pytest.mark.parametrize("file", ["~no-such-user-here/a.gguf", "x" * 300 + ".gguf", '"a\\0b"'])
def test_a_path_that_cannot_be_is_a_warning_or_an_error_of_ours(tmp_path: Path, file: str) -> None:
    try:
        loaded = load(tmp_path, f"models: {{code: {{file: {file}}}}}\n")
    except ConfigError:
        return
    assert len(loaded.warnings) == 1


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "conf" / "m").mkdir(parents=True)
    loaded = load(tmp_path, "models: {code: {file: m}}\n")
    assert len(loaded.warnings) == 1
    with pytest.raises(ModelFileError, match="is a folder"):
        require_file(tmp_path / "conf" / "m", "models.code")


def test_require_file(tmp_path: Path) -> None:
    file = touch(tmp_path / "a.gguf")
    assert require_file(file, "models.code") == file
    with pytest.raises(ModelFileError, match=r"models\.code: the file .*no\.gguf' is missing") as raised:
        require_file(tmp_path / "no.gguf", "models.code")
    assert raised.value.hint


def test_roles_from_the_command_line(tmp_path: Path) -> None:
    loaded = load(tmp_path, "models: {code: {file: a}, general: {file: b}}\n")
    changed = loaded.with_roles({"general": "code", "planner": "code"})
    assert changed.model_for("general")[0] == "code"
    assert changed.model_for("planner")[0] == "code"
    assert changed.model_for("code")[0] == "code"
    assert loaded.model_for("general")[0] == "general"
    assert (changed.path, changed.warnings) == (loaded.path, loaded.warnings)


def test_unknown_roles_and_models(tmp_path: Path) -> None:
    loaded = load(tmp_path, "models: {code: {file: a}}\n")
    with pytest.raises(ConfigError, match="no model serves the role 'cod'") as role:
        loaded.model_for("cod")
    assert "--role cod=MODEL" in str(role.value.hint)
    assert "'code'" in str(role.value.hint)
    with pytest.raises((ConfigError, UsageError), match="there is no model 'cde'") as model:
        loaded.with_roles({"code": "cde"})
    assert model.value.hint == "did you mean 'code'?"


def test_all_folders_of_the_user_stand_under_one_home(own_home: Path) -> None:
    found = [paths.config_dir(), paths.data_dir(), paths.cache_dir(), paths.log_dir(), paths.threads_file()]
    assert all(path.is_relative_to(own_home) for path in found)
    assert not own_home.exists()
    assert paths.models_dir() == paths.data_dir() / "models"


def test_folders_of_the_platform_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BENCHAI_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    found = {paths.config_dir(), paths.data_dir(), paths.cache_dir(), paths.log_dir()}
    assert len(found) == 4
    assert all("benchai" in path.parts for path in found)
