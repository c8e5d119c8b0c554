"""What the integration tests share: configurations, the command line as a process, misbehaving engines."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import psutil
import pytest
import yaml

from benchai.config import LoadedConfig, load_config
from tests.conftest import TINY

LIMIT = 25.0
TINY_MODEL: dict[str, Any] = {
    "file": str(TINY),
    "threads": 1,
    "threads_batch": 1,
    "gpu_layers": 0,
    "temperature": 0,
    "extra_args": ["--no-warmup"],
}


def tiny_config(**extra: Any) -> dict[str, Any]:
    """Every role that the built-in workflows call on the bundled model; ``extra`` adds to the model."""
    return {"models": {"tiny": TINY_MODEL | extra}, "roles": {"general": "tiny"}}


def write_config(folder: Path, data: Mapping[str, Any]) -> Path:
    path = folder / "benchai.yaml"
    path.write_text(yaml.safe_dump(dict(data), sort_keys=False), encoding="utf-8")
    return path


def loaded(folder: Path, data: Mapping[str, Any]) -> LoadedConfig:
    return load_config(write_config(folder, data))


def until(condition: Callable[[], object], seconds: float = LIMIT) -> None:
    """Wait for a condition; fail when it does not come."""
    end = time.monotonic() + seconds
    waiting = threading.Event()
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        waiting.wait(0.01)


def group(pgid: int) -> list[int]:
    """The processes of a group that run; a zombie waits for its parent, it does not run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == pgid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def ended(pid: int, seconds: float = 10) -> bool:
    """Whether a process, perhaps of another parent, ends in time."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watch], [], [], seconds)[0])
    finally:
        os.close(watch)


def below(pid: int) -> list[int]:
    """The processes below ``pid``."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


@dataclass(frozen=True)
class Done:
    """A finished command: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    def result(self) -> dict[str, Any]:
        last = self.events()[-1]
        assert last["type"] == "result", last
        return last

    def refused(self, *parts: str, code: int = 2) -> None:
        """The command refused its input: the exit code, and words for a person, without a trace."""
        assert self.code == code, self
        assert self.out == "", self
        assert "error: " in self.err, self
        self.clean()
        for part in parts:
            assert part in self.err, f"{part!r} is not in {self.err}"

    def clean(self) -> None:
        for trace in ("Traceback", "Logging error", "Warning:", "never awaited"):
            assert trace not in self.err, self.err


BENCHAI = [sys.executable, "-m", "benchai"]

# Imports the command line once and forks for each command: its own process, without a second of imports.
_COMMANDS = """
import json, os, socket, sys, threading, traceback
import benchai.bench, benchai.runtime.checkup, benchai.runtime.fleet.fleet, benchai.cli.render, benchai.cli.asyncrun
import benchai.graphs.memories, benchai.memory.memory, benchai.memory.remote, benchai.memory.ingest
from benchai.cli.app import main

assert threading.active_count() == 1
requests = socket.socket(fileno=int(sys.argv[1]))
while True:
    message, streams, _, _ = socket.recv_fds(requests, 1 << 20, 3)
    if not message:
        break
    request = json.loads(message)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            requests.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            os.chdir(request["cwd"])
            os.environ.clear()
            os.environ.update(request["env"])
            sys.argv = ["benchai", *request["args"]]
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    for stream in streams:
        os.close(stream)
    requests.send(str(pid).encode())
    requests.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
"""
_server: list[socket.socket] = []


@pytest.fixture(scope="module", autouse=True)
def commands() -> Iterator[None]:
    """The process that ``benchai()`` forks its commands from; import it into a module that runs many."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    argv = [sys.executable, "-c", _COMMANDS, str(theirs.fileno())]
    with ours, subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL) as process:
        theirs.close()
        ours.settimeout(LIMIT)
        _server.append(ours)
        yield
        _server.clear()
        ours.close()
        process.wait(LIMIT)


