"""Which whole replies are asked for as they are, what is told of a failure, and streams that are read in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
import pytest

from benchai.errors import ContextExceeded, EndpointError, EndpointLost, EndpointNotReady, ReplyBroken
from benchai.runtime.endpoints import Endpoint
from benchai.runtime.router.cache.collector import Collector
from benchai.server.openai.exchange import ClientGone, Exchange
from benchai.server.openai.forward import BATCH, Batch, Measured
from benchai.server.openai.job import Job
from benchai.server.openai.pace import Pace
from benchai.server.openai.upstream import lost, refused, was_silent
from benchai.server.openai.wire import assembled

ENDPOINT = Endpoint("general", "tiny", "http://127.0.0.1:1/v1", "tiny", 4096, "cpu", 60, 512)


def measured(tokens: int, speed: float | None) -> Measured:
    return Measured(completion_tokens=tokens, tokens_per_second=speed)


def test_only_a_reply_that_is_over_at_once_is_brief() -> None:
    pace = Pace()
    assert pace.brief("tiny", 1), "one token ends with the prompt"
    assert not pace.brief("tiny", 16), "nobody knows yet how fast it is"
    pace.note("tiny", measured(2, 1e6))
    assert not pace.brief("tiny", 16), "two tokens tell nothing"
    pace.note("tiny", measured(50, 100.0))
    assert pace.brief("tiny", 26)
    assert not pace.brief("tiny", 27)
    assert not pace.brief("other", 26)
    pace.note("tiny", measured(50, 10.0))
    assert not pace.brief("tiny", 26), "the slowest of the last replies counts"
    for _ in range(8):
        pace.note("tiny", measured(50, 100.0))
    assert pace.brief("tiny", 26)


@pytest.mark.parametrize(
    ("data", "tokens"),
    [
        ({}, 512),
        ({"max_tokens": 9}, 9),
        ({"max_tokens": -1}, 512),
        ({"max_tokens": None, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 9, "n": 3}, 27),
        ({"n_predict": 5, "n": None}, 5),
    ],
)
def test_tokens_that_a_reply_has_at_most(data: dict[str, Any], tokens: int) -> None:
    assert Job("", "/chat/completions", data).tokens_for(ENDPOINT) == tokens


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
