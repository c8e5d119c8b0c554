"""The checkpointer on PostgreSQL: LangGraph's, on one connection that everything of a store goes through."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import DictRow

from benchai.errors import BenchAIError
from benchai.graphs.saver import KEEP_EVENT, Rider

# JSON's numbers come back as whole ones beyond this
LARGEST_FLOAT = 1e15
Connection = AsyncConnection[DictRow]
T = TypeVar("T")


def in_postgres(statement: str) -> bytes:
    """A statement with ``?`` for a value as psycopg takes it."""
    return statement.replace("?", "%s").encode()


def reason_of(error: Exception) -> str:
    """What PostgreSQL says, on one line."""
    return " ".join(str(error).split())


class PostgresSaver(AsyncPostgresSaver):
    """A PostgreSQL saver that makes its connection anew when it was lost.

    Attributes:
        riders: Whose events go with the transactions of checkpoints.
        held: The threads that this store holds, each with the connection that the lock lives on.
    """

    conn: Connection

    def __init__(self, connection: Connection, connect: Callable[[], Awaitable[Connection]]) -> None:
        # nothing but known types comes back from a checkpoint, whoever imported langgraph first
        super().__init__(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
        self.riders: list[Rider] = []
        self.held: dict[str, Connection | None] = {}
        self._connect = connect
        self._one_at_a_time = asyncio.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()

    async def do(self, work: Callable[[], Awaitable[T]], thread_id: str | None = None) -> T:
        """Do work on the connection, alone and to its end, also when the caller is cancelled meanwhile.

        Args:
            work: What to do; it is done again on a new connection if the old one was lost.
            thread_id: The thread that it is about; nothing is done if this store held it on a connection that was lost.

        Raises:
            BenchAIError: the database refuses it, or is gone.
        """
        task = asyncio.create_task(self._done(work, thread_id))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        try:
            return await asyncio.shield(task)
        except psycopg.Error as error:
            hint = "check that the server of threads.url is up; benchai run --resume goes on with a run that ended so"
            raise BenchAIError(f"the database of the threads failed: {reason_of(error)}", hint=hint) from error

    async def _done(self, work: Callable[[], Awaitable[T]], thread_id: str | None) -> T:
        async with self._one_at_a_time:
            lock = self.held.get(thread_id) if thread_id is not None else None
            if lock not in (None, self.conn):
                raise psycopg.OperationalError("the connection was lost, and with it the right to run on the thread")
            try:
                return await work()
            except psycopg.OperationalError:
                if lock is not None or not self.conn.closed:
                    raise
            lost, self.conn = self.conn, await self._connect()
            # psycopg complains of one that was never closed by us
            await lost.close()
            return await work()

    async def close(self) -> None:
        """Wait for what is under way, and close the connection: its locks end."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self.conn.close()

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        """A cursor; the riders' rows go with its transaction, which is one trip to the server."""
        riding: list[tuple[Rider, Sequence[tuple[str, str, str]]]] = []
        async with super()._cursor(pipeline=pipeline) as cursor:
            yield cursor
            if pipeline:
                riding = [(rider, rows) for rider in self.riders if (rows := rider.rows())]
            for _, rows in riding:
                await cursor.executemany(in_postgres(KEEP_EVENT), rows)
        for rider, rows in riding:
            rider.written(len(rows))

    async def flush(self) -> None:
        """Keep what the riders have, without a checkpoint."""
        await self.do(self._flush)

    async def _flush(self) -> None:
        async with self._cursor(pipeline=True):
            pass

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that a config names, or the thread's last."""
        above = super().aget_tuple
        return await self.do(lambda: above(config))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, the newest first."""
        above = super().alist

        async def listed() -> list[CheckpointTuple]:
            return [one async for one in above(config, filter=filter, before=before, limit=limit)]

        for found in await self.do(listed):
            yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint."""
        above = super().aput
        values = {name: _boxed(value) for name, value in checkpoint["channel_values"].items()}
        whole: Checkpoint = {**checkpoint, "channel_values": values}
        return await self.do(lambda: above(config, whole, metadata, new_versions), _thread(config))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a node wrote before its step is whole."""
        above = super().aput_writes
        await self.do(lambda: above(config, writes, task_id, task_path), _thread(config))

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete all checkpoints of a thread."""
        above = super().adelete_thread
        await self.do(lambda: above(thread_id), thread_id)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What was written to channels that keep differences."""
        above = super().aget_delta_channel_history
        return await self.do(lambda: above(config=config, channels=channels))

    def _dump_blobs(
        self, thread_id: str, checkpoint_ns: str, values: dict[str, Any], versions: ChannelVersions
    ) -> list[tuple[str, str, str, str, str, bytes | None]]:
        plain = {name: value.value if isinstance(value, _Boxed) else value for name, value in values.items()}
        return super()._dump_blobs(thread_id, checkpoint_ns, plain, versions)


@dataclass(frozen=True)
class _Boxed:
    """A value that is kept through the serializer: PostgreSQL's JSON would refuse or change it."""

    value: Any


def _boxed(value: Any) -> Any:
    if isinstance(value, str):
        return value if type(value) is str and "\0" not in value and _encodable(value) else _Boxed(value)
    if isinstance(value, float):
        return value if math.isfinite(value) and abs(value) < LARGEST_FLOAT else _Boxed(value)
    return value


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _thread(config: RunnableConfig) -> str:
    return str(config["configurable"]["thread_id"])
