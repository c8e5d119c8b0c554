"""PostgreSQL as the database of the threads (``threads.url``); needs ``pip install 'benchai[postgres]'``.

One connection serves a store: its checkpoints, its rows, and the locks on its threads, which are advisory locks of the
session. A lock that is lost with the connection takes the writes of its run with it, and when a process dies the server
frees its locks.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row, tuple_row

from benchai.errors import ThreadsError
from benchai.graphs.database import InUse, Row
from benchai.graphs.postgres_holder import is_another_alive, own_name
from benchai.graphs.postgres_link import Connection, Link, reason_of
from benchai.graphs.postgres_saver import PostgresSaver, in_postgres
from benchai.graphs.saver import Durable

TABLES = b"""
CREATE TABLE IF NOT EXISTS benchai_threads (
    thread_id TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    title TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    updated DOUBLE PRECISION NOT NULL,
    stop_reason TEXT
);
CREATE TABLE IF NOT EXISTS benchai_calls (
    thread_id TEXT NOT NULL,
    call_id TEXT NOT NULL,
    began DOUBLE PRECISION NOT NULL,
    ok BOOLEAN,
    result TEXT,
    PRIMARY KEY (thread_id, call_id)
);
CREATE TABLE IF NOT EXISTS benchai_events (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    thread_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    event TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS benchai_events_by_thread ON benchai_events (thread_id, id);
"""
LAST_TABLE = "benchai_events_by_thread"
# a dead network is noticed within a minute, by the client and by the server that holds its locks
CLIENT = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
SERVER = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
# seconds: the server takes a moment to notice that the holder of a lock was killed
PATIENCE = 2.0
SETUP_PATIENCE = 30.0
POLL = 0.05
SETUP = "benchai: tables"
# what psycopg says of a lost connection is in the error that follows: it goes to who listens, not to the terminal
logging.getLogger("psycopg").addHandler(logging.NullHandler())


class PostgresDatabase:
    """A PostgreSQL database, on one connection."""

    writes = (
        "checkpoint_writes",
        "checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path",
    )

    def __init__(self, saver: PostgresSaver) -> None:
        self.saver = saver
        self.riders = saver.riders
        self._link = saver.link

    async def read(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows that a query finds."""
        return await self._link.do(lambda: self._run(statement, values))

    async def write(self, thread_id: str, statement: str, values: Sequence[Any]) -> None:
        """Run a statement about one thread; it commits itself."""
        await self._link.do(lambda: self._run(statement, values), thread_id)

    async def _run(self, statement: str, values: Sequence[Any]) -> list[Row]:
        async with self._link.connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(in_postgres(statement), [_storable(value) for value in values])
            return await cursor.fetchall() if cursor.description else []

    async def flush(self) -> None:
        """Keep what the riders have, without a checkpoint."""
        await self.saver.flush()

    @asynccontextmanager
    async def hold(self, thread_id: str) -> AsyncIterator[None]:
        """The sole right to a thread: an advisory lock, which the server ends with the connection.

        Raises:
            InUse: another has it.
        """
        held = self._link.held
        # the server gives a lock to the session that has it as often as it asks
        if thread_id in held:
            raise InUse
        held[thread_id] = None
        try:
            held[thread_id] = await self._taken(thread_id, 0)
            if held[thread_id] is None and not is_another_alive(await self._holder(thread_id)):
                held[thread_id] = await self._taken(thread_id, PATIENCE)
            if held[thread_id] is None:
                raise InUse
            yield
        finally:
            lock = held.pop(thread_id)
            await asyncio.shield(self._give_back(thread_id, lock))

    async def _taken(self, name: str, patience: float) -> Connection | None:
        """The connection that has a lock now; None where another keeps it for so many seconds."""

        async def attempt() -> Connection | None:
            [[taken]] = await self._run("SELECT pg_try_advisory_lock(?)", (_key(name),))
            return self._link.connection if taken else None

        deadline = time.monotonic() + patience
        # the server tells nobody when a lock is free, short of waiting in its line
        while (taken := await self._link.do(attempt)) is None and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL)
        return taken

    async def _give_back(self, name: str, lock: Connection | None) -> None:
        # one that was lost with its connection is free
        if lock in (None, self._link.connection) and not self._link.connection.closed:
            with suppress(ThreadsError):
                await self.read("SELECT pg_advisory_unlock(?)", (_key(name),))

    async def held(self, thread_id: str) -> bool:
        """Whether anybody holds a thread."""
        return await self._holder(thread_id) is not None

    async def _holder(self, thread_id: str) -> str | None:
        """What the session that holds a thread is called; None where nobody does."""
        key = _key(thread_id) & (2**64 - 1)
        rows = await self.read(
            "SELECT coalesce(application_name, '') FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)"
            " WHERE locktype = 'advisory' AND granted AND objsubid = 1"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND classid = ?::bigint::oid AND objid = ?::bigint::oid",
            (key >> 32, key & (2**32 - 1)),
        )
        return str(rows[0][0]) if rows else None

    async def forget(self, thread_id: str) -> None:
        """Remove the checkpoints of a thread."""
        await self.saver.adelete_thread(thread_id)

    async def set_up(self) -> None:
        """Make the tables where they are not there, or not of this version."""
        if await self._is_set_up():
            return
        # those who wait must not hold a snapshot, for which the making of an index would wait in turn
        lock = await self._taken(SETUP, SETUP_PATIENCE)
        if lock is None:
            raise ThreadsError("the tables of the threads are being made by another process", hint="try again")
        try:
            await self._link.do(self._make_tables)
        finally:
            await self._give_back(SETUP, lock)

    async def _is_set_up(self) -> bool:
        [names] = await self.read("SELECT to_regclass('checkpoint_migrations'), to_regclass(?)", (LAST_TABLE,))
        if None in names:
            return False
        [[version]] = await self.read("SELECT max(v) FROM checkpoint_migrations")
        return version is not None and int(version) >= len(self.saver.MIGRATIONS) - 1

    async def _make_tables(self) -> None:
        await self.saver.setup()
        await self._link.connection.execute(TABLES, prepare=False)


