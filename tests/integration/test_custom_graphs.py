"""Custom graphs from the configuration and from a program, foreign ones among them, and the synchronous bench."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from benchai import sync
from benchai.bench import Bench
from benchai.errors import ConfigError, EndpointError, UsageError
from benchai.events import Event, Result, RunStarted
from tests.integration import scripted
from tests.integration.helpers import LIMIT, benchai, commands, loaded, until, write_config
from tests.integration.scripted import Exchange, ScriptedServer, contents

__all__ = ["commands"]

FOREIGN = '''
"""Graphs that know nothing of BenchAI."""

from dataclasses import dataclass
from typing import TypedDict

from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from pydantic import BaseModel


@dataclass
class Plain:
    word: str = "plain"


class Model(BaseModel):
    word: str = "model"


class Typed(TypedDict, total=False):
    word: str


async def tell(state, runtime: Runtime):
    context = runtime.context
    word = context.word if hasattr(context, "word") else type(context).__name__
    return {"messages": [AIMessage(f"{word} {len(state['messages'])}")]}


def make(node=tell, **more):
    made = StateGraph(MessagesState, **more)
    made.add_node("node", node)
    made.add_edge(START, "node")
    return made


plain = make(context_schema=Plain).compile()
model = make(context_schema=Model)
typed = make(context_schema=Typed)
without = make()


def think(state):
    return {"messages": [ChatOpenAI(model="m", base_url=URL, api_key="none").invoke(state["messages"])]}


async def remember(state, runtime: Runtime):
    seen = len(await runtime.store.asearch(("said",)))
    await runtime.store.aput(("said",), str(seen), {"text": "x"})
    return {"messages": [AIMessage(f"seen {seen}")]}


thinking = make(think).compile()
remembering = make(remember).compile(store=InMemoryStore())
'''
POET = '''
from langchain_core.messages import SystemMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime

from benchai import workflow
from benchai.graphs.context import RunContext


async def write(state: MessagesState, runtime: Runtime[RunContext]):
    return {"messages": [await runtime.context.call("general", [SystemMessage("A poem!"), *state["messages"]])]}


@workflow("poet")
def poems():
    """Write poems."""
    graph = StateGraph(MessagesState, context_schema=RunContext)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    return graph
'''
PROGRAM = (
    POET
    + """
if __name__ == "__main__":
    from benchai.sync import Bench

    with Bench.open() as bench:
        for event in bench.stream("poet", "rain", thread_id="one"):
            print(event.type, flush=True)
        print(event.output)
"""
)
ADD = ("calculator", '{"expression": "2 + 2"}')
SAVE = ("write_file", '{"path": "a.txt", "content": "hello"}')


@asynccontextmanager
async def foreign(folder: Path, attribute: str, url: str = "") -> AsyncIterator[Bench]:
    (folder / "flows.py").write_text(f"URL = {url!r}\n{FOREIGN}", encoding="utf-8")
    config = {"models": {"m": {"endpoint": "http://127.0.0.1:9/v1", "model": "m"}}}
    config["workflows"] = {"own": f"./flows.py:{attribute}"}
    async with Bench.open(loaded(folder, config), workspace=folder) as bench:
        yield bench


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("attribute", "word"), [("plain", "plain"), ("model", "model"), ("typed", "NoneType"), ("without", "RunContext")]
)
async def test_a_foreign_graph_gets_the_context_that_it_declares(tmp_path: Path, attribute: str, word: str) -> None:
    async with foreign(tmp_path, attribute) as bench:
        first = await bench.run("own", "Hello", thread_id="one")
        second = await bench.run("own", "Again", thread_id="one")
    assert (first.output, first.stop_reason, first.steps) == (f"{word} 1", "completed", 0)
    assert second.output == f"{word} 3"


@pytest.mark.anyio
async def test_a_foreign_graph_keeps_its_model_and_its_store(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("from afar")) as server:
        async with foreign(tmp_path, "thinking", server.url) as bench:
            assert (await bench.run("own", "Hello")).output == "from afar"
        async with foreign(tmp_path, "remembering") as bench:
            assert [(await bench.run("own", "Hello")).output for _ in range(2)] == ["seen 0", "seen 1"]
    assert contents(server.requests[0], "user") == ["Hello"]


def script(folder: Path, text: str, server: ScriptedServer, **extra: Any) -> Path:
    """A program of a user's beside its benchai.yaml."""
    write_config(folder, server.config(**extra))
    (folder / "flows.py").write_text(text, encoding="utf-8")
    return folder / "flows.py"


