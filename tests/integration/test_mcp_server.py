"""The MCP server: the official client against `benchai serve` and `benchai mcp`, in both forms of the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchai.cli.mcp import mcp
from benchai.errors import UsageError
from benchai.events import Event, Notice
from benchai.server.mcp import House, McpDoor
from tests.conftest import MARK, REPO
from tests.integration.edge_helpers import a_key
from tests.integration.helpers import BENCHAI, LIMIT, loaded, tiny_config, until, write_config
from tests.integration.serve_helpers import Served, clean, serving
from tests.integration.wire_helpers import Server, wire

pytest.importorskip("mcp")

import mcp_types as types
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from benchai.server.mcp.progress import with_beats
from benchai.server.mcp.sessions import open_sessions
from scripts.mcp_conformance.__main__ import PACKAGE, run_server, usable

pytestmark = pytest.mark.anyio
ERAS = ["legacy", "auto"]
MODERN = "2026-07-28"
FIXTURES = REPO / "scripts" / "mcp_conformance" / "workflows.py"
GRAPHS = """
import asyncio
import os
from pathlib import Path

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import BaseModel

from benchai.graphs.context import RunContext
from benchai.graphs.declared import workflow

MARKS = Path(os.environ["MARKS"])


def made(node, state=MessagesState):
    graph = StateGraph(state, context_schema=RunContext)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph


@workflow("echo", description="Says it again.")
def echo():
    async def node(state):
        print("not for the wire", flush=True)
        return {"messages": [AIMessage(f"echo: {state['messages'][-1].text}")]}

    return made(node)


@workflow("wait")
def wait():
    async def node(state):
        name = state["messages"][-1].text
        (MARKS / f"begun-{name}").touch()
        try:
            await asyncio.Event().wait()
        finally:
            (MARKS / f"ended-{name}").touch()

    return made(node)


@workflow("deleting")
def deleting():
    async def node(state):
        asked = {"id": "c1", "kind": "tool", "subject": "rm", "arguments": {"path": "x"}, "reason": "it deletes"}
        given = interrupt({"requests": [asked]})["decisions"]["c1"]
        word = given if isinstance(given, str) else f"{given['decision']} {given.get('message', '')}".strip()
        return {"messages": [AIMessage(f"decided: {word}")]}

    return made(node)


@workflow("colour")
def colour():
    async def node(state):
        return {"messages": [AIMessage(f"it is {interrupt('Which colour?')}")]}

    return made(node)


@workflow("memory_search", description="Has the name of a tool of ours.")
def search():
    async def node(state):
        return {"messages": [AIMessage("mine")]}

    return made(node)


class Counted(MessagesState):
    words: int
    least: int


class Words(BaseModel):
    task: str
    least: int = 1


class Count(BaseModel):
    words: int


@workflow("count", input=Words, output=Count)
def count():
    async def node(state):
        words = len(state["messages"][-1].text.split())
        if words < state["least"]:
            raise ValueError("too few words")
        return {"words": words, "messages": [AIMessage(f"{words} words")]}

    return made(node, Counted)
"""
Elicit = Callable[[Any, types.ElicitRequestParams], Awaitable[types.ElicitResult]]


def config(folder: Path, **more: Any) -> dict[str, Any]:
    (folder / "graphs.py").write_text(GRAPHS, encoding="utf-8")
    (folder / "marks").mkdir(exist_ok=True)
    return {**tiny_config(), "workflows": ["./graphs.py", str(FIXTURES)], **more}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One `benchai serve` without keys for the tests of this module."""
    folder = tmp_path_factory.mktemp("served")
    write_config(folder, config(folder))
    with serving(folder, env={"MARKS": str(folder / "marks")}) as server:
        yield server
        assert server.end().code == 0
        clean(server.text)


def url_of(server: Served) -> str:
    return f"{server.record['url']}/mcp"


def marked(server: Served, name: str) -> Path:
    return server.home.parent / "marks" / name


async def appears(path: Path) -> None:
    await asyncio.to_thread(until, path.exists)


