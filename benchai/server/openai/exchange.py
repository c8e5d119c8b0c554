"""One HTTP exchange on pure ASGI: the hot path has no room for a framework's request and response objects."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import partial
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
SSE: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # nginx would hold a stream back until it has a buffer full of it
    (b"x-accel-buffering", b"no"),
)
#: A comment of server-sent events: clients skip it, and see that somebody is there.
COMMENT = b": waiting\n\n"
EVENT_ENDS = (b"\n\n", b"\r\n\r\n")
#: A message that is a whole response, where the server takes one: it costs half of what two do.
WHOLE = "benchai.whole"
#: Where the server offers it: what is to be called when the client goes away is given to its ``to``.
GONE = "benchai.gone"


class ClientGone(Exception):
    """The client closed its connection."""


class Exchange:
    """A request and its response.

    Attributes:
        started: Whether status and headers are out.
        whole_events: Whether what went out so far ends with an event: a comment may follow.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.started = False
        self.whole_events = True
        self._receive = receive
        self._send = send
        self._ended = False
        self._tail = b""
        self._headers: dict[bytes, bytes] | None = None

    def header(self, name: bytes) -> str | None:
        """A request header; ``name`` in small letters."""
        if self._headers is None:
            # of several the first one counts
            self._headers = dict(reversed(self.scope["headers"]))
        value = self._headers.get(name)
        return None if value is None else str(value, "latin-1")

    async def read(self) -> bytes:
        """The request's body.

        Raises:
            ClientGone: it broke off.
        """
        message = await self._receive()
        body: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body"):
            return body
        parts = [body]
        while message["type"] == "http.request" and message.get("more_body"):
            message = await self._receive()
            parts.append(message.get("body", b""))
        if message["type"] != "http.request":
            raise ClientGone
        return b"".join(parts)

    def watched(self) -> Watched:
        """Cancel what is done inside when the client goes away; the context then raises ``ClientGone``."""
        return Watched(self)

    def watch(self, left: Callable[[], None]) -> Callable[[], None]:
        """Have ``left`` called when the client goes away before the response is out; returns what ends that."""
        tell = self.scope.get("extensions", {}).get(GONE)
        if tell is not None:
            tell["to"](left)
            return partial(tell["to"], None)
        # a server says so, too, when it has sent all that there was
        return _Waiter(self._receive(), lambda: None if self._ended else left()).stop

    async def start(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send status and headers."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; waits while the client does not take it."""
        end = data[-4:] if len(data) > 3 else (self._tail + data)[-4:]
        self._tail, self.whole_events = end, end.endswith(EVENT_ENDS)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece."""
        self._ended = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def reply(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole response."""
        sent = [*headers, (b"content-length", b"%d" % len(body))]
        if WHOLE in self.scope.get("extensions", ()):
            self.started = self._ended = True
            await self._send({"type": WHOLE, "status": status, "headers": sent, "body": body})
            return
        await self.start(status, sent)
        await self.end(body)

    async def comment(self, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Show a client of a stream that somebody is there; begins the response if need be."""
        if self._ended:
            return
        if not self.started:
            await self.start(200, [*SSE, *headers])
        if self.whole_events:
            await self.write(COMMENT)


class Watched:
    """A context that is left with ``ClientGone`` when the client of an exchange goes away."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._gone = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._stop = self._exchange.watch(self._left)

    def _left(self) -> None:
        if not self._gone:
            self._gone = True
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self._stop()
        # else somebody else cancels, too
        if self._gone and kind is asyncio.CancelledError and not self._task.uncancel():
            raise ClientGone from None


class _Waiter:
    """Waits for the end of a coroutine without a task, which nearly no request needs: it is stopped before."""

    def __init__(self, waiting: Awaitable[object], ended: Callable[[], None]) -> None:
        self._steps = waiting.__await__()
        self._ended = ended
        self._future: asyncio.Future[Any] | None = None
        self._go_on()

    def stop(self) -> None:
        """Nobody wants to know any more."""
        if self._future is not None:
            self._future.remove_done_callback(self._go_on)
            self._future = None
        self._steps.close()

    def _go_on(self, done: asyncio.Future[Any] | None = None) -> None:
        self._future = None
        try:
            found = next(self._steps)
        except (Exception, asyncio.CancelledError):
            # a server that cannot say whether its client is there has lost it
            self._ended()
            return
        # as a task does with what it is to wait for; without one it goes on in the loop's next round
        self._future = found if found is not None else _soon()
        self._future._asyncio_future_blocking = False
        self._future.add_done_callback(self._go_on)


def _soon() -> asyncio.Future[Any]:
    loop = asyncio.get_running_loop()
    made: asyncio.Future[Any] = loop.create_future()
    loop.call_soon(made.set_result, None)
    return made


class Pulse:
    """Sends a comment whenever a stream was silent for ``interval`` seconds; free of charge while it is not."""

    def __init__(self, exchange: Exchange, interval: float, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._exchange = exchange
        self._interval = interval
        self._headers = headers
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._beating: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(interval, self._due)

    def touch(self) -> None:
        """Something went out."""
        self._last = self._loop.time()

    def _due(self) -> None:
        now = self._loop.time()
        if now - self._last >= self._interval:
            self._last = now
            self._beating = self._loop.create_task(self._beat())
        self._timer = self._loop.call_at(self._last + self._interval, self._due)

    async def _beat(self) -> None:
        with contextlib.suppress(OSError):
            await self._exchange.comment(self._headers)

    async def stop(self) -> None:
        """No more comments; one under way is finished first, so that nothing comes into the middle of it."""
        self._timer.cancel()
        if self._beating is not None and not self._beating.done():
            await asyncio.wait([self._beating])
