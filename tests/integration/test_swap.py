"""Models that share too little memory: who leaves, who comes back, who is served."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchai.errors import DoesNotFit, EngineError, UsageError
from benchai.events import ModelState
from benchai.runtime.endpoints import Endpoint
from benchai.runtime.fleet.fleet import Fleet
from tests.conftest import REPO
from tests.integration.fleet_helpers import (
    MODEL,
    FakeEngine,
    Record,
    chat,
    client,
    fake_fleet,
    gone,
    gpu_config,
    need_mib,
    request,
    served,
)
from tests.integration.helpers import LIMIT, ended, group, until
from tests.integration.nvml import NvmlStub, StubGpu, StubProcess

pytestmark = pytest.mark.anyio
LONG = "Count for me: " + " ".join(str(number) for number in range(20))


async def test_a_model_makes_room_for_another(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general", "code"], record, fit=1)
    async with fleet:
        for role in ("general", "code", "general"):
            assert (await served(fleet, role)).placement == "gpu"
        assert fleet.dispatcher.counts.swaps == 2
        assert [name for name, one in fleet.members.items() if one.supervisor.alive] == ["general"]
    left = record.states("general", "stopped")[0]
    assert left.cause == "makes room for 'code'"
    # the one was gone before the other was started
    order = [(event.model, event.state) for event in record.events if isinstance(event, ModelState)]
    assert order.index(("general", "stopped")) < order.index(("code", "starting"))


async def test_fifty_requests_over_three_models_of_which_two_fit(tmp_path: Path) -> None:
    record = Record()
    limits = {"max_concurrent": {"general": 2, "code": 2, "research": 2}, "max_passes": 4, "max_queue": 50}
    names = {"general": {"slots": 2}, "code": {"slots": 2}, "research": {"slots": 2}}
    fleet, engine = fake_fleet(tmp_path, names, record, fit=2, router=limits)
    answers: Counter[str] = Counter()

    async def ask(role: str, text: str) -> None:
        async with fleet.lease(role) as endpoint:
            assert endpoint.model == role
            body = request(endpoint, text, stream=True)
            answer = await http.post(f"{endpoint.base_url}/chat/completions", json=body)
            assert answer.text.count("[DONE]") == 1
            answers[text] += 1

    async with fleet, client() as http:
        roles = itertools.cycle(("general", "general", "code", "code", "research"))
        asked = [(next(roles), f"request {number}") for number in range(50)]
        await asyncio.gather(*(ask(role, text) for role, text in asked))
        swaps = fleet.dispatcher.counts.swaps
    assert answers == Counter(text for _, text in asked)
    reached = [engine.noted(name, "requests") for name in names]
    assert sorted(itertools.chain(*reached)) == sorted(answers)
    # each made one model leave
    assert swaps == sum("makes room" in event.cause for event in stops(record))
    assert 1 <= swaps <= 10


def stops(record: Record) -> list[ModelState]:
    return [event for event in record.events if isinstance(event, ModelState) and event.state == "stopping"]


async def test_nobody_is_passed_over_more_often_than_allowed(tmp_path: Path) -> None:
    record = Record()
    router = {"max_passes": 3, "max_wait": 60.0, "max_concurrent": {"general": 2}, "max_queue": 100}
    fleet, _ = fake_fleet(tmp_path, {"general": {"slots": 2}, "code": {}}, record, fit=1, router=router)
    order: list[str] = []

    async def ask(role: str) -> None:
        async with fleet.lease(role):
            order.append(role)
            # two at a time: the model would never be idle
            await asyncio.sleep(0.02)

    async with fleet:
        await served(fleet, "general")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ask("general"))
            tasks.create_task(ask("general"))
            await asyncio.sleep(0)
            tasks.create_task(ask("code"))
            await asyncio.sleep(0)
            for _ in range(30):
                tasks.create_task(ask("general"))
    # two were ahead of it
    assert order.index("code") <= 2 + 3


async def test_a_starved_request_is_served_after_max_wait(tmp_path: Path) -> None:
    record = Record()
    router = {"max_passes": 1000, "max_wait": 0.5, "max_concurrent": {"general": 2}}
    fleet, _ = fake_fleet(tmp_path, {"general": {"slots": 2}, "code": {}}, record, fit=1, router=router)
    over = asyncio.Event()

    async def keep_asking() -> None:
        while not over.is_set():
            async with fleet.lease("general"):
                await asyncio.sleep(0.02)

    async with fleet:
        await served(fleet, "general")
        asking = [asyncio.create_task(keep_asking()) for _ in range(4)]
        assert (await asyncio.wait_for(served(fleet, "code"), 10)).model == "code"
        over.set()
        await asyncio.gather(*asking)


async def test_a_request_that_comes_during_a_ttl_unload_is_served(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, {"general": {"ttl": 0.2}}, record)
    async with fleet:
        await served(fleet, "general")
        unload = await record.state("general", "stopping")
        assert "idle for 0.2 s" in unload.cause
        async with fleet.lease("general") as endpoint:
            assert await answers(endpoint)
            # in use for longer than that
            await record.until(lambda: record.path("general")[:6] == [*FIRST, "starting", "ready"])
            await asyncio.sleep(0.4)
            assert fleet.members["general"].supervisor.alive
        await record.state("general", "stopped", 2)
    assert not group(record.pids()[1])


FIRST = ["starting", "ready", "stopping", "stopped"]


async def answers(endpoint: Endpoint) -> bool:
    async with client() as http:
        body = request(endpoint, "Hello", stream=True)
        return (await http.post(f"{endpoint.base_url}/chat/completions", json=body)).is_success


async def test_a_model_that_is_kept_never_leaves(tmp_path: Path) -> None:
    record = Record()
    models = {"general": {"keep": True}, "code": {}}
    fleet, _ = fake_fleet(tmp_path, models, record, fit=1, fleet={"ttl": 0.2})
    async with fleet:
        await served(fleet, "general")
        with pytest.raises(DoesNotFit) as caught:
            await asyncio.wait_for(served(fleet, "code"), 10)
        assert "'general'" in caught.value.message, "who holds the memory"
        await asyncio.sleep(0.5)
        assert record.path("general") == ["starting", "ready"]


async def test_a_model_that_never_fits_is_refused_with_figures(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general"], record, fit=0)
    async with fleet:
        with pytest.raises(DoesNotFit) as caught:
            await asyncio.wait_for(served(fleet, "general"), 10)
    need = need_mib(tmp_path, MODEL)
    assert f"needs {need} MiB on gpu0, whose budget is {need // 2} MiB" in caught.value.message
    assert caught.value.hint
    assert not record.path("general")


# ---- the vision model is a guest


async def test_a_vision_model_gives_its_place_back_and_the_conversation_goes_on(tmp_path: Path) -> None:
    record = Record()
    async with Fleet(gpu_config(tmp_path, ["general", "vision"], fit=1, fleet={"vision_hold": 0.4}), record) as fleet:
        async with fleet.lease("general") as endpoint:
            first = await chat(endpoint, LONG)
        assert first["timings"]["cache_n"] == 0
        await served(fleet, "vision")
        left = await record.state("vision", "stopping")
        assert left.cause == "gives its place back"
        # nobody asked for it
        await record.state("general", "ready", 2)
        async with fleet.lease("general") as endpoint:
            second = await chat(endpoint, LONG)
        assert second["timings"]["cache_n"] > 0.8 * first["timings"]["prompt_n"]
        assert second["choices"][0]["message"] == first["choices"][0]["message"]
    held = left.time - record.states("vision", "ready")[0].time
    assert held >= 0.39


async def test_what_a_vision_model_drove_out_comes_back_when_it_fails(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(
        tmp_path, ["general", "vision"], record, fit=1, plans={"vision": "exits"}, fleet={"vision_hold": 0.1}
    )
    async with fleet:
        await served(fleet, "general")
        with pytest.raises(EngineError):
            await served(fleet, "vision")
        await record.state("general", "ready", 2, seconds=4)


async def test_what_a_vision_model_drove_out_comes_back_when_it_is_stopped(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general", "vision"], record, fit=1, keep_core=True, fleet={"vision_hold": 60})
    async with fleet:
        await served(fleet, "general")
        await served(fleet, "vision")
        await fleet.stop("vision")
        await record.state("general", "ready", 2, seconds=4)


async def test_a_vision_model_that_took_nobodys_place_stays_for_its_ttl(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general", "vision"], record, fit=2, fleet={"vision_hold": 0.1})
    async with fleet:
        await served(fleet, "general")
        await served(fleet, "vision")
        await asyncio.sleep(0.5)
        assert record.path("vision") == ["starting", "ready"]


async def test_models_of_the_core_are_kept_up(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general", "code", "research"], record, fit=3, keep_core=True, fleet={"ttl": 0.2})
    async with fleet:
        await record.state("general", "ready")
        await record.state("code", "ready")
        assert not record.path("research")
        await served(fleet, "research")
        await record.state("research", "stopped")
        assert record.path("general") == record.path("code") == ["starting", "ready"]


# ---- the operator


async def test_a_start_drives_nobody_out_unless_it_is_told_to(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general", "code"], record, fit=1)
    async with fleet:
        await fleet.start("general")
        with pytest.raises(DoesNotFit) as caught:
            await fleet.start("code")
        assert "swap" in str(caught.value.hint)
        await fleet.start("code", evict=True)
        assert record.path("general")[-1] == "stopped"
        with pytest.raises(UsageError, match="no model 'cod'"):
            await fleet.start("cod")


async def test_a_start_while_the_model_is_being_stopped_brings_it_back(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general"], record)
    async with fleet:
        await served(fleet, "general")
        stopping = asyncio.create_task(fleet.stop("general"))
        await record.state("general", "stopping")
        await asyncio.wait_for(fleet.start("general"), 10)
        await stopping
        await record.state("general", "ready", 2)


async def test_a_stop_in_the_middle_of_a_swap_holds(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general", "code"], record, fit=1)
    async with fleet:
        await served(fleet, "general")
        waiting = asyncio.create_task(served(fleet, "code"))
        await record.state("general", "stopping")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.wait_for(fleet.stop("code"), 5)
        await record.state("general", "stopped")
        # time enough to begin a start
        await asyncio.sleep(0.3)
        assert record.path("code")[-1:] in ([], ["stopped"]), "it was started after it had been stopped"


# ---- the end


@pytest.mark.parametrize("moment", ["stopping", "starting"])
async def test_closing_during_a_swap_leaves_no_process(tmp_path: Path, moment: str) -> None:
    record = Record()
    fleet, engine = fake_fleet(
        tmp_path, ["general", "code"], record, fit=1, plans={"general": "child", "code": "loads"}
    )
    async with fleet:
        await served(fleet, "general")
        waiting = asyncio.create_task(served(fleet, "code"))
        if moment == "stopping":
            await record.state("general", "stopping")
        else:
            await engine.until_noted("code", "starts")
    with pytest.raises(EngineError, match="the fleet is stopping"):
        await waiting
    pids = [*engine.noted("general", "starts"), *engine.noted("code", "starts")]
    assert len(pids) == (1 if moment == "stopping" else 2)
    assert not any(group(int(pid)) for pid in pids)
    assert record.path("general") == FIRST
    assert record.path("code") in ([], ["starting", "stopped"])


# ---- memory that does not come back

SWAP = """
import asyncio, json, sys
from pathlib import Path
from benchai.config import load_config
from benchai.errors import BenchAIError
from benchai.runtime.fleet.fleet import Fleet