def answering(action: Any, content: dict[str, Any] | None = None) -> tuple[Elicit, list[str]]:
    """A person at the client, and what that person has read."""
    read: list[str] = []

    async def elicit(_: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        read.append(params.message)
        return types.ElicitResult(action=action, content=content)

    return elicit, read


def said(result: types.CallToolResult) -> str:
    [part] = result.content
    assert isinstance(part, types.TextContent)
    return part.text


# ---- tools


@pytest.mark.parametrize("era", ERAS)
async def test_each_workflow_is_a_tool(served: Served, era: str) -> None:
    told: list[str] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    async with Client(url_of(served), mode=era) as client:
        assert client.server_info is not None
        assert client.server_info.name == "benchai"
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert {"react", "echo", "memory_search", "memory_recall"} <= set(tools)
        assert tools["echo"].description == "Says it again."
        [ours] = [name for name in tools if name.startswith("memory_search_")]
        assert said(await client.call_tool(ours, {"task": "x"})) == "mine"
        assert tools["count"].input_schema["properties"]["least"] == {"default": 1, "title": "Least", "type": "integer"}
        assert tools["count"].output_schema is not None
        assert tools["count"].output_schema["properties"]["words"]["type"] == "integer"
        result = await client.call_tool("echo", {"task": "hello"}, progress_callback=progress)
        assert said(result) == result.structured_content["output"] == "echo: hello"
        assert result.structured_content["stop_reason"] == "completed"
        assert told == ["echo begins"]
        counted = await client.call_tool("count", {"task": "one two three"})
        assert counted.structured_content["words"] == 3


async def test_a_model_at_work_tells_its_steps(served: Served) -> None:
    told: list[tuple[float, str | None]] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.append((done, message))

    async with Client(url_of(served)) as client:
        result = await client.call_tool("react", {"task": "What is 4817 * 963?"}, progress_callback=progress)
    assert "4638771" in said(result).replace(",", "")
    row = until_row(served, result.structured_content["thread_id"])
    assert (row["workflow"], row["outcome"]) == ("react", "ok")
    assert row["tokens_in"] > row["tokens_out"] > 0
    assert any("calculator" in (text or "") for _, text in told), told
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def until_row(served: Served, session: str) -> dict[str, Any]:
    """The usage row of a run, which is written aside."""
    found: list[sqlite3.Row] = []

    def there() -> bool:
        with contextlib.closing(sqlite3.connect(served.home / "data" / "usage.sqlite")) as rows:
            rows.row_factory = sqlite3.Row
            found[:] = rows.execute("SELECT * FROM requests WHERE session = ?", (session,)).fetchall()
        return bool(found)

    until(there)
    return dict(found[0])


async def test_what_is_wrong_is_told(served: Served) -> None:
    async with Client(url_of(served), mode="legacy") as client:
        wrong = await client.call_tool("count", {"task": "x", "least": "many", "more": 1})
        assert wrong.is_error
        assert said(wrong).startswith("count: least: Input should be a valid integer")
        failed = await client.call_tool("count", {"task": "x", "least": 2})
        assert failed.is_error
        assert said(failed) == "ValueError: too few words"
        empty = await client.call_tool("echo", {"task": " "})
        assert "the task is empty; say what to do" in said(empty)
        with pytest.raises(MCPError, match="there is no tool 'nothing'"):
            await client.call_tool("nothing", {})
        assert (await client.call_tool("memory_search", {"query": "x", "count": 0})).is_error
        with pytest.raises(MCPError, match="cursor"):
            await client.list_tools(cursor="x")
        with pytest.raises(MCPError, match="cursor 'é' is none"):
            await client.list_resources(cursor="é")


async def test_silence_is_told() -> None:
    open_, closed = asyncio.Event(), asyncio.Event()

    async def events() -> AsyncGenerator[Event, None]:
        try:
            await open_.wait()
            yield Notice(text="news")
            await asyncio.Event().wait()
        finally:
            closed.set()

    heard = with_beats(events(), 0.01)
    assert await anext(heard) is None
    open_.set()
    while (event := await anext(heard)) is None:
        pass
    assert isinstance(event, Notice)
    assert await anext(heard) is None
    await heard.aclose()
    assert closed.is_set()


# ---- approvals


@pytest.mark.parametrize("era", ERAS)
async def test_approvals_are_elicited(served: Served, era: str) -> None:
    approve, read = answering("accept", {"decision": "approve"})
    async with Client(url_of(served), mode=era, elicitation_callback=approve) as client:
        result = await client.call_tool("deleting", {"task": "x"})
    assert said(result) == "decided: approve"
    assert read == ['May the run call rm?\n\n{\n  "path": "x"\n}\n\nit deletes']
    decline, _ = answering("decline")
    async with Client(url_of(served), mode=era, elicitation_callback=decline) as client:
        assert said(await client.call_tool("deleting", {"task": "x"})) == "decided: reject"
    answer, read = answering("accept", {"answer": "blue"})
    async with Client(url_of(served), mode=era, elicitation_callback=answer) as client:
        assert said(await client.call_tool("colour", {"task": "x"})) == "it is blue"
    assert read == ["Which colour?"]


@pytest.mark.parametrize("era", ERAS)
async def test_who_cannot_be_asked_is_told(served: Served, era: str) -> None:
    async with Client(url_of(served), mode=era) as client:
        result = await client.call_tool("deleting", {"task": "x"})
    assert not result.is_error
    ended = result.structured_content
    assert ended["stop_reason"] == "awaiting_approval"
    assert ended["awaiting"][0]["subject"] == "rm"
    assert said(result) == f"the run awaits a decision on rm, on the thread {ended['thread_id']}"


async def test_a_decision_takes_effect_once(served: Served) -> None:
    dismiss, _ = answering("cancel")
    async with Client(url_of(served), mode="auto", elicitation_callback=dismiss) as client:
        asked = await client.session.call_tool("deleting", {"task": "x"}, allow_input_required=True)
        assert isinstance(asked, types.InputRequiredResult)
        decided = types.ElicitResult(action="accept", content={"decision": "reject", "message": "never"})

        async def again(tool: str, state: str | None, **responses: Any) -> Any:
            return await client.session.call_tool(
                tool, {"task": "x"}, input_responses=responses, request_state=state, allow_input_required=True
            )

        state = asked.request_state
        dismissed = await again("deleting", state, c1=types.ElicitResult(action="cancel"))
        assert "still awaits a decision" in said(dismissed)
        assert "is no thread of 'echo'" in said(await again("echo", state, c1=decided))
        assert "is no thread of 'deleting'" in said(await again("deleting", "no-such", c1=decided))
        assert "nothing with the id 'c2'" in said(await again("deleting", state, c2=decided))
        assert said(await again("deleting", state, c1=decided)) == "decided: reject never"
        assert (await again("deleting", state, c1=decided)).is_error


# ---- the end of a call


@pytest.mark.parametrize("era", ERAS)
async def test_a_cancelled_call_ends_its_run(served: Served, era: str) -> None:
    async with Client(url_of(served), mode=era) as client:
        call = asyncio.create_task(client.call_tool("wait", {"task": f"cancel-{era}"}))
        await appears(marked(served, f"begun-cancel-{era}"))
        call.cancel()
        await appears(marked(served, f"ended-cancel-{era}"))
        assert said(await client.call_tool("echo", {"task": "still there"})) == "echo: still there"


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_goes_away_ends_its_run(served: Served, era: str) -> None:
    headers = {"accept": "application/json, text/event-stream"}
    params: dict[str, Any] = {"name": "wait", "arguments": {"task": f"gone-{era}"}}
    async with httpx.AsyncClient(trust_env=False, headers=headers, timeout=LIMIT) as client:
        if era == "legacy":
            opened = await client.post(url_of(served), json=initialize())
            client.headers["mcp-session-id"] = opened.headers["mcp-session-id"]
        else:
            client.headers.update({"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "wait"})
            meta = {"protocolVersion": MODERN, "clientCapabilities": {}}
            params["_meta"] = {f"io.modelcontextprotocol/{name}": value for name, value in meta.items()}
        asked = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
        call = asyncio.create_task(client.post(url_of(served), json=asked))
        await appears(marked(served, f"begun-gone-{era}"))
        call.cancel()
        await appears(marked(served, f"ended-gone-{era}"))


def initialize() -> dict[str, Any]:
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}


# ---- the memory


def document(source: str, *texts: str) -> dict[str, Any]:
    pieces = [{"text": text} for text in texts]
    return {"source": source, "title": source, "media": "text", "hash": source, "size": 9, "pieces": pieces}


def put(server: Served, *documents: dict[str, Any], user: str = "local") -> None:
    with server.client() as client:
        body = {"ns": {"user": user, "project": "", "thread": ""}, "documents": documents}
        client.post("/fleet/memory/put", json=body).raise_for_status()


async def test_memory_and_documents(served: Served) -> None:
    # the second begins with the end of the first, as prose is cut
    pieces = ("Owls hunt at night. Voles hide.", "Voles hide. They dig.", "Mice do, too.")
    put(served, document("/notes/owls [1].md", *pieces), document("/notes/owls 1.md", "x"))
    put(served, *(document(f"/many/{number:03}.txt", "same") for number in range(120)))
    async with Client(url_of(served)) as client:
        found = await client.call_tool("memory_search", {"query": "when do owls hunt", "count": 1})
        assert found.structured_content["passages"][0]["text"] == pieces[0]
        assert "/notes/owls [1].md" in said(found)
        assert (await client.call_tool("memory_recall", {"query": "zebra"})).structured_content == {"passages": []}
        first = await client.list_resources()
        assert len(first.resources) == 100
        rest = await client.list_resources(cursor=first.next_cursor)
        assert rest.next_cursor is None
        uris = {one.name: one.uri for one in (*first.resources, *rest.resources)}
        assert len(uris) == 122
        read = await client.read_resource(uris["/notes/owls [1].md"])
        [text] = read.contents
        assert isinstance(text, types.TextResourceContents)
        assert text.text == "Owls hunt at night. Voles hide. They dig.\n\nMice do, too."
        for uri in ("benchai://documents/%2Fnotes", "file:///etc/passwd", "benchai://documents/"):
            with pytest.raises(MCPError, match="there is no document"):
                await client.read_resource(uri)


# ---- HTTP


async def test_hosts_origins_and_methods(served: Served) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=LIMIT) as client:

        async def post(**headers: str) -> int:
            given = {"accept": "application/json, text/event-stream", **headers}
            return (await client.post(url_of(served), json=initialize(), headers=given)).status_code

        assert await post() == 200
        assert await post(host="evil.example") == 403
        assert await post(origin="http://evil.example") == 403
        assert await post(origin="null") == 403
        assert await post(accept="text/html") == 406
        assert await post(**{"content-type": "text/plain"}) == 400
        got = await client.get(url_of(served), headers={"accept": "text/event-stream"})
        assert (got.status_code, got.headers["allow"]) == (405, "POST, DELETE")
        lost = await client.post(url_of(served), json=initialize(), headers={"mcp-session-id": "none"})
        assert lost.status_code == 404
        for body in (b"", b"{", b"[]", b'{"jsonrpc": "2.0"}', b"\xff", b"[" * 100_000):
            headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
            assert (await client.post(url_of(served), content=body, headers=headers)).status_code == 400


@asynccontextmanager
async def client_of(server: Server, key: str, **settings: Any) -> AsyncIterator[Client]:
    import httpx2

    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=20) as http:
        transport = streamable_http_client(f"{server.url}/mcp", http_client=http)
        async with Client(transport, **settings) as client:
            yield client


