"""``benchai init``: from a bare machine to a server, with a small hub."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from benchai.config import load_config
from tests.integration.helpers import BENCHAI, Done, Forked, benchai, commands, ended, until
from tests.integration.hub_server import Hub, hub

__all__ = ["commands"]
SMALL = ("--gpu-mib", "0", "--ram-mib", "16384")
ROLE = ("--role", "general", "--no-start")


@pytest.fixture(scope="module")
def shared() -> Iterator[Hub]:
    with hub() as running:
        yield running


@pytest.fixture
def server(shared: Hub) -> Hub:
    shared.requests.clear()
    shared.sent.clear()
    shared.cut, shared.dies, shared.dead, shared.lie = None, False, False, False
    return shared


@pytest.fixture
def env(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith(("HF_", "HUGGING")):
            monkeypatch.delenv(name)
    home = {"BENCHAI_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    return home | {"HF_ENDPOINT": server.url, "HF_HUB_DISABLE_TELEMETRY": "1"}


def init(folder: Path, env: Mapping[str, str], *args: str) -> Done:
    return benchai("init", *args, cwd=folder, env=env)


def config(folder: Path) -> Path:
    return folder / "home" / "benchai.yaml"


def models(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "home" / "data" / "models").glob("*"))


def test_nothing_happens_without_consent(tmp_path: Path, env: Mapping[str, str]) -> None:
    done = init(tmp_path, env, *SMALL)
    done.refused("this would fetch", "--yes")
    # before anybody agrees
    assert "licence of Qwen2.5 7B: Apache-2.0" in done.err
    assert "to fetch: bartowski/Qwen2.5-7B-Instruct-GGUF:Qwen2.5-7B-Instruct-Q5_K_M.gguf, 2.5 MiB" in done.err
    assert not (tmp_path / "home").exists()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        # the other end is closed
        return b""


def test_a_no_on_a_terminal(tmp_path: Path, env: Mapping[str, str]) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        command = Forked(["init", *SMALL, *ROLE], tmp_path, env, [theirs, theirs, theirs])
        os.close(theirs)
        terminal.write(b"n\n")
        assert command.wait() == 1
        shown = b"".join(iter(lambda: _read(ours), b"")).decode()
    assert "Fetch 2.5 MiB, write" in shown
    assert not (tmp_path / "home").exists()


def test_models_are_fetched_checked_and_configured(tmp_path: Path, env: Mapping[str, str], server: Hub) -> None:
    done = init(tmp_path, env, *SMALL, "--yes", "--no-start")
    assert (done.code, done.out) == (0, "")
    done.clean()
    assert "Qwen2.5-7B-Instruct-Q5_K_M.gguf: 2.5 of 2.5 MiB (100 %)" in done.err
    assert models(tmp_path) == [
        "qwen2-vl-7b-instruct.Q4_K_M.gguf",
        "qwen2-vl-7b-instruct.mmproj-f16.gguf",
        "qwen2.5-7b-instruct.Q5_K_M.gguf",
    ]
    loaded = load_config(config(tmp_path), {})
    assert loaded.warnings == ()
    assert set(loaded.config.role_map()) == {"code", "general", "planner", "research", "vision"}
    # the sizes are those of the files that came
    text = config(tmp_path).read_text()
    assert "exactly" in text
    assert "estimated" not in text
    again = init(tmp_path, env, *SMALL, "--yes", "--no-start")
    again.refused("is there already", "--force")
    server.sent.clear()
    assert init(tmp_path, env, *SMALL, "--role", "planner", "--yes", "--no-start", "--force").code == 0
    assert server.sent == {}


def test_a_download_that_is_cut_off_writes_no_configuration(
    tmp_path: Path, env: Mapping[str, str], server: Hub
) -> None:
    server.lie = True
    init(tmp_path, env, *SMALL, *ROLE, "--yes").refused("its SHA-256 is", "it was removed")
    assert models(tmp_path) == []
    assert not config(tmp_path).exists()


def test_without_a_network(tmp_path: Path, env: Mapping[str, str]) -> None:
    offline = {**env, "HF_HUB_OFFLINE": "1"}
    init(tmp_path, offline, *SMALL, *ROLE, "--yes").refused("cannot be fetched", "--no-download", "--tiny")
    assert not (tmp_path / "home").exists()
    done = init(tmp_path, offline, *SMALL, *ROLE, "--yes", "--no-download")
    assert done.code == 0
    assert "missing: " in done.err
    assert "fetch the missing files" in done.err
    [warning] = load_config(config(tmp_path), {}).warnings
    assert "phi-3-mini-4k-instruct.Q4_K_M.gguf" in warning


def test_tiny_needs_no_network_and_starts(tmp_path: Path, env: Mapping[str, str], server: Hub) -> None:
    (tmp_path / "benchai.yaml").write_text("models: {m: {file: builtin:tiny}}\n")
    asked = {**os.environ, **env, "BENCHAI_ROUTER__PORT": "0"}
    with (tmp_path / "err.txt").open("wb") as err:
        command = [*BENCHAI, "init", "--tiny", "--yes"]
        process = subprocess.Popen(command, cwd=tmp_path, env=asked, stdin=subprocess.DEVNULL, stderr=err)
    try:
        state = tmp_path / "home" / "state" / "serve.json"
        until(lambda: state.exists() or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "err.txt").read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert ended(process.pid)
    assert f"warning: here {tmp_path / 'benchai.yaml'} is used" in (tmp_path / "err.txt").read_text()
    assert server.requests == []
    assert load_config(config(tmp_path), {}).config.role_map()["vision"] == "tiny-vision"
