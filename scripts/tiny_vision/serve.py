"""Either engine serving the vision model in a child process, for the benchmark and the check."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import httpx

ROOT = Path(__file__).parents[2]
EMBEDDED = (sys.executable, "-P", "-m", "benchai.runtime.engine.native_server")
START_SECONDS = 30.0
CONTEXT = 2048
_ADDRESS = re.compile(r"listening on (http://[\d.]+:\d+)")


def flags(model: Path, mmproj: Path) -> list[str]:
    """llama-server's flags: one slot and one thread, since a model this small gains nothing from more."""
    one = [*("--parallel", "1"), *("--threads", "1"), *("--threads-batch", "1")]
    files = ["--model", str(model), "--mmproj", str(mmproj)]
    return [*files, "--host", "127.0.0.1", "--port", "0", "--ctx-size", str(CONTEXT), *one]


def _read(child: subprocess.Popen[str], addresses: Queue[str], log: list[str]) -> None:
    """Hand on the address that the engine tells; "" when it ends."""
    assert child.stderr
    for line in child.stderr:
        log.append(line)
        if found := _ADDRESS.search(line):
            addresses.put(found[1])
    addresses.put("")


def _wait_until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if client.get("/health").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"the engine was not ready after {START_SECONDS} s")


@contextmanager
def served(
    program: tuple[str, ...], model: Path, mmproj: Path, environment: dict[str, str] | None = None
) -> Iterator[httpx.Client]:
    """A client of a fresh engine, `program` being EMBEDDED or a llama-server; the engine ends with the block.

    Raises:
        RuntimeError: The engine ended or told no address in START_SECONDS.
        TimeoutError: It did not become ready.
    """
    command = [*program, *flags(model, mmproj)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as child:
        addresses: Queue[str] = Queue()
        log: list[str] = []
        reader = threading.Thread(target=_read, args=(child, addresses, log), daemon=True)
        reader.start()
        try:
            address = addresses.get(timeout=START_SECONDS)
            if not address:
                raise RuntimeError("the engine did not start:\n" + "".join(log[-20:]))
            with httpx.Client(base_url=address, timeout=60.0) as client:
                _wait_until_ready(client)
                yield client
        finally:
            child.kill()
            child.wait()
            reader.join()
