"""The two servers, as processes on free ports: ``langgraph dev`` and ``benchai serve``, both with ``app/``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

APP = Path(__file__).parent / "app"
START_SECONDS = 90.0
END_SECONDS = 15.0
QUIET = {
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "NO_PROXY": "*",
}
#: No model is ever called; one must be there, and a remote one starts nothing.
CONFIG = """
models: {unused: {endpoint: "http://127.0.0.1:9/v1", model: unused}}
roles: {general: unused}
workflows: [./langgraph.json]
# it would put what it knows before a run's messages
memory: {enabled: false}
"""


class NoServer(Exception):
    """A server did not start; the message has the end of what it said."""


@dataclass(frozen=True)
class Server:
    """Where a server runs, and what it wants of each request."""

    url: str
    pid: int
    headers: Mapping[str, str]

    def client(self) -> httpx.Client:
        """A client; a call may take two minutes, and has a connection of its own, which no server closes under it."""
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=120, limits=limits, trust_env=False)


@contextmanager
def reference(folder: Path, python: Path, app: Path = APP) -> Iterator[Server]:
    """``langgraph dev`` of the environment of ``python``, in a folder of its own."""
    work = _copied(app, folder / "reference")
    port = free_port()
    argv = [str(python.parent / "langgraph"), "dev", "--no-browser", "--no-reload", "--allow-blocking"]
    argv += ["--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with process(argv, work, QUIET) as running:
        _until(running, work, lambda: _answers(f"{url}/ok"))
        yield Server(url, running.pid, {})


@contextmanager
def ours(folder: Path, app: Path = APP, config: str = CONFIG) -> Iterator[Server]:
    """``benchai serve`` of this interpreter, in a folder of its own."""
    work = _copied(app, folder / "ours")
    (work / "benchai.yaml").write_text(config, encoding="utf-8")
    home = work / "home"
    state = home / "state" / "serve.json"
    argv = [sys.executable, "-m", "benchai", "serve", "--port", "0"]
    with process(argv, work, {"BENCHAI_HOME": str(home), "NO_PROXY": "*"}) as running:
        _until(running, work, state.exists)
        record = json.loads(state.read_text(encoding="utf-8"))
        _until(running, work, lambda: _answers(f"{record['url']}/ok"))
        httpx.post(f"{record['url']}/assistants/count", json={}, timeout=60, trust_env=False)
        yield Server(record["url"], running.pid, {})


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextmanager
def process(argv: Sequence[str], work: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server in ``work``, where ``said.txt`` has what it says; it is ended afterwards."""
    with (work / "said.txt").open("ab") as said:
        running = subprocess.Popen(
            argv, cwd=work, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _copied(app: Path, work: Path) -> Path:
    shutil.copytree(app, work, ignore=shutil.ignore_patterns("__pycache__", ".langgraph_api"))
    return work


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    return False


def _until(running: subprocess.Popen[bytes], work: Path, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + START_SECONDS
    while not condition():
        if running.poll() is not None or time.monotonic() > end:
            said = (work / "said.txt").read_text(encoding="utf-8", errors="replace")
            raise NoServer(f"{running.args!r} does not answer:\n{said[-2000:]}")
        time.sleep(0.1)
