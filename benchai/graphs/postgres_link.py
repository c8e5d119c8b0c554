"""The way of a store to PostgreSQL: one connection that everything goes through, made anew when it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from benchai.errors import ThreadsError

Connection = AsyncConnection[DictRow]
T = TypeVar("T")


def reason_of(error: Exception) -> str:
    """What PostgreSQL says, on one line."""
    return " ".join(str(error).split())


class Link:
    """The one connection of a store, whoever uses it: LangGraph copies the checkpointer for each graph it compiles.

    Attributes:
        connection: The connection now; after a loss another takes its place.
        held: The threads that this store holds, each with the connection that the lock lives on.
    """

    def __init__(self, connection: Connection, connect: Callable[[], Awaitable[Connection]]) -> None:
        self.connection = connection
        self.held: dict[str, Connection | None] = {}
        self._connect = connect
        self._is_over = False
        self._one_at_a_time = asyncio.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()

    async def do(self, work: Callable[[], Awaitable[T]], thread_id: str | None = None) -> T:
        """Do work on the connection, alone and to its end, also when the caller is cancelled meanwhile.

        Args:
            work: What to do; it is done again on a new connection if the old one was lost.
            thread_id: The thread that it is about; nothing is done if this store held it on a connection that was lost.

        Raises:
            ThreadsError: the database refuses it, or is gone.
        """
        task = asyncio.create_task(self._done(work, thread_id))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        try:
            return await asyncio.shield(task)
        except psycopg.Error as error:
            hint = "check that the server of threads.url is up; benchai run --resume goes on with a run that ended so"
            raise ThreadsError(f"the database of the threads failed: {reason_of(error)}", hint=hint) from error

    async def _done(self, work: Callable[[], Awaitable[T]], thread_id: str | None) -> T:
        async with self._one_at_a_time:
            lock = self.held.get(thread_id) if thread_id is not None else None
            if lock not in (None, self.connection):
                raise psycopg.OperationalError("the connection was lost, and with it the right to run on the thread")
            try:
                return await work()
            except psycopg.OperationalError:
                # nobody would close one that is made when the store is closed
                if lock is not None or not self.connection.closed or self._is_over:
                    raise
            self.connection = await self._connect()
            return await work()

    async def close(self) -> None:
        """Wait for what is under way, and close the connection: its locks end."""
        try:
            await asyncio.gather(*self._under_way, return_exceptions=True)
        finally:
            self._is_over = True
            await self.connection.close()
