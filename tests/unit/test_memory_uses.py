"""Who uses a thing, and who wants nobody to."""

from __future__ import annotations

import asyncio

import pytest

from benchai.memory.uses import Uses

pytestmark = pytest.mark.anyio


async def test_who_holds_it_waits_for_the_last_use_and_later_ones_wait_for_who_holds_it() -> None:
    uses, done = Uses(), []

    async def use(name: str) -> None:
        async with uses:
            done.append(name)

    await uses.__aenter__()
    with uses.held():
        assert not uses.may_begin()
        later, given_up = asyncio.create_task(use("later")), asyncio.create_task(use("given up"))
        ended = asyncio.create_task(uses.ended())
        await asyncio.sleep(0)
        given_up.cancel()
        assert not ended.done()
        await uses.__aexit__(None, None, None)
        await ended
        assert done == []
    assert uses.may_begin()
    await later
    await uses.ended()
    assert done == ["later"]


async def test_held_again_before_who_waits_goes_on_it_waits_further() -> None:
    uses = Uses()
    with uses.held():
        entering = asyncio.create_task(uses.__aenter__())
        await asyncio.sleep(0)
    with uses.held():
        for _ in range(3):
            await asyncio.sleep(0)
        assert not entering.done()
        await uses.ended()
    await entering
