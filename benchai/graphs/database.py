"""What the threads need of a database, and SQLite as one: a file in the user's folder."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import aiosqlite
from filelock import FileLock, Timeout
from langgraph.checkpoint.base import BaseCheckpointSaver

from benchai.errors import ThreadsError
from benchai.graphs.saver import Durable, LoopSqliteSaver, Rider, open_saver

TABLES = """
CREATE TABLE IF NOT EXISTS benchai_threads (
    thread_id TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    title TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    stop_reason TEXT
);
CREATE TABLE IF NOT EXISTS benchai_calls (
    thread_id TEXT NOT NULL,
    call_id TEXT NOT NULL,
    began REAL NOT NULL,
    ok INTEGER,
    result TEXT,
    PRIMARY KEY (thread_id, call_id)
);
CREATE TABLE IF NOT EXISTS benchai_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    thread_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    event TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS benchai_events_by_thread ON benchai_events (thread_id, id);
"""
BUSY_SECONDS = 30
Row = tuple[Any, ...]


class InUse(Exception):
    """Another run holds the thread."""


class Database(Protocol):
    """The tables of the threads; statements are SQLite's and PostgreSQL's alike, with ``?`` for a value."""

    @property
    def saver(self) -> BaseCheckpointSaver[Any]:
        """The checkpointer on the same database."""
        ...

    @property
    def riders(self) -> list[Rider]:
        """Whose events go with the transactions of checkpoints."""
        ...

    @property
    def writes(self) -> tuple[str, str]:
        """The table in which LangGraph keeps what nodes wrote, and its columns without the thread's id."""
        ...

    async def read(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows that a query finds."""
        ...

    async def write(self, thread_id: str, statement: str, values: Sequence[Any]) -> None:
        """Run a statement about one thread; it is kept when this returns."""
        ...

    async def flush(self) -> None:
        """Keep what the riders have, without a checkpoint."""
        ...

    def hold(self, thread_id: str) -> AbstractAsyncContextManager[None]:
        """The sole right to a thread, among all processes; it ends with the process that has it.

        Raises:
            InUse: another has it.
        """
        ...

    async def held(self, thread_id: str) -> bool:
        """Whether anybody holds a thread."""
        ...

    async def forget(self, thread_id: str) -> None:
        """Remove what is kept of a thread outside the tables that ``write`` reaches."""
        ...


class SqliteDatabase:
    """A SQLite file, with a file for each lock in a folder beside it."""

    writes = ("writes", "checkpoint_ns, checkpoint_id, task_id, idx, channel, type, value")

    def __init__(self, connection: aiosqlite.Connection, saver: LoopSqliteSaver, folder: Path) -> None:
        self._db = connection
        self._folder = folder
        self.saver = saver
        self.riders = saver.riders

    async def read(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows that a query finds."""
        return [tuple(row) for row in await self._db.execute_fetchall(statement, values)]

    async def write(self, thread_id: str, statement: str, values: Sequence[Any]) -> None:
        """Run a statement; it commits itself."""
        # one hop to the connection's thread, which closes the cursor, too: the loop's would disturb the next statement
        await self._db.execute_fetchall(statement, values)

    async def flush(self) -> None:
        """Keep what the riders have, without a checkpoint."""
        await self.saver.flush()

    @asynccontextmanager
    async def hold(self, thread_id: str) -> AsyncIterator[None]:
        """The sole right to a thread: a lock on a file, which the kernel ends with its process.

        Raises:
            InUse: another has it.
        """
        file = self._lock_file(thread_id)
        file.parent.mkdir(exist_ok=True)
        lock = FileLock(file)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise InUse from error
        try:
            yield
        finally:
            lock.release()

    async def held(self, thread_id: str) -> bool:
        """Whether anybody holds a thread."""
        try:
            async with self.hold(thread_id):
                return False
        except InUse:
            return True

    async def forget(self, thread_id: str) -> None:
        """Remove the checkpoints of a thread, and the file of its lock."""
        await self.saver.adelete_thread(thread_id)
        self._lock_file(thread_id).unlink(missing_ok=True)

    def _lock_file(self, thread_id: str) -> Path:
        return self._folder / "locks" / f"{file_name(thread_id)}.lock"


def file_name(thread_id: str) -> str:
    """A name that any file system takes, for an id that may hold anything."""
    return hashlib.sha256(thread_id.encode()).hexdigest()[:32]


@asynccontextmanager
async def open_sqlite(file: Path, durable: Durable = "normal") -> AsyncIterator[SqliteDatabase]:
    """Open the threads in a SQLite file; it is made where it is not there.

    Args:
        file: The database.
        durable: What a power loss may cost; see ``saver.Durable``.

    Raises:
        ThreadsError: the file cannot be made or opened, or is no SQLite database.
    """
    async with AsyncExitStack() as stack:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            # first: a file that cannot be opened would leave the other's thread behind, which then fails aloud
            saver = stack.enter_context(open_saver(file, durable))
            # each statement commits itself: a transaction that waited for the event loop would hold the saver up,
            # and with it the loop
            opening = aiosqlite.connect(file, timeout=BUSY_SECONDS, isolation_level=None)
            connection = await stack.enter_async_context(opening)
            await connection.executescript(TABLES)
        except (OSError, sqlite3.Error) as error:
            hint = "check its folder's permissions, move the file away if it is damaged, or set BENCHAI_HOME"
            raise ThreadsError(f"the threads in {str(file)!r} cannot be opened: {error}", hint=hint) from error
        yield SqliteDatabase(connection, saver, file.parent)
