"""What workflows ask on OpenAI's wire: the official package reads the questions as tool calls, and answers them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, BadRequestError, ConflictError, NotFoundError

from benchai.memory.memory import Memory
from benchai.memory.namespace import Namespace
from tests.integration import scripted
from tests.integration.helpers import loaded, write_config
from tests.integration.scripted import USAGE, Exchange, ScriptedServer, contents
from tests.integration.serve_helpers import Served, serving
from tests.integration.wire_helpers import wire

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
WRITE = ("write_file", '{"path": "a.txt", "content": "hello"}')
OTHER = ("write_file", '{"path": "b.txt", "content": "hello"}')
TASK: Any = [{"role": "user", "content": "Write it"}]
TOOLS = {"tools": {"enabled": ["write_file"]}}
KEYS = {name: f"sk-{name}" * 8 for name in ("ann", "bob")}
PLAN = {"tasks": [{"id": 1, "role": "general", "task": "Write a.", "depends_on": []}]}
ASKING = '''
"""A graph that asks twice in one node, with the same words."""

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt


async def ask(state):
    return {"messages": [AIMessage(f"{interrupt('which?')!r} then {interrupt('which?')!r}")]}


graph = StateGraph(MessagesState)
graph.add_node("ask", ask)
graph.add_edge(START, "ask")
'''


OPENED: list[Client] = []


class Client:
    """A conversation with one workflow."""

    def __init__(self, url: str, workflow: str = "react", key: str = "none", **body: Any) -> None:
        self.openai = AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20)
        self.body = {"model": f"workflow:{workflow}", **body}
        self.messages: list[Any] = list(TASK)
        self.reply: Any = None
        OPENED.append(self)

    async def say(self, *answers: Any, messages: list[Any] | None = None) -> Any:
        """Send the conversation with answers to the calls of the last reply, in their order; its choice."""
        messages = self.messages if messages is None else messages
        calls = messages[-1].get("tool_calls", []) if answers else []
        told = [
            {
                "role": "tool",
                "tool_call_id": call["id"],
                "content": answer if isinstance(answer, str) else json.dumps(answer),
            }
            for call, answer in zip(calls, answers, strict=False)
        ]
        sent = [*messages, *told]
        self.reply = await self.openai.chat.completions.create(messages=sent, **self.body)
        self.messages = [*sent, self.reply.choices[0].message.model_dump(exclude_none=True)]
        return self.reply.choices[0]


@asynccontextmanager
async def serving_wire(folder: Path, config: dict[str, Any], **extra: Any) -> AsyncIterator[str]:
    async with wire(loaded(folder, TOOLS | config | extra)) as server:
        yield server.url


@pytest.fixture(autouse=True)
async def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Files are written where the server was started; clients are closed at the end."""
    monkeypatch.chdir(tmp_path)
    yield
    for client in OPENED:
        await client.openai.close()
    OPENED.clear()


def written(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("[ab].txt"))}


async def test_a_question_is_a_tool_call_and_its_answer_takes_effect_once(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(WRITE), scripted.text("Written.")) as model:
        async with serving_wire(tmp_path, model.config()) as url:
            client = Client(url)
            asked = await client.say()
            first, before = client.reply, client.messages
            [call] = asked.message.tool_calls
            assert (asked.finish_reason, call.function.name) == ("tool_calls", "write_file")
            assert json.loads(call.function.arguments) == {"path": "a.txt", "content": "hello"}
            assert (asked.message.content, len(call.id)) == (None, 37)
            assert "asks: write_file" in asked.message.reasoning_content
            assert first.benchai["stop_reason"] == "awaiting_approval"
            assert [one["kind"] for one in first.benchai["asks"]] == ["tool"]
            assert written(tmp_path) == {}
            done = await client.say("approve")
            assert (done.message.content, done.finish_reason) == ("Written.", "stop")
            assert client.reply.benchai["thread"] == first.benchai["thread"]
            # each request tells the tokens of its own
            assert [reply.usage.model_dump(exclude_none=True) for reply in (first, client.reply)] == [USAGE, USAGE]
            (tmp_path / "a.txt").unlink()
            with pytest.raises(ConflictError, match="given before") as twice:
                await client.say("approve", messages=before)
            assert twice.value.type == "invalid_request_error"
    assert written(tmp_path) == {}
    assert len(model.requests) == 2