def test_a_program_runs_its_own_workflow(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("It rains.")) as server:
        # the configuration may name the program, too
        path = script(tmp_path, PROGRAM, server, workflows=["./flows.py"])
        argv = [sys.executable, str(path)]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-2:]) == ("run", ["result", "It rains."])
    assert contents(server.requests[0], "system") == ["A poem!"]


def test_ctrl_c_ends_a_program_in_order(tmp_path: Path) -> None:
    with ScriptedServer(scripted.silent()) as server:
        path = script(tmp_path, PROGRAM, server)
        with subprocess.Popen([sys.executable, str(path)], cwd=tmp_path, stderr=subprocess.PIPE) as process:
            try:
                assert server.wait_for_requests(1, LIMIT)
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=LIMIT)
            finally:
                process.kill()
        assert server.disconnected.wait(10)
        assert process.returncode == -signal.SIGINT
        assert err.decode().rstrip().endswith("KeyboardInterrupt")
        with sync.Bench.open(loaded(tmp_path, server.config())) as bench:
            with pytest.raises(UsageError, match="belongs to the workflow 'poet'"):
                bench.run("react", "Hello", thread_id="one")


def test_declaring_needs_no_langgraph() -> None:
    code = "import sys; from benchai import workflow; workflow('x')(lambda: None); print('langgraph' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT, check=True)
    assert done.stdout == "False\n"


def test_the_command_line_runs_what_a_file_declares(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("It rains.")) as server:
        script(tmp_path, POET, server, workflows=["./flows.py", "./broken.py"])
        (tmp_path / "broken.py").write_text("x = 1\nraise ValueError('a mistake')\n", encoding="utf-8")
        done = benchai("run", "poet", "rain", cwd=tmp_path)
        listed = benchai("workflows", cwd=tmp_path)
        unknown = benchai("run", "poetry", "rain", cwd=tmp_path)
    assert (done.code, done.out) == (0, "It rains.\n")
    assert "poet: Write poems." in listed.out
    assert "broken.py, line 2: ValueError: a mistake" in listed.err
    unknown.refused("there is no workflow 'poetry'", "'poet'", "./broken.py")


def test_a_broken_graph_is_told_by_the_list(tmp_path: Path) -> None:
    text = POET + "\n@workflow('lost')\ndef lost():\n    return StateGraph(MessagesState)\n"
    with ScriptedServer(scripted.text("hello")) as server:
        script(tmp_path, text, server, workflows=["./flows.py"])
        listed = benchai("workflows", cwd=tmp_path)
        benchai("run", "lost", "Hello", cwd=tmp_path)
    assert "poet: " in listed.out
    assert "lost: " not in listed.out
    assert "flows.py, line 22: Graph must have an entrypoint" in listed.err


# --- the synchronous bench ---


@contextlib.contextmanager
def opened(folder: Path, server: ScriptedServer, **extra: Any) -> Iterator[sync.Bench]:
    before = threading.active_count()
    try:
        with sync.Bench.open(loaded(folder, server.config(**extra)), workspace=folder) as bench:
            yield bench
    finally:
        # its own thread is gone; those of the server end a moment later
        until(lambda: threading.active_count() <= before)


def test_a_synchronous_run_and_stream(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(ADD), scripted.text("It is 4.")) as server, opened(tmp_path, server) as bench:
        assert "react" in {one.name for one in bench.workflows()}
        events = list(bench.stream("react", "What is 2 + 2?", thread_id="one"))
        assert isinstance(events[0], RunStarted)
        assert isinstance(events[-1], Result)
        assert [event.type for event in events if event.type in ("tool_call", "observation")] == [
            "tool_call",
            "observation",
        ]
        again = bench.run("react", "And again?", thread_id="one")
    assert events[-1].output == again.output == "It is 4."


async def _with_a_loop(work: Any) -> Any:
    return work()


def test_it_works_where_a_loop_runs(tmp_path: Path) -> None:
    def work() -> str:
        with opened(tmp_path, server) as bench:
            return bench.run("react", "Hello").output

    with ScriptedServer(scripted.text("hello")) as server:
        assert asyncio.run(_with_a_loop(work)) == "hello"


def test_errors_reach_the_caller(tmp_path: Path) -> None:
    with ScriptedServer(scripted.error(400, message="no such thing")) as server, opened(tmp_path, server) as bench:
        with pytest.raises(UsageError, match="there is no workflow 'reactt'"):
            bench.run("reactt", "Hello")
        seen: list[Event] = []
        with pytest.raises(EndpointError, match="no such thing"):
            seen.extend(bench.stream("react", "Hello"))
        assert isinstance(seen[-1], Result)
    with pytest.raises(ConfigError), sync.Bench.open(tmp_path / "gone.yaml"):
        pass
    with pytest.raises(UsageError, match="nowhere"), sync.Bench.open(workspace=tmp_path / "nowhere"):
        pass


