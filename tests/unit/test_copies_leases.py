"""Leases of copies that somebody else serves: who gets which, what a failure changes, and that none is lost."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchai.config import LoadedConfig, load_config
from benchai.errors import BenchAIError, EndpointError, EndpointLost, UsageError
from benchai.runtime.fleet.copies import REST_SECONDS, Sample
from benchai.runtime.fleet.fleet import Fleet

NAMES = ("own", "one", "two")


def configured(folder: Path, **router: object) -> LoadedConfig:
    # nobody listens there: a lease of it sends nothing
    models = {name: {"endpoint": "http://127.0.0.1:9/v1", "model": name} for name in NAMES}
    file = folder / "benchai.yaml"
    file.write_text(json.dumps({"models": models, "roles": {"general": "own"}, "router": router}), encoding="utf-8")
    return load_config(file, {})


async def used(fleet: Fleet, error: BenchAIError | None = None) -> str:
    async with fleet.lease("general") as endpoint:
        if error is not None:
            raise error
        return endpoint.model


@pytest.mark.anyio
@pytest.mark.parametrize("error", [EndpointLost("gone"), EndpointError("HTTP 401")])
async def test_a_remote_copy_that_fails_at_once_is_not_fast(tmp_path: Path, error: BenchAIError) -> None:
    fleet = Fleet(configured(tmp_path, copies={"general": ["one"]}))
    copies = fleet.dispatcher.copies
    with pytest.raises(EndpointError):
        await used(fleet, error)
    assert copies.shown("own") == {}
    # the other one serves until it may work again
    assert [await used(fleet), await used(fleet)] == ["one", "one"]
    copies.record("own").failed_at -= REST_SECONDS
    copies.record("one").samples.clear()
    assert await used(fleet) == "own"
    # with all of them at rest somebody has to be asked
    for name in ("own", "one"):
        copies.record(name).failed_at = copies.record("own").samples[-1].at
    assert await used(fleet) == "own"


@pytest.mark.anyio
async def test_a_caller_that_doubts_its_endpoint_is_heard(tmp_path: Path) -> None:
    """An attached run ends its lease in order, whatever came of it."""
    fleet = Fleet(configured(tmp_path, copies={"general": ["one"]}))
    async with fleet.lease("general") as endpoint:
        endpoint.suspect(False)
    assert fleet.dispatcher.copies.shown("own") == {}
    assert await used(fleet) == "one"


@pytest.mark.anyio
async def test_a_request_that_is_at_fault_itself_says_nothing_of_a_copy(tmp_path: Path) -> None:
    fleet = Fleet(configured(tmp_path, copies={"general": ["one"]}))
    with pytest.raises(UsageError):
        await used(fleet, UsageError("no such field"))
    assert fleet.dispatcher.copies.shown("own") == {}
    assert await used(fleet) == "own"


@pytest.mark.anyio
async def test_leases_from_before_copies_were_named_count(tmp_path: Path) -> None:
    fleet = Fleet(configured(tmp_path))
    async with fleet.lease("general"):
        await fleet.apply(configured(tmp_path, copies={"general": ["one"]}))
        assert len(fleet.dispatcher.copies.copy("own", 1, 0, 0.0).running) == 1
        await fleet.apply(configured(tmp_path))
    # and nothing is measured of models without copies
    assert fleet.dispatcher.copies.shown("own") == {}
    assert not fleet.dispatcher.copies.record("own").running


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    places=st.integers(1, 4),
    paces=st.tuples(*[st.none() | st.floats(0.001, 100) for _ in NAMES]),
)
def test_every_request_is_served_and_no_lease_is_lost(
    tmp_path: Path, seed: int, places: int, paces: tuple[float | None, ...]
) -> None:
    chance = random.Random(seed)
    router = {"copies": {"general": ["one", "two"]}, "max_concurrent": {"general": places}}
    loaded = configured(tmp_path, **router)
    asyncio.run(_arrivals(loaded, chance, paces))


async def _arrivals(loaded: LoadedConfig, chance: random.Random, paces: tuple[float | None, ...]) -> None:
    fleet = Fleet(loaded)
    now = asyncio.get_running_loop().time()
    for name, pace in zip(NAMES, paces, strict=True):
        fleet.dispatcher.copies.record(name).samples.extend([Sample(now, pace)] if pace else [])
    served: list[int] = []

    async def request(number: int) -> None:
        async with fleet.lease("general"):
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            if chance.random() < 0.2:
                raise EndpointLost("gone")
            served.append(number)

    tasks = []
    for number in range(20):
        tasks.append(asyncio.create_task(request(number)))
        if chance.random() < 0.3:
            await asyncio.sleep(0)
        if chance.random() < 0.1:
            chance.choice(tasks).cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    gone = sum(isinstance(end, EndpointLost | asyncio.CancelledError) for end in ends)
    assert len(served) + gone == len(tasks)
    dispatcher = fleet.dispatcher
    assert not dispatcher.line.in_use.total()
    assert not list(dispatcher.line)
    assert not any(dispatcher.copies.record(name).running for name in NAMES)
    with suppress(EndpointLost):
        await asyncio.wait_for(request(20), 1)
