"""Time-outs of a connection on a clock that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from benchai.config.server import ServerConfig
from benchai.server.connection import guarded

SETTINGS = ServerConfig(header_timeout=10, body_timeout=30, keep_alive=75, send_timeout=60)
HEAD = b"POST / HTTP/1.1\r\nhost: localhost\r\n"


class Timer:
    """What a loop gives for a call in the future."""

    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when, self.call, self.cancelled = when, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """The part of an event loop that a connection uses; time passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []
        self.loop = asyncio.new_event_loop()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[..., None], *args: Any) -> Timer:
        timer = Timer(when, lambda: call(*args))
        self.timers.append(timer)
        return timer

    def call_later(self, seconds: float, call: Callable[..., None], *args: Any) -> Timer:
        return self.call_at(self.now + seconds, call, *args)

    def create_task(self, work: Any) -> Any:
        return self.loop.create_task(work)

    def settle(self) -> None:
        """Let tasks run as far as they get."""
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.when <= end and not timer.cancelled]:
            timer = min(due, key=lambda one: one.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when)
            timer.call()
            self.settle()
        self.now = end


class Wire(asyncio.Transport):
    """Where a connection's bytes go."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.waiting = 0
        self.closed = self.aborted = self.paused = False

    def write(self, data: Any) -> None:
        self.written += data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Line:
    """A connection with its clock and its wire."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self.clock, self.wire = Clock(), Wire()
        config = uvicorn.Config(app, log_config=None, ws="none", lifespan="off", proxy_headers=False)
        config.load()
        make: Any = guarded(lambda: SETTINGS)
        self.protocol = make(config=config, server_state=ServerState(), app_state={}, _loop=self.clock)
        self.protocol.connection_made(self.wire)

    def send(self, data: bytes) -> None:
        self.protocol.data_received(data)
        self.clock.settle()

    def end(self) -> None:
        self.protocol.connection_lost(None)
        self.clock.settle()
        assert not [timer for timer in self.clock.timers if not timer.cancelled], "a timer is left"
        self.clock.loop.close()


@pytest.fixture
def line() -> Any:
    """A connection whose application reads everything, then answers, unless told to wait."""
    made = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/later":
            await waiting[0].wait()
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.request":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    waiting = [asyncio.Event()]
    made.append(Line(app))
    made[0].waiting = waiting[0]  # type: ignore[attr-defined]
    yield made[0]
    waiting[0].set()
    made[0].end()


def answered(line: Line) -> list[int]:
    return [int(part[:3]) for part in line.wire.written.decode().split("HTTP/1.1 ")[1:]]


def test_headers_have_so_long_in_all(line: Line) -> None:
    line.send(b"POST /")
    for _ in range(9):
        line.clock.pass_(1)
        line.send(b"x")
    assert not line.wire.closed
    line.clock.pass_(1)
    assert (answered(line), line.wire.closed) == ([408], True)


def test_a_connection_waits_for_its_first_request(line: Line) -> None:
    line.clock.pass_(9.9)
    assert not line.wire.closed
    line.clock.pass_(0.1)
    assert (answered(line), line.wire.closed) == ([], True)


def test_a_body_has_so_long_for_each_piece(line: Line) -> None:
    line.send(HEAD + b"content-length: 100\r\n\r\n")
    for _ in range(99):
        line.clock.pass_(29)
        line.send(b"x")
    assert not line.wire.closed
    line.send(b"x")
    assert answered(line) == [200]


def test_a_body_that_stops(line: Line) -> None:
    line.send(HEAD + b"content-length: 100\r\n\r\n")
    line.clock.pass_(29)
    line.send(b"x")
    line.clock.pass_(29.9)
    assert not line.wire.closed
    line.clock.pass_(0.1)
    assert (answered(line), line.wire.closed) == ([408], True)


