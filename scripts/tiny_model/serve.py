"""A llama.cpp server for one GGUF in a child process; it ends when its parent closes the pipe or dies."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0


def run_server(model: str, context: int) -> None:
    """Serve a model on a free port and print its address; the process ends at the end of standard input."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_ctx = context
    parameters.n_parallel = 1
    # One thread: a model this small gains nothing from more, and threads that spin beside others are slow.
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)


def wait_until_ready(client: httpx.Client) -> None:
    """Wait for /health to say 200."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if client.get("/health").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"the server was not ready after {START_SECONDS} s")


@contextmanager
def served(model: Path, context: int = 4096) -> Iterator[httpx.Client]:
    """A client of a fresh server for `model`; the server is gone when the block ends."""
    command = [sys.executable, "-m", "scripts.tiny_model.serve", str(model), str(context)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        assert child.stderr
        assert child.stdin
        log: list[str] = []
        threading.Thread(target=lambda: log.extend(child.stderr or ()), daemon=True).start()
        address = child.stdout.readline().strip()
        if not address:
            child.wait()
            raise RuntimeError("the server did not start:\n" + "".join(log[-20:]))
        threading.Thread(target=child.stdout.read, daemon=True).start()
        try:
            with httpx.Client(base_url=address, timeout=60.0) as client:
                wait_until_ready(client)
                yield client
        finally:
            child.stdin.close()
            child.wait()


if __name__ == "__main__":
    run_server(sys.argv[1], int(sys.argv[2]))
