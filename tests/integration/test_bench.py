"""Runs of workflows: events, threads, budgets, tools, and what endpoints do wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ormsgpack
import pytest

from benchai.bench import Bench
from benchai.errors import BenchAIError, ConfigError, ContextExceeded, EndpointError, UsageError
from benchai.events import (
    Answer,
    BudgetLow,
    Delta,
    Event,
    ModelCall,
    ModelReady,
    Notice,
    Observation,
    Repair,
    Result,
    RunStarted,
    ToolCall,
)
from benchai.graphs.guards import Budget
from benchai.graphs.names import BUILTIN
from tests.integration import scripted
from tests.integration.helpers import group, loaded, tiny_config
from tests.integration.scripted import Exchange, ScriptedServer, contents

pytestmark = pytest.mark.anyio
ADD = ("calculator", '{"expression": "7391 * 482"}')


@asynccontextmanager
async def bench_on(folder: Path, config: dict[str, Any], **extra: Any) -> AsyncIterator[Bench]:
    async with Bench.open(loaded(folder, config | extra), workspace=folder) as bench:
        yield bench


async def events_of(
    bench: Bench, task: str, workflow: str = "react", **options: Any
) -> tuple[list[Event], BenchAIError | None]:
    """All events of a run, and the error that ended it."""
    events: list[Event] = []
    try:
        async for event in bench.stream(workflow, task, **options):
            events.append(event)
    except BenchAIError as error:
        return events, error
    return events, None


def result_of(events: list[Event]) -> Result:
    assert [index for index, event in enumerate(events) if isinstance(event, Result)] == [len(events) - 1]
    last = events[-1]
    assert isinstance(last, Result)
    return last


def of_type(events: list[Event], *kinds: type[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kinds)]


async def test_the_bundled_model_answers_with_a_tool(tmp_path: Path) -> None:
    async with Bench.open(workspace=tmp_path) as bench:
        events, error = await events_of(bench, "What is 7391 * 482?")
        result = result_of(events)
        assert error is None
        assert "3562462" in result.output.replace(",", "")
        assert (result.stop_reason, result.workflow, result.error) == ("completed", "react", None)
        assert result.steps == 2
        assert result.usage.total_tokens == result.usage.prompt_tokens + result.usage.completion_tokens > 0
        [observation] = of_type(events, Observation)
        assert (observation.ok, observation.text) == (True, "3562462")


async def test_events_come_in_order(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(ADD, thought="I calculate."), scripted.text("It is 3562462.")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events, error = await events_of(bench, "What is 7391 * 482?")
    assert error is None
    kinds = [event.type for event in events if not isinstance(event, Delta)]
    assert kinds == ["run", "model_call", "thought", "tool_call", "observation", "model_call", "answer", "result"]
    assert "".join(event.text for event in of_type(events, Delta)) == "I calculate.It is 3562462."
    assert [event.time for event in events] == sorted(event.time for event in events)
    result = result_of(events)
    assert (result.output, result.steps) == ("It is 3562462.", 2)
    assert (result.usage.prompt_tokens, result.usage.completion_tokens, result.usage.total_tokens) == (40, 20, 60)
    assert contents(server.requests[1], "tool") == ["3562462"]
    assert json.dumps([event.as_json() for event in events])


@pytest.mark.parametrize(
    ("reply", "budget", "reason"),
    [
        (scripted.text("Hello"), None, "completed"),
        (scripted.calls(ADD), Budget(1, 10_000, 60), "budget_steps"),
        (scripted.silent(), Budget(9, 9999, 1), "budget_time"),
        (scripted.error(400, message="no"), None, "error"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_result_is_kept_as_the_last_event(
    tmp_path: Path, reply: scripted.Reply, budget: Budget | None, reason: str
) -> None:
    with ScriptedServer(reply) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events, _ = await events_of(bench, "Hello", thread_id="one", budget=budget)
            kept = await bench.threads.events("one")
    assert result_of(events).stop_reason == reason
    [run_id] = {event["run_id"] for event in kept}
    streamed = [event.as_json() | {"run_id": run_id} for event in events if not isinstance(event, Delta)]
    assert kept == json.loads(json.dumps(streamed))


async def test_a_run_that_is_left_keeps_a_result_too(tmp_path: Path) -> None:
    reply = scripted.begun("Well", lambda exchange: exchange.hang())
    with ScriptedServer(reply, scripted.text("Hello")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            async with contextlib.aclosing(bench.stream("react", "Hello", thread_id="one")) as stream:
                async for event in stream:
                    if isinstance(event, Delta):
                        break
            left = await bench.threads.events("one")
            resumed = await bench.resume("one")
            kept = await bench.threads.events("one")
            with pytest.raises(UsageError, match="nothing to go on with"):
                await bench.resume("one")
            assert await bench.threads.events("one") == kept, "a run that can't begin leaves nothing"
    call, result = left[-2:]
    assert (call["type"], call["error"], call["then"]) == ("model_call", "cancelled", "given_up")
    assert (result["type"], result["stop_reason"], result["steps"]) == ("result", "cancelled", 1)
    assert (kept[-1]["type"], kept[-1]["output"], kept[-1]["steps"]) == ("result", "Hello", resumed.steps)
    assert [event["stop_reason"] for event in kept if event["type"] == "result"] == ["cancelled", "completed"]


async def test_a_call_that_fails_is_told_with_what_follows(tmp_path: Path) -> None:
    lost = scripted.begun("We", lambda exchange: exchange.reset())
    with ScriptedServer(lost, scripted.text(""), scripted.text("Hello"), scripted.error(400, message="no")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events, _ = await events_of(bench, "Hello")
            later, error = await events_of(bench, "Hello")
    calls = [(call.step, call.model, call.error, call.then) for call in of_type(events, ModelCall)]
    assert calls == [
        (1, "far", "ReplyBroken", "called_again"),
        (1, "far", "EmptyReply", "repaired"),
        (2, "far", None, None),
    ]
    assert result_of(events).steps == 2
    first = of_type(events, ModelCall)[0]
    assert "broke off" in first.detail
    assert 0 < first.seconds < 60
    [last] = of_type(later, ModelCall)
    assert (last.error, last.then, last.detail) == ("EndpointError", "given_up", str(error))
    assert (last.prompt_tokens, last.completion_tokens, last.finish_reason) == (0, 0, "")


async def test_a_second_run_on_a_thread_sees_the_first(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("Hello Ann."), scripted.text("You are Ann.")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            first = await bench.run("react", "I am Ann.", thread_id="ann")
        async with bench_on(tmp_path, server.config()) as bench:
            second = await bench.run("react", "Who am I?", thread_id="ann")
            other = await bench.run("react", "Who am I?")
            messages = await bench.threads.messages("ann")
    assert first.thread_id == second.thread_id == "ann"
    assert other.thread_id != "ann"
    assert contents(server.requests[1], "user") == ["I am Ann.", "Who am I?"]
    assert contents(server.requests[1], "assistant") == ["Hello Ann."]
    assert contents(server.requests[2], "user") == ["Who am I?"]
    assert [str(message.text) for message in messages] == ["I am Ann.", "Hello Ann.", "Who am I?", "You are Ann."]


async def test_a_thread_of_another_workflow_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from benchai.graphs.react import build as graph\n", encoding="utf-8")
    with ScriptedServer(scripted.text("Hello")) as server:
        async with bench_on(tmp_path, server.config(workflows={"own": "own.py:graph"})) as bench:
            await bench.run("react", "Hello", thread_id="one")
            with pytest.raises(UsageError, match="belongs to the workflow 'react', not 'own'"):
                await bench.run("own", "Hello", thread_id="one")
            assert (await bench.threads.get("one")).stop_reason == "completed"


async def test_two_runs_at_once_on_a_thread_are_refused(tmp_path: Path) -> None:
    with ScriptedServer(scripted.silent()) as server:
        async with bench_on(tmp_path, server.config()) as one, bench_on(tmp_path, server.config()) as two:
            first = asyncio.create_task(one.run("react", "Hello", thread_id="one"))
            assert await asyncio.to_thread(server.wait_for_requests, 1)
            for bench in (one, two):
                with pytest.raises(UsageError, match="under way on the thread 'one'"):
                    await bench.run("react", "Hello again", thread_id="one")
            with pytest.raises(UsageError, match="under way"):
                await two.threads.delete("one")
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert (await two.threads.get("one")).stop_reason == "cancelled"
    assert len(server.requests) == 1


async def test_runs_at_once_do_not_mix_their_events(tmp_path: Path) -> None:
    def answer(exchange: Exchange) -> None:
        assert exchange.server.wait_for_requests(2)
        scripted.text(f"Answer to {contents(exchange.request, 'user')[0]}")(exchange)

    with ScriptedServer(answer) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            streams = await asyncio.gather(*(events_of(bench, task, thread_id=task) for task in ("one", "two")))
    for task, (events, _) in zip(("one", "two"), streams, strict=True):
        assert [event.thread_id for event in of_type(events, RunStarted)] == [task]
        assert [event.text for event in of_type(events, Answer)] == [f"Answer to {task}"]
        assert "".join(event.text for event in of_type(events, Delta)) == f"Answer to {task}"


@pytest.mark.parametrize(
    ("budget", "reason", "steps", "key"),
    [
        # one more call asks for an answer with what there is
        (Budget(3, 100_000, 60), "budget_steps", 4, "budgets.steps"),
        (Budget(50, 60, 60), "budget_tokens", 2, "budgets.tokens"),
    ],
)
async def test_a_model_that_never_ends_is_stopped(
    tmp_path: Path, budget: Budget, reason: str, steps: int, key: str
) -> None:
    with ScriptedServer(scripted.calls(ADD)) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events, error = await events_of(bench, "Go on", thread_id="one", budget=budget)
            kept = await bench.threads.get("one")
    result = result_of(events)
    assert error is None
    assert (result.stop_reason, result.steps, len(server.requests)) == (reason, steps, steps)
    assert result.usage.total_tokens == 30 * steps
    told = [event.detail for event in of_type(events, BudgetLow)] + [event.text for event in of_type(events, Notice)]
    assert key in " ".join(told)
    assert kept.stop_reason == reason


async def test_a_run_goes_on_after_its_budget_was_spent(tmp_path: Path) -> None:
    replies = (scripted.calls(ADD, ADD), scripted.text("So far: nothing"), scripted.text("Done"))
    with ScriptedServer(*replies) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            first = await bench.run("react", "Go on", thread_id="one", budget=Budget(1, 1000, 60))
            result = await bench.run("react", "And now", thread_id="one")
    assert (first.output, first.stop_reason) == ("So far: nothing", "budget_steps")
    assert result.output == "Done"
    roles = [message["role"] for message in server.requests[2]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "tool", "assistant", "user"]


@pytest.mark.parametrize(
    "reply", [scripted.silent(), scripted.begun("Well", lambda exchange: exchange.hang())], ids=["silent", "begun"]
)
async def test_the_time_of_a_run_is_limited(tmp_path: Path, reply: scripted.Reply) -> None:
    began = time.monotonic()
    with ScriptedServer(reply) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            result = await bench.run("react", "Hello", budget=Budget(9, 9999, 2))
        assert (result.stop_reason, result.steps, result.output) == ("budget_time", 1, "")
        assert time.monotonic() - began < 20
        assert await asyncio.to_thread(server.disconnected.wait, 10)


async def test_leaving_a_stream_cancels_the_request(tmp_path: Path) -> None:
    reply = scripted.begun("Well", lambda exchange: exchange.hang())
    with ScriptedServer(reply) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            async with contextlib.aclosing(bench.stream("react", "Hello", thread_id="one")) as stream:
                async for event in stream:
                    if isinstance(event, Delta):
                        break
            assert await asyncio.to_thread(server.disconnected.wait, 10)
            assert (await bench.threads.get("one")).stop_reason == "cancelled"
            async for event in bench.stream("react", "Hello", thread_id="one"):
                assert isinstance(event, RunStarted)
                break


async def test_a_real_request_is_cancelled_too(tmp_path: Path) -> None:
    async with bench_on(tmp_path, tiny_config(slots=1)) as bench:
        async with contextlib.aclosing(bench.stream("react", "Hello")) as stream:
            pid = await anext(event.pid async for event in stream if isinstance(event, ModelReady))
        assert group(pid) == [pid]
        events, error = await events_of(bench, "Hello", budget=Budget(1, 9999, 20))
        assert error is None
        assert not [event for event in events if event.type == "model_loading"]
    assert not group(pid)


async def test_a_failing_tool_tells_the_model(tmp_path: Path) -> None:
    replies = (
        scripted.calls(("calculator", '{"expression": "1 / 0"}')),
        scripted.calls(("read_file", '{"path": "none.txt"}')),
        scripted.calls(("read_file", '{"path": "../../etc/passwd"}')),
        scripted.calls(("calculator", '{"formula": "1 + 1"}')),
        scripted.text("I cannot."),
    )
    with ScriptedServer(*replies) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events, _ = await events_of(bench, "Try")
    observations = of_type(events, Observation)
    assert [observation.ok for observation in observations] == [False] * 4
    assert contents(server.requests[-1], "tool") == [observation.text for observation in observations]
    assert [observation.error for observation in observations] == ["ToolError", "ToolError", "Refused", "UsageError"]
    assert "expression" in observations[3].text
    assert result_of(events).output == "I cannot."


@pytest.mark.parametrize(
    ("call", "about"),
    [
        (("calculator", '["1 + 1"]'), "expression"),
        (("calculator", "null"), "expression"),
        # list_files needs no argument: it must not run without those that could not be read
        (("list_files", '["folder"]'), "list_files"),
        (("list_files", '"folder" and more'), "list_files"),
    ],
)
async def test_a_call_that_no_rung_mends_goes_back_to_the_model(
    tmp_path: Path, call: tuple[str, str], about: str
) -> None:
    with ScriptedServer(scripted.calls(call), scripted.text("Sorry.")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events, error = await events_of(bench, "Try")
    assert error is None
    [observation] = of_type(events, Observation)
    assert not observation.ok
    assert about in observation.text
    assert result_of(events).stop_reason == "completed"
    # the call, the grammar's turn, and the answer to the complaint
    assert [repair.rung for repair in of_type(events, Repair)] == ["grammar"]
    assert len(server.requests) == 3


@pytest.mark.parametrize("call", [("calculator", '{"expression": "1 +'), ("list_files", '{"path": "folder')])
async def test_a_call_that_was_cut_off_never_runs(tmp_path: Path, call: tuple[str, str]) -> None:
    with ScriptedServer(scripted.calls(call), scripted.calls(ADD), scripted.text("Done")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events, error = await events_of(bench, "Try")
    assert error is None
    [observation] = of_type(events, Observation)
    assert (observation.ok, observation.name) == (True, "calculator")
    assert [repair.rung for repair in of_type(events, Repair)] == ["cut"]


async def test_a_name_that_is_nearly_right_is_taken(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(("Calculator", '{"expression": "1 + 1"}')), scripted.text("2")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events, _ = await events_of(bench, "Try")
    [observation] = of_type(events, Observation)
    assert (observation.ok, observation.name, observation.text) == (True, "calculator", "2")


@pytest.mark.parametrize(
    ("call", "about"),
    [(("no_such_tool", "{}"), "no_such_tool"), (("", "{}"), "there is no tool")],
)
async def test_a_broken_call_goes_back_to_the_model(tmp_path: Path, call: tuple[str, str], about: str) -> None:
    with ScriptedServer(scripted.calls(call), scripted.text("Sorry.")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events, error = await events_of(bench, "Try")
    assert error is None
    [observation] = of_type(events, Observation)
    assert not observation.ok
    assert about in observation.text
    assert result_of(events).stop_reason == "completed"
    assert len(server.requests) == 2


async def test_two_calls_at_once_keep_their_pairs(tmp_path: Path) -> None:
    calls = [("calculator", '{"expression": "1 + 1"}'), ("calculator", '{"expression": "2 + 3"}')]
    with ScriptedServer(scripted.calls(*calls), scripted.text("2 and 5")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events, _ = await events_of(bench, "Try")
    ids = [call["id"] for call in server.requests[1]["messages"][-3]["tool_calls"]]
    results = server.requests[1]["messages"][-2:]
    assert [(one["tool_call_id"], one["content"]) for one in results] == [(ids[0], "2"), (ids[1], "5")]
    assert {event.id for event in of_type(events, ToolCall)} == set(ids)


@pytest.mark.parametrize("call_id", [None, "", "same"])
async def test_missing_and_double_ids_are_mended(tmp_path: Path, call_id: str | None) -> None:
    calls = [("calculator", f'{{"expression": "{number} + 1"}}', call_id) for number in (1, 4)]
    with ScriptedServer(scripted.calls(*calls), scripted.calls(*calls), scripted.text("2 and 5")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            _, error = await events_of(bench, "Try")
    assert error is None
    last = server.requests[-1]["messages"]
    asked = [call["id"] for message in last for call in message.get("tool_calls", [])]
    answered = [message["tool_call_id"] for message in last if message["role"] == "tool"]
    assert asked == answered
    assert all(asked)
    assert len(set(asked[:2])) == len(set(asked[2:])) == 2
    assert contents(server.requests[-1], "tool") == ["2", "5", "2", "5"]


def _plain_end(exchange: Exchange) -> None:
    exchange.close()


def _error_in_stream(exchange: Exchange) -> None:
    exchange.data(json.dumps({"error": {"code": 500, "message": "Compute error.", "type": "server_error"}}))
    exchange.close()


@pytest.mark.parametrize(
    ("reply", "parts"),
    [
        pytest.param(scripted.error(401, message="Invalid API Key", type="authentication_error"), "refused the key"),
        pytest.param(scripted.error(500, message="Compute error.", type="server_error"), "Compute error"),
        pytest.param(scripted.error(404, message="no such model", type="not_found_error"), "no such model"),
        pytest.param(scripted.begun("Well", lambda exchange: exchange.hang_up()), "broke off"),
        pytest.param(scripted.begun("Well", lambda exchange: exchange.reset()), ""),
        pytest.param(scripted.begun("Well", _error_in_stream), "Compute error"),
        pytest.param(scripted.begun("Half of an answ", _plain_end), "broke off"),
        pytest.param(scripted.text(""), "answered nothing"),
        pytest.param(scripted.text("  \n"), "answered nothing"),
        pytest.param(lambda exchange: exchange.json(200, {"hello": "there"}), "answered nothing"),
        pytest.param(lambda exchange: exchange.reset(), "cannot be reached"),
        pytest.param(scripted.text("", finish="length"), "spent all"),
    ],
    ids=[
        "401",
        "500",
        "404",
        "closed",
        "reset",
        "error-in-stream",
        "no-end",
        "empty",
        "blank",
        "no-stream",
        "refused",
        "thinking",
    ],
)
async def test_a_fault_of_an_endpoint_ends_the_run_with_a_reason(
    tmp_path: Path, reply: scripted.Reply, parts: str
) -> None:
    with ScriptedServer(reply) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events, error = await events_of(bench, "Hello", thread_id="one")
            kept = await bench.threads.get("one")
    assert isinstance(error, EndpointError)
    assert parts in error.message
    assert "'far'" in error.message
    result = result_of(events)
    assert (result.stop_reason, result.error, result.output) == ("error", error.message, "")
    assert kept.stop_reason == "error"


async def test_an_endpoint_that_is_not_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    far = {"endpoint": f"http://127.0.0.1:{port}/v1", "model": "big"}
    async with bench_on(tmp_path, {"models": {"general": far}}) as bench:
        events, error = await events_of(bench, "Hello")
    assert isinstance(error, EndpointError)
    assert "cannot be reached" in error.message
    assert str(port) in error.message
    assert result_of(events).steps == 1


@pytest.mark.parametrize(
    "reply", [scripted.silent(), scripted.begun("Well", lambda exchange: exchange.hang())], ids=["silent", "begun"]
)
async def test_no_token_for_too_long_ends_a_call(tmp_path: Path, reply: scripted.Reply) -> None:
    with ScriptedServer(reply) as server:
        config = server.config(router={"timeouts": {"gpu": 0.3}})
        async with bench_on(tmp_path, config) as bench:
            events, error = await asyncio.wait_for(events_of(bench, "Hello"), 10)
    assert isinstance(error, EndpointError)
    assert "cannot be reached" not in error.message
    assert "router.timeouts" in str(error.hint)
    assert result_of(events).stop_reason == "error"


async def test_slow_tokens_are_no_idle_time(tmp_path: Path) -> None:
    def slow(exchange: Exchange) -> None:
        exchange.stream()
        for word in ("so ", "slow ", "it ", "really ", "is"):
            exchange.pause(0.25)
            exchange.chunk({"role": "assistant", "content": word})
        exchange.end()

    with ScriptedServer(slow) as server:
        async with bench_on(tmp_path, server.config(router={"timeouts": {"gpu": 1}})) as bench:
            result = await bench.run("react", "Hello")
    assert result.output == "so slow it really is"


async def test_an_overflow_in_the_shape_of_llama_cpp(tmp_path: Path) -> None:
    with ScriptedServer(scripted.overflow(5123, 4096)) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events, error = await events_of(bench, "Hello")
    assert isinstance(error, ContextExceeded)
    assert (error.n_prompt_tokens, error.n_ctx) == (5123, 4096)
    assert "models.far.context" in str(error.hint)
    assert result_of(events).error == error.message


async def test_an_overflow_of_the_real_engine(tmp_path: Path) -> None:
    async with bench_on(tmp_path, tiny_config(context=512)) as bench:
        _, error = await events_of(bench, "Add these numbers: " + "17 + " * 600 + "1")
    assert isinstance(error, ContextExceeded)
    assert error.n_ctx == 512
    assert error.n_prompt_tokens is not None
    assert error.n_prompt_tokens > 512


async def test_a_cut_reply_is_told(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("Half of", finish="length")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events, _ = await events_of(bench, "Hello")
    assert "cut at 1024 tokens" in of_type(events, Notice)[0].text


async def test_what_a_request_carries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAR_KEY", "secret")
    with ScriptedServer(scripted.text("Hello")) as server:
        far = server.model(api_key_env="FAR_KEY", temperature=0.5, top_p=0.9, max_tokens=77)
        config = {"models": {"far": far}, "roles": {"general": "far"}, "tools": {"enabled": ["calculator"]}}
        async with bench_on(tmp_path, config) as bench:
            await bench.run("react", "Hello")
    [request] = server.requests
    assert (request["model"], request["temperature"], request["top_p"]) == ("scripted", 0.5, 0.9)
    assert (request["max_completion_tokens"], request["stream"]) == (77, True)
    assert [tool["function"]["name"] for tool in request["tools"]] == ["calculator"]
    assert server.keys == ["Bearer secret"]


GRAPHS = """
from typing import Annotated, TypedDict
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from benchai.graphs.context import RunContext

