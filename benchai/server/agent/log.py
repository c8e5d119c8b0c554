"""The events of runs: each has one id, is kept before it is sent, and can be replayed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchai.errors import StoreError
from benchai.server.agent.database import AgentDatabase, Row

#: Events that a follower reads at once, and bytes of them.
PAGE = 256
PAGE_BYTES = 2**20
#: Events that wait in memory at most while the database cannot be written.
MOST_WAITING = 10_000
INSERT = "INSERT INTO events (id, run_id, name, data) VALUES (?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Logged:
    """One event; ``id`` grows through all runs."""

    id: int
    name: str
    data: bytes


class EventLog:
    """Writes what comes within one turn of the event loop at once, then wakes who follows."""

    def __init__(self, database: AgentDatabase) -> None:
        self._db = database
        last = database.one("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        self._next = (last[0] if last else 0) + 1
        self._waiting: list[tuple[int, str, str, bytes]] = []
        self._followers: dict[str, set[asyncio.Event]] = {}
        self.broken: StoreError | None = None
        #: The thread of each run that is under way, as ``place_of`` names it.
        self.threads: dict[str, str] = {}

    def append(self, run_id: str, name: str, data: bytes) -> None:
        """Take an event of a run.

        Raises:
            StoreError: many earlier ones could not be kept.
        """
        if len(self._waiting) > MOST_WAITING and self.broken is not None:
            raise self.broken
        if not self._waiting or self.broken is not None:
            asyncio.get_running_loop().call_soon(self._flush_soon)
        self._waiting.append((self._next, run_id, name, data))
        self._next += 1

    def _flush_soon(self) -> None:
        try:
            self.flush()
        except StoreError as error:
            self.broken = error

    def flush(self) -> None:
        """Keep what has come.

        Raises:
            StoreError: it cannot be kept.
        """
        waiting = self._waiting
        if not waiting:
            return
        with self._db.transaction():
            for row in waiting:
                self._db.write(INSERT, row)
        self._waiting, self.broken = [], None
        for run_id in {row[1] for row in waiting}:
            self.wake(run_id)

    def wake(self, run_id: str) -> None:
        """Have who follows a run, or its thread, look again."""
        for place in (run_id, self.threads.get(run_id, "")):
            for follower in self._followers.get(place, ()):
                follower.set()

    def read(self, run_id: str, after: int) -> list[Logged]:
        """The next events of a run."""
        sizes = "SELECT id, length(data) FROM events WHERE run_id = ? AND id > ? ORDER BY id LIMIT ?"
        last = _end_of_page(self._db.read(sizes, (run_id, after, PAGE)))
        query = "SELECT id, name, data FROM events WHERE run_id = ? AND id > ? AND id <= ? ORDER BY id"
        return [Logged(*row) for row in self._db.read(query, (run_id, after, last))] if last else []

    @property
    def last_id(self) -> int:
        """The id of the last event of all."""
        return self._next - 1

    async def follow_thread(
        self, owner: str, thread_id: str, after: int, keep_alive: float
    ) -> AsyncGenerator[Logged | None, None]:
        """The events of all runs of a thread, without an end; see ``follow``."""
        of_thread = "FROM events JOIN runs USING (run_id) WHERE owner = ? AND thread_id = ? AND events.id > ?"
        sizes = f"SELECT events.id, length(data) {of_thread} ORDER BY events.id LIMIT ?"
        query = f"SELECT events.id, name, data {of_thread} AND events.id <= ? ORDER BY events.id"
        with self._following(place_of(owner, thread_id)) as news:
            while True:
                news.clear()
                place = owner, thread_id, after
                last = _end_of_page(self._db.read(sizes, (*place, PAGE)))
                found = [Logged(*row) for row in self._db.read(query, (*place, last))] if last else []
                for event in found:
                    after = event.id
                    yield event
                if not found and not await _heard(news, keep_alive):
                    yield None

    @contextmanager
    def _following(self, run_id: str) -> Iterator[asyncio.Event]:
        news = asyncio.Event()
        self._followers.setdefault(run_id, set()).add(news)
        try:
            yield news
        finally:
            self._followers[run_id].discard(news)
            if not self._followers[run_id]:
                del self._followers[run_id]

    async def follow(
        self, run_id: str, after: int, ended: Callable[[], bool], keep_alive: float
    ) -> AsyncGenerator[Logged | None, None]:
        """The events of a run until it has ended; None when nothing came for ``keep_alive`` seconds.

        Args:
            run_id: The run.
            after: The id of the last event that is known; 0 for all.
            ended: Whether no more events are to come.
            keep_alive: Seconds.
        """
        with self._following(run_id) as news:
            while True:
                news.clear()
                over = ended()
                found = self.read(run_id, after)
                for event in found:
                    after = event.id
                    yield event
                if found:
                    continue
                if over:
                    return
                if not await _heard(news, keep_alive):
                    yield None

    def forget(self, hours: float) -> int:
        """Delete the events of runs that ended so long ago; returns how many."""
        query = (
            "DELETE FROM events WHERE run_id IN"
            " (SELECT run_id FROM runs WHERE status NOT IN ('pending', 'running') AND updated < ?)"
        )
        return self._db.write(query, (time.time() - hours * 3600,))


def _end_of_page(sizes: Sequence[Row]) -> int:
    """The last id of a page: so many events, or so many bytes; 0 for none. One event is read however large it is."""
    last = total = 0
    for number, size in sizes:
        total += size
        if last and total > PAGE_BYTES:
            break
        last = number
    return last


async def _heard(news: asyncio.Event, seconds: float) -> bool:
    """Whether there was news within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    return True


def place_of(owner: str, thread_id: str) -> str:
    """A thread among all owners' threads."""
    return f"{thread_id}/{owner}"
