"""The checkpointer: LangGraph's SQLite saver, used from the event loop without a hop to a thread for each write.

A write takes about a tenth of a millisecond in WAL mode. Where another process holds the database longer than
``PATIENCE``, the write waits in a thread instead.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

#: "normal": a write survives the death of the process at once, a power loss may cost the last ones; "full": nothing.
Durable = Literal["normal", "full"]
KEEP_EVENT = "INSERT INTO benchai_events (thread_id, run_id, event) VALUES (?, ?, ?)"
PATIENCE_MS = 50
BUSY_MS = 30_000
T = TypeVar("T")


class Rider(Protocol):
    """Events that are kept in the transactions of checkpoints, so that they cost none of their own."""

    def rows(self) -> Sequence[tuple[str, str, str]]:
        """The rows that wait, for ``KEEP_EVENT``."""
        ...

    def written(self, count: int) -> None:
        """The transaction of the first so many of them is through."""
        ...


class LoopSqliteSaver(SqliteSaver):
    """A SQLite saver for one event loop; its connection may be used from any thread, one at a time."""

    def __init__(self, conn: sqlite3.Connection, *, serde: SerializerProtocol | None = None) -> None:
        super().__init__(conn, serde=serde)
        self.riders: list[Rider] = []
        # while a write waits in a thread, the loop must not wait for the saver's own lock
        self._one_at_a_time = asyncio.Lock()

    @contextmanager
    def cursor(self, transaction: bool = True) -> Iterator[sqlite3.Cursor]:
        """A cursor; the riders' rows go with its transaction."""
        riding: list[tuple[Rider, Sequence[tuple[str, str, str]]]] = []
        with super().cursor(transaction) as cursor:
            yield cursor
            if transaction:
                riding = [(rider, rows) for rider in self.riders if (rows := rider.rows())]
            for _, rows in riding:
                cursor.executemany(KEEP_EVENT, rows)
        for rider, rows in riding:
            rider.written(len(rows))

    async def flush(self) -> None:
        """Keep what the riders have, without a checkpoint."""
        await self._do(self._flush)

    def _flush(self) -> None:
        with self.cursor():
            pass

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that a config names, or the thread's last."""
        return await self._do(lambda: self.get_tuple(config))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, the newest first."""
        for found in await self._do(lambda: list(self.list(config, filter=filter, before=before, limit=limit))):
            yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint."""
        return await self._do(lambda: self.put(config, checkpoint, metadata, new_versions))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a node wrote before its step is whole."""
        await self._do(lambda: self.put_writes(config, writes, task_id, task_path))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Leave threads their last state alone: its checkpoint, and those of the nested runs that it waits for.

        Raises:
            NotImplementedError: a state is kept as differences from those before it, or the strategy is another one.
        """
        if strategy != "keep_latest":
            raise NotImplementedError(strategy)
        for thread_id in thread_ids:
            await self._do(partial(self._keep_latest, thread_id))

    def _keep_latest(self, thread_id: str) -> None:
        query = "SELECT checkpoint_ns, max(checkpoint_id), metadata FROM checkpoints WHERE thread_id = ? GROUP BY 1"
        with self.cursor() as cursor:
            heads = {name: (last, json.loads(found)) for name, last, found in cursor.execute(query, (thread_id,))}
            if any("counters_since_delta_snapshot" in metadata for _, metadata in heads.values()):
                raise NotImplementedError("DeltaChannel")
            root = heads.get("", ("",))[0]
            for name, (last, metadata) in heads.items():
                # a nested run belongs to the checkpoint that it began at
                over = ":" in name and metadata.get("parents", {}).get("") != root
                kept = "" if over else last
                for table in ("checkpoints", "writes"):
                    delete = f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id <> ?"  # noqa: S608
                    cursor.execute(delete, (thread_id, name, kept))
            cursor.execute("UPDATE checkpoints SET parent_checkpoint_id = NULL WHERE thread_id = ?", (thread_id,))

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete all checkpoints of a thread."""
        await self._do(lambda: self.delete_thread(thread_id))

    async def _do(self, work: Callable[[], T]) -> T:
        async with self._one_at_a_time:
            try:
                return work()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) and "busy" not in str(error):
                    raise
            self.conn.rollback()
            return await asyncio.to_thread(self._patiently, work)

    def _patiently(self, work: Callable[[], T]) -> T:
        with self.lock:
            self.conn.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        try:
            return work()
        finally:
            with self.lock:
                self.conn.execute(f"PRAGMA busy_timeout={PATIENCE_MS}")


@contextmanager
def open_saver(file: Path, durable: Durable = "normal") -> Iterator[LoopSqliteSaver]:
    """A saver on a SQLite file, closed with the context.

    Raises:
        sqlite3.Error: it is no database, or can't be opened.
    """
    connection = sqlite3.connect(file, timeout=BUSY_MS / 1000, check_same_thread=False)
    try:
        # nothing but known types comes back from a checkpoint, whoever imported langgraph first
        saver = LoopSqliteSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
        saver.setup()
        connection.execute(f"PRAGMA synchronous={durable.upper()}")
        connection.execute(f"PRAGMA busy_timeout={PATIENCE_MS}")
        yield saver
    finally:
        connection.close()
