"""``benchai serve`` as a process, for tests of what it does and of those who use it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.integration.helpers import BENCHAI, LIMIT, Done, below, until

#: A server that hangs is killed after so many seconds; a module's serves many tests.
WATCH = 180.0


@dataclass
class Served:
    """A server that runs; `err` is the file of its stderr."""

    process: subprocess.Popen[bytes]
    home: Path
    err: Path

    @property
    def state(self) -> Path:
        """The file that says where it runs."""
        return self.home / "state" / "serve.json"

    @property
    def record(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.state.read_text(encoding="utf-8"))
        return data

    @property
    def text(self) -> str:
        return self.err.read_text(encoding="utf-8")

    def client(self, **options: Any) -> httpx.Client:
        """A client with the server's key."""
        record = self.record
        headers = {"Authorization": f"Bearer {record['token']}"}
        return httpx.Client(
            **{"base_url": record["url"], "headers": headers, "timeout": LIMIT, "trust_env": False} | options
        )

    def models(self) -> dict[str, dict[str, Any]]:
        """The status of each model by name."""
        with self.client() as client:
            return {one["model"]: one for one in client.get("/fleet").raise_for_status().json()}

    def until_state(self, model: str, *states: str, seconds: float = LIMIT) -> dict[str, Any]:
        """Wait for a model to be in one of these states; its status."""
        found: dict[str, Any] = {}

        def there() -> bool:
            found.update(self.models()[model])
            return found["state"] in states

        until(there, seconds)
        return found

    def until_said(self, *parts: str, seconds: float = LIMIT) -> None:
        """Wait until it has told all of this on stderr."""
        until(lambda: all(part in self.text for part in parts) or self.process.poll() is not None, seconds)
        assert all(part in self.text for part in parts), self.text

    def engines(self) -> list[int]:
        """All processes below it."""
        return below(self.process.pid)

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = LIMIT) -> Done:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return Done(self.process.wait(seconds), "", self.text)


@contextlib.contextmanager
def launched(
    folder: Path, *args: str, home: Path, env: Mapping[str, str] | None = None, stderr: int | None = None
) -> Iterator[Served]:
    """A server under way, announced or not; it is killed when it has not ended."""
    err = folder / "serve-stderr.txt"
    with err.open("ab") as opened:
        process = subprocess.Popen(
            [*BENCHAI, "serve", *args],
            cwd=folder,
            env={**os.environ, "BENCHAI_HOME": str(home), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=opened if stderr is None else stderr,
        )
    watchdog = threading.Timer(WATCH, process.kill)
    watchdog.start()
    try:
        yield Served(process, home, err)
    finally:
        watchdog.cancel()
        watchdog.join()
        process.kill()
        process.wait()


@contextlib.contextmanager
def serving(
    folder: Path, *args: str, home: Path | None = None, env: Mapping[str, str] | None = None, stderr: int | None = None
) -> Iterator[Served]:
    """A server that can be found."""
    home = home or folder / "benchai-home"
    with launched(folder, "--port", "0", *args, home=home, env=env, stderr=stderr) as server:
        until(lambda: server.state.exists() or server.process.poll() is not None)
        assert server.process.poll() is None, server.text
        yield server


def clean(text: str, *more: str) -> None:
    """No trace of an exception, and none of what only a developer understands."""
    for trace in ("Traceback", "Task was destroyed", "never awaited", "never retrieved", "Exception", *more):
        assert trace not in text, text


@contextlib.contextmanager
def leased(server: Served, role: str = "general", models: Sequence[str] = ("tiny",)) -> Iterator[dict[str, Any]]:
    """A lease as an attached run takes it: what the server says of the endpoint."""
    body = {"role": role, "models": list(models)}
    with server.client() as client, client.stream("POST", "/fleet/lease", json=body) as response:
        for line in response.iter_lines():
            message: dict[str, Any] = json.loads(line)
            if message["type"] in ("lease", "error"):
                yield message
                return
    raise AssertionError("the stream ended without a lease")
