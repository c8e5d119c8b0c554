"""Identical requests at the same time: one call, the same bytes for all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchai.errors import ReplyBroken
from benchai.runtime.router.cache.coalesce import Coalescer, Shared

pytestmark = pytest.mark.anyio
Pieces = asyncio.Queue[bytes | Exception | None]


class Model:
    """A model that says what the test puts into its queue; None ends a reply, an exception breaks it."""

    def __init__(self) -> None:
        self.calls = self.running = self.given = 0
        self.pieces: Pieces = asyncio.Queue()
        self.answers = asyncio.Event()
        self.answers.set()
        self.head = 200
        self.ended = asyncio.Event()

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Model]:
        self.calls += 1
        self.running += 1
        try:
            await self.answers.wait()
            if self.head == 0:
                raise ConnectionError("no answer")
            yield self
        finally:
            self.running -= 1
            self.ended.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self.pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            self.given += 1
            yield piece

    def say(self, *pieces: bytes | Exception | None) -> None:
        for piece in pieces:
            self.pieces.put_nowait(piece)


async def read(shared: Shared[int], got: bytearray | None = None) -> bytes:
    data = bytearray() if got is None else got
    async with shared:
        assert await shared.head() == 200
        async for piece in shared:
            data += piece
    return bytes(data)


async def until(condition: object) -> None:
    """Let everything go on until a condition of this loop holds."""
    assert callable(condition)
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


async def test_sixteen_requests_are_one_call() -> None:
    model, coalescer = Model(), Coalescer[int]()
    shares = [coalescer.join(b"k", model.call) for _ in range(16)]
    other = coalescer.join(b"other", model.call)
    assert [share.leader for share in shares] == [True] + [False] * 15
    assert other.leader
    tasks = [asyncio.create_task(read(share)) for share in shares]
    async with other:
        pass
    model.say(b"one ", b"two ", None)
    assert await asyncio.gather(*tasks) == [b"one two "] * 16
    assert (model.running, len(coalescer)) == (0, 0)
    assert model.calls == 1
    again = asyncio.create_task(read(coalescer.join(b"k", model.call)))
    model.say(b"new", None)
    assert await again == b"new"


async def test_who_comes_later_gets_what_has_passed_and_then_the_rest() -> None:
    model, coalescer = Model(), Coalescer[int]()
    first, second = bytearray(), bytearray()
    tasks = [asyncio.create_task(read(coalescer.join(b"k", model.call), first))]
    model.say(b"one ", b"two ")
    await until(lambda: first == b"one two ")
    tasks.append(asyncio.create_task(read(coalescer.join(b"k", model.call), second)))
    await until(lambda: second == b"one two ")
    model.say(b"three")
    await until(lambda: first == second == b"one two three")
    model.say(None)
    await asyncio.gather(*tasks)
    assert model.calls == 1


async def test_a_leader_that_is_cancelled_leaves_the_call_to_the_others() -> None:
    model, coalescer = Model(), Coalescer[int]()
    got = bytearray()
    leader = asyncio.create_task(read(coalescer.join(b"k", model.call), got))
    follower = asyncio.create_task(read(coalescer.join(b"k", model.call)))
    model.say(b"one ")
    await until(lambda: got)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    later = asyncio.create_task(read(coalescer.join(b"k", model.call)))
    model.say(b"two", None)
    assert await asyncio.gather(follower, later) == [b"one two"] * 2
    assert model.calls == 1


@pytest.mark.parametrize("begun", [True, False])
async def test_the_last_one_that_leaves_ends_the_call(begun: bool) -> None:
    model, coalescer = Model(), Coalescer[int]()
    got = bytearray()
    if not begun:
        model.answers.clear()
    tasks = [asyncio.create_task(read(coalescer.join(b"k", model.call), got)) for _ in range(2)]
    model.say(b"one")
    await until(lambda: got if begun else model.running)
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    assert model.running == 1
    tasks[1].cancel()
    await asyncio.wait([tasks[1]])
    # given back before the last one goes on
    assert (model.running, len(coalescer)) == (0, 0)


async def test_a_call_that_never_began_is_forgotten() -> None:
    model, coalescer = Model(), Coalescer[int]()
    async with coalescer.join(b"k", model.call):
        pass
    assert (model.calls, len(coalescer)) == (0, 0)


async def test_an_error_before_the_answer_reaches_all() -> None:
    model, coalescer = Model(), Coalescer[int]()
    model.head = 0
    model.answers.clear()
    tasks = [asyncio.create_task(read(coalescer.join(b"k", model.call))) for _ in range(3)]
    await until(lambda: model.running)
    model.answers.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [ConnectionError] * 3
    assert (model.calls, len(coalescer)) == (1, 0)


async def test_an_error_within_the_reply_comes_after_what_was_said() -> None:
    model, coalescer = Model(), Coalescer[int]()
    got = [bytearray() for _ in range(3)]
    tasks = [asyncio.create_task(read(coalescer.join(b"k", model.call), one)) for one in got]
    model.say(b"one", ConnectionError("cut"))
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [ConnectionError] * 3
    assert got == [b"one"] * 3
    # the next one begins anew
    again = asyncio.create_task(read(coalescer.join(b"k", model.call)))
    model.say(b"well", None)
    assert await again == b"well"


async def test_a_call_that_somebody_else_cancels_is_no_end() -> None:
    model, coalescer = Model(), Coalescer[int]()
    before = asyncio.all_tasks()
    reading = asyncio.create_task(read(coalescer.join(b"k", model.call)))
    model.say(b"one")
    await until(lambda: model.given)
    [call] = asyncio.all_tasks() - before - {reading}
    call.cancel()
    with pytest.raises(ReplyBroken, match="cancelled"):
        await reading


async def test_cancelling_a_wait_for_a_piece_loses_nothing() -> None:
    model, coalescer = Model(), Coalescer[int]()
    async with coalescer.join(b"k", model.call) as shared:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(shared), 0.001)
        model.say(b"one", None)
        assert [piece async for piece in shared] == [b"one"]


async def test_the_call_waits_for_its_fastest_reader() -> None:
    model, coalescer = Model(), Coalescer[int](limit=1000, window=20)
    model.say(*[b"0123456789"] * 10, None)
    async with coalescer.join(b"k", model.call) as first:
        await first.head()
        await until(lambda: model.given == 3)
        async with coalescer.join(b"k", model.call) as second:
            assert await anext(second) == b"0123456789" * 3
            # the slow one does not hold it back, the fast one does
            await until(lambda: model.given == 6)
            for _ in range(20):
                await asyncio.sleep(0)
            assert model.given == 6
        # without the fast one the slow one is the fastest
        for _ in range(20):
            await asyncio.sleep(0)
        assert model.given == 6
        assert b"".join([piece async for piece in first]) == b"0123456789" * 10


async def test_a_reader_that_lags_too_far_behind_is_cut_off() -> None:
    model, coalescer = Model(), Coalescer[int](limit=50, window=20)
    async with coalescer.join(b"k", model.call) as slow:
        model.say(b"0123456789")
        assert await anext(slow) == b"0123456789"
        fast = bytearray()
        reading = asyncio.create_task(read(coalescer.join(b"k", model.call), fast))
        model.say(*[b"0123456789"] * 9)
        await until(lambda: len(fast) == 100)
        with pytest.raises(ReplyBroken, match="lagged"):
            await anext(slow)
    # what has passed is not all there any more: whoever comes now has a call of its own
    other = Model()
    other.say(b"new", None)
    assert await read(coalescer.join(b"k", other.call)) == b"new"
    model.say(None)
    assert await reading == b"0123456789" * 10
    assert not coalescer
