"""One connection to an engine on this machine: a bare socket, a request on it, and the answer as it comes."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Mapping

import aiohttp
import httptools

CONNECT_SECONDS = 10.0
#: Bytes that are read at once.
BLOCK = 262_144
#: Bytes of a body that wait for their reader before no more are taken from the socket.
MOST_HELD = 524_288
_UNDER_WAY = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY)
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
#: Host and port.
Address = tuple[str, int]


class Connection:
    """One socket, and the answer that comes on it; see ``Response``.

    Attributes:
        status: HTTP status; 0 before the head.
        since: When it was given back.
        free: Whether another request may follow.
    """

    def __init__(self, to: Address) -> None:
        self.to, self.status, self.since = to, 0, 0.0
        self.loop = asyncio.get_running_loop()
        self.free = False
        self._socket = _socket(to[0])
        self._fd = self._socket.fileno()
        self._connected = self._reading = self._ended = False
        self._parser = httptools.HttpResponseParser(self)
        self._head: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._held = 0
        self._out: memoryview | None = None
        self._error: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._came = 0.0
        self._idle: float | None = None
        self._all_by: float | None = None

    # ---- the request

    def begin(self, request: bytes, total: float | None, idle: float | None) -> None:
        """Send a request, after connecting where that was not done yet.

        Raises:
            aiohttp.ClientOSError: no connection came about.
        """
        self.status, self.free, self._ended = 0, False, False
        self._head, self._pieces, self._held = [], [], 0
        self._came = self.loop.time()
        self._idle, self._all_by = idle, None if total is None else self._came + total
        try:
            self._send(request)
        except OSError as error:
            raise _broken(error) from error
        self._read_on()

    def _send(self, request: bytes) -> None:
        sent = 0
        if not self._connected and (code := self._socket.connect_ex(self.to)) and code not in _UNDER_WAY:
            raise OSError(code, _words(code))
        try:
            sent = self._socket.send(request)
            self._connected = True
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            # macOS says so of a connection that is not there yet
            if error.errno != errno.ENOTCONN or self._connected:
                raise
        if sent < len(request):
            self._out = memoryview(request)[sent:]
            self.loop.add_writer(self._fd, self._writable)

    def _writable(self) -> None:
        assert self._out is not None
        try:
            sent = self._socket.send(self._out)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._stop_writing()
            # a server that refuses a long request answers before it has read all of it
            if not self._connected:
                self._fail(_broken(error))
            return
        self._connected, self._came = True, self.loop.time()
        self._out = self._out[sent:]
        if not self._out:
            self._stop_writing()

    def _stop_writing(self) -> None:
        if self._out is not None:
            self._out = None
            self.loop.remove_writer(self._fd)

    # ---- the answer

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers by their names in small letters."""
        return {str(name, "latin-1").lower(): str(value, "latin-1") for name, value in self._head}

    @property
    def at_eof(self) -> bool:
        """Whether the whole body was read."""
        return self._ended and not self._pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._ended:
                raise StopAsyncIteration
            await self.news()
        pieces, self._pieces, self._held = self._pieces, [], 0
        if not self._reading and not self._ended and self._error is None:
            self._came = self.loop.time()
            self._read_on()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read(self) -> bytes:
        """What is left of the body."""
        return b"".join([piece async for piece in self])

    async def news(self) -> None:
        """Wait for what comes next.

        Raises:
            aiohttp.ClientError: the connection broke.
            TimeoutError: nothing came for too long, or all took too long.
        """
        if self._error is not None:
            raise self._error
        self._waiting = self.loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def shut(self) -> None:
        """Close it."""
        self.free = False
        self._pause()
        self._stop_writing()
        self._socket.close()

    # ---- the socket

    def _read_on(self) -> None:
        if not self._reading:
            self._reading = True
            self.loop.add_reader(self._fd, self._readable)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self.loop.remove_reader(self._fd)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(BLOCK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(aiohttp.ClientPayloadError(_words(error.errno)) if self.status else _broken(error))
            return
        self._came = self.loop.time()
        if self.free or not data:
            self._closed()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(aiohttp.ClientPayloadError(f"the answer is no HTTP that was asked for: {error}"))
            return
        if self._held > MOST_HELD:
            self._pause()
        self._wake()

    def _closed(self) -> None:
        """The server has closed it, or sent what nobody asked for."""
        if self.status and _FRAMING.isdisjoint([name.lower() for name, _ in self._head]):
            # the end of the connection is that of the answer
            self._ended = True
        elif not self._ended and self.status:
            self._error = aiohttp.ClientPayloadError("the connection was closed in the middle of the answer")
        elif not self._ended:
            self._error = aiohttp.ServerDisconnectedError("the connection was closed before an answer")
        self.free = False
        self._pause()
        self._wake()

    def _fail(self, error: Exception) -> None:
        # what came before it is still read
        self._error = self._error or error
        self.free = False
        self._pause()
        self._stop_writing()
        self._wake()

    def _wake(self) -> None:
        waiting = self._waiting
        if waiting is not None and not waiting.done() and (self.status or self._error is not None):
            waiting.set_result(None)

    # ---- what the parser finds

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the answer, or a trailer of its body."""
        self._head.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is there; one of 1xx comes before that of the answer."""
        status = self._parser.get_status_code()
        self.status = status if status >= 200 else 0

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(body)
        self._held += len(body)

    def on_message_complete(self) -> None:
        """The answer is there."""
        if not self.status:
            self._head = []
            return
        self._ended = True
        self.free = self._parser.should_keep_alive() and self._out is None and self._error is None

    # ---- time

    def due_at(self) -> float | None:
        """When to ``check`` it next."""
        if self._ended or self._error is not None:
            return None
        limits = [] if self._connected else [self._came + CONNECT_SECONDS]
        if self._idle is not None:
            # while nothing is read, it is the reader that is waited for
            limits.append((self._came if self._reading else self.loop.time()) + self._idle)
        if self._all_by is not None:
            limits.append(self._all_by)
        return min(limits, default=None)

    def check(self, now: float) -> None:
        """Give it up if it took too long."""
        at = self.due_at()
        if at is None or at > now:
            return
        if self._all_by is not None and self._all_by <= now:
            self._fail(TimeoutError("the answer took too long"))
        elif not self._connected:
            self._fail(aiohttp.ConnectionTimeoutError("no connection came about in time"))
        else:
            self._fail(aiohttp.SocketTimeoutError("nothing came for too long"))


def _socket(host: str) -> socket.socket:
    try:
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise _broken(error) from error
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _broken(error: OSError) -> aiohttp.ClientOSError:
    return aiohttp.ClientOSError(error.errno, _words(error.errno))


def _words(code: int | None) -> str:
    return os.strerror(code) if code else "the connection broke"
