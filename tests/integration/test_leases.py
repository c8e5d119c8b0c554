"""Leases: limits of roles, full queues, other models in the place of one, callers that leave, new settings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from langchain_core.messages import AnyMessage, HumanMessage

from benchai.agents.role import Agents
from benchai.config import LoadedConfig, load_config
from benchai.errors import BenchAIError, EngineError, QueueFull
from benchai.events import Delta
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.placement.gauge import DeviceMemory, Gauge
from tests.integration.fleet_helpers import (
    FakeEngine,
    Record,
    client,
    eventually,
    fake_fleet,
    gpu_config,
    request,
    served,
    slots,
)
from tests.integration.helpers import group, write_config

pytestmark = pytest.mark.anyio
HELLO: list[AnyMessage] = [HumanMessage("Hello")]
FAR = {"endpoint": "http://127.0.0.1:9/v1", "model": "big"}


def with_remote(config: LoadedConfig, name: str, **changes: Any) -> LoadedConfig:
    """The same configuration with a remote model, and other sections changed."""
    return changed(config, models={name: FAR}, **changes)


def changed(config: LoadedConfig, **changes: Mapping[str, Any]) -> LoadedConfig:
    """The configuration with some keys of its sections set anew; None takes one out."""
    assert config.path is not None
    data = yaml.safe_load(config.path.read_text(encoding="utf-8"))
    for section, values in changes.items():
        merged = data.get(section, {}) | dict(values)
        data[section] = {key: value for key, value in merged.items() if value is not None}
    return load_config(write_config(config.path.parent, data))


# ---- limits


async def test_each_role_has_its_own_limit_on_one_model(tmp_path: Path) -> None:
    record = Record()
    roles = {"general": "m", "code": "m"}
    fleet, _ = fake_fleet(tmp_path, {"m": {"slots": 4}}, record, roles=roles)
    async with fleet, AsyncExitStack() as stack:
        for role in ("general", "general", "code"):
            await stack.enter_async_context(fleet.lease(role))
        for role in ("general", "code"):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(served(fleet, role), 0.1)
        assert fleet.members["m"].uses.total == 3


async def test_a_model_gives_no_more_places_than_it_has_slots(tmp_path: Path) -> None:
    record = Record()
    roles = {"general": "m", "code": "m"}
    fleet, _ = fake_fleet(tmp_path, {"m": {"slots": 1}}, record, roles=roles)
    async with fleet:
        async with fleet.lease("general"):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(served(fleet, "code"), 0.1)
        await served(fleet, "code")


async def test_a_full_queue_refuses_and_tells_when_to_come_again(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["code", "research"], record, router={"max_queue": 2})
    async with fleet:
        async with fleet.lease("code"):
            waiting = [asyncio.create_task(served(fleet, "code")) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFull, match=r"2 requests wait for the role 'code'.*max_queue = 2") as caught:
                await served(fleet, "code")
            assert caught.value.retry_after >= 1
            assert caught.value.status == 429
            assert fleet.dispatcher.counts.refused == 1
            # each role has its own queue
            await served(fleet, "research")
        assert len(await asyncio.wait_for(asyncio.gather(*waiting), 15)) == 2
        await served(fleet, "code")


# ---- another model in its place


async def test_another_local_model_serves_while_its_own_has_failed(tmp_path: Path) -> None:
    record = Record()
    router = {"fallback": {"code": ["general"]}}
    fleet, _ = fake_fleet(tmp_path, ["general", "code"], record, plans={"code": "exits"}, router=router)
    async with fleet:
        async with fleet.lease("code") as endpoint:
            assert (endpoint.role, endpoint.model, endpoint.served_name) == ("code", "general", "general")
            assert fleet.members["general"].uses.by_role["code"] == 1
        [notice] = record.notices("instead of")
        assert "'general' instead of 'code'" in notice
        assert "exit code 3" in notice
        assert (await asyncio.wait_for(Agents(fleet, record).role("code").call(HELLO), 15)).content == "one two"


async def test_a_remote_model_serves_while_its_own_does_not_fit(tmp_path: Path) -> None:
    record = Record()
    settings = with_remote(gpu_config(tmp_path, ["code"], fit=0), "far", router={"fallback": {"code": ["far"]}})
    async with Fleet(settings, record) as fleet:
        async with fleet.lease("code") as endpoint:
            assert (endpoint.role, endpoint.model, endpoint.placement) == ("code", "far", "remote")
    assert "'far' instead of 'code'" in record.notices("instead of")[0]


async def test_the_last_error_is_told_when_nobody_can_serve(tmp_path: Path) -> None:
    record = Record()
    router = {"fallback": {"code": ["general"]}}
    plans = {"code": "exits", "general": "exits"}
    fleet, _ = fake_fleet(tmp_path, ["general", "code"], record, plans=plans, router=router)
    async with fleet:
        with pytest.raises(EngineError, match="exit code 3"):
            await asyncio.wait_for(served(fleet, "code"), 10)


async def test_another_model_serves_when_its_own_is_long_in_starting(tmp_path: Path) -> None:
    record = Record()
    router = {"fallback": {"code": ["general"]}, "max_wait": 0.3}
    fleet, _ = fake_fleet(tmp_path, ["general", "code"], record, plans={"code": "stalls"}, router=router)
    async with fleet:
        await served(fleet, "general")
        endpoint = await asyncio.wait_for(served(fleet, "code"), 15)
        assert endpoint.model == "general"
        assert "kept it waiting" in record.notices("instead of")[0]


async def test_another_model_serves_when_its_own_is_long_at_work(tmp_path: Path) -> None:
    record = Record()
    router = {"fallback": {"general": ["code"]}, "max_wait": 0.3}
    fleet, _ = fake_fleet(tmp_path, {"general": {"slots": 1}, "code": {}}, record, router=router)
    async with fleet:
        await fleet.start("general")
        async with fleet.lease("general"):
            # the role may be called twice at a time, the model has one place
            endpoint = await asyncio.wait_for(served(fleet, "general"), 10)
            assert endpoint.model == "code"
        assert record.notices("instead of")


# ---- callers that leave


async def test_a_caller_that_leaves_the_line_leaves_no_trace(tmp_path: Path) -> None:
    record = Record()
    fleet, engine = fake_fleet(tmp_path, ["code", "general"], record, fit=1, router={"max_queue": 1})
    async with fleet:
        async with fleet.lease("general"):
            for _ in range(3):
                waiting = asyncio.create_task(served(fleet, "code"))
                await asyncio.sleep(0.05)
                assert fleet.dispatcher.waiting("code") == 1
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert fleet.dispatcher.waiting("code") == 0
        assert not engine.noted("code", "starts")
        assert record.path("general") == ["starting", "ready"]
        # nor does it hold a place
        await asyncio.wait_for(served(fleet, "code"), 15)
        assert fleet.members["code"].uses.total == 0


async def test_a_caller_that_leaves_at_the_moment_of_its_grant_gives_the_place_back(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["code"], record)
    async with fleet:
        await served(fleet, "code")
        first = fleet.lease("code")
        await first.__aenter__()
        waiting = asyncio.create_task(served(fleet, "code"))
        await asyncio.sleep(0)
        # granted to it within this call, before it runs again
        await first.__aexit__(None, None, None)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert fleet.members["code"].uses.total == 0
        await asyncio.wait_for(served(fleet, "code"), 15)


async def test_a_caller_that_leaves_a_real_stream_frees_its_place_and_its_slot(tmp_path: Path) -> None:
    record = Record()
    async with Fleet(gpu_config(tmp_path, {"code": {"context": 4096}}, fit=2), record) as fleet:
        begun = asyncio.Event()

        async def stream() -> None:
            async with fleet.lease("code") as endpoint, client() as http:
                body = request(endpoint, "Hello", max_tokens=4000, stream=True, ignore_eos=True)
                async with http.stream("POST", f"{endpoint.base_url}/chat/completions", json=body) as answer:
                    async for _ in answer.aiter_raw():
                        begun.set()

        streaming = asyncio.create_task(stream())
        await begun.wait()
        streaming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await streaming
        async with fleet.lease("code") as endpoint:
            while (left := await slots(endpoint)) and left[0]["is_processing"]:
                pass
        assert left[0]["n_prompt_tokens"] < 3900, "the engine wrote on to the end"
        assert record.path("code") == ["starting", "ready"]


async def test_a_call_that_is_cancelled_is_aborted_upstream(tmp_path: Path) -> None:
    record = Record()
    fleet, engine = fake_fleet(tmp_path, ["code"], record, plans={"code": "trickles"})
    async with fleet:
        call = asyncio.create_task(Agents(fleet, record).role("code").call(HELLO))
        await record.until(lambda: any(isinstance(event, Delta) for event in record.events))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        # the engine would go on for ever
        await engine.until_noted("code", "gone")
        await asyncio.wait_for(served(fleet, "code"), 10)


# ---- new settings


async def test_new_settings_restart_only_the_models_that_they_change(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general", "code", "research"], record)
    async with fleet:
        for role in ("general", "code", "research"):
            await served(fleet, role)
        new = changed(fleet.loaded, models={"code": {**fleet_model(fleet, "code"), "context": 1024}})
        assert await asyncio.wait_for(fleet.apply(new), 10) == ["code"]
        await record.state("code", "ready", 2)
        assert (await served(fleet, "code")).n_ctx == 1024
        assert record.path("general") == record.path("research") == ["starting", "ready"]
        # what is no matter of its process takes effect without a restart
        soft = {**fleet_model(fleet, "general"), "max_tokens": 7}
        assert await asyncio.wait_for(fleet.apply(changed(fleet.loaded, models={"general": soft})), 10) == []
        assert (await served(fleet, "general")).max_tokens == 7
    assert not any(group(pid) for pid in record.pids())


async def test_new_settings_of_a_model_that_failed_are_tried_at_once(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general"], record, plans={"general": ["exits", ""]})
    async with fleet:
        with pytest.raises(EngineError):
            await served(fleet, "general")
        new = changed(fleet.loaded, models={"general": {**fleet_model(fleet, "general"), "context": 1024}})
        assert await fleet.apply(new) == ["general"]
        assert (await asyncio.wait_for(served(fleet, "general"), 15)).n_ctx == 1024


async def test_a_model_that_new_settings_take_out_is_stopped(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general", "code"], record, keep_core=True)
    async with fleet:
        await served(fleet, "general")
        await served(fleet, "code")
        assert await asyncio.wait_for(fleet.apply(changed(fleet.loaded, models={"code": None})), 10) == ["code"]
        assert list(fleet.members) == ["general"]
        assert record.path("code") == ["starting", "ready", "stopping", "stopped"], record.states("code")[-1].cause
        await served(fleet, "general")


async def test_who_waits_for_a_model_that_new_settings_take_out_is_told(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general", "code"], record, fleet={"drain_timeout": 0.2})
    async with fleet, fleet.lease("general"), AsyncExitStack() as stack:
        await stack.enter_async_context(fleet.lease("code"))
        waiting = asyncio.create_task(served(fleet, "code"))
        await asyncio.sleep(0)
        applying = asyncio.create_task(fleet.apply(changed(fleet.loaded, models={"code": None})))
        with pytest.raises(BenchAIError) as caught:
            await asyncio.wait_for(waiting, 10)
        await applying
        assert "KeyError" not in caught.value.message


async def test_a_lease_that_outlives_its_model_ends_quietly(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general"], record, fleet={"drain_timeout": 0.1})
    async with fleet:
        async with fleet.lease("general"):
            new = changed(fleet.loaded, models={"general": {**fleet_model(fleet, "general"), "context": 1024}})
            await asyncio.wait_for(fleet.apply(new), 10)
        await asyncio.wait_for(served(fleet, "general"), 15)
        assert fleet.members["general"].uses.total == 0


async def test_settings_that_cannot_be_taken_change_nothing(tmp_path: Path) -> None:
    record = Record()
    gauge = LostGauge()
    settings = gpu_config(tmp_path, ["general"], fit=9, engine=FakeEngine(tmp_path, {}).section())
    async with Fleet(settings, record, gauge=gauge) as fleet:
        await served(fleet, "general")
        before = (fleet.loaded, fleet.book, fleet.dispatcher.loaded, dict(fleet.members))
        new = changed(fleet.loaded, models={"general": {**fleet_model(fleet, "general"), "context": 1024}})
        gauge.lost = True
        with pytest.raises(OSError, match="lost"):
            await fleet.apply(new)
        assert (fleet.loaded, fleet.book, fleet.dispatcher.loaded, dict(fleet.members)) == before
        gauge.lost = False
        assert await asyncio.wait_for(fleet.apply(new), 10) == ["general"]
        assert (await asyncio.wait_for(served(fleet, "general"), 15)).n_ctx == 1024


class LostGauge(Gauge):
    """Fails as long as it is told to, as psutil does where /proc can't be read."""

    lost = False

    def devices(self) -> list[DeviceMemory]:
        if self.lost:
            raise OSError("/proc/meminfo is lost")
        return super().devices()


