"""Threads: checkpoints of LangGraph in a database, and a row about each thread beside them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from benchai.config import paths
from benchai.config.threads import ThreadsConfig
from benchai.errors import ConfigError, UnknownThread, UsageError, did_you_mean, nearest
from benchai.events import Event, RunStarted
from benchai.graphs.database import Database, InUse, file_name, open_sqlite
from benchai.graphs.history import Point, points_of
from benchai.graphs.journal import Calls
from benchai.graphs.rollback import Base, base_of, roll_back
from benchai.graphs.saver import Durable, Rider

_OURS = ("benchai_threads", "benchai_calls", "benchai_events")
TITLE_CHARS = 80


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

    def __init__(self, database: Database, folder: Path) -> None:
        self._db = database
        self._folder = folder
        self._before: dict[str, Thread | None] = {}

    @property
    def saver(self) -> BaseCheckpointSaver[Any]:
        """LangGraph's checkpointer."""
        return self._db.saver

    @property
    def riders(self) -> list[Rider]:
        """The runs whose events are kept with the next checkpoint."""
        return self._db.riders

    async def flush(self) -> None:
        """Keep the events that wait, without a checkpoint."""
        await self._db.flush()

    async def threads(self) -> list[Thread]:
        """All threads, the one used last first."""
        rows = await self._db.read("SELECT * FROM benchai_threads ORDER BY updated DESC, thread_id")
        return [Thread(*row) for row in rows]

    async def state_of(self, thread: Thread) -> str:
        """How the last run on a thread ended: "running" while one is under way, "interrupted" after a kill."""
        if thread.stop_reason is not None:
            return thread.stop_reason
        return "running" if await self._db.held(thread.thread_id) else "interrupted"

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
        rows = await self._db.read("SELECT * FROM benchai_threads WHERE thread_id = ?", (thread_id,))
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
        await self._db.write(
            thread_id,
            "INSERT INTO benchai_threads VALUES (?, ?, ?, ?, ?, NULL)"
            " ON CONFLICT (thread_id) DO UPDATE SET updated = excluded.updated, stop_reason = NULL",
            (thread_id, workflow, title, now, now),
        )

    async def end(self, thread_id: str, stop_reason: str) -> None:
        """Note how the last run on a thread ended; nothing of one that was taken back."""
        if thread_id not in self._before:
            return
        del self._before[thread_id]
        await self._ended(thread_id, time.time(), stop_reason)

    async def take_back(self, thread_id: str) -> None:
        """Leave a thread as it was before the run that ``begin`` noted: it could not begin."""
        before = self._before.pop(thread_id)
        if before is not None:
            await self._ended(thread_id, before.updated, before.stop_reason)

    async def _ended(self, thread_id: str, when: float, stop_reason: str | None) -> None:
        statement = "UPDATE benchai_threads SET updated = ?, stop_reason = ? WHERE thread_id = ?"
        await self._db.write(thread_id, statement, (when, stop_reason, thread_id))

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

    async def has_checkpoint(self, thread_id: str, checkpoint_id: str) -> bool:
        """Whether a thread has a checkpoint of the run itself."""
        query = "SELECT 1 FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = '' AND checkpoint_id = ?"
        return bool(await self._db.read(query, (thread_id, checkpoint_id)))

    async def base_of(self, thread_id: str) -> Base:
        """What a thread is at, for ``roll_back``."""
        return await base_of(self._db, thread_id)

    async def roll_back(self, thread_id: str, base: Base) -> None:
        """Have a thread be as it was.

        Raises:
            UsageError: a run is under way on it.
        """
        async with self.lock(thread_id):
            await roll_back(self._db, thread_id, base)

    async def delete(self, thread_id: str) -> None:
        """Delete a thread with all its checkpoints.

        Raises:
            UnknownThread: there is none of that id.
            UsageError: a run is under way on it.
        """
        await self.get(thread_id)
        async with self.lock(thread_id):
            for table in _OURS:
                await self._db.write(thread_id, f"DELETE FROM {table} WHERE thread_id = ?", (thread_id,))  # noqa: S608
            shutil.rmtree(self.results(thread_id), ignore_errors=True)
            await self._db.forget(thread_id)

    @asynccontextmanager
    async def lock(self, thread_id: str) -> AsyncIterator[None]:
        """The right to run on a thread: two runs at once would silently lose one's messages.

        Raises:
            UsageError: another run has it, in this process or another.
        """
        try:
            async with self._db.hold(thread_id):
                yield
        except InUse as error:
            hint = "wait for it, or leave --thread out to begin a new one"
            raise UsageError(f"a run is under way on the thread {thread_id!r}", hint=hint) from error

    def results(self, thread_id: str) -> Path:
        """Where results of tools that were too long for the model are kept; made when the first is."""
        return self._folder / "results" / file_name(thread_id)

    def journal(self, thread_id: str) -> Calls:
        """The calls with side effects of a thread."""
        return Calls(self._db, thread_id)

    def event_row(self, thread_id: str, run_id: str, resumed: bool = False) -> Callable[[Event], tuple[str, str, str]]:
        """Makes the row of an event, for ``KEEP_EVENT``."""
        return lambda event: (thread_id, run_id, _kept(event, resumed))

    async def events(self, thread_id: str) -> list[dict[str, Any]]:
        """The events of all runs of a thread as plain data, in their order, each with its ``run_id``.

        Raises:
            UnknownThread: there is none of that id.
        """
        await self.get(thread_id)
        query = "SELECT run_id, event FROM benchai_events WHERE thread_id = ? ORDER BY id"
        rows = await self._db.read(query, (thread_id,))
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
    # half a surrogate pair can be in a text of others', and cannot be kept
    return json.dumps(data, ensure_ascii=False, default=str).encode("utf-8", "replace").decode()


@asynccontextmanager
async def open_threads(config: ThreadsConfig) -> AsyncIterator[ThreadStore]:
    """Open the threads where the configuration says that they are kept.

    Raises:
        ConfigError: what PostgreSQL needs is not installed, or its password is not set.
        BenchAIError: the database cannot be opened.
    """
    file = paths.threads_file()
    if config.url is None:
        async with open_sqlite(file, config.durable) as sqlite:
            yield ThreadStore(sqlite, file.parent)
        return
    open_postgres = _postgres()
    async with open_postgres(config.url, config.password(), config.durable) as postgres:
        yield ThreadStore(postgres, file.parent)


def _postgres() -> Callable[[str, str | None, Durable], AbstractAsyncContextManager[Database]]:
    """Opens a PostgreSQL database; what that needs is imported where it is used alone.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from benchai.graphs.postgres import open_postgres
    except ModuleNotFoundError as error:
        needs = f"threads.url needs the package {error.name!r}, which is not installed"
        raise ConfigError(needs, hint="pip install 'benchai[postgres]'") from error
    except ImportError as error:
        # psycopg is there, the C library that it speaks through is not
        needs = "threads.url needs libpq, PostgreSQL's client library, which is not installed"
        raise ConfigError(
            needs, hint="install it (Debian: apt install libpq5), or pip install 'psycopg[binary]'"
        ) from error
    return open_postgres
