"""A transport that takes leave: who is refused while still sending comes to read why.

To close a connection on which unread bytes are left resets it, and a reset takes away the answer that was sent last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: For so many seconds what a refused client still sends is thrown away, so that it comes to read why.
LINGER_SECONDS = 2.0


class Parting(asyncio.Transport):
    """A transport whose close lets the other side finish what it is sending."""

    def __init__(self, transport: asyncio.Transport, unread: Callable[[], bool]) -> None:
        super().__init__()
        self._transport = transport
        self._unread = unread
        self._timer: asyncio.TimerHandle | None = None
        # on the path of every byte
        self.write = transport.write  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.get_write_buffer_size = transport.get_write_buffer_size  # type: ignore[method-assign]

    @property
    def parting(self) -> bool:
        """Whether what still comes is thrown away."""
        return self._timer is not None

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
        if not (self._unread() and self._transport.can_write_eof()):
            self._transport.close()
            return
        self._timer = asyncio.get_running_loop().call_later(LINGER_SECONDS, self.abort)
        self._transport.write_eof()
        self._transport.resume_reading()

    def close_now(self) -> None:
        """Close without waiting for the other side."""
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