class Forked:
    """A command that the server forked; one at a time."""

    def __init__(
        self, args: Sequence[str | bytes], cwd: Path, env: Mapping[str, str] | None, streams: list[int]
    ) -> None:
        [self._server] = _server
        words = [os.fsdecode(arg) for arg in args]
        request = {"args": words, "cwd": str(cwd), "env": {**os.environ, **(env or {})}}
        socket.send_fds(self._server, [json.dumps(request).encode()], streams)
        self.pid = int(self._server.recv(64))
        self._code: int | None = None

    def wait(self, seconds: float = LIMIT) -> int:
        """The exit code, negative for a signal."""
        if self._code is None:
            self._server.settimeout(seconds)
            self._code = int(self._server.recv(64))
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        if self._code is None:
            self.send_signal(signal.SIGKILL)


def benchai(*args: str | bytes, cwd: Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Done:
    """Run a command in a process of its own to its end."""
    with TemporaryFile() as source, TemporaryFile() as out, TemporaryFile() as err:
        source.write(stdin)
        source.seek(0)
        command = Forked(args, cwd, env, [file.fileno() for file in (source, out, err)])
        try:
            code = command.wait()
        finally:
            command.kill()
        out.seek(0)
        err.seek(0)
        return Done(code, out.read().decode(), err.read().decode())


def benchai_afresh(*args: str, cwd: Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Done:
    """Run a command as a shell does: with an interpreter of its own, and pipes."""
    done = subprocess.run(
        [*BENCHAI, *args],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        env={**os.environ, **(env or {})},
        timeout=LIMIT,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@dataclass
class Cli:
    """A command that runs; its JSON events are read as they come."""

    process: Forked
    stdout: BinaryIO
    stderr: Path
    lines: list[str] = field(default_factory=list)

    def wait_for(self, kind: str) -> dict[str, Any]:
        """The next event of a type."""
        for raw in self.stdout:
            self.lines.append(raw.decode())
            event: dict[str, Any] = json.loads(raw)
            if event["type"] == kind:
                return event
        raise AssertionError(f"ended without {kind!r}: {self.lines} {self.stderr.read_text()}")

    def end(self) -> Done:
        """Wait for the end."""
        rest = self.stdout.read().decode()
        return Done(self.process.wait(), "".join(self.lines) + rest, self.stderr.read_text())


@contextlib.contextmanager
def running(*args: str, cwd: Path, env: Mapping[str, str] | None = None, stdin: int | None = None) -> Iterator[Cli]:
    """A command under way; it is killed when it is not over by the end."""
    stderr = cwd / "stderr.txt"
    read, write = os.pipe()
    with stderr.open("wb") as err, Path(os.devnull).open("rb") as nothing, os.fdopen(read, "rb") as stdout:
        streams = [nothing.fileno() if stdin is None else stdin, write, err.fileno()]
        process = Forked(args, cwd, env, streams)
        os.close(write)
        # ends a read that would wait for ever
        watchdog = threading.Timer(LIMIT, process.kill)
        watchdog.start()
        try:
            yield Cli(process, stdout, stderr)
        finally:
            watchdog.cancel()
            watchdog.join()
            process.kill()
            process.wait()


HELP = """\
----- common params -----

-h,    --help, --usage                  print usage and exit
--version                               show version and build info
-t,    --threads N                      number of CPU threads to use during generation (default: -1)
                                        (env: LLAMA_ARG_THREADS)
-tb,   --threads-batch N                number of threads to use during batch and prompt processing
-c,    --ctx-size N                     size of the prompt context (default: 0, 0 = loaded from model)
-b,    --batch-size N                   logical maximum batch size (default: 2048)
-ub,   --ubatch-size N                  physical maximum batch size (default: 512)
-fa,   --flash-attn [on|off|auto]       set Flash Attention use ('on', 'off', or 'auto', default: 'auto')
-kvu,  --kv-unified, -no-kvu, --no-kv-unified
                                        use single unified KV buffer shared across all sequences
-ctk,  --cache-type-k TYPE              KV cache data type for K
-ctv,  --cache-type-v TYPE              KV cache data type for V
-ngl,  --gpu-layers, --n-gpu-layers N   max. number of layers to store in VRAM
-m,    --model FNAME                    model path to load
--no-warmup                             skip warming up the model with an empty run

----- example-specific params -----

-np,   --parallel N                     number of server slots (default: -1, -1 = auto)
-cb,   --cont-batching, -nocb, --no-cont-batching
                                        whether to enable continuous batching
-a,    --alias STRING                   set alias for model name
--host HOST                             ip address to listen, or bind to an UNIX socket
--port PORT                             port to listen (default: 8080)
--metrics                               enable prometheus compatible metrics endpoint
-cram, --cache-ram N                    set the maximum cache size in MiB (default: 8192, -1 - no limit, 0 -
--slot-save-path PATH                   path to save slot kv cache (default: disabled)
--jinja, --no-jinja                     whether to use jinja template engine for chat
"""

_ENGINE = '''#!{python} -IS
"""A program in the place of llama-server that behaves as told."""
import json, os, signal, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BEHAVIOUR = {behaviour!r}
if "--version" in sys.argv:
    sys.exit(sys.stderr.write("version: 11434 (test)\\n") * 0)
if "--help" in sys.argv:
    sys.exit(sys.stdout.write({help!r}) * 0)


def argument(flag):
    return sys.argv[sys.argv.index(flag) + 1]


def say(text):
    print(text, flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        loading = BEHAVIOUR in ("loading", "silent-loading")
        if loading:
            self.reply(503, b'{{"error": {{"code": 503, "message": "Loading model"}}}}')
        elif self.path == "/health":
            self.reply(200, b'{{"status": "ok"}}')
        elif BEHAVIOUR == "html":
            self.reply(200, b"<html>it works</html>")
        elif BEHAVIOUR == "no-settings":
            self.reply(200, json.dumps({{"model_path": argument("--model")}}).encode())
        else:
            settings = {{"n_ctx": 4096}}
            props = {{"default_generation_settings": settings, "model_path": argument("--model")}}
            self.reply(200, json.dumps(props).encode())

    def do_POST(self):
        # begins an answer, and never goes on
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        delta = {{"role": "assistant", "content": "begun"}}
        chunk = {{"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}}
        text = "data: " + json.dumps(chunk | {{"choices": [{{"index": 0, "delta": delta}}]}}) + "\\n\\n"
        self.wfile.write(f"{{len(text):x}}\\r\\n{{text}}\\r\\n".encode())
        say("streaming")
        threading.Event().wait()

    def log_message(self, *args):
        pass


def grandchild():
    code = (
        "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('grandchild', os.getpid(), flush=True); open(os.environ['FLAG'], 'w').close();"
        "[signal.pause() for _ in iter(int, 1)]"
    )
    flag = __file__ + ".flag"
    subprocess.Popen([sys.executable, "-IS", "-c", code], env={{**os.environ, "FLAG": flag}})
    while not os.path.exists(flag):
        pass


if BEHAVIOUR == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()
if BEHAVIOUR == "exits":
    say("the engine cannot go on")
    sys.exit(3)
if BEHAVIOUR in ("grandchild", "orphaning"):
    grandchild()
if BEHAVIOUR == "orphaning":
    sys.exit(3)
if BEHAVIOUR == "serves-deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = ThreadingHTTPServer((argument("--host"), int(argument("--port"))), Handler)
say("started")
if BEHAVIOUR == "loading":
    def log():
        while not threading.Event().wait(0.02):
            say("loading tensors")
    threading.Thread(target=log, daemon=True).start()
server.serve_forever()
'''


def script_engine(folder: Path, behaviour: str) -> Path:
    """An executable that answers --help as llama-server does, and then behaves as told."""
    path = folder / "llama-server"
    path.write_text(_ENGINE.format(python=sys.executable, behaviour=behaviour, help=HELP), encoding="utf-8")
    path.chmod(0o755)
    return path


def engine_config(
    folder: Path, behaviour: str, *, stall: float = LIMIT, grace: float = 5, **model: Any
) -> dict[str, Any]:
    """A configuration whose engine is a script."""
    engine = {"kind": "llama-server", "path": str(script_engine(folder, behaviour))}
    return tiny_config(**model) | {"engine": engine | {"stall_timeout": stall, "stop_grace": grace}}


def signal_after(cli: Cli, kind: str, number: signal.Signals) -> dict[str, Any]:
    """Wait for an event, then send a signal."""
    event = cli.wait_for(kind)
    cli.process.send_signal(number)
    return event
