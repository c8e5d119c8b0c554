"""The embedded engine and the launcher as a supervisor meets them: real processes, real model, real HTTP."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "benchai" / "runtime" / "engine"
MODEL = ROOT / "benchai" / "models" / "tiny.gguf"
SERVER = [sys.executable, "-P", "-m", "benchai.runtime.engine.native_server"]
LAUNCHER = [sys.executable, "-I", "-S", str(ENGINE / "launch.py")]
SERVE = [*SERVER, "-m", str(MODEL), "--port", "0", "-t", "1", "--no-warmup"]
LIMIT = 30.0


class Child:
    """A process whose output, both streams in one, is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def wait_for(self, pattern: str) -> re.Match[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"ended without {pattern!r}: {''.join(self.lines)}")

    def client(self) -> httpx.Client:
        address = self.wait_for(r"^server is listening on (http://\S+)$")[1]
        return httpx.Client(base_url=address, trust_env=False, timeout=LIMIT)


@contextlib.contextmanager
def spawned(argv: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Child]:
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(env or {})},
    )
    # Ends a read that would wait for ever.
    watchdog = threading.Timer(LIMIT, process.kill)
    watchdog.start()
    try:
        with process:
            try:
                yield Child(process)
            finally:
                process.kill()
    finally:
        watchdog.cancel()
        watchdog.join()


def run(argv: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    full = {**os.environ, **(env or {})}
    return subprocess.run(argv, env=full, text=True, capture_output=True, timeout=LIMIT, check=False)


def test_serves_a_completion_and_ends_at_sigterm_with_status_0() -> None:
    with spawned(SERVE, {"BENCHAI_PARENT_PID": str(os.getpid())}) as child, child.client() as client:
        assert client.get("/health").json() == {"status": "ok"}
        reply = client.post("/completion", json={"prompt": "Hello", "n_predict": 4, "ignore_eos": True})
        assert reply.json()["tokens_predicted"] == 4
        child.process.terminate()
        assert child.process.wait(LIMIT) == 0
    assert child.lines[0].startswith("server is starting on http://127.0.0.1:")


def test_flags_take_effect(tmp_path: Path) -> None:
    flags = "-c 512 -np 2 -kvu -a tiny,small --temp 0.25 --top-k 7 --seed 5 -n 3 --metrics --api-key secret"
    argv = [*SERVE, *flags.split(), "--slot-save-path", str(tmp_path)]
    with spawned(argv) as child, child.client() as client:
        assert client.get("/health").status_code == 200
        assert client.get("/props").status_code == 401
        client.headers["Authorization"] = "Bearer secret"
        props = client.get("/props").json()
        defaults = props["default_generation_settings"]
        assert (props["total_slots"], defaults["n_ctx"]) == (2, 512)
        assert [slot["n_ctx"] for slot in client.get("/slots").json()] == [512, 512]
        sampling = defaults["params"]
        assert (sampling["temperature"], sampling["top_k"], sampling["seed"]) == (0.25, 7, 5)
        aliases = client.get("/v1/models").json()["data"][0]
        assert {aliases["id"], *aliases["aliases"]} == {"tiny", "small"}
        assert client.get("/metrics").status_code == 200
        reply = client.post("/completion", json={"prompt": "Hello", "id_slot": 0, "ignore_eos": True})
        assert reply.json()["tokens_predicted"] == 3
        client.post("/slots/0?action=save", json={"filename": "zero"}).raise_for_status()
        assert (tmp_path / "zero").stat().st_size > 0


def test_sigterm_ends_a_server_with_more_requests_than_slots() -> None:
    request = {"prompt": "Hello", "n_predict": -1, "ignore_eos": True, "stream": True}
    with contextlib.ExitStack() as stack:
        child = stack.enter_context(spawned([*SERVE, "-np", "1", "-c", "2048"]))
        client = stack.enter_context(child.client())
        streams = [stack.enter_context(client.stream("POST", "/completion", json=request))]
        assert next(streams[0].iter_lines()).startswith("data: ")
        queued = stack.enter_context(spawned([sys.executable, "-c", _QUEUE, str(client.base_url)]))
        queued.wait_for("sent")
        child.process.terminate()
        assert child.process.wait(LIMIT) == 0


_QUEUE = """
import socket, sys, urllib.parse
url = urllib.parse.urlsplit(sys.argv[1])
body = b'{"prompt": "Hi", "n_predict": 64, "ignore_eos": true}'
request = socket.create_connection((url.hostname, url.port))
head = f"POST /completion HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: application/json\\r\\nContent-Length: {len(body)}"
request.sendall(head.encode() + b"\\r\\n\\r\\n" + body)
print("sent", flush=True)
request.recv(1)
"""


@pytest.fixture
def broken(tmp_path: Path) -> Mapping[str, Path]:
    whole = MODEL.read_bytes()
    contents = {"other": b"not a model", "empty": b"", "truncated": whole[: len(whole) // 2], "header": whole[:64]}
    files = {name: tmp_path / f"{name}.gguf" for name in contents}
    for name, content in contents.items():
        files[name].write_bytes(content)
    return {**files, "missing": tmp_path / "missing.gguf", "folder": tmp_path}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("missing", r"^error: cannot read model file '.*missing\.gguf': No such file or directory$"),
        ("folder", r"^error: cannot read model file '.*': Is a directory$"),
        ("other", r"^error: model file '.*other\.gguf' is not a GGUF file: it begins with b'not '$"),
        ("empty", r"^error: model file '.*empty\.gguf' is not a GGUF file: it begins with b''$"),
        ("truncated", r"data is not within the file bounds, model is corrupted or incomplete$"),
        ("header", r"^error: failed to serve model '.*header\.gguf' \(see the log\): "),
    ],
)
def test_a_model_that_cannot_be_read_ends_with_status_1(broken: Mapping[str, Path], name: str, line: str) -> None:
    done = run([*SERVER, "-m", str(broken[name]), "--port", "0"])
    assert done.returncode == 1
    assert re.search(line, done.stderr, re.MULTILINE), done.stderr
    assert re.search(r"^error: ", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "last"),
    [
        ("--foo", "error: invalid argument: --foo"),
        ("-c many", "error while handling argument \"-c\": expected an integer of at least 0, got 'many'"),
        ("", "error: --model is required"),
    ],
)
def test_a_wrong_command_line_ends_with_status_1(flags: str, last: str) -> None:
    done = run([*SERVER, *flags.split()])
    assert (done.returncode, done.stderr.splitlines()) == (1, [last])


