"""What happened to the fleet: the last events in memory, handed on to whoever follows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from benchai.events import Event

KEPT = 2_000
#: A follower that is so far behind misses events rather than filling the memory.
BEHIND = 10_000


class EventLog:
    """Keeps events and feeds followers."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._followers: set[asyncio.Queue[Event | None]] = set()

    def emit(self, event: Event) -> None:
        """Take one event."""
        self._kept.append(event)
        for queue in self._followers:
            if queue.qsize() < BEHIND:
                queue.put_nowait(event)

    def last(self, count: int = KEPT) -> list[Event]:
        """The last events, oldest first."""
        return list(self._kept)[-count:] if count else []

    def close(self) -> None:
        """Nothing more is to come: followers end."""
        self.closed.set()
        for queue in self._followers:
            queue.put_nowait(None)

    @contextmanager
    def following(self) -> Iterator[asyncio.Queue[Event | None]]:
        """A queue of all that happens while the context is open; None when the log is closed."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._followers.add(queue)
        if self.closed.is_set():
            queue.put_nowait(None)
        try:
            yield queue
        finally:
            self._followers.discard(queue)

    async def follow(self, count: int) -> AsyncIterator[Event]:
        """The last events, then all that happens until the log is closed."""
        with self.following() as queue:
            for event in self.last(count):
                yield event
            while (news := await queue.get()) is not None:
                yield news
