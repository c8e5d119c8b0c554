"""The embedded engine: one GGUF served over HTTP by the llama.cpp server of the ``xllamacpp`` wheel.

Run as a child process, ``python -P -m benchai.runtime.engine.native_server FLAGS``, with the flags of
llama-server. ``/health`` answers 503 while the model loads, then 200. SIGTERM ends it at once, requests in
flight included: with status 0 when the model is loaded, before that by the signal itself.

Environment:
    BENCHAI_PARENT_PID: process id of the parent; the process ends when that parent does (Linux).
    BENCHAI_WATCH_STDIN: ``1`` ends the process at end of file on stdin; the reader starts to run once
        the model is loaded, because the wheel holds the interpreter while it loads.

Exit status: 0 stopped or nothing to do, 1 the server could not start, 125 the parent was gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn

from benchai.runtime.engine import launch, native_flags

WATCH_STDIN = "BENCHAI_WATCH_STDIN"
"""Variable that asks for an end at end of file on stdin."""

_MODEL_FLAGS = ("-m", "-md", "-mm")


class StartError(Exception):
    """The server cannot start; the message is the line to print."""


def say(line: str) -> None:
    """Print one line on stderr, where the engine logs."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def version() -> str:
    """Return the two lines that ``llama-server --version`` prints, for this wheel."""
    xllamacpp = import_module("xllamacpp")
    # The wheel is built outside a git checkout: its last version component tells the build of llama.cpp.
    release, info = str(xllamacpp.__version__), xllamacpp.BUILD_INFO
    build = info["build_number"] or release.rpartition(".")[2]
    return (
        f"version: xllamacpp {release} (build {build}, commit {info['commit']})\n"
        f"built with {info['compiler']} for {info['build_target']}"
    )


def check_gguf(path: str) -> None:
    """Check that a model file is there and begins as GGUF does.

    Raises:
        StartError: It is missing, unreadable, empty or another kind of file.
    """
    try:
        with Path(path).open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise StartError(f"error: cannot read model file {path!r}: {error.strerror}") from None
    if magic != b"GGUF":
        raise StartError(f"error: model file {path!r} is not a GGUF file: it begins with {magic!r}")


def check_files(settings: list[native_flags.Setting]) -> None:
    """Check every model file that the settings name, before the engine is loaded."""
    if native_flags.chosen(settings, "-m") is None:
        raise StartError("error: --model is required")
    for path in (native_flags.chosen(settings, name) for name in _MODEL_FLAGS):
        if path is not None:
            check_gguf(path)
    for setting in settings:
        if setting.flag.names[0].startswith("--lora") and setting.flag.parse:
            for path, _ in setting.value:
                check_gguf(path)


def _bind(host: str, port: int) -> socket.socket:
    """Bind as the server will: SO_REUSEADDR for a given port, SO_REUSEPORT to share a free one with it."""
    option = "SO_REUSEADDR" if port else "SO_REUSEPORT"
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as undo:
            probe = undo.enter_context(socket.socket(family, kind))
            if hasattr(socket, option):
                probe.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
            probe.bind(address)
            undo.pop_all()
    except OSError as error:
        message = f"couldn't bind HTTP server socket, hostname: {host}, port: {port}"
        raise StartError(f"error: {message}: {error.strerror}") from None
    return probe


@contextlib.contextmanager
def reserved_address(params: Any) -> Iterator[str]:
    """Settle the address before the model is read: refuse a taken port, choose a free one for port 0.

    A chosen port stays bound, though not listened on, until the server shares it: no other process
    can take it in between, and its number is known while the model loads.
    """
    if len(params.hostnames) != 1 or params.hostnames[0].endswith(".sock"):
        yield ", ".join(params.hostnames)
        return
    host = params.hostnames[0]
    with _bind(host, params.port) as probe:
        port = probe.getsockname()[1]
        if params.port != 0:
            probe.close()
        elif hasattr(socket, "SO_REUSEPORT"):
            params.port, params.reuse_port = port, True
        yield f"http://{f'[{host}]' if ':' in host else host}:{params.port}"


def watch_stdin() -> None:
    """End the process when stdin does: the portable sign that the parent is gone."""

    def wait() -> None:
        # Not sys.stdin: its lock would be held when the interpreter shuts down.
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=wait, name="watch-stdin", daemon=True).start()


def start(params: Any, model: str) -> Any:
    """Load the model and return the running server.

    The call holds the interpreter until the model is loaded, so no Python handler could run meanwhile:
    signals keep their default action, the end of the process.

    Raises:
        StartError: The engine refused; its own log lines say why.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return import_module("xllamacpp").Server(params)
    except Exception as error:
        say("")
        raise StartError(f"error: failed to serve model {model!r} (see the log): {error}") from None


def stop_requests() -> SimpleQueue[int]:
    """Return a queue that receives the number of each SIGTERM and SIGINT from now on."""
    stops: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: stops.put(received))
    return stops


def serve(settings: list[native_flags.Setting]) -> NoReturn:
    """Serve until told to stop, then end the process.

    Raises:
        StartError: A file, the address or the engine is not as asked.
        FlagError: The engine does not take a value.
    """
    check_files(settings)
    params = import_module("xllamacpp").CommonParams()
    native_flags.apply(settings, params)
    model = params.model.path
    with reserved_address(params) as address:
        say(f"server is starting on {address}, loading {model!r}")
        server = start(params, model)
    stops = stop_requests()
    # The engine's log thread writes a line in pieces: begin on a new one, wherever it is.
    say(f"\nserver is listening on {server.listening_address}")
    stops.get()
    say("\nserver is stopping")
    # No teardown: llama.cpp's waits without limit for requests that are queued, and holds the interpreter.
    os._exit(0)


def main(argv: list[str]) -> int:
    """Run the command line ``argv`` and return the exit status."""
    launch.bind_to_parent()
    launch.clean_environment(os.environ)
    if os.environ.pop(WATCH_STDIN, "") == "1":
        watch_stdin()
    if native_flags.asks_for_help(argv):
        sys.stdout.write(f"{native_flags.usage()}\n")
        return 0
    if "--version" in argv:
        say(version())
        return 0
    try:
        serve(native_flags.parse(argv))
    except (native_flags.FlagError, StartError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