def test_a_taken_port_ends_with_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run([*SERVER, "-m", str(MODEL), "--port", str(port)])
    where = f"hostname: 127.0.0.1, port: {port}"
    assert done.returncode == 1
    assert done.stderr == f"error: couldn't bind HTTP server socket, {where}: Address already in use\n"


def test_help_lists_the_flags() -> None:
    done = run([*SERVER, "--help"])
    assert done.returncode == 0
    assert re.search(r"^-c, --ctx-size N +context", done.stdout, re.MULTILINE)


def test_version_reads_like_that_of_llama_server() -> None:
    done = run([*SERVER, "--version"])
    assert done.returncode == 0
    assert re.match(r"version: \S.* \(build \d+, commit \w+\)\nbuilt with ", done.stderr)


def test_settings_in_the_environment_are_ignored() -> None:
    leaks = {"LLAMA_ARG_ENDPOINT_METRICS": "1", "LLAMA_ARG_CTX_SIZE": "256", "AIP_MODE": "PREDICTION"}
    with spawned([*SERVE, "-c", "512", "-np", "1"], {**leaks, "AIP_HTTP_PORT": "1"}) as child, child.client() as client:
        assert client.get("/props").json()["default_generation_settings"]["n_ctx"] == 512
        assert client.get("/metrics").status_code == 501


def test_end_of_stdin_ends_a_server_that_watches_it() -> None:
    with spawned(SERVE, {"BENCHAI_WATCH_STDIN": "1"}) as child, child.client() as client:
        assert client.get("/health").status_code == 200
        assert child.process.stdin is not None
        child.process.stdin.close()
        assert child.process.wait(LIMIT) == 0


# The parent: it starts its arguments as a child that knows it, shows the child's pid and output, and waits.
_PARENT = """
import os, subprocess, sys
env = {**os.environ, "BENCHAI_PARENT_PID": str(os.getpid())}
child = subprocess.Popen(sys.argv[1:], env=env, stdin=subprocess.DEVNULL)
print("pid", child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize(
    ("argv", "ready"),
    [
        pytest.param(SERVE, "server is listening", id="engine"),
        pytest.param([*LAUNCHER, *SERVE], "server is listening", id="launcher"),
    ],
)
def test_a_killed_parent_takes_its_child_along(argv: Sequence[str], ready: str) -> None:
    with spawned([sys.executable, "-I", "-c", _PARENT, *argv]) as parent:
        pid = int(parent.wait_for(r"^pid (\d+)")[1])
        watch = os.pidfd_open(pid)
        try:
            parent.wait_for(ready)
            parent.process.kill()
            # A pidfd is readable once its process has ended, reaped or not.
            assert select.select([watch], [], [], LIMIT)[0], f"{pid} outlived its parent"
        finally:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(watch, signal.SIGKILL)
            os.close(watch)


@pytest.mark.parametrize("argv", [SERVE, [*LAUNCHER, *SERVE]], ids=["engine", "launcher"])
def test_a_child_of_another_parent_ends_at_once(argv: Sequence[str]) -> None:
    assert run(argv, {"BENCHAI_PARENT_PID": "0"}).returncode == 125


def test_the_launcher_becomes_the_program_in_a_clean_environment() -> None:
    show = "import os, sys; print(os.getpid(), sorted(k for k in os.environ if k.startswith(('LLAMA_', 'BENCHAI_P'))))"
    env = {"BENCHAI_PARENT_PID": str(os.getpid()), "LLAMA_ARG_PORT": "1", "LLAMA_CACHE": "kept"}
    with spawned([*LAUNCHER, sys.executable, "-c", show], env) as child:
        found = child.wait_for(r"^(\d+) (.*)$")
        assert found.groups() == (str(child.process.pid), "['LLAMA_CACHE']")
        assert child.process.wait(LIMIT) == 0


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file or directory"), ("other", "Permission denied")])
def test_the_launcher_tells_what_it_cannot_execute(broken: Mapping[str, Path], name: str, reason: str) -> None:
    program = str(broken[name])
    done = run([*LAUNCHER, program])
    assert (done.returncode, done.stderr) == (127, f"error: cannot execute {program!r}: {reason}\n")