def test_an_approver_is_asked_in_the_callers_thread(tmp_path: Path) -> None:
    def approve(asked: list[Any]) -> str:
        where.append((threading.get_ident(), asked[0].subject))
        return "approve"

    async def refuse(_: list[Any]) -> str:
        return "reject"

    where: list[Any] = []
    with ScriptedServer(scripted.calls(SAVE), scripted.text("Saved.")) as server:
        with opened(tmp_path, server, tools={"enabled": ["write_file"]}) as bench:
            assert bench.run("react", "Save it", approver=approve).output == "Saved."
    assert where == [(threading.get_ident(), "write_file")]
    assert (tmp_path / "a.txt").read_text() == "hello"
    (tmp_path / "a.txt").unlink()
    with ScriptedServer(scripted.calls(SAVE), scripted.text("Then not.")) as server:
        with opened(tmp_path, server, tools={"enabled": ["write_file"]}) as bench:
            assert bench.run("react", "Save it", approver=refuse).output == "Then not."
            held = bench.run("react", "Save it", thread_id="held")
    assert held.stop_reason == "completed"
    assert not (tmp_path / "a.txt").exists()


def test_a_thread_goes_on(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(SAVE), scripted.text("Saved.")) as server:
        with opened(tmp_path, server, tools={"enabled": ["write_file"]}) as bench:
            assert bench.run("react", "Save it", thread_id="one").stop_reason == "awaiting_approval"
            assert not (tmp_path / "a.txt").exists()
            assert bench.resume("one", "approve").output == "Saved."
            with pytest.raises(UsageError):
                list(bench.stream_resumed("one", "approve"))
    assert (tmp_path / "a.txt").exists()


def test_an_approver_that_raises_ends_the_run(tmp_path: Path) -> None:
    def interrupt(_: list[Any]) -> str:
        raise KeyboardInterrupt

    with ScriptedServer(scripted.calls(SAVE), scripted.text("Saved.")) as server:
        with opened(tmp_path, server, tools={"enabled": ["write_file"]}) as bench:
            with pytest.raises(KeyboardInterrupt):
                bench.run("react", "Save it", thread_id="one", approver=interrupt)
            assert bench.resume("one", "approve").output == "Saved."


@pytest.mark.parametrize("how", ["close", "forget", "keep"])
def test_an_iterator_that_is_left_half_read_ends_its_run(tmp_path: Path, how: str) -> None:
    with ScriptedServer(scripted.silent()) as server:
        with opened(tmp_path, server) as bench:
            stream = bench.stream("react", "Hello", thread_id="one")
            assert isinstance(next(stream), RunStarted)
            assert server.wait_for_requests(1)
            if how == "close":
                stream.close()
            elif how == "forget":
                del stream
                gc.collect()
            if how != "keep":
                assert server.disconnected.wait(10)
        if how == "keep":
            with pytest.raises(UsageError, match="the bench is closed"):
                list(stream)
        assert server.disconnected.wait(10)


def test_a_bench_that_is_closed_runs_nothing(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("hello")) as server:
        with opened(tmp_path, server) as bench:
            unread = bench.stream("react", "Hello")
        for late in (unread, bench.stream("react", "Hello")):
            with pytest.raises(UsageError, match="the bench is closed"):
                next(late)
    assert server.requests == []


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
def test_what_the_program_raises_passes_through(tmp_path: Path, error: BaseException) -> None:
    def work() -> None:
        with opened(tmp_path, server) as bench:
            streams.append(bench.stream("react", "Hello"))
            assert next(streams[0])
            raise error

    streams: list[Any] = []
    with ScriptedServer(scripted.silent()) as server:
        with pytest.raises(type(error)) as caught:
            work()
    assert caught.value is error


def test_threads_share_a_bench(tmp_path: Path) -> None:
    def answer(exchange: Exchange) -> None:
        assert exchange.server.wait_for_requests(2)
        scripted.text(f"Answer to {contents(exchange.request, 'user')[0]}")(exchange)

    outputs: dict[str, str] = {}
    with ScriptedServer(answer) as server, opened(tmp_path, server) as bench:

        def work(task: str) -> None:
            outputs[task] = bench.run("react", task).output

        threads = [threading.Thread(target=work, args=(task,)) for task in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outputs == {"one": "Answer to one", "two": "Answer to two"}
