"""A real Chroma server for tests."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

#: What the program `chroma` does; but that imports all of the library first, which takes more than a second.
_CHROMA = "import sys, chromadb_rust_bindings; chromadb_rust_bindings.cli(['chroma', *sys.argv[1:]])"


@contextmanager
def chroma_server(folder: Path, port: int = 0) -> Iterator[str]:
    """The URL of a server over a folder, by default on a port of the kernel's choice; ended with the context."""
    argv = [
        sys.executable,
        "-P",
        "-c",
        _CHROMA,
        "run",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--path",
        str(folder),
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder.parent) as server:
        assert server.stdout is not None
        # it writes a line for each request: a full pipe would stop it
        drain = threading.Thread(target=server.stdout.read)
        try:
            port = _port(server)
            drain.start()
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()
            if drain.ident is not None:
                drain.join()


def _port(server: subprocess.Popen[bytes]) -> int:
    """Where it listens: what it writes names the port that was asked for, which is 0."""
    assert server.stdout is not None
    for line in server.stdout:
        if b"listening on address" in line:
            break
    while server.poll() is None:
        for found in psutil.Process(server.pid).net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN:
                return int(found.laddr.port)
    raise AssertionError(f"the server ended with status {server.returncode}")
