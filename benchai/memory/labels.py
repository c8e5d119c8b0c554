"""Notes that a passage answers a question, or does not: what the weights of the legs are learned from."""

from __future__ import annotations

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
        own = database.number(ns)
        connection.execute("DELETE FROM labels WHERE ns = ? AND query = ? AND passage = ?", (own, query, number))
        connection.execute(
            "INSERT INTO labels (ns, query, passage, good, at) VALUES (?, ?, ?, ?, ?)",
            (own, query, number, good, database.now()),
        )
