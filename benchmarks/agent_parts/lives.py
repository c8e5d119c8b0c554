"""The servers of the benchmark: ``langgraph dev`` with a number of jobs, and ``benchai serve`` that is killed."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from scripts.agent_conformance.servers import CONFIG, QUIET, START_SECONDS, NoServer, free_port, process

APP = Path(__file__).parent / "app"
#: How often it is looked whether a server is there, in seconds; it is the error of the times of a restart.
LOOK_SECONDS = 0.002


@contextmanager
def reference(folder: Path, python: Path, jobs: int | None) -> Iterator[Life]:
    """``langgraph dev`` of the environment of ``python``; it does so many jobs at once, or its default."""
    argv = [str(python.parent / "langgraph"), "dev", "--no-browser", "--no-reload", "--allow-blocking"]
    argv += ["--host", "127.0.0.1"] + (["--n-jobs-per-worker", str(jobs)] if jobs else [])
    with contextlib.closing(Life(folder, argv, QUIET)) as life:
        yield life


@contextmanager
def ours(folder: Path) -> Iterator[Life]:
    """``benchai serve`` of this interpreter, its databases in the folder."""
    argv = [sys.executable, "-m", "benchai", "serve"]
    with contextlib.closing(Life(folder, argv, {"BENCHAI_HOME": str(folder / "home"), "NO_PROXY": "*"})) as life:
        yield life


class Life:
    """A server that may be killed and started again, on the same folder and port."""

    def __init__(self, folder: Path, argv: list[str], env: dict[str, str]) -> None:
        shutil.copytree(APP, folder, ignore=shutil.ignore_patterns("__pycache__", ".langgraph_api"))
        (folder / "benchai.yaml").write_text(CONFIG, encoding="utf-8")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder, self._argv, self._env = folder, [*argv, "--port", str(self.port)], env
        self._stack = ExitStack()
        self.start()
        self.ready()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        """Start it; it does not answer yet."""
        self._process = self._stack.enter_context(process(self._argv, self._folder, self._env))

    def ready(self) -> None:
        """Wait until it says that it is well."""
        # connections are tried by hand: a client that is refused waits for long before it tries again
        self._until(lambda: _listens(self.port))
        self._until(lambda: _answers(f"{self.url}/ok"))

    def kill(self) -> float:
        """SIGKILL; when, by the clock of ``time.perf_counter``."""
        began = time.perf_counter()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        return began

    def close(self) -> None:
        """End it."""
        self._stack.close()

    def _until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + START_SECONDS
        while not condition():
            if self._process.poll() is not None or time.monotonic() > end:
                said = (self._folder / "said.txt").read_text(encoding="utf-8", errors="replace")
                raise NoServer(f"{subprocess.list2cmdline(self._argv)} does not answer:\n{said[-2000:]}")
            time.sleep(LOOK_SECONDS)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    return False
