"""Runs that are killed, stopped and resumed: what was done stays done, and nothing is done twice."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchai.bench import Bench
from benchai.errors import UnknownThread, UsageError
from benchai.graphs.journal import UNSURE
from tests.integration import scripted
from tests.integration.helpers import Cli, Done, benchai, commands, ended, loaded, running, until, write_config
from tests.integration.scripted import Exchange, Reply, ScriptedServer, contents

__all__ = ["commands"]
# a react whose tool has a side effect that can be counted, and that ends only when it is let go
SLOW = """
import asyncio, os
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command
from benchai.graphs import react
from benchai.graphs.context import RunContext
from benchai.tools.tool import Tool, ToolArgs

class Args(ToolArgs):
    note: str

async def run(args, context):
    with (context.workspace / "ran.txt").open("a") as file:
        file.write(args.note + "\\n")
    hold = context.workspace / "hold"
    if hold.exists() and hold.read_text() == args.note:
        await asyncio.Event().wait()
    return f"noted {args.note}"

SLOW = Tool("slow", "Take a note.", Args, run, "write")

def offer(runtime):
    if "slow" not in runtime.context.tools.names():
        runtime.context.tools.add(SLOW)

async def think(state: react.ReactState, runtime: Runtime[RunContext]) -> Command:
    offer(runtime)
    return await react.think(state, runtime)

async def act(state: react.ReactState, runtime: Runtime[RunContext]) -> react.ReactState:
    offer(runtime)
    return await react.act(state, runtime)

def build() -> StateGraph:
    graph = StateGraph(react.ReactState, context_schema=RunContext)
    graph.add_node("think", think, destinations=("act", "__end__"))
    graph.add_node("act", act)
    graph.add_edge(START, "think")
    graph.add_edge("act", "think")
    return graph
"""
# three nodes of which the second ends the process when it runs for the first time
STEPS = """
import os, signal
from pathlib import Path
from typing import Annotated, TypedDict
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages

class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]

def note(name):
    with open("ran.txt", "a") as file:
        file.write(name + "\\n")

async def one(state: State) -> State:
    note("one")
    return {"messages": [AIMessage("one is done")]}

async def two(state: State) -> State:
    first = not Path("killed").exists()
    note("two")
    if first:
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"messages": []}

async def three(state: State) -> State:
    note("three")
    return {"messages": [AIMessage("all is done")]}

def build() -> StateGraph:
    graph = StateGraph(State)
    graph.add_sequence([one, two, three])
    graph.add_edge(START, "one")
    return graph
