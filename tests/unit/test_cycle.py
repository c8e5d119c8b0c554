"""Responses as they go out on a connection, and word of a client that leaves."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from benchai.server.openai.exchange import GONE, WHOLE, ClientGone, Exchange
from benchai.server.parting import writer
from tests.unit.test_connection import HEAD, Line, Wire

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
SIZE = (b"content-length", b"3")


class Counted(Wire):
    """Keeps what was written, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))
        super().write(data)


def line_of(*messages: dict[str, Any]) -> Line:
    """A connection whose application answers each request with these messages."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(dict(message))

    return Line(app)


def answered(line: Line, request: bytes = GET) -> tuple[bytes, bool]:
    """What a request got, and whether the connection was closed then."""
    line.send(request)
    found = line.wire.written, line.wire.closed
    line.end()
    return found


def whole(*headers: tuple[bytes, bytes], body: bytes = b"yes") -> dict[str, Any]:
    return {"type": WHOLE, "status": 200, "headers": [*headers], "body": body}


def test_a_whole_response_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.unit.test_connection.Wire", Counted)
    line = line_of(whole(SIZE, (b"x-a", b"1")))
    _, closed = answered(line)
    assert isinstance(line.wire, Counted)
    assert line.wire.writes == [b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nx-a: 1\r\n\r\nyes"]
    assert not closed


def test_a_body_of_unknown_length_is_sent_in_chunks() -> None:
    start = {"type": "http.response.start", "status": 200, "headers": []}
    piece = {"type": "http.response.body", "body": b"a" * 17, "more_body": True}
    found = answered(line_of(start, piece, {"type": "http.response.body"}))
    assert found[0] == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n11\r\n" + b"a" * 17 + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("value", [b"1\r\nset-cookie: a=b", b"1\n", b"\0", b"\x7f"])
def test_a_header_cannot_bring_another_one(value: bytes) -> None:
    assert answered(line_of(whole(SIZE, (b"x-a", value)))) == (b"", True)


@pytest.mark.parametrize("body", [b"no", b"many"])
def test_a_body_of_another_length_is_not_sent(body: bytes) -> None:
    assert answered(line_of(whole(SIZE, body=body))) == (b"", True)


def test_head_gets_no_body() -> None:
    found, _ = answered(line_of(whole(SIZE)), GET.replace(b"GET", b"HEAD"))
    assert found.endswith(b"content-length: 3\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "header"), [(GET.replace(b"1.1", b"1.0"), SIZE), (GET, (b"connection", b"close"))]
)
def test_a_connection_ends_with_its_last_response(request_: bytes, header: tuple[bytes, bytes]) -> None:
    found, closed = answered(line_of(whole(SIZE, header) if header is not SIZE else whole(SIZE)), request_)
    assert (found.count(b"connection: close"), closed) == (1, True)


@pytest.mark.parametrize("offered", [True, False], ids=["told", "by receive"])
def test_work_for_a_client_that_leaves_is_cancelled(offered: bool) -> None:
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if not offered:
            del scope["extensions"][GONE]
        exchange = Exchange(scope, receive, send)
        await exchange.read()
        with pytest.raises(ClientGone):
            with exchange.watched():
                await asyncio.Event().wait()
        ended.append(True)

    line = Line(app)
    line.send(HEAD + b"content-length: 2\r\n\r\n{}")
    line.protocol.connection_lost(None)
    line.clock.settle()
    line.clock.loop.close()
    assert ended == [True]


def test_who_is_not_watched_any_more_is_left_alone() -> None:
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        exchange = Exchange(scope, receive, send)
        with exchange.watched():
            pass
        await waiting.wait()
        ended.append(True)

    waiting = asyncio.Event()
    line = Line(app)
    line.send(GET)
    line.protocol.connection_lost(None)
    line.clock.settle()
    waiting.set()
    line.clock.settle()
    line.clock.loop.close()
    assert ended == [True]


class Pipe(Wire):
    """A transport over a descriptor."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default


@pytest.fixture
def pipe() -> Any:
    """A pipe's end to read from, and a transport that writes to the other one."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    yield reads, Pipe(writes)
    os.close(reads)
    os.close(writes)


def test_what_is_written_goes_out_at_once(pipe: tuple[int, Pipe]) -> None:
    reads, transport = pipe
    writer(transport)(b"now")
    assert (os.read(reads, 10), transport.written) == (b"now", b"")


def test_what_is_not_taken_waits_in_its_order(pipe: tuple[int, Pipe]) -> None:
    reads, transport = pipe
    write, data = writer(transport), os.urandom(2**20)
    write(data)
    transport.waiting = len(transport.written)
    write(b"later")
    taken = os.read(reads, 2**20)
    assert 0 < len(taken) < len(data)
    assert taken + transport.written == data + b"later"


def test_nothing_is_written_to_a_descriptor_that_may_be_anothers(pipe: tuple[int, Pipe]) -> None:
    reads, transport = pipe
    transport.close()
    writer(transport)(b"late")
    os.set_blocking(reads, False)
    with pytest.raises(BlockingIOError):
        os.read(reads, 10)
    assert transport.written == b"late"