async def ask(fleet, role):
    try:
        async with asyncio.timeout(10), fleet.lease(role) as endpoint:
            answer = endpoint.model
    except BenchAIError as error:
        answer = [type(error).__name__, error.message, error.hint]
    except TimeoutError:
        answer = "no answer at all"
    print(json.dumps(answer), flush=True)

async def main():
    async with Fleet(load_config(Path(sys.argv[1]))) as fleet, asyncio.TaskGroup() as tasks:
        while role := await asyncio.to_thread(sys.stdin.readline):
            tasks.create_task(ask(fleet, role.strip()))

asyncio.run(main())
"""


class Asker:
    """A fleet in a process of its own, whose driver's library is a stand-in."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin
        assert process.stdout
        self._to, self._from = process.stdin, process.stdout

    def ask(self, role: str) -> None:
        self._to.write(role + "\n")
        self._to.flush()

    def answer(self) -> Any:
        """The model that served, or name, message and hint of the error."""
        return json.loads(self._from.readline())

    def answers_within(self, seconds: float) -> bool:
        return bool(select.select([self._from], [], [], seconds)[0])

    def __call__(self, role: str) -> Any:
        self.ask(role)
        return self.answer()


@contextlib.contextmanager
def asking(
    folder: Path,
    program: FakeEngine,
    env: Mapping[str, str],
    vram: int = 400,
    models: Any = ("general", "code"),
    **fleet: Any,
) -> Iterator[Asker]:
    memory = {"vram": vram, "reserve": 0, "release_deadline": fleet.pop("release_deadline", 15)}
    config = gpu_config(folder, models, fit=1, engine=program.section(), fleet={"memory": memory, **fleet})
    with subprocess.Popen(
        [sys.executable, "-c", SWAP, str(config.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
        cwd=REPO,
    ) as process:
        try:
            yield Asker(process)
            assert process.stdin
            process.stdin.close()
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()


def test_memory_that_is_not_given_back_is_an_error_of_the_request_that_waits(tmp_path: Path) -> None:
    stub, program = NvmlStub(), FakeEngine(tmp_path)
    env = stub.build(tmp_path)
    stub.set(StubGpu(total_mib=400, free_mib=400))
    with asking(tmp_path, program, env, release_deadline=0.5) as asker:
        assert asker("general") == "general"
        # the driver goes on telling so when the process is gone
        held = StubProcess(int(program.noted("general", "starts")[0]), 300)
        stub.set(StubGpu(total_mib=400, free_mib=100, processes=[held]))
        answer = asker("code")
        stub.set(StubGpu(total_mib=400, free_mib=400))
        assert asker("code") == "code"
    assert answer[0] == "MemoryNotReleased", answer
    assert "gpu0 has 100 of" in answer[1]
    assert answer[2]


def test_a_request_waits_for_memory_that_comes_back_late(tmp_path: Path) -> None:
    stub, program = NvmlStub(), FakeEngine(tmp_path)
    env = stub.build(tmp_path)
    stub.set(StubGpu(total_mib=400, free_mib=400))
    with asking(tmp_path, program, env, ttl=0.2) as asker:
        assert asker("general") == "general"
        pid = int(program.noted("general", "starts")[0])
        stub.set(StubGpu(total_mib=400, free_mib=100, processes=[StubProcess(pid, 300)]))
        assert ended(pid), "idle for 0.2 s"
        asker.ask("code")
        assert not asker.answers_within(1), asker.answer()
        stub.set(StubGpu(total_mib=400, free_mib=400))
        assert asker.answer() == "code"


def test_a_model_that_is_starting_does_not_make_others_too_big(tmp_path: Path) -> None:
    stub, program = NvmlStub(), FakeEngine(tmp_path, {"code": "loads"})
    env = stub.build(tmp_path)
    stub.set(StubGpu(total_mib=700, free_mib=700))
    # about 264, 395 and 327 MiB: the last fits once the second has gone
    models = {"general": {}, "code": {"context": 40_000}, "research": {"context": 20_000}}
    with asking(tmp_path, program, env, vram=700, models=models) as asker:
        assert asker("general") == "general"
        small = StubProcess(int(program.noted("general", "starts")[0]), 264)
        stub.set(StubGpu(total_mib=700, free_mib=436, processes=[small]))
        asker.ask("code")
        until(lambda: program.noted("code", "starts"))
        big = StubProcess(int(program.noted("code", "starts")[0]), 395)
        stub.set(StubGpu(total_mib=700, free_mib=41, processes=[small, big]))
        asker.ask("research")
        assert asker.answer() == "code"
        # its memory is back as soon as it has been stopped
        until(lambda: gone(big.pid))
        stub.set(StubGpu(total_mib=700, free_mib=436, processes=[small]))
        assert asker.answer() == "research"


def test_an_empty_gpu_is_taken_before_another_is_emptied(tmp_path: Path) -> None:
    stub, program = NvmlStub(), FakeEngine(tmp_path)
    env = stub.build(tmp_path)
    stub.set(StubGpu(total_mib=400, free_mib=400), StubGpu(total_mib=400, free_mib=400))
    with asking(tmp_path, program, env) as asker:
        assert asker("general") == "general"
        first = int(program.noted("general", "starts")[0])
        full = StubGpu(total_mib=400, free_mib=136, processes=[StubProcess(first, 264)])
        stub.set(full, StubGpu(total_mib=400, free_mib=400))
        assert asker("code") == "code"
        second = int(program.noted("code", "starts")[0])
        assert [shown(first), shown(second)] == ["0", "1"]
        stub.set(full, StubGpu(total_mib=400, free_mib=136, processes=[StubProcess(second, 264)]))
        assert [asker("general"), asker("code")] == ["general", "code"]
        assert [len(program.noted(name, "starts")) for name in ("general", "code")] == [1, 1], "neither had to leave"


def shown(pid: int) -> str:
    """The GPUs that a process may use."""
    return psutil.Process(pid).environ()["CUDA_VISIBLE_DEVICES"]
