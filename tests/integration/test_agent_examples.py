"""The clients of examples/ on a server with a key: LangGraph's for Python and for JavaScript, and curl."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from tests.conftest import REPO
from tests.integration.helpers import LIMIT, write_config
from tests.integration.serve_helpers import Served, clean, serving

EXAMPLES = REPO / "examples"
NODE = REPO / "build" / "node"
KEY = "a-key-that-is-long-enough-for-tests"
GRAPH = """
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph


async def repeat(state):
    return {"messages": [AIMessage(state["messages"][-1].content.upper())]}


graph = StateGraph(MessagesState)
graph.add_node("repeat", repeat)
graph.add_edge(START, "repeat")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("clients")
    (folder / "graphs.py").write_text(GRAPH, encoding="utf-8")
    config = {
        # never called
        "models": {"far": {"endpoint": "http://127.0.0.1:9/v1", "model": "far"}},
        "roles": {"general": "far"},
        "workflows": {"louder": "./graphs.py:graph"},
        "server": {"keys": [{"name": "clients", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]},
    }
    write_config(folder, config)
    with serving(folder) as running:
        yield running
        assert not threads(running), "the examples leave no thread behind"
        running.end()
        clean(running.text)


def threads(server: Served) -> list[object]:
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = httpx.post(f"{server.record['url']}/threads/search", json={}, headers=headers, trust_env=False)
    found: list[object] = answer.raise_for_status().json()
    return found


def ran(argv: Sequence[str], folder: Path, server: Served, key: str = KEY) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "BENCHAI_URL": server.record["url"], "BENCHAI_KEY": key, "NO_PROXY": "*"}
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)


def said(task: str) -> list[str]:
    return ["step: repeat", f"answer: {task.upper()}", "thread: 4 messages, 2 runs", f"kept: {task}"]


def test_python(tmp_path: Path, server: Served) -> None:
    done = ran([sys.executable, str(EXAMPLES / "client_python.py"), "louder", "good morning"], tmp_path, server)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == said("good morning")


def test_javascript(tmp_path: Path, server: Served) -> None:
    if shutil.which("node") is None or not (NODE / "node_modules" / "@langchain" / "langgraph-sdk").exists():
        pytest.skip("needs Node and the client: make js-client")
    # modules are looked for beside the file
    script = shutil.copy(EXAMPLES / "client_javascript.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    done = ran(["node", script, "louder", "good evening"], tmp_path, server)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == said("good evening")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(tmp_path: Path, server: Served) -> None:
    script = str(EXAMPLES / "client_curl.sh")
    done = ran(["sh", script, "louder", "good night"], tmp_path, server)
    assert (done.returncode, done.stderr) == (0, "")
    for part in ('"content":"GOOD NIGHT"', "event: metadata", 'event: updates\ndata: {"repeat":', '"next":[]'):
        assert part in done.stdout
    refused = ran(["sh", script, "louder", "x"], tmp_path, server, key="wrong")
    assert refused.returncode == 22
    assert "401" in refused.stderr
