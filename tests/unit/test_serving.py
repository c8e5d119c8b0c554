"""Where a server runs: its lock, its state file, and which runs may use it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchai import errors
from benchai.config import LoadedConfig, load_config
from benchai.errors import BenchAIError, ConfigError, EngineError, UsageError
from benchai.runtime.attached import error_from, refusal
from benchai.runtime.fleet.state import ProcessId
from benchai.runtime.serving import announced, models_of, only_server, running_server, write_record
from benchai.server.ops import error_data

TINY: dict[str, Any] = {
    "models": {"one": {"file": "builtin:tiny"}, "two": {"file": "builtin:tiny"}},
    "roles": {"general": "one"},
}


def configured(folder: Path, **changes: Any) -> LoadedConfig:
    folder.mkdir(exist_ok=True)
    path = folder / "benchai.yaml"
    path.write_text(yaml.safe_dump(TINY | changes), encoding="utf-8")
    return load_config(path, {})


def state(home: Path) -> Path:
    return home / "state" / "serve.json"


def record(**changes: Any) -> dict[str, Any]:
    me = ProcessId.of(os.getpid())
    assert me is not None
    known = {"pid": me.pid, "started": me.started, "url": "http://127.0.0.1:1", "token": "t", "config": "c"}
    return known | {"models": "m"} | changes


def test_a_server_is_found_while_it_is_announced(tmp_path: Path, own_home: Path) -> None:
    loaded = configured(tmp_path)
    assert running_server() is None
    with only_server(), announced("http://127.0.0.1:1", "secret", loaded):
        found = running_server()
        assert found is not None
        assert (found.pid, found.url, found.token) == (os.getpid(), "http://127.0.0.1:1", "secret")
        assert (found.config, found.models) == (loaded.name, models_of(loaded))
        assert stat.S_IMODE(state(own_home).stat().st_mode) == 0o600
        with pytest.raises(UsageError, match=rf"already at http://127\.0\.0\.1:1 \(pid {os.getpid()}, "), only_server():
            pass
    assert running_server() is None
    assert not state(own_home).exists()
    with only_server():
        pass


def test_the_key_is_never_readable_by_others(tmp_path: Path, own_home: Path) -> None:
    state(own_home).parent.mkdir(parents=True)
    state(own_home).write_text("old")
    state(own_home).chmod(0o666)
    state(own_home).with_suffix(".partial").write_text("left")
    before = os.umask(0)
    try:
        write_record("http://127.0.0.1:1", "secret", configured(tmp_path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(state(own_home).stat().st_mode) == 0o600
    assert [file.name for file in state(own_home).parent.iterdir()] == ["serve.json"]


def test_a_server_before_it_is_announced_is_known_by_its_lock() -> None:
    with only_server(), pytest.raises(UsageError, match="already of this user"), only_server():
        pass


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"started": 1.0}, id="another process of the same pid"),
        pytest.param({"pid": 2**22 + 1}, id="no such process"),
        pytest.param({"pid": 2**70}, id="no pid"),
        pytest.param({"pid": -1}, id="negative"),
        pytest.param({"pid": "12"}, id="text"),
        pytest.param({"pid": None}, id="none"),
        pytest.param({"started": None}, id="no start"),
        pytest.param({"started": "noon"}, id="a start in words"),
        pytest.param({"more": 1}, id="of a later version"),
    ],
)
def test_a_stale_record_is_not_believed(own_home: Path, changes: dict[str, Any]) -> None:
    state(own_home).parent.mkdir(parents=True)
    state(own_home).write_text(json.dumps(record()))
    assert running_server() is not None
    state(own_home).write_text(json.dumps(record(**changes)))
    assert running_server() is None


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}"])
def test_a_damaged_record_is_not_believed(own_home: Path, text: bytes) -> None:
    state(own_home).parent.mkdir(parents=True)
    state(own_home).write_bytes(text)
    assert running_server() is None


# ---- which runs attach


def test_the_same_models_are_the_same_server(tmp_path: Path) -> None:
    loaded = configured(tmp_path)
    same = models_of(loaded)
    assert models_of(configured(tmp_path)) == same
    # what does not launch a model differs freely
    assert models_of(configured(tmp_path, budgets={"steps": 3})) == same
    assert models_of(configured(tmp_path, router={"port": 9})) == same
    assert models_of(configured(tmp_path, tools={"enabled": []})) == same


def test_another_role_for_a_model_is_no_other_model(tmp_path: Path) -> None:
    loaded = configured(tmp_path)
    assert models_of(loaded.with_roles({"general": "two"})) == models_of(loaded)
    assert models_of(loaded.with_roles({"vision": "two"})) == models_of(loaded)


def test_the_built_in_configuration_is_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found.append(models_of(load_config(None, {})))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"models": {"one": {"file": "builtin:tiny"}}}, id="fewer"),
        pytest.param({"models": TINY["models"] | {"two": {"file": "other.gguf"}}}, id="another file"),
        pytest.param({"models": TINY["models"] | {"two": {"file": "builtin:tiny", "context": 1}}}, id="a setting"),
        pytest.param({"engine": {"kind": "native"}}, id="another engine"),
        pytest.param({"models_dir": "/m"}, id="another folder of models"),
    ],
)
def test_other_models_are_another_server(tmp_path: Path, changes: dict[str, Any]) -> None:
    before = models_of(configured(tmp_path))
    assert models_of(configured(tmp_path, **changes)) != before


def test_a_relative_file_is_of_its_folder(tmp_path: Path) -> None:
    models = {"models": {"one": {"file": "m.gguf"}}, "roles": {}}
    one, two = configured(tmp_path / "a", **models), configured(tmp_path / "b", **models)
    assert models_of(one) != models_of(two)


# ---- errors over the wire


def every_error(kind: type[BenchAIError] = BenchAIError) -> list[type[BenchAIError]]:
    return [
        kind,
        *(below for one in kind.__subclasses__() if one.__module__ == "benchai.errors" for below in every_error(one)),
    ]


@pytest.mark.parametrize("kind", every_error())
def test_an_error_arrives_as_it_was(kind: type[BenchAIError]) -> None:
    error = kind("what is 'x'", hint="mend it")
    got = error_from(json.loads(json.dumps(error_data(error))))
    assert type(got) is kind
    assert (got.message, got.hint, got.exit_code, got.status) == ("what is 'x'", "mend it", kind.exit_code, kind.status)


def test_what_an_error_carries_arrives_too() -> None:
    full = error_from(error_data(errors.QueueFull("full", retry_after=7.5)))
    assert isinstance(full, errors.QueueFull)
    assert full.retry_after == 7.5
    start = error_from(error_data(errors.EngineStartError("no", log=["a", "b"])))
    assert isinstance(start, errors.EngineStartError)
    assert start.log == ("a", "b")


@pytest.mark.parametrize("kind", ["", None, "Exception", "did_you_mean", "__doc__", "nearest", 3])
def test_an_error_of_an_unknown_kind(kind: object) -> None:
    error = error_from({"kind": kind, "message": "no"})
    assert (type(error), error.message) == (EngineError, "no")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"error": {"message": "a"}}', "a"),
        ('{"detail": "the key is needed"}', "the key is needed"),
        ('{"detail": [{"loc": ["body", "role"]}]}', "role"),
        ("Internal Server Error", "Internal Server Error"),
        ("[]", "[]"),
        ("", ""),
    ],
)
def test_a_refusal_in_any_shape(text: str, message: str) -> None:
    assert message in error_from(refusal(text)).message


# ---- what the configuration says of a server


@pytest.mark.parametrize("host", ["", "a b", "a,b", "\n"])
def test_a_host_that_is_none(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen on host"):
        configured(tmp_path).with_router(host, None)


def test_an_address_in_place_of_the_configured_one(tmp_path: Path) -> None:
    router = configured(tmp_path, router={"port": 9, "max_queue": 3}).with_router("::1", 0).config.router
    assert (router.host, router.port, router.max_queue) == ("::1", 0, 3)
    assert configured(tmp_path).with_router(None, None).config.router.port == 8085


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"fleet": {"core": ["general", "genral"]}}, ["fleet.core.1", "'genral'", "no such role", "'general'"]),
        ({"router": {"fallback": {"genral": ["one"]}}}, ["router.fallback.genral", "no such role", "'general'"]),
        ({"router": {"fallback": {"general": ["tow"]}}}, ["router.fallback.general.0", "'tow'", "'two'"]),
        ({"router": {"max_concurrent": {"cod": 1}}}, ["router.max_concurrent.cod", "no such role", "'code'"]),
    ],
)
def test_names_of_roles_and_models_are_checked(tmp_path: Path, changes: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, **changes)
    for part in (*parts, "benchai.yaml:"):
        assert part in f"{caught.value} {caught.value.hint}"


def test_a_core_role_of_an_own_name(tmp_path: Path) -> None:
    loaded = configured(tmp_path, roles={"general": "one", "judge": "two"}, fleet={"core": ["judge"]})
    assert loaded.config.fleet.core == ["judge"]
