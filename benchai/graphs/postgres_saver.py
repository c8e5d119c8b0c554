"""The checkpointer on PostgreSQL: LangGraph's, on the one connection of a store."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from psycopg import AsyncCursor
from psycopg.rows import DictRow

from benchai.graphs.postgres_link import Connection, Link
from benchai.graphs.saver import KEEP_EVENT, Rider

# JSON's numbers come back as whole ones beyond this
LARGEST_FLOAT = 1e15


def in_postgres(statement: str) -> bytes:
    """A statement with ``?`` for a value as psycopg takes it."""
    return statement.replace("?", "%s").encode()


class PostgresSaver(AsyncPostgresSaver):
    """A PostgreSQL saver on the connection of a store.

    LangGraph gives each graph that it compiles a shallow copy: what changes stands in ``link`` and ``riders``, which
    the copies share.

    Attributes:
        link: The connection, and whoever waits for it.
        riders: Whose events go with the transactions of checkpoints.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        # nothing but known types comes back from a checkpoint, whoever imported langgraph first
        super().__init__(link.connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
        self.riders: list[Rider] = []

    @property
    def conn(self) -> Connection:
        """The connection now."""
        return self.link.connection

    @conn.setter
    def conn(self, connection: Connection) -> None:
        self.link.connection = connection

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
        await self.link.do(self._flush)

    async def _flush(self) -> None:
        async with self._cursor(pipeline=True):
            pass

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that a config names, or the thread's last."""
        above = super().aget_tuple
        return await self.link.do(lambda: above(config))

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

        for found in await self.link.do(listed):
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
        return await self.link.do(lambda: above(config, whole, metadata, new_versions), _thread(config))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a node wrote before its step is whole."""
        above = super().aput_writes
        await self.link.do(lambda: above(config, writes, task_id, task_path), _thread(config))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Leave threads their last state alone.

        Raises:
            NotImplementedError: a state is kept as differences from those before it.
        """
        above = super().aprune
        for thread_id in thread_ids:
            await self.link.do(partial(above, [thread_id], strategy=strategy), thread_id)

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete all checkpoints of a thread."""
        above = super().adelete_thread
        await self.link.do(lambda: above(thread_id), thread_id)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What was written to channels that keep differences."""
        if not get_checkpoint_id(config):
            # LangGraph would look for it from within the work, which has the connection alone
            last = await self.aget_tuple(config)
            if last is None:
                return {channel: {"writes": []} for channel in channels}
            config = last.config
        above = super().aget_delta_channel_history
        return await self.link.do(lambda: above(config=config, channels=channels))

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
