"""Threads: checkpoints of LangGraph in one SQLite file, and a row about each thread beside them."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite
from filelock import FileLock, Timeout
from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig

from benchai.errors import BenchAIError, UnknownThread, UsageError, did_you_mean, nearest
from benchai.events import Event, RunStarted
from benchai.graphs import journal
from benchai.graphs.history import Point, points_of
from benchai.graphs.journal import Calls, closed
from benchai.graphs.saver import Durable, LoopSqliteSaver, open_saver

KEEP_EVENT = "INSERT INTO benchai_events (thread_id, run_id, event) VALUES (?, ?, ?)"
_TABLES = """
CREATE TABLE IF NOT EXISTS benchai_threads (
    thread_id TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    title TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    stop_reason TEXT
);
CREATE TABLE IF NOT EXISTS benchai_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    thread_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    event TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS benchai_events_by_thread ON benchai_events (thread_id, id);
"""
_OURS = ("benchai_threads", "benchai_calls", "benchai_events")
TITLE_CHARS = 80
BUSY_SECONDS = 30


@dataclass(frozen=True)
class Thread:
    """A conversation with checkpoints; times are seconds since the epoch."""

    thread_id: str
    workflow: str
    title: str
    created: float
    updated: float
    stop_reason: str | None


class ThreadStore:
    """The threads of one user."""

    def __init__(self, connection: aiosqlite.Connection, saver: LoopSqliteSaver, folder: Path) -> None:
        self._db = connection
        self._folder = folder
        self._before: dict[str, Thread | None] = {}
        self.saver = saver

    async def threads(self) -> list[Thread]:
        """All threads, the one used last first."""
        rows = await self._db.execute_fetchall("SELECT * FROM benchai_threads ORDER BY updated DESC, thread_id")
        return [Thread(*row) for row in rows]

    def state_of(self, thread: Thread) -> str:
        """How the last run on a thread ended: "running" while one is under way, "interrupted" after a kill."""
        if thread.stop_reason is not None:
            return thread.stop_reason
        try:
            with self.lock(thread.thread_id):
                return "interrupted"
        except UsageError:
            return "running"

    async def get(self, thread_id: str) -> Thread:
        """One thread.

        Raises:
            UnknownThread: there is none of that id.
        """
        found = await self._find(thread_id)
        if found is None:
            threads = [thread.thread_id for thread in await self.threads()]
            close = nearest(thread_id, threads)
            none = "" if threads else "; there are none yet"
            hint = f"did you mean {close!r}?" if close else f"benchai threads list shows them{none}"
            raise UnknownThread(f"there is no thread {thread_id!r}", hint=hint)
        return found

    async def _find(self, thread_id: str) -> Thread | None:
        rows = await self._db.execute_fetchall("SELECT * FROM benchai_threads WHERE thread_id = ?", (thread_id,))
        return next((Thread(*row) for row in rows), None)

    async def begin(self, thread_id: str, workflow: str, task: str) -> None:
        """Note that a run of ``workflow`` begins on a thread.

        Raises:
            UsageError: the thread is another workflow's.
        """
        known = await self._find(thread_id)
        if known is not None and known.workflow != workflow:
            raise UsageError(
                f"the thread {thread_id!r} belongs to the workflow {known.workflow!r}, not {workflow!r}",
                hint="leave --thread out to begin a new one",
            )
        self._before[thread_id] = known
        now = time.time()
        title = " ".join(task.split())[:TITLE_CHARS]
        await closed(
            self._db.execute(
                "INSERT INTO benchai_threads VALUES (?, ?, ?, ?, ?, NULL)"
                " ON CONFLICT (thread_id) DO UPDATE SET updated = excluded.updated, stop_reason = NULL",
                (thread_id, workflow, title, now, now),
            )
        )

    async def end(self, thread_id: str, stop_reason: str) -> None:
        """Note how the last run on a thread ended; nothing of one that was taken back."""
        if thread_id not in self._before:
            return
        del self._before[thread_id]
        await closed(
            self._db.execute(
                "UPDATE benchai_threads SET updated = ?, stop_reason = ? WHERE thread_id = ?",
                (time.time(), stop_reason, thread_id),
            )
        )

    async def take_back(self, thread_id: str) -> None:
        """Leave a thread as it was before the run that ``begin`` noted: it could not begin."""
        before = self._before.pop(thread_id)
        if before is not None:
            await closed(
                self._db.execute(
                    "UPDATE benchai_threads SET updated = ?, stop_reason = ? WHERE thread_id = ?",
                    (before.updated, before.stop_reason, thread_id),
                )
            )

    async def messages(self, thread_id: str) -> list[AnyMessage]:
        """The conversation of a thread.

        Raises:
            UnknownThread: there is none of that id.
        """
        await self.get(thread_id)
        found = await self.saver.aget_tuple({"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}})
        values: dict[str, Any] = found.checkpoint["channel_values"] if found else {}
        return list(values.get("messages", []))

    async def check_checkpoint(self, thread_id: str, checkpoint_id: str) -> None:
        """Make sure that a thread has a checkpoint.

        Raises:
            UnknownThread: there is no such thread.
            UsageError: it has no checkpoint of that id.
        """
        points = [point.checkpoint_id for point in await self.history(thread_id)]
        if checkpoint_id not in points:
            hint = did_you_mean(checkpoint_id, points) if len(points) < 4 else f"benchai threads show {thread_id}"
            raise UsageError(f"the thread {thread_id!r} has no checkpoint {checkpoint_id!r}", hint=hint)

    async def delete(self, thread_id: str) -> None:
        """Delete a thread with all its checkpoints.

        Raises:
            UnknownThread: there is none of that id.
            UsageError: a run is under way on it.
        """
        await self.get(thread_id)
        with self.lock(thread_id):
            await self.saver.adelete_thread(thread_id)
            for table in _OURS:
                await closed(self._db.execute(f"DELETE FROM {table} WHERE thread_id = ?", (thread_id,)))  # noqa: S608
            shutil.rmtree(self.results(thread_id), ignore_errors=True)
            self._lock_file(thread_id).unlink(missing_ok=True)

    @contextmanager
    def lock(self, thread_id: str) -> Iterator[None]:
        """The right to run on a thread: two runs at once would silently lose one's messages.

        Raises:
            UsageError: another run has it, in this process or another.
        """
        file = self._lock_file(thread_id)
        file.parent.mkdir(exist_ok=True)
        lock = FileLock(file)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            hint = "wait for it, or leave --thread out to begin a new one"
            raise UsageError(f"a run is under way on the thread {thread_id!r}", hint=hint) from error
        try:
            yield
        finally:
            lock.release()

    def _lock_file(self, thread_id: str) -> Path:
        return self._folder / "locks" / f"{_file_name(thread_id)}.lock"

    def results(self, thread_id: str) -> Path:
        """Where results of tools that were too long for the model are kept; made when the first is."""
        return self._folder / "results" / _file_name(thread_id)

    def journal(self, thread_id: str) -> Calls:
        """The calls with side effects of a thread."""
        return Calls(self._db, thread_id)

    async def keep_events(self, thread_id: str, run_id: str, found: Sequence[Event], resumed: bool = False) -> None:
        """Keep events of a run with its thread; ``resumed`` tells that the run goes on with the one before it."""
        row = self.event_row(thread_id, run_id, resumed)
        await closed(self._db.executemany(KEEP_EVENT, [row(event) for event in found]))

    def event_row(self, thread_id: str, run_id: str, resumed: bool = False) -> Callable[[Event], tuple[str, str, str]]:
        """Makes the row of an event, for ``KEEP_EVENT``."""
        return lambda event: (thread_id, run_id, _kept(event, resumed))

    async def events(self, thread_id: str) -> list[dict[str, Any]]:
        """The events of all runs of a thread as plain data, in their order, each with its ``run_id``.

        Raises:
            UnknownThread: there is none of that id.
        """
        await self.get(thread_id)
        rows = await self._db.execute_fetchall(
            "SELECT run_id, event FROM benchai_events WHERE thread_id = ? ORDER BY id", (thread_id,)
        )
        return [json.loads(event) | {"run_id": run_id} for run_id, event in rows]

    async def history(self, thread_id: str, *, nested: bool = False) -> list[Point]:
        """The checkpoints of a thread, the oldest first; with ``nested`` those of runs inside its nodes, too.

        Raises:
            UnknownThread: there is none of that id.
        """
        await self.get(thread_id)
        config: RunnableConfig = {"configurable": {"thread_id": thread_id} | ({} if nested else {"checkpoint_ns": ""})}
        return points_of([one async for one in self.saver.alist(config)])


def _kept(event: Event, resumed: bool) -> str:
    data = event.as_json() | ({"resumed": True} if resumed and isinstance(event, RunStarted) else {})
    return json.dumps(data, ensure_ascii=False, default=str)


def _file_name(thread_id: str) -> str:
    return hashlib.sha256(thread_id.encode()).hexdigest()[:32]


@asynccontextmanager
async def open_threads(file: Path, durable: Durable = "normal") -> AsyncIterator[ThreadStore]:
    """Open the threads in a SQLite file; it is made where it is not there.

    Args:
        file: The database.
        durable: What a power loss may cost; see ``saver.Durable``.

    Raises:
        BenchAIError: the file cannot be made or opened, or is no SQLite database.
    """
    async with AsyncExitStack() as stack:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            # each statement commits itself: a transaction that waited for the event loop would hold the saver up,
            # and with it the loop
            opening = aiosqlite.connect(file, timeout=BUSY_SECONDS, isolation_level=None)
            connection = await stack.enter_async_context(opening)
            saver = stack.enter_context(open_saver(file, durable))
            await connection.executescript(_TABLES + journal.TABLE)
        except (OSError, sqlite3.Error) as error:
            hint = "check its folder's permissions, move the file away if it is damaged, or set BENCHAI_HOME"
            raise BenchAIError(f"the threads in {str(file)!r} cannot be opened: {error}", hint=hint) from error
        yield ThreadStore(connection, saver, file.parent)
