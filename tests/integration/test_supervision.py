"""A model's process under supervision: crashes, hangs, lack of memory, slow starts, taken ports."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import AnyMessage, HumanMessage

from benchai.agents.role import Agents
from benchai.errors import EngineStartError, OutOfMemory, PortInUse, Unavailable
from benchai.events import Delta, Event, ModelReady
from benchai.runtime.fleet.fleet import Fleet
from tests.integration.fleet_helpers import (
    MODEL,
    Record,
    client,
    eventually,
    fake_fleet,
    gpu_config,
    request,
    served,
)
from tests.integration.helpers import ended, group

pytestmark = pytest.mark.anyio
HELLO: list[AnyMessage] = [HumanMessage("Hello")]


def kills(number: signal.Signals, times: int) -> Callable[[ModelReady], None]:
    """End a model as soon as it is ready, so many times."""
    left = iter(range(times))

    def at_ready(event: ModelReady) -> None:
        if next(left, None) is not None:
            os.kill(event.pid, number)
            # nobody is granted a lease on it meanwhile
            assert ended(event.pid)

    return at_ready


# ---- a crash


async def test_a_kill_while_a_real_engine_streams_breaks_the_stream_and_the_next_lease_is_served(
    tmp_path: Path,
) -> None:
    record = Record()
    async with Fleet(gpu_config(tmp_path, ["general"], fit=1), record) as fleet:
        async with fleet.lease("general") as endpoint, client() as http:
            body = request(endpoint, "Hello", max_tokens=1900, stream=True, ignore_eos=True)
            async with http.stream("POST", f"{endpoint.base_url}/chat/completions", json=body) as answer:
                pieces = answer.aiter_raw()
                assert await anext(pieces)
                os.kill(record.pids()[0], signal.SIGKILL)
                with pytest.raises(httpx.RemoteProtocolError):
                    _ = [piece async for piece in pieces]
        # the connection breaks a moment before the process is gone
        await record.state("general", "backoff")
        again = await asyncio.wait_for(served(fleet, "general"), 10)
        assert again.base_url != endpoint.base_url
    [crash] = record.states("general", "backoff")
    assert crash.exit_code == -signal.SIGKILL
    assert "SIGKILL" in crash.cause
    assert len(set(record.pids())) == 2


async def test_a_call_outlives_the_kill_of_its_engine(tmp_path: Path) -> None:
    record = Record()

    def emit(event: Event) -> None:
        record(event)
        if isinstance(event, Delta) and len(record.pids()) == 1:
            os.kill(record.pids()[0], signal.SIGKILL)

    fleet, _ = fake_fleet(tmp_path, ["general"], record, plans={"general": ["trickles", ""]})
    async with fleet:
        agent = Agents(fleet, emit).role("general")
        assert (await asyncio.wait_for(agent.call(HELLO), 20)).content == "one two"
    assert record.notices("'general' broke off")
    assert not any(group(pid) for pid in record.pids())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_every_transition_is_told_with_its_cause_and_exit_code(tmp_path: Path, number: signal.Signals) -> None:
    record = Record(kills(number, 1))
    fleet, _ = fake_fleet(tmp_path, ["general"], record)
    async with fleet:
        await served(fleet, "general")
        await record.state("general", "ready", 2)
    states = record.states("general")
    expected = ["starting", "ready", "backoff", "starting", "ready", "stopping", "stopped"]
    assert [one.state for one in states] == expected
    assert [one.previous for one in states] == ["stopped", *expected[:-1]]
    assert [one.exit_code for one in states][2] == -number
    assert number.name in states[2].cause
    assert number.name in states[3].cause, "why it is started again"
    assert states[-1].cause == "the fleet ends"
    assert states[-1].exit_code is not None
    assert all(one.cause for one in states)


async def test_a_transition_does_not_name_the_process_before(tmp_path: Path) -> None:
    record = Record(kills(signal.SIGKILL, 1))
    fleet, _ = fake_fleet(tmp_path, ["general"], record)
    async with fleet:
        await served(fleet, "general")
        await record.state("general", "ready", 2)
    starts = record.states("general", "starting")
    assert starts[1].pid != record.pids()[0], "the pid of a process that is gone"


async def test_a_fleet_ends_right_after_a_crash(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general"], record)
    async with fleet:
        await served(fleet, "general")
        process = fleet.members["general"].supervisor.process
        assert process is not None
        os.kill(record.pids()[0], signal.SIGKILL)
        await asyncio.wait_for(process.exited.wait(), 5)
        closing = asyncio.create_task(fleet.__aexit__(None, None, None))
        done, _ = await asyncio.wait([closing], timeout=5)
        state = fleet.members["general"].supervisor.state
        # ends the loop so that leaving the fleet does not hang the test
        await fleet.members["general"].supervisor.abandon()
        await asyncio.wait_for(closing, 5)
        assert done, f"the fleet does not end: the model stays in {state!r}"


# ---- a hang


async def test_a_wedged_engine_is_found_by_the_probe_and_killed_with_its_group(tmp_path: Path) -> None:
    record = Record()
    settings: dict[str, Any] = {"fleet": {"probe_deadline": 0.3}, "router": {"health_check_interval": 0.1}}
    fleet, engine = fake_fleet(tmp_path, ["general"], record, plans={"general": ["deaf child", ""]}, **settings)
    async with fleet:
        await served(fleet, "general")
        pid = record.pids()[0]
        [child] = engine.noted("general", "children")
        engine.tell("general", "wedged")
        killed = await record.state("general", "backoff", seconds=8)
        engine.recall("general", "wedged")
        assert "/slots does not" in killed.cause
        assert killed.exit_code == -signal.SIGKILL
        assert not group(pid)
        assert ended(int(child), 1)
        await record.state("general", "ready", 2)
        await served(fleet, "general")


async def test_an_engine_that_does_not_answer_a_request_of_one_token_is_killed(tmp_path: Path) -> None:
    record = Record()
    settings: dict[str, Any] = {"fleet": {"probe_deadline": 0.3}, "router": {"health_check_interval": 0.1}}
    fleet, _ = fake_fleet(tmp_path, ["general"], record, plans={"general": ["holds", ""]}, **settings)
    async with fleet:
        await served(fleet, "general")
        killed = await record.state("general", "backoff", seconds=8)
        assert "one token" in killed.cause
        await record.state("general", "ready", 2)


async def test_an_engine_whose_health_fails_is_killed(tmp_path: Path) -> None:
    record = Record()
    settings: dict[str, Any] = {"router": {"health_check_interval": 0.1}}
    fleet, engine = fake_fleet(tmp_path, ["general"], record, plans={"general": ["ill", ""]}, **settings)
    async with fleet:
        await served(fleet, "general")
        engine.tell("general", "ill")
        killed = await record.state("general", "backoff", seconds=8)
        assert "/health failed 2 times" in killed.cause
        await record.state("general", "ready", 2)


async def test_stopping_a_wedged_model_does_not_wait_for_its_answers(tmp_path: Path) -> None:
    record = Record()
    fleet, engine = fake_fleet(tmp_path, ["general"], record, fleet={"probe_deadline": 0.3})
    async with fleet:
        await served(fleet, "general")
        engine.tell("general", "wedged")
        stopping = asyncio.create_task(fleet.stop("general"))
        done, _ = await asyncio.wait([stopping], timeout=6)
        # so that leaving the fleet does not take as long
        await fleet.members["general"].supervisor.abandon()
        await asyncio.gather(stopping, return_exceptions=True)
        assert done, "it waits for an answer of /slots, with callers of other models waiting behind it"


@pytest.mark.parametrize("words", ["mute wedges deaf", "begins wedges deaf"])
async def test_a_caller_without_tokens_has_its_engine_looked_at(tmp_path: Path, words: str) -> None:
    record = Record()
    router = {"timeouts": {"cpu": 1, "gpu": 1}, "health_check_interval": 60}
    fleet, engine = fake_fleet(
        tmp_path, ["general"], record, plans={"general": [words, ""]}, router=router, fleet={"probe_deadline": 0.5}
    )
    async with fleet:
        agent = Agents(fleet, record).role("general")
        # the engine is looked at, killed and started again meanwhile
        assert (await asyncio.wait_for(agent.call(HELLO), 20)).content == "one two"
        killed = await record.state("general", "backoff", seconds=6)
        assert killed.exit_code == -signal.SIGKILL
        assert "/v1/chat/completions" not in engine.noted("general", "asked"), "called again before it was judged"


async def test_a_call_outlives_an_engine_that_quits_and_is_slow_to_end(tmp_path: Path) -> None:
    record = Record()
    router = {"health_check_interval": 60}
    fleet, engine = fake_fleet(tmp_path, ["general"], record, plans={"general": ["quits", ""]}, router=router)
    async with fleet:
        agent = Agents(fleet, record).role("general")
        assert (await asyncio.wait_for(agent.call(HELLO), 20)).content == "one two"
        [killed] = record.states("general", "backoff")
        assert "/health failed" in killed.cause
        assert len(engine.noted("general", "starts")) == 2
        assert not engine.noted("general", "probes"), "the new process is in no doubt"


async def test_nobody_is_given_a_model_that_is_looked_at(tmp_path: Path) -> None:
    record = Record()
    router = {"timeouts": {"cpu": 1, "gpu": 1}, "health_check_interval": 60}
    plans = {"general": ["mute wedges", ""]}
    fleet, engine = fake_fleet(
        tmp_path, {"general": {"slots": 2}}, record, plans=plans, router=router, fleet={"probe_deadline": 0.5}
    )
    async with fleet:
        call = asyncio.create_task(Agents(fleet, record).role("general").call(HELLO))
        await record.until(lambda: record.notices("calling again"))
        await asyncio.wait_for(served(fleet, "general"), 20)
        assert record.path("general") == ["starting", "ready", "backoff", "starting", "ready"]
        assert (await asyncio.wait_for(call, 20)).content == "one two"
    assert "/v1/chat/completions" not in engine.noted("general", "asked")


async def test_a_model_that_was_doubted_and_answers_is_given_again(tmp_path: Path) -> None:
    record = Record()
    fleet, engine = fake_fleet(tmp_path, ["general"], record, router={"health_check_interval": 60})
    async with fleet:
        await Agents(fleet, record).role("general").call(HELLO)
        # a connection that broke is no reason to throw a conversation away: its slot is not used
        for silent, probes in ((False, 0), (True, 1), (False, 1), (True, 2)):
            async with fleet.lease("general") as endpoint:
                endpoint.suspect(silent)
            await asyncio.wait_for(served(fleet, "general"), 20)
            assert len(engine.noted("general", "probes")) == probes
        assert record.path("general") == ["starting", "ready"]


async def test_a_doubt_about_a_process_that_was_replaced_is_none_about_the_next(tmp_path: Path) -> None:
    record = Record()
    fleet, engine = fake_fleet(tmp_path, ["general"], record, router={"health_check_interval": 60})
    async with fleet:
        async with fleet.lease("general") as endpoint:
            os.kill(record.pids()[0], signal.SIGKILL)
            await record.state("general", "ready", 2)
            endpoint.suspect(True)
        await served(fleet, "general")
        assert not engine.noted("general", "probes")


async def test_an_engine_that_produces_tokens_is_left_alone(tmp_path: Path) -> None:
    record = Record()
    settings: dict[str, Any] = {"fleet": {"probe_deadline": 0.2}, "router": {"health_check_interval": 0.05}}
    fleet, engine = fake_fleet(tmp_path, {"general": {"slots": 2}}, record, plans={"general": "trickles"}, **settings)
    async with fleet:
        agent = Agents(fleet, record).role("general")
        call = asyncio.create_task(agent.call(HELLO))
        await record.until(lambda: any(isinstance(event, Delta) for event in record.events))
        engine.tell("general", "wedged")
        async with fleet.lease("general") as endpoint:
            endpoint.suspect(True)
        # the tokens of one call speak for the engine: others are let in
        await asyncio.wait_for(served(fleet, "general"), 10)
        begun = len(record.events)
        # two seconds of tokens: ten deadlines
        await record.until(lambda: len(record.events) > begun + 80)
        assert record.path("general") == ["starting", "ready"]
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        engine.recall("general", "wedged")


async def test_a_probe_that_a_request_overtakes_kills_nobody(tmp_path: Path) -> None:
    record = Record()
    settings: dict[str, Any] = {"fleet": {"probe_deadline": 0.5}, "router": {"health_check_interval": 0.1}}
    fleet, engine = fake_fleet(tmp_path, ["general"], record, plans={"general": "holds trickles"}, **settings)
    async with fleet:
        await served(fleet, "general")
        await engine.until_noted("general", "probes")
        agent = Agents(fleet, record).role("general")
        call = asyncio.create_task(agent.call(HELLO))
        await record.until(lambda: len(record.events) > 60 or record.states("general", "backoff"))
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert record.path("general") == ["starting", "ready"], "killed while it produced tokens"


# ---- lack of memory


async def test_a_model_without_memory_is_tried_again_once_an_idle_one_has_left(tmp_path: Path) -> None:
    record = Record()
    fleet, engine = fake_fleet(tmp_path, ["general", "code"], record, plans={"code": ["oom", ""]})
    async with fleet:
        await served(fleet, "general")
        assert (await served(fleet, "code")).model == "code"
        assert len(engine.noted("code", "starts")) == 2
        left = record.states("general", "stopped")[0]
        assert "found too little memory" in left.cause
    assert record.path("code") == ["starting", "ready", "stopping", "stopped"]


async def test_a_model_that_never_finds_memory_fails_after_one_more_try(tmp_path: Path) -> None:
    record = Record()
    fleet, engine = fake_fleet(tmp_path, ["general", "code"], record, plans={"code": "oom"})
    async with fleet:
        await served(fleet, "general")
        with pytest.raises(OutOfMemory, match="out of memory") as caught:
            await served(fleet, "code")
        assert len(engine.noted("code", "starts")) == 2
        assert caught.value.hint
        assert any("cudaMalloc failed" in line for line in caught.value.log)
        assert record.states("code", "failed")[0].exit_code == 1
        # the others go on
        await served(fleet, "general")


async def test_without_anything_to_free_there_is_no_second_try(tmp_path: Path) -> None:
    record = Record()
    fleet, engine = fake_fleet(tmp_path, ["general", "code"], record, plans={"code": "oom"})
    async with fleet, fleet.lease("general"):
        with pytest.raises(OutOfMemory):
            await served(fleet, "code")
        assert len(engine.noted("code", "starts")) == 1
        assert record.path("general") == ["starting", "ready"]


# ---- crashing again and again


async def test_a_model_that_crashes_again_and_again_is_started_with_growing_delays_and_fails(tmp_path: Path) -> None:
    record = Record(kills(signal.SIGSEGV, 3))
    fleet, engine = fake_fleet(tmp_path, ["general"], record, fleet={"max_restarts": 2})
    async with fleet:
        waiting = asyncio.create_task(served(fleet, "general"))
        failed = await record.state("general", "failed")
        with pytest.raises(EngineStartError, match="in a row") as caught:
            await waiting
        assert "started" in caught.value.log
        assert "SIGSEGV" in failed.cause
        assert failed.exit_code == -signal.SIGSEGV
        ends, starts = record.states("general", "backoff"), record.states("general", "starting")
        delays = [start.time - end.time for end, start in zip(ends, starts[1:], strict=True)]
        assert len(delays) == 2
        assert delays[0] < delays[1]
        assert delays[1] >= 0.99
        with pytest.raises(Unavailable) as later:
            await served(fleet, "general")
        assert 50 < later.value.retry_after <= 60
        assert later.value.hint
        assert len(engine.noted("general", "starts")) == 3
        # an operator's word counts more than the delay
        await asyncio.wait_for(fleet.restart("general"), 5)
        assert (await served(fleet, "general")).model == "general"


async def test_who_asks_for_a_model_in_a_long_delay_is_told_when_to_come_again(tmp_path: Path) -> None:
    record = Record(kills(signal.SIGKILL, 3))
    fleet, _ = fake_fleet(tmp_path, ["general"], record)
    async with fleet:
        first = asyncio.create_task(served(fleet, "general"))
        waits = await record.state("general", "backoff", 3)
        for asked in (first, asyncio.create_task(served(fleet, "general"))):
            with pytest.raises(Unavailable, match="started again in") as caught:
                await asyncio.wait_for(asked, 5)
            assert 1 < caught.value.retry_after <= 2
        run = asyncio.create_task(Agents(fleet, record).role("general").call(HELLO))
        # started without anybody asking again
        start = await record.state("general", "starting", 4)
        assert start.time - waits.time >= 1.99
        assert (await asyncio.wait_for(run, 10)).content == "one two"
        # a run has the patience
        assert record.notices("calling again when it is ready")


async def test_an_operators_start_ends_a_delay(tmp_path: Path) -> None:
    record = Record(kills(signal.SIGKILL, 3))
    fleet, _ = fake_fleet(tmp_path, ["general"], record)
    async with fleet:
        first = asyncio.create_task(served(fleet, "general"))
        waits = await record.state("general", "backoff", 3)
        await asyncio.gather(first, return_exceptions=True)
        await asyncio.wait_for(fleet.start("general"), 10)
        start = record.states("general", "starting")[3]
        assert start.time - waits.time < 1, "the operator waited for the whole delay"


# ---- starts


async def test_a_slow_start_that_goes_on_outlives_the_stall_timeout(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general"], record, plans={"general": "loads"}, engine={"stall_timeout": 0.6})
    async with fleet:
        await served(fleet, "general")
    [ready] = [event for event in record.events if isinstance(event, ModelReady)]
    assert ready.seconds > 1.2


async def test_a_start_that_stalls_is_ended(tmp_path: Path) -> None:
    record = Record()
    fleet, engine = fake_fleet(
        tmp_path, ["general"], record, plans={"general": "stalls deaf"}, engine={"stall_timeout": 0.6}
    )
    async with fleet:
        with pytest.raises(EngineStartError, match=r"no progress for 0\.6 s") as caught:
            await asyncio.wait_for(served(fleet, "general"), 15)
        assert "started" in caught.value.log
        [pid] = engine.noted("general", "starts")
        assert not group(int(pid))


async def test_a_foreign_process_on_the_port_is_named_and_never_used(tmp_path: Path) -> None:
    record = Record()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        fleet, engine = fake_fleet(tmp_path, {"general": {"port": port}}, record)
        async with fleet:
            with pytest.raises(PortInUse, match=rf"port {port} on 127\.0\.0\.1 is in use by .*pid {os.getpid()}"):
                await served(fleet, "general")
            assert record.path("general") == ["starting", "failed"]
            assert not engine.noted("general", "starts")
            taken.close()
            assert (await served(fleet, "general")).base_url == f"http://127.0.0.1:{port}/v1"


async def test_stopping_a_model_in_the_middle_of_its_start_ends_it(tmp_path: Path) -> None:
    record = Record()
    fleet, engine = fake_fleet(tmp_path, ["general"], record, plans={"general": ["stalls", ""]})
    async with fleet:
        waiting = asyncio.create_task(served(fleet, "general"))
        [pid] = await engine.until_noted("general", "starts")
        stopping = asyncio.create_task(fleet.stop("general"))
        stopped = await record.state("general", "stopped")
        assert "operator" in stopped.cause
        await eventually(lambda: not group(int(pid)))
        # whoever waits has it started again
        await asyncio.wait_for(asyncio.gather(stopping, waiting), 10)


async def test_models_of_the_same_file_are_told_apart(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, {"general": MODEL, "code": MODEL}, record)
    async with fleet, fleet.lease("general") as one, fleet.lease("code") as two:
        assert (one.model, two.model) == ("general", "code")
        assert one.base_url != two.base_url