def test_a_client_does_not_pay_for_an_application_that_does_not_read(line: Line) -> None:
    line.send(b"POST /later HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100001\r\n\r\n" + b"x" * 100_000)
    assert line.wire.paused
    line.clock.pass_(1000)
    assert not line.wire.closed
    line.waiting.set()  # type: ignore[attr-defined]
    line.clock.settle()
    assert not line.wire.paused
    line.send(b"x")
    assert answered(line) == [200]


def test_a_client_that_was_not_told_to_go_on_is_not_waited_for(line: Line) -> None:
    line.send(b"POST /later HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\nexpect: 100-continue\r\n\r\n")
    line.clock.pass_(1000)
    assert (line.wire.written, line.wire.closed) == (b"", False)
    line.waiting.set()  # type: ignore[attr-defined]
    line.clock.settle()
    assert answered(line) == [100]
    line.clock.pass_(30)
    assert answered(line) == [100, 408]


def test_an_answer_may_take_any_time(line: Line) -> None:
    line.send(b"GET /later HTTP/1.1\r\nhost: localhost\r\n\r\n")
    line.clock.pass_(100_000)
    assert not line.wire.closed
    line.waiting.set()  # type: ignore[attr-defined]
    line.clock.settle()
    assert answered(line) == [200]


def test_a_connection_without_requests_is_kept_for_so_long(line: Line) -> None:
    for _ in range(3):
        line.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        line.clock.pass_(74)
    assert (answered(line), line.wire.closed) == ([200] * 3, False)
    # what begins no request makes it no longer than once
    for _ in range(2):
        line.send(b"\r\n")
        line.clock.pass_(74)
    assert line.wire.closed


def test_a_later_request_has_the_time_of_the_first(line: Line) -> None:
    line.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    line.clock.pass_(70)
    line.send(b"GET / HT")
    line.clock.pass_(9.9)
    assert not line.wire.closed
    line.clock.pass_(0.1)
    assert answered(line) == [200, 408]


def test_a_client_must_take_something(line: Line) -> None:
    line.wire.waiting = 100_000
    line.protocol.pause_writing()
    for left in (90_000, 80_000):
        line.clock.pass_(59)
        line.wire.waiting = left
        line.clock.pass_(1)
    assert not line.wire.aborted
    line.clock.pass_(60)
    assert line.wire.aborted


def test_a_client_that_takes_all_again_is_kept(line: Line) -> None:
    line.send(b"GET /later HTTP/1.1\r\nhost: localhost\r\n\r\n")
    line.wire.waiting = 100_000
    line.protocol.pause_writing()
    line.clock.pass_(59)
    line.protocol.resume_writing()
    line.clock.pass_(1000)
    assert not line.wire.closed


PIECES = [
    b"GET / HTTP/1.1\r\n",
    b"POST /later HTTP/1.1\r\n",
    b"CONNECT x:1 HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
    b"host: localhost\r\n",
    b"content-length: 5\r\n",
    b"transfer-encoding: chunked\r\n",
    b"connection: close\r\n",
    b"connection: upgrade\r\nupgrade: h2c\r\n",
    b"expect: 100-continue\r\n",
    b"\r\n",
    b"5\r\nabcde\r\n",
    b"0\r\n\r\n",
    b"abcde",
    b"\xff\x00",
    b"x" * 70_000,
]


@settings(max_examples=150)
@given(st.lists(st.sampled_from(PIECES), max_size=12), st.integers(1, 40), st.booleans())
def test_whatever_comes_the_connection_lives_or_ends_in_order(pieces: list[bytes], size: int, wait: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.request" and scope["path"] != "/later":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        elif message["type"] == "http.request":
            assert (await receive())["type"] == "http.disconnect"

    line, sent = Line(app), b"".join(pieces)
    for start in range(0, min(len(sent), 2000), size):
        line.send(sent[start : start + size])
    line.send(sent[2000:])
    if wait:
        line.clock.pass_(200)
    line.end()
    assert not asyncio.all_tasks(line.clock.loop), "the application was not told that the client is gone"