async def test_it_streams(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(WRITE, OTHER, thought="Two files."), scripted.text("Written.")) as model:
        async with serving_wire(tmp_path, model.config()) as url:
            openai = Client(url).openai
            body: Any = {"model": "workflow:react", "stream": True, "stream_options": {"include_usage": True}}
            calls, finish, usage = [], None, None
            async for chunk in await openai.chat.completions.create(messages=TASK, **body):
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    calls += choice.delta.tool_calls or []
                    finish = choice.finish_reason or finish
            assert [(call.index, call.type, call.function.name) for call in calls] == [
                (0, "function", "write_file"),
                (1, "function", "write_file"),
            ]
            assert (finish, usage.total_tokens if usage else None) == ("tool_calls", USAGE["total_tokens"])
            said = {"role": "assistant", "tool_calls": [call.model_dump(exclude={"index"}) for call in calls]}
            told = [
                {"role": "tool", "tool_call_id": call.id, "content": word}
                for call, word in zip(calls, ("reject: not that one", "approve"), strict=True)
            ]
            words = ""
            messages: Any = [*TASK, said, *reversed(told)]
            async for chunk in await openai.chat.completions.create(messages=messages, **body):
                words += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert (words, written(tmp_path)) == ("Written.", {"b.txt": "hello"})
    assert "the user refused this call: not that one" in contents(model.requests[1], "tool")[0]


@pytest.mark.parametrize(
    ("answer", "files"),
    [
        ("Reject: not that file", {}),
        ({"decision": "respond", "message": "It is there already."}, {}),
        ({"decision": "edit", "arguments": {"path": "b.txt", "content": "bye"}}, {"b.txt": "bye"}),
        ('"approve"', {"a.txt": "hello"}),
    ],
)
async def test_decisions(tmp_path: Path, answer: Any, files: dict[str, str]) -> None:
    with ScriptedServer(scripted.calls(WRITE), scripted.text("Well.")) as model:
        async with serving_wire(tmp_path, model.config()) as url:
            client = Client(url)
            await client.say()
            assert (await client.say(answer)).message.content == "Well."
    assert written(tmp_path) == files


async def test_what_is_no_answer_changes_nothing(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(WRITE, OTHER), scripted.text("Well.")) as model:
        async with serving_wire(tmp_path, model.config()) as url:
            client = Client(url)
            await client.say()
            before = client.messages
            [one, two] = before[-1]["tool_calls"]
            for answers, why in [
                (("approve",), "is not answered"),
                (("perhaps", "approve"), "'perhaps' is no decision"),
                (('{"decision": ', "approve"), "is no JSON"),
                (({"decision": "edit"}, "approve"), "needs arguments"),
                (({"decision": "edit", "arguments": {"path": 7}}, "approve"), "can't be called like that"),
            ]:
                with pytest.raises(BadRequestError, match=why):
                    await client.say(*answers, messages=before)
            for calls, why in [
                ([one, one], "answered twice"),
                ([one, {"id": "call_abc"}], "has made no such call"),
                ([{}], "has made no such call"),
                ([one, {"id": "call_" + "A" * 32}], "several replies"),
            ]:
                told = [{"role": "tool", "tool_call_id": call.get("id"), "content": "approve"} for call in calls]
                with pytest.raises(BadRequestError, match=why):
                    await client.say(messages=[*before, *told])
            client.body["model"] = "workflow:reflection"
            with pytest.raises(BadRequestError, match="'react', not 'reflection'"):
                await client.say("approve", "approve", messages=before)
            client.body["model"] = "workflow:react"
            stranger = [{"role": "tool", "tool_call_id": "call_" + "A" * 32, "content": "approve"}]
            with pytest.raises(NotFoundError):
                await client.say(messages=[*TASK, *stranger])
            # its last letters name the question: another one is none of this run's
            forged = one["id"][:-1] + ("A" if one["id"][-1] != "A" else "B")
            told = [{"role": "tool", "tool_call_id": id, "content": "approve"} for id in (forged, two["id"])]
            with pytest.raises(ConflictError, match="awaits no answer"):
                await client.say(messages=[*before, *told])
            assert written(tmp_path) == {}
            await client.say("approve", "approve", messages=before)
    assert written(tmp_path) == {"a.txt": "hello", "b.txt": "hello"}
    assert len(model.requests) == 2


async def kept_of(folder: Path, user: str) -> list[str]:
    """What the memory holds of what a user said and was told."""
    async with Memory.open(folder / "memory") as memory:
        ns = Namespace(user)
        return [one.text for each in await memory.threads(ns) for one in await memory.turns_of(ns, each.thread)]


