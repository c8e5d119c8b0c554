"""Notes that a passage answers a question, or does not: what the weights of the legs are learned from."""

from __future__ import annotations

import sqlite3

from benchai.memory.database import Database, marks
from benchai.memory.ids import number_of, unknown
from benchai.memory.namespace import Namespace


def label(database: Database, ns: Namespace, query: str, passage: str, *, good: bool) -> None:
    """Keep such a note, in place of an earlier one on the same.

    Raises:
        UnknownMemory: the call sees no such passage.
        StoreError: it can't be written.
    """
    with database.writing() as connection:
        number, visible = number_of(passage, "p"), database.visible(ns)
        asked = f"SELECT 1 FROM passages WHERE id = ? AND ns IN ({marks(visible)})"  # noqa: S608 - question marks
        if connection.execute(asked, (number, *visible)).fetchone() is None:
            raise unknown(passage)
        _replace(connection, database.number(ns), query, number, good, database.now())


def keep_label(connection: sqlite3.Connection, ns: int, query: str, passage: int, good: bool, at: float) -> bool:
    """Keep a note of another time (seconds since 1970), unless there is one that is as new; within ``writing``."""
    asked = "SELECT 1 FROM labels WHERE ns = ? AND query = ? AND passage = ? AND at >= ?"
    if connection.execute(asked, (ns, query, passage, at)).fetchone() is not None:
        return False
    _replace(connection, ns, query, passage, good, at)
    return True


def _replace(connection: sqlite3.Connection, ns: int, query: str, passage: int, good: bool, at: float) -> None:
    connection.execute("DELETE FROM labels WHERE ns = ? AND query = ? AND passage = ?", (ns, query, passage))
    connection.execute(
        "INSERT INTO labels (ns, query, passage, good, at) VALUES (?, ?, ?, ?, ?)", (ns, query, passage, good, at)
    )