async def test_a_model_that_new_settings_add_is_served(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general"], record)
    async with fleet:
        await served(fleet, "general")
        assert await fleet.apply(changed(fleet.loaded, models={"code": fleet_model(fleet, "general")})) == []
        assert (await asyncio.wait_for(served(fleet, "code"), 15)).model == "code"
        assert record.path("general") == ["starting", "ready"]


def fleet_model(fleet: Fleet, name: str) -> dict[str, Any]:
    """The entry of a model as it stands in its file."""
    assert fleet.loaded.path is not None
    entry: dict[str, Any] = yaml.safe_load(fleet.loaded.path.read_text(encoding="utf-8"))["models"][name]
    return entry


# ---- the end


async def test_draining_lets_leases_end_and_nobody_in(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general"], record, fleet={"drain_timeout": 5})
    async with fleet:
        lease = fleet.lease("general")
        await lease.__aenter__()
        draining = asyncio.create_task(fleet.drain())
        await asyncio.sleep(0)
        with pytest.raises(EngineError, match="the fleet is stopping"):
            await served(fleet, "general")
        assert not draining.done()
        await lease.__aexit__(None, None, None)
        assert await draining, "it waited for its time-out"


async def test_a_stopped_model_comes_back_when_it_is_asked_for(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general"], record, keep_core=True)
    async with fleet:
        await record.state("general", "ready")
        async with fleet.lease("general"):
            stopping = asyncio.create_task(fleet.stop("general"))
            await asyncio.sleep(0.05)
            assert fleet.members["general"].supervisor.alive, "it lets its requests end"
        await asyncio.wait_for(stopping, 15)
        assert record.states("general", "stopped")[0].cause == "stopped by the operator"
        await asyncio.sleep(0.2)
        assert record.path("general")[-1] == "stopped"
        await asyncio.wait_for(served(fleet, "general"), 15)


class CountingGauge(Gauge):
    """Measures as ever, and counts how often."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def devices(self) -> list[DeviceMemory]:
        self.looks += 1
        return super().devices()


async def test_one_look_at_a_long_line_measures_the_memory_once(tmp_path: Path) -> None:
    gauge = CountingGauge()
    engine = FakeEngine(tmp_path).section()
    settings = gpu_config(tmp_path, ["general", "code"], fit=1, engine=engine, router={"max_queue": 200})
    async with Fleet(settings, Record(), gauge=gauge) as fleet:
        async with fleet.lease("general"):
            waiting = [asyncio.create_task(served(fleet, "code")) for _ in range(50)]
            await eventually(lambda: fleet.members["code"].need)
            gauge.looks = 0
            fleet.dispatcher.pump()
            # each time all processes of the machine are gone through, and nobody else is served meanwhile
            assert gauge.looks <= 2
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