"""
NOTE = ("slow", '{"note": "a"}', "call_0")
OTHER = ("slow", '{"note": "b"}', "call_0")
ADD = ("calculator", '{"expression": "1 + 1"}')


def prepare(folder: Path, server: ScriptedServer, **extra: Any) -> None:
    (folder / "slow.py").write_text(SLOW, encoding="utf-8")
    (folder / "steps.py").write_text(STEPS, encoding="utf-8")
    workflows = {"slow": "slow.py:build", "steps": "steps.py:build"}
    write_config(folder, server.config(workflows=workflows, **extra))


def ran(folder: Path) -> list[str]:
    file = folder / "ran.txt"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def state_of(folder: Path, thread: str = "one") -> str:
    rows = json.loads(benchai("threads", "list", "--json", cwd=folder).out)
    return str(next(row["state"] for row in rows if row["thread_id"] == thread))


def resume(folder: Path, *options: str, thread: str = "one") -> Done:
    return benchai("run", "--resume", thread, "--json", *options, cwd=folder)


@contextmanager
def begun(folder: Path, *args: str) -> Iterator[Cli]:
    with running("run", *args, "--thread", "one", "--json", "--yes", cwd=folder) as cli:
        yield cli


@pytest.mark.usefixtures("store")
def test_a_kill_during_model_calls(tmp_path: Path) -> None:
    """Twice; the server gives the same id to every call."""
    replies = (
        scripted.calls(NOTE),
        scripted.silent(),
        scripted.calls(OTHER),
        scripted.silent(),
        scripted.text("Both are noted."),
    )
    with ScriptedServer(*replies) as server:
        prepare(tmp_path, server)
        with begun(tmp_path, "slow", "Take two notes") as cli:
            assert server.wait_for_requests(2)
            cli.process.kill()
            assert cli.process.wait() == -signal.SIGKILL
        # a database server may notice a moment later
        until(lambda: state_of(tmp_path) == "interrupted")
        with running("run", "--resume", "one", "--json", "--yes", cwd=tmp_path) as cli:
            assert server.wait_for_requests(4)
            cli.process.kill()
        done = resume(tmp_path)
    assert done.code == 0, done
    result = done.result()
    assert (result["output"], result["stop_reason"]) == ("Both are noted.", "completed")
    # three calls were answered, whichever process made them
    assert (result["steps"], result["usage"]["total_tokens"]) == (3, 90)
    assert ran(tmp_path) == ["a", "b"]
    assert contents(server.requests[-1], "tool") == ["noted a", "noted b"]
    assert contents(server.requests[-1], "user") == ["Take two notes"]
    assert state_of(tmp_path) == "completed"


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_kill_during_a_tool(tmp_path: Path, decision: str) -> None:
    """It may have taken effect: it does not run again, whatever is decided now."""
    (tmp_path / "hold").write_text("a", encoding="utf-8")
    with ScriptedServer(scripted.calls(NOTE, ADD), scripted.text("I look first.")) as server:
        prepare(tmp_path, server)
        with begun(tmp_path, "slow", "Take a note"):
            until(lambda: ran(tmp_path) == ["a"])
        (tmp_path / "hold").unlink()
        done = resume(tmp_path, "--decide", decision)
    assert done.result()["stop_reason"] == "completed", done
    assert ran(tmp_path) == ["a"]
    assert contents(server.requests[-1], "tool") == [UNSURE, "2"]
    assert len(server.requests) == 2


@pytest.mark.usefixtures("store")
def test_a_kill_after_one_of_two_tools(tmp_path: Path) -> None:
    """What had ended keeps its result, what was under way is in doubt."""
    (tmp_path / "hold").write_text("b", encoding="utf-8")
    both = [("slow", json.dumps({"note": note}), f"call_{note}") for note in "ab"]
    permissions = {"permissions": [{"tool": "slow", "decision": "allow"}]}
    with ScriptedServer(scripted.calls(*both), scripted.text("Done")) as server:
        prepare(tmp_path, server, tools=permissions)
        with begun(tmp_path, "slow", "Take notes") as cli:
            assert cli.wait_for("observation")["text"] == "noted a"
            until(lambda: sorted(ran(tmp_path)) == ["a", "b"])
        (tmp_path / "hold").unlink()
        done = resume(tmp_path)
    assert done.result()["stop_reason"] == "completed", done
    assert sorted(ran(tmp_path)) == ["a", "b"]
    assert contents(server.requests[-1], "tool") == ["noted a", UNSURE]


@pytest.mark.usefixtures("store")
def test_finished_nodes_do_not_run_again(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("not asked")) as server:
        prepare(tmp_path, server)
        with begun(tmp_path, "steps", "Go") as cli:
            assert cli.process.wait() == -signal.SIGKILL
        assert ran(tmp_path) == ["one", "two"]
        drawn = benchai("threads", "show", "one", "--graph", cwd=tmp_path)
        done = resume(tmp_path)
    assert done.code == 0, done
    assert done.result()["output"] == "all is done"
    assert ran(tmp_path) == ["one", "two", "two", "three"]
    assert "class n3 unfinished" in drawn.out
    assert server.requests == []


def test_a_run_that_is_over_cannot_be_resumed(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("Hello")) as server:
        prepare(tmp_path, server)
        assert benchai("run", "react", "Hi", "--thread", "one", cwd=tmp_path).code == 0
        done = benchai("run", "--resume", "one", cwd=tmp_path)
        done.refused("'one'", "at its end", "--thread")
        assert state_of(tmp_path) == "completed"
        benchai("run", "--resume", "two", cwd=tmp_path).refused("no thread 'two'")
        benchai("run", "--resume", "one", "--from", "nowhere", cwd=tmp_path).refused("'nowhere'")
        benchai("run", "react", "Hi", "--thread", "one", "--from", "nowhere", cwd=tmp_path).refused("'nowhere'")
        benchai("run", "--resume", "one", "--decide", "approve", cwd=tmp_path).refused("awaits no decision")
    assert len(server.requests) == 1


def held(release: threading.Event, reply: Reply) -> Reply:
    def wait(exchange: Exchange) -> None:
        assert release.wait(20)
        reply(exchange)

    return wait


def test_sigterm_stops_at_the_next_step(tmp_path: Path) -> None:
    release = threading.Event()
    with ScriptedServer(held(release, scripted.calls(ADD)), scripted.text("It is 2.")) as server:
        prepare(tmp_path, server)
        with begun(tmp_path, "react", "What is 1 + 1?") as cli:
            assert server.wait_for_requests(1)
            cli.process.send_signal(signal.SIGTERM)
            # the answer comes after the signal: it is kept, and nothing is begun any more
            release.set()
            done = cli.end()
        assert done.code == 128 + signal.SIGTERM, done
        assert (done.result()["stop_reason"], done.result()["usage"]["total_tokens"]) == ("cancelled", 30)
        assert len(server.requests) == 1
        assert state_of(tmp_path) == "cancelled"
        again = resume(tmp_path)
    assert (again.code, again.result()["output"], again.result()["steps"]) == (0, "It is 2.", 2)
    assert len(server.requests) == 2


def test_sigterm_stops_a_nested_run_too(tmp_path: Path) -> None:
    release = threading.Event()
    with ScriptedServer(held(release, scripted.calls(ADD)), scripted.text("It is 2.")) as server:
        prepare(tmp_path, server)
        with begun(tmp_path, "router", "What is 1 + 1?") as cli:
            assert server.wait_for_requests(1)
            cli.process.send_signal(signal.SIGTERM)
            release.set()
            done = cli.end()
        assert (done.code, done.result()["stop_reason"]) == (128 + signal.SIGTERM, "cancelled"), done
        again = resume(tmp_path)
    assert (again.code, again.result()["output"], again.result()["steps"]) == (0, "It is 2.", 2)
    assert len(server.requests) == 2


def test_a_second_sigterm_does_not_wait(tmp_path: Path) -> None:
    with ScriptedServer(scripted.silent()) as server:
        prepare(tmp_path, server)
        with begun(tmp_path, "react", "Hello") as cli:
            assert server.wait_for_requests(1)
            # a first signal alone would leave the call its 10 seconds
            for _ in range(20):
                cli.process.send_signal(signal.SIGTERM)
                if ended(cli.process.pid, 0.2):
                    break
            done = cli.end()
        assert done.code == 128 + signal.SIGTERM, done
        assert done.result()["stop_reason"] == "cancelled"
        assert server.disconnected.wait(5)
    done.clean()


@pytest.mark.anyio
@pytest.mark.usefixtures("store")
async def test_two_runs_on_a_thread(tmp_path: Path) -> None:
    """The second is refused, be it new or resumed, and the first goes on."""
    release = threading.Event()
    with ScriptedServer(held(release, scripted.text("Hello"))) as server:
        config = loaded(tmp_path, server.config())
        async with Bench.open(config, workspace=tmp_path) as one, Bench.open(config, workspace=tmp_path) as two:
            async for event in one.stream("react", "Hi", thread_id="one"):
                if event.type == "run":
                    for second in (two.run("react", "Hi", thread_id="one"), two.resume("one")):
                        with pytest.raises(UsageError, match="under way"):
                            await second
                    assert await two.threads.state_of(await two.threads.get("one")) == "running"
                    release.set()
            assert (await one.threads.get("one")).stop_reason == "completed"
            with pytest.raises(UnknownThread):
                await two.resume("none")
    assert len(server.requests) == 1
