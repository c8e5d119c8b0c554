"""Which benchai.yaml applies, and what the environment overrides in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchai.config import find_config, load_config, paths
from benchai.config.environment import RESERVED
from benchai.errors import ConfigError

MODEL = "models:\n  code:\n    file: a.gguf\n"


def write(file: Path, model: str = "code") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"models:\n  {model}:\n    file: a.gguf\n", encoding="utf-8")
    return file


@pytest.fixture
def places(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A configuration in each place; the working folder is one of them."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return {
        "explicit": write(tmp_path / "explicit.yaml", "explicit"),
        "variable": write(tmp_path / "variable.yaml", "variable"),
        "here": write(work / "benchai.yaml", "here"),
        "user": write(own_home / "benchai.yaml", "user"),
    }


def loaded_model(explicit: Path | None, env: dict[str, str]) -> str:
    return next(iter(load_config(explicit, env).config.models))


def test_search_order(places: dict[str, Path]) -> None:
    env = {"BENCHAI_CONFIG": str(places["variable"])}
    assert loaded_model(places["explicit"], env) == "explicit"
    assert loaded_model(None, env) == "variable"
    assert loaded_model(None, {}) == "here"
    assert loaded_model(None, {"BENCHAI_CONFIG": ""}) == "here"
    places["here"].unlink()
    assert loaded_model(None, {}) == "user"
    assert paths.config_dir() == places["user"].parent
    places["user"].unlink()
    assert find_config(None, {}) is None
    assert loaded_model(None, {}) == "tiny"
    assert load_config(None, {}).path is None


def test_the_process_environment_is_the_default(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHAI_CONFIG", str(places["variable"]))
    monkeypatch.setenv("BENCHAI_BUDGETS__STEPS", "3")
    loaded = load_config()
    assert loaded.path == places["variable"]
    assert loaded.config.budgets.steps == 3


def test_a_named_file_is_made_absolute(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_config(Path("benchai.yaml"), {}) == places["here"]
    assert find_config(None, {"BENCHAI_CONFIG": "benchai.yaml"}) == places["here"]
    monkeypatch.setenv("HOME", str(places["explicit"].parent))
    assert find_config(Path("~/explicit.yaml"), {}) == places["explicit"]


@pytest.mark.parametrize(("by", "word"), [("--config", "--config"), ("BENCHAI_CONFIG", "BENCHAI_CONFIG")])
def test_a_named_file_that_is_not_there(places: dict[str, Path], tmp_path: Path, by: str, word: str) -> None:
    missing, folder = tmp_path / "no.yaml", tmp_path / "work"
    for named, state in ((missing, "is not there"), (folder, "is a folder")):
        explicit = named if by == "--config" else None
        env = {"BENCHAI_CONFIG": str(named)} if by == "BENCHAI_CONFIG" else {}
        with pytest.raises(ConfigError, match=f"that {word} names {state}") as raised:
            load_config(explicit, env)
        assert str(named) in raised.value.message
        assert raised.value.hint


def test_a_home_that_no_user_has_is_an_error_of_ours(places: dict[str, Path]) -> None:
    with pytest.raises(ConfigError):
        find_config(Path("~no-such-user-here/benchai.yaml"), {})


def overridden(tmp_path: Path, env: dict[str, str], text: str = MODEL) -> Any:
    file = tmp_path / "b.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, env)


@pytest.mark.parametrize(
    ("variable", "value", "path", "expected"),
    [
        ("BENCHAI_ROUTER__TIMEOUTS__GPU", "60", "router.timeouts.gpu", 60),
        ("BENCHAI_ROUTER__MAX_CONCURRENT__CODE", "3", "router.max_concurrent", {"code": 3}),
        ("BENCHAI_ROUTER", "{port: 7}", "router.port", 7),
        ("BENCHAI_BUDGETS__SECONDS", "0.5", "budgets.seconds", 0.5),
        ("BENCHAI_TOOLS__ENABLED", "[calculator]", "tools.enabled", ["calculator"]),
        ("BENCHAI_ENGINE__PATH", "/bin/x", "engine.path", "/bin/x"),
        ("BENCHAI_MODELS_DIR", "m", "models_dir", "m"),
        ("BENCHAI_ROLES__GENERAL", "code", "roles", {"general": "code"}),
        ("BENCHAI_WORKFLOWS__MINE", "./a.py:b", "workflows", {"mine": "./a.py:b"}),
    ],
)
def test_an_override(tmp_path: Path, variable: str, value: str, path: str, expected: object) -> None:
    loaded = overridden(tmp_path, {variable: value})
    found: Any = loaded.config
    for part in path.split("."):
        found = getattr(found, part)
    assert found == expected
    assert loaded.overrides == (variable,)


@pytest.mark.parametrize(
    ("name", "part"),
    [("code", "CODE"), ("my-model", "MY_MODEL"), ("Big_Model", "BIG_MODEL"), ("qwen2.5-7b", "QWEN2_5_7B")],
)
def test_a_model_is_found_whatever_its_name_is_written_like(tmp_path: Path, name: str, part: str) -> None:
    text = f"models:\n  {name}:\n    file: a.gguf\n    threads: 1\n"
    loaded = overridden(tmp_path, {f"BENCHAI_MODELS__{part}__THREADS": "5"}, text)
    assert {key: model.threads for key, model in loaded.config.models.items()} == {name: 5}


def test_a_new_model_from_the_environment(tmp_path: Path) -> None:
    loaded = overridden(tmp_path, {"BENCHAI_MODELS__FAST__FILE": "f.gguf", "BENCHAI_MODELS__FAST__THREADS": "2"})
    assert loaded.config.models["fast"].threads == 2
    assert loaded.overrides == ("BENCHAI_MODELS__FAST__FILE", "BENCHAI_MODELS__FAST__THREADS")


def test_the_built_in_configuration_is_overridden_too(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load_config(None, {"BENCHAI_MODELS__TINY__THREADS": "2"})
    assert loaded.config.models["tiny"].threads == 2
    assert loaded.config.models["tiny"].file == "builtin:tiny"
    assert load_config(None, {}).config.models["tiny"].threads == 1


def test_an_override_of_one_model_leaves_its_alias_alone(tmp_path: Path) -> None:
    text = "models:\n  a: &a {file: a.gguf, threads: 1}\n  b: *a\n"
    models = overridden(tmp_path, {"BENCHAI_MODELS__A__THREADS": "5"}, text).config.models
    assert (models["a"].threads, models["b"].threads) == (5, 1)


def test_an_override_fills_a_section_that_is_empty_in_the_file(tmp_path: Path) -> None:
    loaded = overridden(tmp_path, {"BENCHAI_ROUTER__PORT": "5"}, MODEL + "router:\n")
    assert loaded.config.router.port == 5


@pytest.mark.parametrize("variable", [*sorted(RESERVED), "HOME", "BENCHMARK"])
def test_other_variables_override_nothing(tmp_path: Path, variable: str) -> None:
    file = tmp_path / "b.yaml"
    file.write_text(MODEL, encoding="utf-8")
    assert load_config(file, {variable: "x"}).overrides == ()


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("BENCHAI_ROUTR__PORT", "1", "there is no section 'routr'"),
        ("BENCHAI_ROUTER__PRT", "1", "router.prt = 1: unknown key (did you mean 'port'?)"),
        ("BENCHAI_ROUTER__PORT", "high", "router.port = 'high'"),
        ("BENCHAI_ROUTER", "5", "router = 5"),
        ("BENCHAI_ROUTER", "", "router = None"),
        ("BENCHAI_MODELS__CODE__THREADS", "[1", "invalid YAML"),
        ("BENCHAI_MODELS__CODE__THREADS", "a: b: c", "invalid YAML"),
        ("BENCHAI_MODELS__CODE__THREADS", "\x07", "invalid YAML"),
        ("BENCHAI_MODELS__CODE__FILE__X", "1", "models.code.file is a value, not a section"),
        ("BENCHAI_MODELS__CODE__EXTRA_ARGS__0", "1", "models.code.extra_args"),
        ("BENCHAI_ROLES__GENERAL", "cod", "roles.general = 'cod': there is no such model"),
        ("BENCHAI_MODELS__OTHER__THREADS", "3", "models.other"),
        ("BENCHAI_MODELS____THREADS", "3", ""),
        ("BENCHAI_BUDGETS__SECONDS", "2020-13-45", "invalid YAML"),
        ("BENCHAI_BUDGETS__SECONDS", "[" * 3000, "invalid YAML"),
        ("BENCHAI_ROUTER__PORT__", "5", ""),
    ],
)
def test_an_override_that_cannot_be_names_its_variable(tmp_path: Path, variable: str, value: str, part: str) -> None:
    with pytest.raises(ConfigError) as raised:
        overridden(tmp_path, {variable: value}, MODEL + "    extra_args: [a]\n")
    assert variable in raised.value.message
    assert part in raised.value.message


def test_a_whole_section_from_the_environment_is_blamed_for_its_keys(tmp_path: Path) -> None:
    """The file's own place of the key would send the reader to the wrong line."""
    with pytest.raises(ConfigError) as raised:
        overridden(tmp_path, {"BENCHAI_ROUTER": "{port: high}"}, MODEL + "router:\n  port: 1\n")
    assert "environment BENCHAI_ROUTER: router.port = 'high'" in raised.value.message


def test_a_file_and_a_variable_in_one_report(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        overridden(tmp_path, {"BENCHAI_ROUTER__PORT": "high"}, MODEL + "    threds: 1\n")
    first, second = raised.value.message.splitlines()
    assert first.startswith("environment BENCHAI_ROUTER__PORT: router.port = 'high'")
    assert f"{tmp_path / 'b.yaml'}:4:5: models.code.threds" in second


@pytest.mark.parametrize("variable", ["BENCHAI_API_KEY", "BENCHAI_PORT", "BENCHAI_"])
def test_a_variable_of_somebody_else_is_left_alone(tmp_path: Path, variable: str) -> None:
    assert overridden(tmp_path, {variable: "sk-secret"}, MODEL).overrides == ()


def test_the_value_of_a_wrong_override_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        overridden(tmp_path, {"BENCHAI_API__KEY": "sk-secret"}, MODEL)
    assert "sk-secret" not in raised.value.message
