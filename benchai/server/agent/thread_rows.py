"""The rows of threads: found, made, brought up to date."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchai.errors import UsageError
from benchai.server.agent.database import AgentDatabase, Row, from_json
from benchai.server.agent.ids import new_id
from benchai.server.agent.service import UnknownItem, check_uuid, now
from benchai.server.agent.shapes import interrupts_json, json_bytes

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

#: All but the state, which may be large.
COLUMNS = (
    "owner, thread_id, inner_id, graph_id, created, updated, state_updated, status, metadata, config, interrupts,"
    " error, hidden, expires"
)

_turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()


def inner_id(owner: str, thread_id: str) -> str:
    """A thread's id among the checkpoints, where ids of different owners must not meet."""
    return f"{thread_id}@{owner}" if owner else thread_id


def find_thread(database: AgentDatabase, owner: str, thread_id: str, *, state: bool = False) -> Row:
    """A thread of an owner; with its state where that is asked for.

    Raises:
        Unprocessable: the id is no UUID.
        UnknownItem: there is none of that id.
    """
    thread_id = check_uuid(thread_id, "thread id")
    columns = f"{COLUMNS}, state" if state else COLUMNS
    query = f"SELECT {columns} FROM threads WHERE owner = ? AND thread_id = ?"  # noqa: S608
    found = database.one(query, (owner, thread_id))
    if found is None:
        raise UnknownItem(f"there is no thread {thread_id!r}", hint="POST /threads/search lists them")
    return found


def insert_thread(
    database: AgentDatabase,
    owner: str,
    thread_id: str | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
    graph_id: str | None = None,
    expires: float | None = None,
    hidden: bool = False,
) -> Row:
    """Make a thread.

    Args:
        database: Where it is kept.
        owner: Whose it is.
        thread_id: Its id, a UUID in its usual form; default: a new one.
        metadata: Data of the client's.
        graph_id: The workflow that it belongs to; default: that of its first run.
        expires: When it is to be deleted, in seconds since the epoch.
        hidden: Whether no search finds it.

    Raises:
        sqlite3.IntegrityError: there is one of that id.
    """
    thread_id, time = thread_id or new_id(), now()
    kept = json_bytes(metadata or {}).decode()
    database.write(
        "INSERT INTO threads (owner, thread_id, inner_id, graph_id, created, updated, state_updated, metadata,"
        " expires, hidden) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (owner, thread_id, inner_id(owner, thread_id), graph_id, time, time, time, kept, expires, hidden),
    )
    return find_thread(database, owner, thread_id, state=True)


def graph_of(row: Row) -> str | None:
    """The workflow of a thread: that of its runs, else the one that its metadata name."""
    if row["graph_id"] is not None:
        return str(row["graph_id"])
    named = from_json(row["metadata"]).get("graph_id")
    return named if isinstance(named, str) else None


def needed_graph(row: Row) -> str:
    """The workflow of a thread.

    Raises:
        UsageError: it has none yet.
    """
    found = graph_of(row)
    if found is None:
        hint = "run a workflow on it, or set the key 'graph_id' of its metadata to a workflow's name"
        raise UsageError(f"the thread {row['thread_id']!r} belongs to no workflow yet", hint=hint)
    return found


def turn(inner: str) -> asyncio.Lock:
    """Whoever changes the checkpoints of a thread in this process holds this: changes and runs wait for each other."""
    return _turns.setdefault(inner, asyncio.Lock())


def is_busy(database: AgentDatabase, owner: str, thread_id: str) -> bool:
    """Whether a run waits or is worked on on a thread."""
    query = "SELECT 1 FROM runs WHERE owner = ? AND thread_id = ? AND status IN ('pending', 'running') LIMIT 1"
    return database.one(query, (owner, thread_id)) is not None


def keep_state(database: AgentDatabase, row: Row, graph_id: str, snapshot: StateSnapshot) -> None:
    """Note what a thread is at, which no run has left it at."""
    state = json_bytes(snapshot.values).decode() if snapshot.created_at is not None else None
    interrupts = json_bytes(interrupts_json(snapshot)).decode()
    status, time = "interrupted" if snapshot.next else "idle", now()
    database.write(
        "UPDATE threads SET graph_id = ?, state = ?, interrupts = ?, status = ?, error = NULL, updated = ?,"
        " state_updated = ? WHERE owner = ? AND thread_id = ?",
        (graph_id, state, interrupts, status, time, time, row["owner"], row["thread_id"]),
    )


def delete_rows(database: AgentDatabase, owner: str, thread_id: str) -> None:
    """Delete a thread's row and all that is kept of its runs."""
    runs = "SELECT run_id FROM runs WHERE owner = ? AND thread_id = ?"
    of = (owner, thread_id)
    with database.transaction():
        for table in ("events", "keys_of_requests"):
            database.write(f"DELETE FROM {table} WHERE run_id IN ({runs})", of)  # noqa: S608
        for table in ("runs", "threads"):
            database.write(f"DELETE FROM {table} WHERE owner = ? AND thread_id = ?", of)  # noqa: S608
