"""A transport that takes leave: who is refused while still sending comes to read why.

To close a connection on which unread bytes are left resets it, and a reset takes away the answer that was sent last.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

Data = bytes | bytearray | memoryview
#: For so many seconds what a refused client still sends is thrown away, so that it comes to read why.
LINGER_SECONDS = 2.0
#: How the head of a response begins and ends.
HEAD, END = b"HTTP/1.1 ", b"\r\n\r\n"


class Parting(asyncio.Transport):
    """A transport whose close lets the other side finish what it is sending."""

    def __init__(self, transport: asyncio.Transport, unread: Callable[[], bool]) -> None:
        super().__init__()
        self._transport = transport
        self._unread = unread
        self._timer: asyncio.TimerHandle | None = None
        self._head = b""
        # on the path of every byte
        self._write = writer(transport)
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]

    @property
    def parting(self) -> bool:
        """Whether what still comes is thrown away."""
        return self._timer is not None

    def write(self, data: Data) -> None:
        """Send; the head of a response waits for what follows at once: two packets would wake the client twice."""
        if self._head:
            data, self._head = self._head + bytes(data), b""
        elif data[-4:] == END and data[: len(HEAD)] == HEAD:
            self._head = bytes(data)
            asyncio.get_running_loop().call_soon(self._flush)
            return
        self._write(data)

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._write(head)

    def get_write_buffer_size(self) -> int:
        """Bytes that are not sent yet."""
        return len(self._head) + self._transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self.parting or self._transport.is_closing()

    def resume_reading(self) -> None:
        """Read on; nothing once it is closed."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Close, at once or when the other side has finished."""
        if self.is_closing():
            return
        self._flush()
        if not (self._unread() and self._transport.can_write_eof()):
            self._transport.close()
            return
        self._timer = asyncio.get_running_loop().call_later(LINGER_SECONDS, self.abort)
        self._transport.write_eof()
        self._transport.resume_reading()

    def close_now(self) -> None:
        """Close without waiting for the other side."""
        self._flush()
        self.ended()
        self._transport.close()

    def abort(self) -> None:
        """Close, and forget what was not sent."""
        self.ended()
        self._transport.abort()

    def ended(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()


def writer(transport: asyncio.Transport) -> Callable[[Data], None]:
    """What writes to the socket itself while nothing waits to be sent.

    uvloop sends what is written only once all else that is ready was done, the requests of other clients included.
    """
    found = transport.get_extra_info("socket")
    if found is None or sys.platform == "win32" or transport.get_extra_info("sslcontext") is not None:
        return transport.write
    descriptor = found.fileno()

    def write(data: Data) -> None:
        # the number of a closed socket may be that of another one by now
        if not transport.is_closing() and not transport.get_write_buffer_size():
            try:
                sent = os.write(descriptor, data)
            except OSError:
                # it takes nothing now, or is broken: the transport knows what to do
                sent = 0
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
        transport.write(data)

    return write
