"""Bad input: exit code 2, and words on stderr that say what, the value, and the mend."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.integration import scripted
from tests.integration.helpers import (
    BENCHAI,
    LIMIT,
    TINY_MODEL,
    Done,
    benchai,
    commands,
    engine_config,
    tiny_config,
    write_config,
)
from tests.integration.scripted import ScriptedServer

__all__ = ["commands"]
RUN = ("run", "react", "Hello")


def test_an_unknown_workflow_names_the_nearest(tmp_path: Path) -> None:
    done = benchai("run", "raect", "Hello", "--json", cwd=tmp_path)
    assert (done.code, done.result()["stop_reason"], done.result()["workflow"]) == (2, "error", "raect")
    assert "there is no workflow 'raect'" in done.err
    assert "hint: did you mean 'react'?" in done.err
    done.clean()


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"models:\n  general: {file: a.gguf\n", ["benchai.yaml:3:1", "invalid YAML"]),
        (b"models:\n\tgeneral: {}\n", ["benchai.yaml:2:1", "no tabs"]),
        (b"", ["is empty", "hint: "]),
        (b"- one\n- two\n", ["a mapping with models:", "list"]),
        (b"models: {general: {file: \xff.gguf}}", ["not UTF-8 at byte 25"]),
        (
            b"models:\n  general:\n    file: builtin:tiny\n    contxt: 5\n",
            [":4:5", "contxt", "did you mean 'context'?"],
        ),
        (b"models: {general: {file: builtin:tiny, context: big}}", [":1:40", "context", "'big'"]),
        (b"models: {general: {}}", ["exactly one of file, hf and endpoint"]),
        (b"models: {a: {file: builtin:tiny}}\nroles: {general: b}", [":2:9", "'b'", "valid names: a"]),
        (b"models: {a: {file: builtin:tiny}}\nmodels: {}", ["stands twice", "line 1"]),
        (b"models: {a: {file: builtin:tiny}}\ntools: {enabled: [calculatr]}", ["'calculatr'", "'calculator'"]),
        (b"models: {code: {file: builtin:tiny}}\n", ["no model serves the role 'general'", "hint: "]),
    ],
    ids=["cut", "tab", "empty", "list", "bytes", "key", "type", "source", "role", "twice", "tool", "no-role"],
)
def test_a_wrong_configuration(tmp_path: Path, content: bytes, parts: list[str]) -> None:
    (tmp_path / "benchai.yaml").write_bytes(content)
    benchai(*RUN, cwd=tmp_path).refused(*parts)


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    benchai(*RUN, "--config", "none.yaml", cwd=tmp_path).refused("none.yaml", "--config", "hint: ")
    benchai(*RUN, "--config", ".", cwd=tmp_path).refused(str(tmp_path), "is a folder")
    if os.geteuid() != 0:
        write_config(tmp_path, tiny_config()).chmod(0)
        benchai(*RUN, cwd=tmp_path).refused("cannot be read: Permission denied")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["model.gguf' is missing", "hint: "]),
        (b"", ["it is empty"]),
        (b"PK\x03\x04 something else", ["no GGUF", "b'PK\\x03\\x04'"]),
        (b"GGUF\x03", ["is truncated: 5 bytes"]),
        ("half", ["'tiny' did not start", "truncated", "download the file again"]),
    ],
    ids=["missing", "empty", "other", "header", "half"],
)
def test_a_wrong_model_file(tmp_path: Path, content: bytes | str | None, parts: list[str]) -> None:
    file = tmp_path / "model.gguf"
    if content is not None:
        whole = TINY.read_bytes()
        file.write_bytes(content if isinstance(content, bytes) else whole[: len(whole) // 2])
    write_config(tmp_path, tiny_config(file="model.gguf"))
    benchai(*RUN, cwd=tmp_path).refused(*parts)


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        write_config(tmp_path, tiny_config(port=port))
        benchai(*RUN, cwd=tmp_path).refused(f"port {port}", f"pid {os.getpid()}", "models.tiny.port")


@pytest.mark.parametrize(
    ("engine", "parts"),
    [
        ({"kind": "llama-server"}, ["no engine found", "'llama-server'", "hint: "]),
        ({"path": "nowhere/llama-server"}, ["engine.path = 'nowhere/llama-server'", "hint: "]),
    ],
    ids=["none", "path"],
)
def test_no_engine(tmp_path: Path, engine: dict[str, str], parts: list[str]) -> None:
    write_config(tmp_path, tiny_config() | {"engine": engine})
    benchai(*RUN, cwd=tmp_path, env={"PATH": ""}).refused(*parts)


@pytest.mark.parametrize(
    ("extra_args", "part"),
    [(["--no-such-flag"], "'--no-such-flag'"), (["--top-k", "many"], "--top-k")],
    ids=["flag", "value"],
)
def test_a_wrong_flag(tmp_path: Path, extra_args: list[str], part: str) -> None:
    write_config(tmp_path, tiny_config(extra_args=extra_args))
    benchai(*RUN, cwd=tmp_path).refused(part, "hint: ")


def test_an_engine_that_exits_shows_its_last_words(tmp_path: Path) -> None:
    write_config(tmp_path, engine_config(tmp_path, "exits"))
    benchai(*RUN, cwd=tmp_path).refused("exit code 3", "the engine cannot go on", "hint: ")


def test_a_context_below_what_the_prompt_needs(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config(context=256))
    task = "Add these numbers: " + "17 + " * 300
    benchai("run", "react", task, cwd=tmp_path).refused("too long", "the context has 256", "models.tiny.context")


@pytest.mark.parametrize(
    ("stdin", "parts"),
    [
        (b"", ["the task is empty", "hint: "]),
        (b" \n\t", ["the task is empty"]),
        (b"x" * 10_000_000, ["10,000,000 bytes", "1,048,576", "hint: "]),
        (b"caf\xe9", ["stdin is not UTF-8: byte 0xe9 at offset 3", "iconv"]),
    ],
    ids=["empty", "blank", "large", "latin-1"],
)
def test_a_wrong_task(tmp_path: Path, stdin: bytes, parts: list[str]) -> None:
    benchai("run", "react", "-", cwd=tmp_path, stdin=stdin).refused(*parts)


def test_a_task_argument_that_is_not_utf8(tmp_path: Path) -> None:
    benchai("run", "react", b"caf\xe9", cwd=tmp_path).refused("not UTF-8")


def test_a_closed_stdin(tmp_path: Path) -> None:
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *BENCHAI, "run", "react"]
    done = subprocess.run(closed, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False)
    Done(done.returncode, done.stdout, done.stderr).refused("the task is missing", "hint: ")


@pytest.mark.parametrize("name", ["file.txt", "none"])
def test_a_wrong_workspace(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").write_text("text", encoding="utf-8")
    benchai(*RUN, "--workspace", name, cwd=tmp_path).refused(f"the workspace {name!r}", "hint: ")


@pytest.mark.parametrize(
    ("role", "parts"),
    [
        ("general", ["--role 'general'", "ROLE=MODEL"]),
        ("=tiny", ["--role '=tiny'"]),
        ("general=", ["--role 'general='"]),
        ("general=tinny", ["no model 'tinny'", "did you mean 'tiny'?"]),
        ("genral=tiny", ["genral", "did you mean 'general'?"]),
    ],
)
def test_a_wrong_role(tmp_path: Path, role: str, parts: list[str]) -> None:
    benchai(*RUN, "--role", role, cwd=tmp_path).refused(*parts)


@pytest.mark.parametrize(
    ("options", "part"),
    [(["--max-steps", "0"], "--max-steps"), (["--timeout", "nan"], "--timeout"), (["--thread", ""], "thread")],
)
def test_a_wrong_limit(tmp_path: Path, options: list[str], part: str) -> None:
    done = benchai(*RUN, *options, cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert part in done.err
    done.clean()


def test_a_missing_key(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("no")) as server:
        write_config(tmp_path, {"models": {"general": server.model(api_key_env="FAR_KEY")}})
        benchai(*RUN, cwd=tmp_path).refused("'FAR_KEY' is not set", "hint: export FAR_KEY=")
        assert not server.requests


@pytest.mark.parametrize(
    ("content", "target"),
    [
        ("raise SystemExit(3)\n", "own.py:graph"),
        ("import no_such_module\n", "own.py:graph"),
        ("", "none.py:graph"),
        ("", "own.py:graph"),
    ],
    ids=["exits", "import", "missing", "attribute"],
)
def test_a_wrong_own_workflow(tmp_path: Path, content: str, target: str) -> None:
    (tmp_path / "own.py").write_text(content, encoding="utf-8")
    config = {"models": {"general": TINY_MODEL}, "workflows": {"own": target}}
    write_config(tmp_path, config)
    benchai("run", "own", "Hello", cwd=tmp_path).refused("workflows.own", target.partition(":")[0])


def test_an_override_in_the_environment(tmp_path: Path) -> None:
    benchai(*RUN, cwd=tmp_path, env={"BENCHAI_BUDGETS__STEPS": "many"}).refused("BENCHAI_BUDGETS__STEPS", "'many'")
    benchai(*RUN, cwd=tmp_path, env={"BENCHAI_BUDGTS__STEPS": "3"}).refused("BENCHAI_BUDGTS__STEPS", "'budgets'")