async def test_keys_see_nothing_of_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKS", str(tmp_path))
    keys = [a_key("ann", "key-of-ann", concurrent=1), a_key("bob", "key-of-bob")]
    dismiss, _ = answering("cancel")
    data = config(tmp_path, server={"keys": keys}, fleet={"core": []})
    async with wire(loaded(tmp_path, data)) as server:
        async with server.face.memories.use() as memory:
            from benchai.memory.namespace import Namespace
            from benchai.memory.types import Document

            await memory.put(Namespace("ann"), [Document.model_validate(document("/ann.md", "Owls are Ann's."))])
        anyone = await httpx.AsyncClient(trust_env=False).post(f"{server.url}/mcp", json=initialize())
        assert anyone.status_code == 401
        async with client_of(server, "key-of-ann", mode="legacy") as ann:
            # she has one place, which no stream holds
            assert [one.name for one in (await ann.list_resources()).resources] == ["/ann.md"]
            uri = (await ann.list_resources(cache_mode="bypass")).resources[0].uri
            assert (await ann.call_tool("memory_search", {"query": "owls"})).structured_content["passages"]
        async with client_of(server, "key-of-ann", mode="auto", elicitation_callback=dismiss) as ann:
            asked = await ann.session.call_tool("deleting", {"task": "x"}, allow_input_required=True)
            assert isinstance(asked, types.InputRequiredResult)
        async with client_of(server, "key-of-bob", mode="auto") as bob:
            assert (await bob.list_resources()).resources == []
            with pytest.raises(MCPError, match="there is no document"):
                await bob.read_resource(uri)
            assert not (await bob.call_tool("memory_search", {"query": "owls"})).structured_content["passages"]
            decided: Any = {"c1": types.ElicitResult(action="accept", content={"decision": "approve"})}
            hers = await bob.session.call_tool(
                "deleting", {"task": "x"}, input_responses=decided, request_state=asked.request_state
            )
            assert said(hers) == f"{asked.request_state!r} is no thread of 'deleting'"
        async with httpx.AsyncClient(trust_env=False, base_url=server.url, timeout=LIMIT) as http:
            http.headers["accept"] = "application/json, text/event-stream"
            opened = await http.post("/mcp", json=initialize(), headers={"authorization": "Bearer key-of-ann"})
            session = {"mcp-session-id": opened.headers["mcp-session-id"], "authorization": "Bearer key-of-bob"}
            listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
            assert (await http.post("/mcp", json=listing, headers=session)).status_code == 404
    async with wire(loaded(tmp_path, data)) as server, client_of(server, "key-of-ann", mode=MODERN) as ann:
        hers = await ann.session.call_tool(
            "deleting", {"task": "x"}, input_responses=decided, request_state=asked.request_state
        )
        assert said(hers) == "decided: approve", "the thread outlives the server"