class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]

async def shout(state: State, runtime: Runtime[RunContext]) -> State:
    reply = await runtime.context.call("general", state["messages"])
    return {"messages": [AIMessage(reply.text.upper())]}

async def fail(state: State) -> State:
    raise ValueError("a mistake of the graph")

async def again(state: State) -> State:
    return state

def make(node=shout) -> StateGraph:
    "Answers loudly."
    made = StateGraph(State, context_schema=RunContext)
    made.add_node("node", node)
    made.add_edge(START, "node")
    return made

graph = make()
compiled = make().compile()
failing = make(fail)
looping = make(again)
looping.add_conditional_edges("node", lambda _: "node")
number = 42
"""


@pytest.mark.parametrize("attribute", ["graph", "compiled", "make"])
async def test_an_own_workflow(tmp_path: Path, attribute: str) -> None:
    (tmp_path / "graphs.py").write_text(GRAPHS, encoding="utf-8")
    with ScriptedServer(scripted.text("hello")) as server:
        async with bench_on(tmp_path, server.config(workflows={"loud": f"./graphs.py:{attribute}"})) as bench:
            assert [workflow.name for workflow in bench.workflows()] == sorted([*BUILTIN, "loud"])
            result = await bench.run("loud", "Say hello")
    assert (result.output, result.stop_reason, result.workflow, result.steps) == ("HELLO", "completed", "loud", 1)


@pytest.mark.parametrize(
    ("content", "target", "parts"),
    [
        (GRAPHS, "none.py:graph", ["none.py", "missing"]),
        (GRAPHS, "graphs.py:other", ["has no 'other'"]),
        (GRAPHS, "graphs.py", ["graphs.py", "file.py:attribute"]),
        ("import no_such_module\n", "graphs.py:graph", ["graphs.py", "no_such_module"]),
        ("def broken(:\n", "graphs.py:graph", ["graphs.py", "SyntaxError"]),
    ],
)
async def test_an_own_workflow_that_cannot_be_loaded(
    tmp_path: Path, content: str, target: str, parts: list[str]
) -> None:
    (tmp_path / "graphs.py").write_text(content, encoding="utf-8")
    with ScriptedServer(scripted.text("hello")) as server:
        async with bench_on(tmp_path, server.config(workflows={"own": target})) as bench:
            with pytest.raises(ConfigError, match=r"workflows\.own") as caught:
                await bench.run("own", "Hello")
            # the others are there all the same
            assert (await bench.run("react", "Hello")).output == "hello"
    for part in parts:
        assert part in caught.value.message


async def test_a_mistake_of_an_own_workflow_is_raised_after_the_result(tmp_path: Path) -> None:
    (tmp_path / "graphs.py").write_text(GRAPHS, encoding="utf-8")
    events: list[Event] = []
    with ScriptedServer(scripted.text("hello")) as server:
        async with bench_on(tmp_path, server.config(workflows={"own": "graphs.py:failing"})) as bench:
            with pytest.raises(ValueError, match="a mistake of the graph"):
                await collect(bench.stream("own", "Hello", thread_id="one"), events)
            kept = await bench.threads.get("one")
    result = result_of(events)
    assert result.stop_reason == kept.stop_reason == "error"
    assert result.error == "ValueError: a mistake of the graph"


async def collect(stream: AsyncIterator[Event], events: list[Event]) -> None:
    """Note the events of a stream that ends with an error."""
    async for event in stream:
        events.append(event)


async def test_a_workflow_that_calls_nothing_for_ever_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "graphs.py").write_text(GRAPHS, encoding="utf-8")
    with ScriptedServer(scripted.text("hello")) as server:
        async with bench_on(tmp_path, server.config(workflows={"own": "graphs.py:looping"})) as bench:
            events, error = await events_of(bench, "Hello", "own", budget=Budget(1, 100, 20))
    assert error is None
    assert result_of(events).stop_reason == "loop"


@pytest.mark.parametrize("thread_id", ["", "a\nb", "x" * 201])
async def test_a_thread_id_that_cannot_be_used(tmp_path: Path, thread_id: str) -> None:
    with ScriptedServer(scripted.text("hello")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            events, error = await events_of(bench, "Hello", thread_id=thread_id)
    assert isinstance(error, UsageError)
    assert (events, server.requests) == ([], [])


async def test_an_own_workflow_that_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "graphs.py").write_text(GRAPHS, encoding="utf-8")
    with ScriptedServer(scripted.text("hello")) as server:
        async with bench_on(tmp_path, server.config(workflows={"own": "graphs.py:number"})) as bench:
            events, error = await events_of(bench, "Hello", "own")
    assert isinstance(error, ConfigError)
    assert "'graphs.py:number' is no StateGraph but 'int'" in error.message
    assert events == []


@pytest.mark.usefixtures("store")
async def test_a_forged_checkpoint_runs_no_code(tmp_path: Path) -> None:
    """LangGraph's serializer would import and call whatever a checkpoint names."""
    proof = tmp_path / "proof"
    # extension 0 is a constructor with one argument
    forged = ormsgpack.packb(ormsgpack.Ext(0, ormsgpack.packb(("os", "mkdir", str(proof)))))
    with ScriptedServer(scripted.text("One"), scripted.text("Two")) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            await bench.run("react", "Hello", thread_id="forged")
            serde = bench.threads.saver.serde
            assert serde.loads_typed(("msgpack", forged)) != proof
            assert not proof.exists()
            # what a run itself writes still comes back
            again = await bench.run("react", "Again", thread_id="forged")
    assert again.output == "Two"
    assert contents(server.requests[1], "user") == ["Hello", "Again"]


async def test_a_stream_that_is_left_early_is_noted(tmp_path: Path) -> None:
    with ScriptedServer(scripted.silent()) as server:
        async with bench_on(tmp_path, server.config()) as bench:
            async for _ in bench.stream("react", "Hello", thread_id="left"):
                break
        async with bench_on(tmp_path, server.config()) as bench:
            assert (await bench.threads.get("left")).stop_reason == "cancelled"
