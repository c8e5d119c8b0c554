"""The log of events: what it keeps, and who follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from benchai.events import Event, Notice
from benchai.server.events import BEHIND, KEPT, EventLog

pytestmark = pytest.mark.anyio


def notice(number: int) -> Notice:
    return Notice(text=str(number))


def filled(count: int) -> EventLog:
    log = EventLog()
    for number in range(count):
        log.emit(notice(number))
    return log


def texts(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Notice)]


@pytest.mark.parametrize(("asked", "expected"), [(0, []), (2, ["3", "4"]), (5, list("01234")), (9, list("01234"))])
def test_the_last_ones(asked: int, expected: list[str]) -> None:
    assert texts(filled(5).last(asked)) == expected


def test_the_oldest_are_forgotten() -> None:
    kept = texts(filled(KEPT + 3).last())
    assert (len(kept), kept[0], kept[-1]) == (KEPT, "3", str(KEPT + 2))


async def test_a_follower_gets_each_event_once_and_in_order() -> None:
    log, got = filled(3), []
    async for event in log.follow(2):
        got.append(event)
        # while the earlier ones are still handed out
        if len(got) in (1, 2):
            log.emit(notice(10 * len(got)))
        if len(got) == 4:
            log.close()
    assert texts(got) == ["1", "2", "10", "20"]


async def test_two_followers_get_the_same() -> None:
    log = EventLog()
    with log.following() as one, log.following() as two:
        log.emit(notice(1))
        assert one.get_nowait() == two.get_nowait()
    log.emit(notice(2))
    assert one.empty()


async def test_a_follower_far_behind_misses_events_and_no_memory() -> None:
    log = EventLog()
    with log.following() as queue:
        for number in range(BEHIND + 5):
            log.emit(notice(number))
        assert queue.qsize() == BEHIND


async def test_the_end_of_the_log_ends_its_followers() -> None:
    log = filled(1)
    following = log.follow(5)
    assert await anext(following)
    waiting = asyncio.ensure_future(anext(following, None))
    await asyncio.sleep(0)
    assert not waiting.done()
    log.close()
    assert await asyncio.wait_for(waiting, 1) is None
    assert [event async for event in log.follow(5)] == log.last(), "one that comes later gets what is kept"


async def test_a_follower_that_leaves_is_forgotten() -> None:
    log = filled(2)
    following = log.follow(1)
    await anext(following)
    assert isinstance(following, AsyncGenerator)
    await following.aclose()
    log.emit(notice(3))
    assert not log._followers