def _key(name: str) -> int:
    """The number that PostgreSQL knows a lock by."""
    return int.from_bytes(hashlib.sha256(f"benchai {name}".encode()).digest()[:8], "big", signed=True)


def _storable(value: Any) -> Any:
    """A value that PostgreSQL takes: its texts hold no NUL."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


@asynccontextmanager
async def open_postgres(url: str, password: str | None, durable: Durable) -> AsyncIterator[PostgresDatabase]:
    """Open the threads in a PostgreSQL database; the tables are made where they are not there.

    Args:
        url: The database, without a password.
        password: For its user; None leaves it to PGPASSWORD, ~/.pgpass, or what else the server asks for.
        durable: "full" waits for the server's disk where the server itself would not; see ``saver.Durable``.

    Raises:
        ThreadsError: the database cannot be reached, refuses the user, or is not kept in UTF-8.
    """

    async def connect() -> Connection:
        return await _connected(url, password, durable)

    try:
        link = Link(await connect(), connect)
    except psycopg.Error as error:
        hint = "check threads.url, the server, and the password: threads.password_env, PGPASSWORD or ~/.pgpass"
        raise ThreadsError(f"the threads in {url!r} cannot be opened: {reason_of(error)}", hint=hint) from error
    try:
        _check_encoding(link.connection, url)
        database = PostgresDatabase(PostgresSaver(link))
        await database.set_up()
        yield database
    finally:
        await link.close()


async def _connected(url: str, password: str | None, durable: Durable) -> Connection:
    secret = {"password": password} if password is not None else {}
    called = {"fallback_application_name": own_name()}
    options: dict[str, Any] = {**CLIENT, **called, **conninfo_to_dict(url), **secret, "client_encoding": "utf8"}
    connection = await AsyncConnection.connect(**options, autocommit=True, prepare_threshold=0, row_factory=dict_row)
    try:
        for name, value in SERVER.items():
            await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        if durable == "full":
            await connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') IN ('off', 'local')"
            )
    except BaseException:
        await connection.close()
        raise
    return connection


def _check_encoding(connection: Connection, url: str) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        hint = "create it anew: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
        raise ThreadsError(f"the database {url!r} is kept in {encoding}, which does not hold every text", hint=hint)