async def test_the_oldest_session_makes_room(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchai.server.mcp import sessions as module

    house: Any = type("House", (), {"memories": type("Memories", (), {"enabled": False})(), "bench": None})()
    async with open_sessions(house) as sessions:
        small = module.Sessions(sessions._manager, most=2)
        transport = httpx.ASGITransport(small.answer)  # type: ignore[arg-type]
        headers = {"accept": "application/json, text/event-stream"}
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            opened = [(await client.post("/mcp", json=initialize())).headers["mcp-session-id"] for _ in range(2)]

            async def ping(session: str) -> int:
                asked = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
                return (await client.post("/mcp", json=asked, headers={"mcp-session-id": session})).status_code

            assert await ping(opened[0]) == 200
            third = (await client.post("/mcp", json=initialize())).headers["mcp-session-id"]
            assert [await ping(one) for one in (opened[0], opened[1], third)] == [200, 404, 200]


async def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    transport = httpx.ASGITransport(McpDoor(House(None, None)))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        refused = await client.post("/mcp", json=initialize())
    assert refused.status_code == 501
    assert 'pip install "benchai[mcp]"' in refused.json()["error"]["message"]
    with pytest.raises(UsageError, match="needs the package 'mcp'"):
        mcp()


def test_conformance(served: Served) -> None:
    if not usable():
        pytest.skip("no Node, or no conformance package: make mcp-conformance installs it")
    assert run_server(PACKAGE, url_of(served)) == 0


# ---- stdio


def program(folder: Path) -> StdioServerParameters:
    names = ("HOME", "TMPDIR", "PATH", "BENCHAI_HOME", MARK)
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment["MARKS"] = str(folder / "marks")
    return StdioServerParameters(command=BENCHAI[0], args=[*BENCHAI[1:], "mcp"], env=environment, cwd=folder)


async def test_stdio(tmp_path: Path) -> None:
    write_config(tmp_path, config(tmp_path))
    approve, _ = answering("accept", {"decision": "approve"})
    async with Client(program(tmp_path), elicitation_callback=approve) as client:
        assert {"echo", "memory_search"} <= {tool.name for tool in (await client.list_tools()).tools}
        assert said(await client.call_tool("echo", {"task": "hello"})) == "echo: hello"
        assert said(await client.call_tool("deleting", {"task": "x"})) == "decided: approve"
        call = asyncio.create_task(client.call_tool("wait", {"task": "stdio"}))
        await appears(tmp_path / "marks" / "begun-stdio")
        call.cancel()
        await appears(tmp_path / "marks" / "ended-stdio")
        asyncio.create_task(client.call_tool("wait", {"task": "eof"})).add_done_callback(lambda task: task.exception())
        await appears(tmp_path / "marks" / "begun-eof")
    assert (tmp_path / "marks" / "ended-eof").exists()


def test_sigterm_ends_a_server_on_stdio(tmp_path: Path) -> None:
    how = "sigterm"
    write_config(tmp_path, config(tmp_path))
    server = program(tmp_path)
    argv, pipe = [server.command, *server.args], subprocess.PIPE
    process = subprocess.Popen(argv, cwd=tmp_path, env=server.env, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        calls = [{"name": "echo", "arguments": {"task": "x"}}, {"name": "wait", "arguments": {"task": how}}]
        asked = [{"jsonrpc": "2.0", "id": 2 + n, "method": "tools/call", "params": one} for n, one in enumerate(calls)]
        for message in (initialize(), {"jsonrpc": "2.0", "method": "notifications/initialized"}, *asked):
            process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [one["id"] for one in answers] == [1, 2], "what a workflow prints is not among them"
        until((tmp_path / "marks" / f"begun-{how}").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 128 + signal.SIGTERM
        assert (tmp_path / "marks" / f"ended-{how}").exists()
        assert process.stderr is not None
        told = process.stderr.read().decode()
        assert told == "not for the wire\n"
    finally:
        process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]
