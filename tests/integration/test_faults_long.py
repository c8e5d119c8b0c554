"""Faults that take several turns to show: loops, a full context, results that are too long; and the scripted server."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchai.errors import ContextExceeded
from benchai.events import BudgetLow, Compacted, ModelCall, Observation
from benchai.testing import (
    USAGE,
    Exchange,
    Reply,
    ScriptedServer,
    begun,
    calls,
    chosen,
    contents,
    overflow,
    silent,
    text,
)
from tests.integration.fault_scenes import LOW, NOTE_ONE, PLAN, Stage

pytestmark = pytest.mark.anyio
# what stands before the worker's calls, and after them
AROUND: dict[str, tuple[list[Reply], list[Reply]]] = {
    "react": ([], []),
    "router": ([], []),
    "orchestrator-worker": ([text(PLAN.words)], [text("x = 1"), text("All of it is done.")]),
}
USERS = pytest.mark.parametrize("workflow", AROUND)
NOTE = NOTE_ONE.right
TASK = "Note one and two."


def page(number: int) -> Reply:
    return calls(("page", json.dumps({"number": number})))


def length(request: dict[str, Any]) -> int:
    return sum(len(str(message.get("content"))) for message in request["messages"])


def is_react(request: dict[str, Any]) -> bool:
    return "tools" in request


@USERS
async def test_the_same_call_again_and_again_is_told_and_then_ended(tmp_path: Path, workflow: str) -> None:
    before, after = AROUND[workflow]
    replies = [*before, *[NOTE] * 4, text("I noted one."), *after]
    ran = await Stage(tmp_path).play(workflow, TASK, *replies)
    assert (ran.error, len(ran.requests)) == (None, len(replies))
    assert ran.result.stop_reason == ("completed" if after else "loop")
    assert after or ran.result.output == "I noted one."
    assert ran.notes == ["one"] * 4
    assert "repeats itself (call): it is told so" in ran.told()
    assert [event.reason for event in ran.of_type(BudgetLow)] == ["loop"]
    last = ran.requests[len(before) + 4]
    assert [("third time" in told) for told in contents(last, "tool")] == [False, False, True, False]
    assert last["tool_choice"] == "none"


async def test_who_is_told_of_a_loop_can_leave_it(tmp_path: Path) -> None:
    ran = await Stage(tmp_path).play("react", TASK, NOTE, NOTE, NOTE, text("I noted one."))
    assert (ran.result.stop_reason, ran.result.output) == ("completed", "I noted one.")


async def test_a_model_that_calls_even_when_it_wraps_up_is_ended(tmp_path: Path) -> None:
    ran = await Stage(tmp_path).play("react", TASK, NOTE)
    assert (ran.error, ran.result.stop_reason, ran.notes) == (None, "loop", ["one"] * 4)
    assert "no_tools" in ran.told()
    assert "there is no answer" in ran.told()


@pytest.mark.parametrize(
    ("workflow", "replies", "notice", "reason"),
    [
        ("reflection", [text("Rain."), text("It is too short.")], "not approved after 3 revisions", "completed"),
        ("evaluator-optimizer", [text("Rain."), *[text(LOW.words), text("Rain.")] * 3], "no better text", "completed"),
    ],
)
async def test_the_same_text_again_and_again_ends_a_workflow(
    tmp_path: Path, workflow: str, replies: list[Reply], notice: str, reason: str
) -> None:
    ran = await Stage(tmp_path).play(workflow, "Write about rain.", *replies)
    assert (ran.error, ran.result.stop_reason) == (None, reason)
    assert ran.result.output
    assert notice in ran.told()
    assert len(ran.requests) <= 8


@USERS
async def test_a_full_context_is_shortened_and_the_run_goes_on(tmp_path: Path, workflow: str) -> None:
    before, after = AROUND[workflow]
    stage = Stage(tmp_path, pages={number: f"{number} " * 1_000 for number in range(1, 6)})
    replies = [*before, NOTE, *map(page, range(1, 5)), overflow(4_500, 4_096), page(5), text("Read."), *after]
    ran = await stage.play(workflow, TASK, *replies)
    assert (ran.error, ran.result.stop_reason, len(ran.requests)) == (None, "completed", len(replies))
    [compacted] = ran.of_type(Compacted)
    assert compacted.after < compacted.before == 4_500
    refused, again, onwards = ran.requests[len(before) + 5 : len(before) + 8]
    assert length(again) < length(refused) * 0.6
    # the task is there, each result stands behind its call, and the tools that ran did not run again
    assert contents(again, "user") == contents(refused, "user")
    assert ran.notes == ["one"]
    asked = [call["id"] for message in again["messages"] for call in message.get("tool_calls", [])]
    assert asked == [message["tool_call_id"] for message in again["messages"] if message["role"] == "tool"]
    # what was shortened stays so: the beginning of the prompt is that of the step before
    assert onwards["messages"][: len(again["messages"])] == again["messages"]


async def test_the_prompt_grows_by_its_end_alone(tmp_path: Path) -> None:
    stage = Stage(tmp_path, pages={number: str(number) for number in range(5)})
    ran = await stage.play("react", TASK, *map(page, range(5)), text("Read."))
    for earlier, later in pairwise(ran.requests):
        assert later["messages"][: len(earlier["messages"])] == earlier["messages"]
        assert later["tools"] == earlier["tools"]


async def test_old_turns_of_a_thread_are_summarised(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    await stage.play("react", "Tell me a story.", text("It was long ago. " * 500), thread_id="one")
    replies = [overflow(4_500, 4_096), text("A story was told."), text("It ends well.")]
    ran = await stage.play("react", "And then?", *replies, thread_id="one")
    assert (ran.error, ran.result.output) == (None, "It ends well.")
    assert [event.done for event in ran.of_type(Compacted)] == ["summarised old turns"]
    assert "It was long ago." in contents(ran.requests[1], "user")[0]
    assert contents(ran.requests[2], "user") == [
        "What was said before, in short:\nA story was told.",
        "And then?",
    ]
    # it stays so when the thread goes on
    ran = await stage.play("react", "And after that?", text("The end."), thread_id="one")
    assert contents(ran.requests[0], "user")[:2] == ["What was said before, in short:\nA story was told.", "And then?"]


async def test_a_context_that_stays_full_ends_the_run(tmp_path: Path) -> None:
    stage = Stage(tmp_path, pages={1: "1 " * 1_000})
    ran = await stage.play("react", TASK, page(1), overflow(9_000, 4_096))
    assert isinstance(ran.error, ContextExceeded)
    assert ran.result.stop_reason == "error"
    assert len(ran.requests) < 8


@USERS
async def test_a_huge_result_is_clamped_and_can_be_paged_through(tmp_path: Path, workflow: str) -> None:
    before, after = AROUND[workflow]
    stage = Stage(tmp_path, n_ctx=4_096, pages={1: "\n".join(f"line {number}" for number in range(20_000))})

    def read_on(request: dict[str, Any]) -> Reply:
        hint = contents(request, "tool")[-1].rpartition("go on with read_file path='")[2]
        path, _, rest = hint.partition("' offset=")
        return calls(("read_file", json.dumps({"path": path, "offset": int(rest.rstrip("]"))})))

    replies = [*before, page(1), chosen(read_on), text("Read."), *after]
    ran = await stage.play(workflow, TASK, *replies)
    assert (ran.error, ran.result.stop_reason, len(ran.requests)) == (None, "completed", len(replies))
    results = contents(ran.requests[len(before) + 2], "tool")
    # a quarter of the context at three characters a token
    assert [len(result) <= 3_072 for result in results] == [True, True]
    assert "left out" in results[0]
    head = results[0].partition("\n[...")[0].splitlines()
    assert f"line {len(head)}\n" in results[1]
    assert all(seen.ok for seen in ran.of_type(Observation))


async def test_the_server_answers_streamed_and_whole() -> None:
    replies = [text("Well then."), calls(("add", '{"a": 1}', "one"), thought="I add."), text("cut", finish="length")]
    with ScriptedServer(*replies) as server:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
            whole = [
                (await client.post("/chat/completions", json={"messages": [], "max_tokens": 7})).json() for _ in replies
            ]
            streamed = await client.post("/chat/completions", json={"messages": [], "stream": True})
    assert [one["choices"][0]["finish_reason"] for one in whole] == ["stop", "tool_calls", "length"]
    assert whole[0]["choices"][0]["message"] == {"role": "assistant", "content": "Well then."}
    function = {"name": "add", "arguments": '{"a": 1}'}
    assert whole[1]["choices"][0]["message"]["tool_calls"] == [{"id": "one", "type": "function", "function": function}]
    assert (whole[0]["usage"], whole[2]["usage"]["completion_tokens"]) == (USAGE, 7)
    lines = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    deltas = [json.loads(line)["choices"] for line in lines[:-1]]
    assert "".join(choice[0]["delta"].get("content", "") for choice in deltas if choice) == "cut"


async def test_the_server_tells_of_itself() -> None:
    with ScriptedServer(text("Well."), n_ctx=512) as server:
        async with httpx.AsyncClient(base_url=server.url.removesuffix("/v1"), trust_env=False) as client:
            assert (await client.get("/health")).json() == {"status": "ok"}
            assert (await client.get("/props")).json()["default_generation_settings"]["n_ctx"] == 512
            assert (await client.get("/v1/models")).json()["data"][0]["id"] == "scripted"
            prompt = (
                await client.post("/apply-template", json={"messages": [{"role": "user", "content": "Hi"}]})
            ).json()
            assert "Hi" in prompt["prompt"]
            tokens = (await client.post("/tokenize", json={"content": "12345"})).json()["tokens"]
            assert len(tokens) == 2
            assert (await client.get("/metrics")).status_code == 404
        assert server.requests == []


async def test_what_a_reply_raises_is_raised_where_the_server_is_left() -> None:
    def wrong(exchange: Exchange) -> None:
        raise AssertionError(f"unexpected: {exchange.request!r}")

    async def ask() -> None:
        with ScriptedServer(wrong) as server:
            async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
                with pytest.raises(httpx.HTTPError):
                    await client.post("/chat/completions", json={"messages": []})

    with pytest.raises(AssertionError, match="unexpected"):
        await ask()


async def test_parallel_workers_are_answered_by_what_they_ask(tmp_path: Path) -> None:
    plan = {"tasks": [{"id": number, "role": "general", "task": f"Say {number}."} for number in (1, 2, 3)]}

    def choose(request: dict[str, Any]) -> Reply:
        if "response_format" in request:
            return text(json.dumps(plan))
        asked = contents(request, "user")[0]
        return text(f"It is {asked[4]}." if is_react(request) else "Merged.")

    ran = await Stage(tmp_path).play("orchestrator-worker", "Say all.", chosen(choose))
    assert (ran.error, ran.result.output) == (None, "Merged.")
    assert all(f"{number}. It is {number}." in contents(ran.requests[-1], "user")[0] for number in (1, 2, 3))
    assert len(ran.of_type(ModelCall)) == 5


def test_a_server_that_is_left_ends_what_hangs() -> None:
    for reply in (silent(), begun("Well", lambda exchange: exchange.hang())):
        with ScriptedServer(reply) as server, httpx.Client(base_url=server.url, trust_env=False, timeout=0.2) as client:
            with pytest.raises(httpx.TimeoutException):
                client.post("/chat/completions", json={"messages": [], "stream": True})
            assert server.wait_for_requests(1)
        assert server.disconnected.is_set()
