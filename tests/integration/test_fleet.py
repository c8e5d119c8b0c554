"""The fleet: leases, restarts, limits, and the end of all that it started."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from benchai.agents.role import Agents
from benchai.bench import Bench
from benchai.errors import ConfigError, EngineError, EngineStartError, ModelFileError
from benchai.events import Event, ModelLoading, ModelReady, ModelState, ModelStopped, Notice
from benchai.runtime.fleet.fleet import Fleet
from tests.integration import scripted
from tests.integration.helpers import TINY_MODEL, ended, engine_config, group, loaded, tiny_config, until
from tests.integration.scripted import ScriptedServer

pytestmark = pytest.mark.anyio


def kinds(events: list[Event]) -> list[type[Event]]:
    """Of all events but the states of processes."""
    return [type(event) for event in events if not isinstance(event, ModelState)]


def pids(events: list[Event]) -> list[int]:
    return [event.pid for event in events if isinstance(event, ModelReady)]


async def test_two_leases_at_once_start_one_process(tmp_path: Path) -> None:
    events: list[Event] = []
    async with Fleet(loaded(tmp_path, tiny_config()), events.append) as fleet, AsyncExitStack() as stack:
        leases = [fleet.lease("general"), fleet.lease("general")]
        one, two = await asyncio.gather(*(stack.enter_async_context(lease) for lease in leases))
        assert one == two
        assert (one.role, one.model, one.placement) == ("general", "tiny", "cpu")
        assert len(group(pids(events)[0])) == 1
    assert kinds(events) == [ModelLoading, ModelReady, ModelStopped]
    assert not group(pids(events)[0])


async def test_a_crash_between_leases_is_mended_at_the_next(tmp_path: Path) -> None:
    events: list[Event] = []
    async with Fleet(loaded(tmp_path, tiny_config()), events.append) as fleet:
        async with fleet.lease("general") as first:
            pass
        os.kill(pids(events)[0], signal.SIGKILL)
        assert ended(pids(events)[0])
        process = fleet.members["tiny"].supervisor.process
        assert process is not None
        await asyncio.wait_for(process.exited.wait(), 15)
        async with fleet.lease("general") as second:
            assert second.n_ctx == first.n_ctx
        assert len(set(pids(events))) == 2
    stopped = [event.exit_code for event in events if isinstance(event, ModelStopped)]
    assert stopped == [-signal.SIGKILL, 0]
    assert not any(group(pid) for pid in pids(events))


async def test_a_crash_right_before_a_lease_is_noticed(tmp_path: Path) -> None:
    events: list[Event] = []
    async with Fleet(loaded(tmp_path, tiny_config()), events.append) as fleet:
        async with fleet.lease("general"):
            pass
        os.kill(pids(events)[0], signal.SIGKILL)
        reply = await Agents(fleet, events.append).role("general").call([("user", "Hello")])  # type: ignore[list-item]
        assert reply.content
        assert len(set(pids(events))) == 2


async def test_a_failed_start_can_be_tried_again(tmp_path: Path) -> None:
    events: list[Event] = []
    config = engine_config(tmp_path, "exits")
    async with Fleet(loaded(tmp_path, config), events.append) as fleet:
        for _ in range(2):
            with pytest.raises(EngineStartError, match="exit code 3"):
                async with fleet.lease("general"):
                    pass
    # a model that never was ready has not stopped
    assert kinds(events) == [ModelLoading, ModelLoading]


async def test_a_role_is_called_twice_at_a_time(tmp_path: Path) -> None:
    async with Fleet(loaded(tmp_path, tiny_config())) as fleet, AsyncExitStack() as stack:
        first = AsyncExitStack()
        await first.enter_async_context(fleet.lease("general"))
        await stack.enter_async_context(fleet.lease("general"))
        third = asyncio.create_task(stack.enter_async_context(fleet.lease("general")))
        done, _ = await asyncio.wait([third], timeout=0.1)
        assert not done
        await first.aclose()
        await asyncio.wait_for(third, 15)


async def test_at_most_two_requests_reach_the_model_of_general(tmp_path: Path) -> None:
    with ScriptedServer(scripted.silent()) as server:
        config = server.config(budgets={"seconds": 1.5})
        async with Bench.open(loaded(tmp_path, config), workspace=tmp_path) as bench:
            results = await asyncio.gather(*(bench.run("react", f"task {number}") for number in range(4)))
        assert server.most_at_once == 2
    assert [result.stop_reason for result in results] == ["budget_time"] * 4


async def test_a_remote_endpoint_is_leased_without_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAR_KEY", "secret")
    far = {"endpoint": "http://127.0.0.1:9/v1/", "model": "big", "api_key_env": "FAR_KEY", "max_tokens": 7}
    events: list[Event] = []
    async with Fleet(loaded(tmp_path, {"models": {"general": far}}), events.append) as fleet:
        async with fleet.lease("general") as endpoint:
            assert (endpoint.base_url, endpoint.served_name) == ("http://127.0.0.1:9/v1", "big")
            assert (endpoint.placement, endpoint.api_key, endpoint.max_tokens) == ("remote", "secret", 7)
            assert "secret" not in repr(endpoint)
    assert not events


async def test_a_missing_key_is_named(tmp_path: Path) -> None:
    far = {"endpoint": "http://127.0.0.1:9/v1", "model": "big", "api_key_env": "FAR_KEY"}
    async with Fleet(loaded(tmp_path, {"models": {"general": far}})) as fleet:
        with pytest.raises(ConfigError, match="'FAR_KEY' is not set") as caught:
            async with fleet.lease("general"):
                pass
    assert caught.value.hint == "export FAR_KEY=..."


async def test_a_role_without_a_model_and_a_model_without_a_file(tmp_path: Path) -> None:
    async with Fleet(loaded(tmp_path, tiny_config(file="none.gguf"))) as fleet:
        with pytest.raises(ConfigError, match="no model serves the role 'vision'"):
            async with fleet.lease("vision"):
                pass
        with pytest.raises(ModelFileError, match=r"none\.gguf' is missing"):
            async with fleet.lease("general"):
                pass


async def test_leaving_the_fleet_stops_all(tmp_path: Path) -> None:
    events: list[Event] = []
    config = {"models": {"general": TINY_MODEL, "code": TINY_MODEL}}
    async with Fleet(loaded(tmp_path, config), events.append) as fleet:
        async with fleet.lease("general") as one, fleet.lease("code") as two:
            assert one.base_url != two.base_url
    assert len(set(pids(events))) == 2
    assert not any(group(pid) for pid in pids(events))


async def test_leaving_the_fleet_during_a_start_stops_it(tmp_path: Path) -> None:
    events: list[Event] = []
    config = engine_config(tmp_path, "loading")
    async with Fleet(loaded(tmp_path, config), events.append) as fleet:
        lease = asyncio.create_task(fleet.lease("general").__aenter__())
        model = fleet.members["tiny"].supervisor
        await asyncio.to_thread(until, lambda: model.process and model.process.pid)
        assert model.process is not None
        pid = model.process.pid
        assert pid is not None
    with pytest.raises(EngineError, match="the fleet is stopping"):
        await lease
    assert not group(pid)


async def test_a_call_outlives_a_stop_of_its_model(tmp_path: Path) -> None:
    events: list[Event] = []
    async with Fleet(loaded(tmp_path, engine_config(tmp_path, "streams")), events.append) as fleet:
        agent = Agents(fleet, events.append).role("general")
        call = asyncio.create_task(agent.call([("user", "Hello")]))  # type: ignore[list-item]
        await asyncio.to_thread(until, lambda: any(event.type == "delta" for event in events))
        await asyncio.wait_for(fleet.stop("tiny", patience=0), 10)
        # the call is made again, which starts the model
        await asyncio.to_thread(until, lambda: len(set(pids(events))) == 2)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    assert any("calling again" in event.text for event in events if isinstance(event, Notice))
    assert not any(group(pid) for pid in pids(events))
