"""Which whole replies are asked for as they are, what is told of a failure, and streams that are read in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest

from benchai.errors import ContextExceeded, EndpointError, EndpointLost, EndpointNotReady, ReplyBroken
from benchai.runtime.endpoints import Endpoint
from benchai.runtime.router.cache.collector import Collector
from benchai.server.openai.exchange import ClientGone, Exchange
from benchai.server.openai.forward import BATCH, Batch, Measured
from benchai.server.openai.job import NO_LIMIT, Job
from benchai.server.openai.pace import FRESH_SECONDS, LATE_SECONDS, MOST_TOKENS, Pace
from benchai.server.openai.upstream import Upstream, lost, refused, was_silent
from benchai.server.openai.wire import assembled

ENDPOINT = Endpoint("general", "tiny", "http://127.0.0.1:1/v1", "tiny", 4096, "cpu", 60, 512)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def measured(tokens: int, speed: float | None) -> Measured:
    return Measured(completion_tokens=tokens, tokens_per_second=speed)


def paced(*speeds: float, clock: Clock | None = None) -> Pace:
    pace = Pace(clock or Clock())
    for speed in speeds:
        pace.note(ENDPOINT, measured(50, speed))
    return pace


def test_only_a_reply_that_is_over_at_once_is_brief() -> None:
    pace = paced()
    assert pace.brief(ENDPOINT, 1), "one token ends with the prompt"
    assert not pace.brief(ENDPOINT, 16), "nobody knows yet how fast it is"
    pace.note(ENDPOINT, measured(2, 1e6))
    assert not pace.brief(ENDPOINT, 16), "two tokens tell nothing"
    pace.note(ENDPOINT, measured(50, 100.0))
    assert pace.brief(ENDPOINT, 26)
    assert not pace.brief(ENDPOINT, 27)
    assert not pace.brief(replace(ENDPOINT, model="other"), 26)
    pace.note(ENDPOINT, measured(50, 10.0))
    assert not pace.brief(ENDPOINT, 26), "the slowest of the last replies counts"
    for _ in range(8):
        pace.note(ENDPOINT, measured(50, 100.0))
    assert pace.brief(ENDPOINT, 26)


def test_a_long_reply_is_not_brief_however_fast_the_model_was() -> None:
    pace = paced(1e6)
    assert pace.brief(ENDPOINT, MOST_TOKENS)
    assert not pace.brief(ENDPOINT, MOST_TOKENS + 1)


def test_old_speeds_and_those_of_another_engine_tell_nothing() -> None:
    clock = Clock()
    pace = paced(1000.0, clock=clock)
    assert pace.brief(ENDPOINT, 16)
    assert not pace.brief(replace(ENDPOINT, base_url="http://127.0.0.1:2/v1"), 16)
    assert not pace.brief(replace(ENDPOINT, placement="gpu"), 16)
    clock.now += FRESH_SECONDS + 1
    assert not pace.brief(ENDPOINT, 16)
    pace.note(replace(ENDPOINT, placement="gpu"), measured(50, 1000.0))
    assert pace.brief(replace(ENDPOINT, placement="gpu"), 16)
    assert not pace.brief(ENDPOINT, 16)


def test_nothing_is_brief_while_a_reply_is_late() -> None:
    clock = Clock()
    pace = paced(1000.0, clock=clock)
    pace.begun("one", "tiny")
    pace.begun("two", "other")
    assert pace.brief(ENDPOINT, 16)
    clock.now += LATE_SECONDS + 0.1
    assert not pace.brief(ENDPOINT, 16)
    assert pace.brief(ENDPOINT, 1)
    pace.ended("one", well=True)
    pace.ended("of nobody", well=False)
    assert pace.brief(ENDPOINT, 16)


def test_who_leaves_a_late_reply_takes_what_was_known_along() -> None:
    clock = Clock()
    pace = paced(1000.0, clock=clock)
    pace.begun("one", "tiny")
    pace.ended("one", well=False)
    assert pace.brief(ENDPOINT, 16), "it was not late"
    pace.begun("one", "tiny")
    clock.now += LATE_SECONDS + 0.1
    pace.ended("one", well=False)
    assert not pace.brief(ENDPOINT, 16)
    pace.note(ENDPOINT, measured(50, 1000.0))
    assert pace.brief(ENDPOINT, 16)


def briefly(pace: Pace, body: dict[str, Any], path: str = "/chat/completions", **fields: Any) -> bool:
    upstream = Upstream()
    upstream.pace = pace
    job = Job("one", path, {"max_tokens": 8} | body)
    job.measured.total = fields.pop("total", 0.0)
    return upstream.is_brief(job, replace(ENDPOINT, **fields))


def test_which_replies_may_be_brief() -> None:
    assert briefly(paced(1000.0), {})
    assert briefly(paced(1000.0), {"prompt": [1, 2, 3]}, "/completions")
    assert not briefly(paced(1000.0), {"n": 2}), "its tokens are counted in a stream alone"
    assert not briefly(paced(1000.0), {"prompt": ["a", "b"]}, "/completions")
    assert not briefly(paced(1000.0), {"n_predict": -1}), "it goes on to the end of the context"
    assert not briefly(paced(1000.0), {"max_completion_tokens": 5000}), "the larger limit may be the one that holds"
    assert not briefly(paced(1000.0), {"stream": True})
    assert not briefly(paced(1000.0), {}, "/embeddings")
    assert not briefly(paced(1000.0), {}, placement="remote")


@pytest.mark.parametrize(("total", "late"), [(0.0, True), (1.5, False)])
def test_a_brief_reply_is_under_way_until_its_request_has_ended(total: float, late: bool) -> None:
    clock = Clock()
    pace = paced(1000.0, clock=clock)
    assert briefly(pace, {}, total=total)
    clock.now += LATE_SECONDS + 0.1
    assert pace.brief(ENDPOINT, 8) != late
    pace.ended("one", well=True)
    assert pace.brief(ENDPOINT, 8)


@pytest.mark.parametrize(
    ("data", "tokens"),
    [
        ({}, 512),
        ({"max_tokens": 9}, 9),
        ({"max_tokens": 9, "n_predict": -1}, NO_LIMIT),
        ({"max_tokens": None, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 9, "n": 3}, 27),
        ({"max_tokens": 9, "n": 3, "n_cmpl": 2}, 18),
        ({"n_predict": 5, "n": None}, 5),
        ({"max_tokens": 9, "n": 2, "prompt": ["a", [1, 2], "c"]}, 54),
        ({"max_tokens": 9, "prompt": [1, 2]}, 9),
        ({"max_tokens": 9, "prompt": []}, 9),
    ],
)
def test_tokens_that_a_reply_has_at_most(data: dict[str, Any], tokens: int) -> None:
    assert Job("", "/completions", data).tokens_for(ENDPOINT) == tokens


def test_a_brief_reply_is_asked_for_as_it_is() -> None:
    job = Job("", "/chat/completions", {"messages": []})
    assert orjson.loads(job.body_for(ENDPOINT))["stream"] is True
    job.brief = True
    assert "stream" not in orjson.loads(job.body_for(ENDPOINT))


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, 1), ("7", 7), ("0.5", 0.5), ("-1", 0), ("Mon, 23 Nov 2026", 1), ("1e9", 3600)]
)
def test_the_time_to_come_again_is_passed_on(header: str | None, seconds: float) -> None:
    error = refused(429, b'{"error":{"message":"slow down"}}', ENDPOINT, header)
    assert isinstance(error, EndpointNotReady)
    assert error.retry_after == seconds
    assert "slow down" in error.message


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ClientOSError(111, "Connect call failed ('127.0.0.1', 4711)"),
        aiohttp.ServerDisconnectedError("127.0.0.1:4711"),
        aiohttp.ClientPayloadError("127.0.0.1:4711"),
        aiohttp.ConnectionTimeoutError("127.0.0.1:4711"),
        aiohttp.SocketTimeoutError("127.0.0.1:4711"),
        aiohttp.ClientError("127.0.0.1:4711"),
        TimeoutError("127.0.0.1:4711"),
    ],
)
@pytest.mark.parametrize("begun", [True, False])
def test_clients_are_not_told_where_an_engine_listens(error: Exception, begun: bool) -> None:
    if isinstance(error, aiohttp.ClientOSError):
        error = aiohttp.ClientOSError(111, "Connection refused")
    told = lost(error, ENDPOINT, begun=begun)
    assert isinstance(told, ReplyBroken | EndpointLost)
    assert "4711" not in str(told)
    assert "127.0.0.1" not in str(told)


def test_silence_and_length_are_told_apart() -> None:
    silent = lost(aiohttp.SocketTimeoutError(), ENDPOINT, begun=True)
    assert "no sign for 60 s" in silent.message
    assert "longer than 3600 s" in lost(TimeoutError(), ENDPOINT, begun=True).message
    silent.__cause__ = aiohttp.SocketTimeoutError()
    assert was_silent(silent)
    silent.__cause__ = aiohttp.ServerDisconnectedError()
    assert not was_silent(silent)
    assert not was_silent(ReplyBroken("x"))


def collected(stream: bytes) -> Collector:
    made = Collector()
    made.feed(stream)
    return made


def test_an_error_in_an_assembled_reply_keeps_the_engines_words() -> None:
    begun = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    said = b'data: {"error":{"code":500,"message":"the compute graph failed","type":"server_error"}}\n\n'
    with pytest.raises(EndpointError, match="the compute graph failed"):
        assembled(collected(begun + said), ENDPOINT, begun + said)
    too_long = b'data: {"error":{"code":400,"message":"too long","type":"exceed_context_size_error"}}\n\n'
    with pytest.raises(ContextExceeded, match="too long"):
        assembled(collected(begun + too_long), ENDPOINT, begun + too_long)
    with pytest.raises(ReplyBroken):
        assembled(collected(begun), ENDPOINT, begun)


def test_batches_hold_all_that_came_in_its_order() -> None:
    read: list[bytes] = []
    batch = Batch(read.append)
    pieces = [bytes([number]) * (BATCH // 3) for number in range(10)]
    for piece in pieces:
        batch.take(piece)
    assert 0 < len(read) < len(pieces)
    batch.end()
    assert b"".join(read) == b"".join(pieces)


def exchange(receive: Callable[[], Awaitable[Any]]) -> Exchange:
    async def send(message: Any) -> None:
        raise AssertionError(f"nothing is sent: {message}")

    return Exchange({"type": "http", "headers": []}, receive, send)


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_a_client_that_leaves_cancels_the_work(rounds: int) -> None:
    async def receive() -> Any:
        for _ in range(rounds):
            await asyncio.sleep(0)
        event = asyncio.Event()
        asyncio.get_running_loop().call_soon(event.set)
        await event.wait()
        return {"type": "http.disconnect"}

    async def run() -> None:
        with exchange(receive).watched():
            await asyncio.Event().wait()

    with pytest.raises(ClientGone):
        asyncio.run(asyncio.wait_for(run(), 5))


def test_work_that_ends_stops_the_watching() -> None:
    ended: list[str] = []

    async def receive() -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("closed")

    async def run() -> str:
        with exchange(receive).watched():
            await asyncio.sleep(0)
        return "done"

    assert asyncio.run(run()) == "done"
    assert ended == ["closed"]


def test_another_ones_cancel_is_not_taken_for_the_client() -> None:
    async def receive() -> Any:
        await asyncio.Event().wait()

    async def run() -> None:
        async def work() -> None:
            with exchange(receive).watched():
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