async def test_another_key_finds_nothing(tmp_path: Path) -> None:
    keys = [{"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest()} for name, key in KEYS.items()]
    with ScriptedServer(scripted.calls(WRITE), scripted.text("Written.")) as model:
        memory = {"path": str(tmp_path / "memory")}
        async with serving_wire(tmp_path, model.config(), server={"keys": keys}, memory=memory) as url:
            ann, bob = (Client(url, key=key) for key in KEYS.values())
            await ann.say()
            with pytest.raises(NotFoundError, match="no workflow awaits") as refused:
                await bob.say("approve", messages=ann.messages)
            assert ann.reply.benchai["thread"] not in refused.value.message
            assert written(tmp_path) == {}
            assert (await ann.say("approve")).message.content == "Written."
    # a run that goes on is its key's as before, not the machine's user's
    assert sorted(await kept_of(tmp_path, "ann")) == ["Write it", "Written."]
    assert await kept_of(tmp_path, "local") == []


async def test_two_answers_at_the_same_moment(tmp_path: Path) -> None:
    def late(exchange: Exchange) -> None:
        answered.wait(10)
        scripted.text("Written.")(exchange)

    answered = threading.Event()
    with ScriptedServer(scripted.calls(WRITE), late) as model:
        async with serving_wire(tmp_path, model.config()) as url:
            client = Client(url)
            await client.say()
            both = [asyncio.create_task(client.say("approve", messages=client.messages)) for _ in range(2)]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            answered.set()
            found = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(one).__name__ for one in found) == ["Choice", "ConflictError"]
    assert len(model.requests) == 2


async def test_a_plan(tmp_path: Path) -> None:
    plan = scripted.text(json.dumps(PLAN))
    with ScriptedServer(plan, plan, scripted.text("a"), scripted.text("All.")) as model:
        roles = {"general": "far", "planner": "far"}
        async with serving_wire(tmp_path, model.config(roles=roles)) as url:
            client = Client(url, "orchestrator-worker", extra_body={"benchai": {"approve_plan": True}})
            first = await client.say()
            [call] = first.message.tool_calls
            assert call.function.name == "approve_plan"
            assert json.loads(call.function.arguments)["tasks"][0]["task"] == "Write a."
            before = client.messages
            # what it asks for must not be passed over by a client that leaves the field out
            del client.body["extra_body"]
            second = await client.say("reject: once more")
            # the next question has the same words, and is another one
            assert second.message.tool_calls[0].id != call.id
            with pytest.raises(ConflictError):
                await client.say("approve", messages=before)
            assert (await client.say("approve")).finish_reason == "stop"
    assert any("once more" in text for text in contents(model.requests[1], "user"))


async def test_a_graph_of_ones_own_asks(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(ASKING, encoding="utf-8")
    config = {"models": {"m": {"endpoint": "http://127.0.0.1:9/v1", "model": "m"}}}
    async with serving_wire(tmp_path, config | {"workflows": {"asking": "./flows.py:graph"}}) as url:
        client = Client(url, "asking")
        first = await client.say()
        [call] = first.message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("answer_question", {"question": "which?"})
        before = client.messages
        second = await client.say("the left one")
        assert second.message.tool_calls[0].id != call.id
        with pytest.raises(ConflictError):
            await client.say("the left one", messages=before)
        assert (await client.say({"n": 2})).message.content == "'the left one' then {'n': 2}"


async def test_an_answer_whose_run_broke_off_is_given_again(tmp_path: Path) -> None:
    """The tool has run, the model fails: the same answer goes on, another one is refused."""
    lost = scripted.error(400, message="no such thing")
    with ScriptedServer(scripted.calls(OTHER), scripted.calls(WRITE), lost, scripted.text("Written.")) as model:
        async with serving_wire(tmp_path, model.config()) as url:
            client = Client(url)
            await client.say()
            first = client.messages
            await client.say("reject")
            before = client.messages
            with pytest.raises(APIStatusError, match="no such thing"):
                await client.say("approve", messages=before)
            (tmp_path / "a.txt").write_text("touched", encoding="utf-8")
            with pytest.raises(ConflictError, match="'approve'"):
                await client.say("reject", messages=before)
            with pytest.raises(ConflictError):
                await client.say("reject", messages=first)
            assert (await client.say("approve", messages=before)).message.content == "Written."
            with pytest.raises(ConflictError):
                await client.say("approve", messages=before)
    assert written(tmp_path) == {"a.txt": "touched"}


@pytest.mark.timeout(60)
async def test_a_server_that_is_killed_before_and_after_the_answer(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(WRITE), scripted.silent(), scripted.text("Written.")) as model:
        write_config(tmp_path, TOOLS | model.config())
        with serving(tmp_path) as server:
            first = Client(server.record["url"])
            await first.say()
            killed(server)
        with serving(tmp_path) as server:
            second = Client(server.record["url"])
            answering = asyncio.create_task(second.say("approve", messages=first.messages))
            assert await asyncio.to_thread(model.wait_for_requests, 2)
            killed(server)
            with pytest.raises(APIConnectionError):
                await answering
        # the tool has run, and its run goes on without it
        (tmp_path / "a.txt").write_text("touched", encoding="utf-8")
        with serving(tmp_path) as server:
            third = Client(server.record["url"])
            assert (await third.say("approve", messages=first.messages)).message.content == "Written."
            assert server.end().code == 0
    assert written(tmp_path) == {"a.txt": "touched"}


def killed(server: Served) -> None:
    server.end(signal.SIGKILL)
    server.state.unlink()
