"""One connection of the server: uvicorn's protocol, with the time-outs and caps that it lacks.

Uvicorn waits for ever for the end of headers and bodies, keeps headers of any size, reads nothing of what a refused
client still sends, so that the refusal is lost in a reset, and answers what is no HTTP in plain text.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, cast

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from benchai.config.server import ServerConfig
from benchai.server.cycle import Cycle, described
from benchai.server.openai.errors import Reply, openai_error
from benchai.server.parting import Parting

#: Bytes on the wire for each byte of the largest body: chunks of a few bytes cost more to read than they are worth.
OVERHEAD = 2
#: Requests that a client may send ahead of their answers.
MOST_AHEAD = 100
FRAMING = (b"content-length", b"transfer-encoding")
Phase = Literal["headers", "body", "response"]


def guarded(settings: Callable[[], ServerConfig]) -> type[asyncio.Protocol]:
    """The protocol class for ``uvicorn.Config(http=...)``; ``settings`` are asked for whenever they are needed."""
    return partial(Connection, settings)  # type: ignore[return-value] # uvicorn only calls it


class Connection(HttpToolsProtocol):
    """A client's connection, watched while a request comes in and while its response is taken."""

    transport: Parting

    def __init__(self, settings: Callable[[], ServerConfig], config: uvicorn.Config, *args: Any, **more: Any) -> None:
        super().__init__(config, *args, **more)
        self.settings = settings()
        self._phase: Phase = "headers"
        self._came = 0
        self._repeated = False
        self._current: Cycle | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0
        self._stuck: asyncio.TimerHandle | None = None

    # ---- the life of a connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(Parting(transport, self._unread))
        self._wait(self.settings.header_timeout)
        if len(self.connections) > self.settings.max_connections:
            self._end(openai_error(503, "the server has too many connections", code="too_many_connections"), now=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was left."""
        for timer in (self._timer, self._stuck):
            if timer is not None:
                timer.cancel()
        self.transport.ended()
        self._abandon()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server ends."""
        if self._running:
            super().shutdown()
        else:
            self.transport.close_now()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self.transport.is_closing():
            return
        self._came += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._end(openai_error(400, "the request is no valid HTTP", code="invalid_http"))
            return
        if self._phase == "body":
            self._wait(self.settings.body_timeout)
        self._check_size()
        self._keep_listening()

    def _parse(self, data: bytes) -> None:
        while len(self.pipeline) <= MOST_AHEAD:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._stay()
                data = data[upgrade.args[0] :]
            else:
                return

    def _stay(self) -> None:
        """Go on with HTTP/1.1 behind the headers of a request that offers to upgrade, as JDK clients do with each one.

        The parser would leave out the request's body, and all that follows.
        """
        framing = [b"%s: %s\r\n" % header for header in self.headers if header[0] in FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        self._repeated = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(framing))
        self._repeated = False

    def _keep_listening(self) -> None:
        """Uvicorn stops to read at a request that waits behind another, and would not see the client go."""
        if len(self.pipeline) > MOST_AHEAD:
            self._end(openai_error(400, "too many requests at once on a connection", code="invalid_http"))
        elif self.pipeline and len(self.cycle.body) <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()

    # ---- what the parser finds

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._repeated:
            return
        super().on_message_begin()
        self._phase = "headers"
        self._wait(self.settings.header_timeout)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; those after a body are left out."""
        if self._phase != "headers":
            return
        name = name.lower()
        self.headers.append((name, value))
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        """The headers are there."""
        if self._repeated:
            return
        self.scope |= described(self.parser, self.url)  # type: ignore[typeddict-item] # fields of it
        before, self.cycle = self.cycle, Cycle.of(self)
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        self._phase, self._came = "body", 0
        self._wait(self.settings.body_timeout)

    def on_message_complete(self) -> None:
        """The request is there."""
        if self.parser.should_upgrade():
            return
        self._phase, self._came, self._deadline = "response", 0, None
        super().on_message_complete()
        if not self._running:
            # it was answered before all of it was there
            self._wait(self.settings.keep_alive)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._current = cast("Cycle", cycle)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """A response is out; as uvicorn, but without a timer for each."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._phase == "response":
            self._wait(self.settings.keep_alive)

    # ---- what does not go on

    def _check_size(self) -> None:
        most = self.settings
        if self._phase == "headers" and self._came > most.max_header_bytes:
            message = f"the request's line and headers are longer than {most.max_header_bytes:,} bytes"
            self._end(openai_error(431, message, code="headers_too_large"))
        elif self._phase == "body" and self._came > OVERHEAD * most.max_body + most.max_header_bytes:
            message = f"the request's body is longer than {most.max_body:,} bytes, or its chunks are too small"
            self._end(openai_error(413, message, code="body_too_large"))

    def _end(self, reply: Reply, now: bool = False) -> None:
        """Answer if no answer has begun, and close; the application sees a client that is gone."""
        if self.transport.is_closing():
            return
        if self._answerable():
            self.transport.write(_raw(reply))
        self._deadline = None
        self._abandon()
        if now:
            self.transport.close_now()
        else:
            self.transport.close()

    @property
    def _running(self) -> bool:
        """Whether a request is being answered."""
        return self._current is not None and not self._current.response_complete

    def _answerable(self) -> bool:
        """Whether an answer would be taken for that of the request that is coming in, and not of another."""
        if self._phase != "body":
            return not self._running
        return self._running and self._current is self.cycle and not self.cycle.response_started

    def _abandon(self) -> None:
        # uvicorn tells the newest request alone, which may wait behind the one that runs
        if self._current is not None and not self._current.response_complete:
            self._current.leave()

    def _unread(self) -> bool:
        """Whether the client may be sending a request."""
        return self._phase == "body" or (self._phase == "headers" and self._came > 0)

    # ---- time

    def _wait(self, seconds: float) -> None:
        """Give the client so long for what comes next; one timer serves all requests of a connection."""
        self._deadline = self.loop.time() + seconds
        if self._timer is None:
            self._arm(self._deadline)
        elif self._armed > self._deadline:
            self._timer.cancel()
            self._arm(self._deadline)

    def _arm(self, when: float) -> None:
        self._armed = when
        self._timer = self.loop.call_at(when, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._deadline is None or self.transport.is_closing():
            return
        if self._deadline > self.loop.time():
            self._arm(self._deadline)
        elif self._ours():
            self._wait(self.settings.body_timeout)
        else:
            self._expire()

    def _ours(self) -> bool:
        """Whether it is not the client that is waited for."""
        waiting = self.cycle is not None and self.cycle.waiting_for_100_continue
        return self.flow.read_paused or (self._phase == "body" and waiting)

    def _expire(self) -> None:
        if self._phase == "response" or (self._phase == "headers" and self._came == 0):
            self.transport.close_now()
            return
        what = "headers" if self._phase == "headers" else "body"
        self._end(openai_error(408, f"the request's {what} did not come in time", code="request_timeout"), now=True)

    def pause_writing(self) -> None:
        """The client takes less than it is sent."""
        super().pause_writing()
        self._watch_sending(None)

    def resume_writing(self) -> None:
        """The client has taken most of it."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()

    def _watch_sending(self, before: int | None) -> None:
        left = self.transport.get_write_buffer_size()
        if before is not None and left >= before:
            self.transport.abort()
        else:
            self._stuck = self.loop.call_later(self.settings.send_timeout, self._watch_sending, left)


def _raw(reply: Reply) -> bytes:
    status, headers, body = reply
    lines = [b"HTTP/1.1 %d %s" % (status, http.HTTPStatus(status).phrase.encode())]
    lines += [b"%s: %s" % header for header in headers]
    lines += [b"content-length: %d" % len(body), b"connection: close", b"", body]
    return b"\r\n".join(lines)
