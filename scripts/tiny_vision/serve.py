"""Either engine serving the vision model in a child process, for the benchmark and the check."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import httpx

from scripts.tiny_model.serve import START_SECONDS, wait_until_ready

ROOT = Path(__file__).parents[2]
EMBEDDED = (sys.executable, "-P", "-m", "benchai.runtime.engine.native_server")
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
                wait_until_ready(client)
                yield client
        finally:
            child.kill()
            child.wait()
            reader.join()
