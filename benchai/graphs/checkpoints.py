"""Threads: checkpoints of LangGraph in one SQLite file, and a row about each thread beside them."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite
from filelock import FileLock, Timeout
from langchain_core.messages import AnyMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from benchai.errors import BenchAIError, UnknownThread, UsageError, did_you_mean

_TABLE = """
CREATE TABLE IF NOT EXISTS benchai_threads (
    thread_id TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    title TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    stop_reason TEXT
)
"""
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

    def __init__(self, connection: aiosqlite.Connection, saver: AsyncSqliteSaver, folder: Path) -> None:
        self._db = connection
        self._folder = folder
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
            hint = (
                did_you_mean(thread_id, threads) if threads else "benchai threads list shows them; there are none yet"
            )
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
        now = time.time()
        title = " ".join(task.split())[:TITLE_CHARS]
        await self._db.execute(
            "INSERT INTO benchai_threads VALUES (?, ?, ?, ?, ?, NULL)"
            " ON CONFLICT (thread_id) DO UPDATE SET updated = excluded.updated, stop_reason = NULL",
            (thread_id, workflow, title, now, now),
        )
        await self._db.commit()

    async def end(self, thread_id: str, stop_reason: str) -> None:
        """Note how the last run on a thread ended."""
        await self._db.execute(
            "UPDATE benchai_threads SET updated = ?, stop_reason = ? WHERE thread_id = ?",
            (time.time(), stop_reason, thread_id),
        )
        await self._db.commit()

    async def messages(self, thread_id: str) -> list[AnyMessage]:
        """The conversation of a thread.

        Raises:
            UnknownThread: there is none of that id.
        """
        await self.get(thread_id)
        found = await self.saver.aget_tuple({"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}})
        values: dict[str, Any] = found.checkpoint["channel_values"] if found else {}
        return list(values.get("messages", []))

    async def delete(self, thread_id: str) -> None:
        """Delete a thread with all its checkpoints.

        Raises:
            UnknownThread: there is none of that id.
            UsageError: a run is under way on it.
        """
        await self.get(thread_id)
        with self.lock(thread_id):
            await self.saver.adelete_thread(thread_id)
            await self._db.execute("DELETE FROM benchai_threads WHERE thread_id = ?", (thread_id,))
            await self._db.commit()
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
        return self._folder / "locks" / f"{hashlib.sha256(thread_id.encode()).hexdigest()[:32]}.lock"


@asynccontextmanager
async def open_threads(file: Path) -> AsyncIterator[ThreadStore]:
    """Open the threads in a SQLite file; it is made where it is not there.

    Raises:
        BenchAIError: the file cannot be made or opened, or is no SQLite database.
    """
    async with AsyncExitStack() as stack:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            connection = await stack.enter_async_context(aiosqlite.connect(file, timeout=BUSY_SECONDS))
            # whoever imported langgraph first: nothing but known types comes back from a checkpoint
            saver = AsyncSqliteSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
            await saver.setup()
            await connection.execute(_TABLE)
            await connection.commit()
        except (OSError, sqlite3.Error) as error:
            hint = "check its folder's permissions, move the file away if it is damaged, or set BENCHAI_HOME"
            raise BenchAIError(f"the threads in {str(file)!r} cannot be opened: {error}", hint=hint) from error
        yield ThreadStore(connection, saver, file.parent)
