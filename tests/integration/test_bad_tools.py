"""Tools that return what no tool should, or never return; nodes that raise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from benchai.bench import Bench
from benchai.events import Event, Observation, Result
from benchai.graphs.acting import MOST_CHARS
from benchai.graphs.guards import Budget
from benchai.tools.tool import Permission, Tool, ToolArgs
from tests.integration import scripted
from tests.integration.helpers import benchai, commands, loaded, write_config
from tests.integration.scripted import ScriptedServer, contents

__all__ = ["commands"]
CALL = ("bad", "{}")
ALLOWED = {"permissions": [{"tool": "bad", "decision": "allow"}]}
RAISING = """
from benchai.graphs.react import ReactState
from langgraph.graph import START, StateGraph

async def node(state: ReactState) -> ReactState:
    raise KeyError("what is missing")

def build() -> StateGraph:
    graph = StateGraph(ReactState)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph
"""


async def run_with(
    folder: Path,
    run: Callable[[Any, Any], Awaitable[Any]],
    permission: Permission = "read",
    budget: Budget | None = None,
) -> tuple[list[Event], list[str]]:
    """The events of a run whose model calls the tool, and what the model got of it."""
    with ScriptedServer(scripted.calls(CALL), scripted.text("Well.")) as server:
        async with Bench.open(loaded(folder, server.config(tools=ALLOWED)), workspace=folder) as bench:
            bench._parts.tools.add(Tool("bad", "Bad.", ToolArgs, run, permission))
            events = [event async for event in bench.stream("react", "Do it", budget=budget, thread_id="one")]
            kept = await bench.threads.events("one")
    assert len(kept) >= 3
    return events, contents(server.requests[-1], "tool")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"\x00\xff\x1b[2Jdata", "data"),
        (float("nan"), "nan"),
        (None, "None"),
        ({"a": {1, 2}}, "{1, 2}"),
        ("\ud800", "\ufffd"),
    ],
    ids=["bytes", "nan", "none", "set", "surrogate"],
)
@pytest.mark.parametrize("permission", ["read", "write"])
async def test_what_is_no_text(tmp_path: Path, value: Any, told: str, permission: Permission) -> None:
    async def bad(args: Any, context: Any) -> Any:
        return value

    events, [text] = await run_with(tmp_path, bad, permission)
    assert told in text
    assert "\x1b" not in text
    assert isinstance(events[-1], Result)
    assert events[-1].output == "Well."


@pytest.mark.anyio
async def test_a_hundred_megabytes(tmp_path: Path) -> None:
    async def bad(args: Any, context: Any) -> str:
        return "data\n" * 20_000_000

    events, [text] = await run_with(tmp_path, bad)
    assert len(text) < 30_000
    assert "read_file" in text
    [observation] = [event for event in events if isinstance(event, Observation)]
    assert observation.text == text
    [kept] = (await anyio.Path(tmp_path / "benchai-home" / "data" / "results").glob("*/*").__anext__(),)
    whole = await kept.read_text(encoding="utf-8")
    assert MOST_CHARS <= len(whole) < MOST_CHARS + 200
    assert "the result has 100,000,000 characters" in whole


@pytest.mark.anyio
@pytest.mark.parametrize("permission", ["read", "write"])
async def test_a_tool_that_never_returns(tmp_path: Path, permission: Permission) -> None:
    async def bad(args: Any, context: Any) -> str:
        await anyio.sleep_forever()
        return ""

    events, _ = await run_with(tmp_path, bad, permission, Budget(9, 9999, 2))
    assert isinstance(events[-1], Result)
    assert (events[-1].stop_reason, events[-1].error) == ("budget_time", None)


def test_a_node_that_raises(tmp_path: Path) -> None:
    """The line of the user's own file is told, no trace of what lies around it."""
    (tmp_path / "own.py").write_text(RAISING, encoding="utf-8")
    with ScriptedServer(scripted.text("not asked")) as server:
        write_config(tmp_path, server.config(workflows={"own": "own.py:build"}))
        benchai("run", "own", "Go", cwd=tmp_path).refused("KeyError", "what is missing", "own.py, line 6", code=1)
        done = benchai("run", "own", "Go", "--json", cwd=tmp_path)
    assert (done.code, done.result()["stop_reason"]) == (1, "error")
    assert "KeyError" in done.result()["error"]
    assert [event["type"] for event in done.events()].count("result") == 1
