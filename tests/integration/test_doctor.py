"""``benchai doctor``, ``fleet plan`` and ``workflows``."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.integration.helpers import TINY_MODEL, benchai, commands, engine_config, tiny_config, write_config

__all__ = ["commands"]


def test_a_good_machine(tmp_path: Path, own_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    write_config(tmp_path, tiny_config() | {"router": {"port": port}})
    done = benchai("doctor", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    found = [line.removeprefix("ok       ") for line in done.out.splitlines()]
    for part in ("engine: ", f"model tiny: {TINY}", f"port {port}: free"):
        assert any(line.startswith(part) for line in found)
    for part in (str(own_home), "benchai.yaml"):
        assert part in done.out
    assert "problem" not in done.out
    assert not own_home.exists(), "a look leaves nothing"


def test_problems_are_named_with_their_mend(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    far = {"endpoint": "http://127.0.0.1:9/v1", "model": "big", "api_key_env": "FAR_KEY"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        models = {
            "general": TINY_MODEL | {"file": "none.gguf"},
            "code": TINY_MODEL | {"file": str(broken), "port": port},
            "research": TINY_MODEL | {"extra_args": ["--no-such-flag"]},
            "planner": far,
        }
        write_config(tmp_path, {"models": models})
        done = benchai("doctor", "--json", cwd=tmp_path)
    assert (done.code, done.err) == (1, "")
    found = json.loads(done.out)
    problems = {one["what"]: one for one in found if one["state"] == "problem"}
    assert set(problems) == {"model general", "model code", "model research", "model planner"}
    for what, part in {
        "general": "none.gguf",
        "code": "no GGUF",
        "research": "--no-such-flag",
        "planner": "FAR_KEY",
    }.items():
        assert part in problems[f"model {what}"]["text"]
        assert problems[f"model {what}"]["mend"]
    [warning] = [one for one in found if one["what"] == f"port {port}"]
    assert warning["state"] == "warning"
    assert str(os.getpid()) in warning["text"]


@pytest.mark.parametrize("content", ["models: [", "modles: {}"])
def test_a_wrong_configuration_is_a_problem(tmp_path: Path, content: str) -> None:
    (tmp_path / "benchai.yaml").write_text(content, encoding="utf-8")
    done = benchai("doctor", cwd=tmp_path)
    assert done.code == 1
    assert "problem  configuration: " in done.out
    assert "benchai.yaml:1:" in done.out
    done.clean()


def test_no_engine_is_a_problem(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config() | {"engine": {"kind": "llama-server"}})
    done = benchai("doctor", cwd=tmp_path, env={"PATH": ""})
    assert done.code == 1
    assert "problem  engine: no engine found" in done.out
    assert "engine.path" in done.out


def test_an_engine_that_cannot_be_run_is_a_problem(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho 'libcuda.so.1: cannot open' >&2\nexit 127\n", encoding="utf-8")
    program.chmod(0o755)
    write_config(tmp_path, tiny_config() | {"engine": {"path": str(program)}})
    done = benchai("doctor", cwd=tmp_path)
    assert done.code == 1
    assert "libcuda.so.1: cannot open" in done.out


def test_the_plan_starts_nothing(tmp_path: Path, own_home: Path) -> None:
    config = engine_config(tmp_path, "deaf", context=4096, slots=2)
    config["models"]["far"] = {"endpoint": "http://127.0.0.1:9/v1", "model": "big"}
    config["models"]["gone"] = TINY_MODEL | {"file": "none.gguf", "port": 8123}
    write_config(tmp_path, config)
    done = benchai("fleet", "plan", "--json", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    tiny, far, gone = json.loads(done.out)
    argv = tiny["argv"]
    assert str(tmp_path / "llama-server") in argv
    assert argv[argv.index("--ctx-size") + 1] == "4096"
    assert argv[argv.index("--parallel") + 1] == "2"
    assert (tiny["placement"], tiny["roles"], tiny["port"]) == ("cpu", ["general"], 0)
    assert (far["placement"], far["argv"], far["port"]) == ("remote", [], None)
    assert (gone["missing"], gone["port"]) == ([str(tmp_path / "none.gguf")], 8123)
    text = benchai("fleet", "plan", cwd=tmp_path)
    assert text.code == 0
    for part in ("tiny: cpu, roles general", "--ctx-size 4096", "missing ", "endpoint http://127.0.0.1:9/v1"):
        assert part in text.out
    assert not own_home.exists()


def test_the_workflows_are_listed(tmp_path: Path) -> None:
    graph = '"""My own graph."""\nfrom benchai.graphs.react import build as make\ngraph = make()\n'
    (tmp_path / "own.py").write_text(graph, encoding="utf-8")
    write_config(tmp_path, tiny_config() | {"workflows": {"own": "own.py:graph"}})
    done = benchai("workflows", "--json", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    found = {one["name"]: one for one in json.loads(done.out)}
    assert {"own", "react"} <= set(found)
    assert found["own"]["description"] == "My own graph."
    assert "task" in found["react"]["input"]["properties"]
    assert found["react"]["roles"] == ["general"]
    text = benchai("workflows", cwd=tmp_path)
    assert "own: My own graph." in text.out
