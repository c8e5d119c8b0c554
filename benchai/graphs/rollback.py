"""What the checkpoints of a thread were before a run, so that it can be undone.

A run adds checkpoints, whose ids grow with time, and writes (decisions, what its nodes wrote) at the checkpoints that
the thread was at: those are noted as they were, and put back.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchai.graphs.database import Database


@dataclass(frozen=True)
class Base:
    """What a thread was at.

    Attributes:
        root: The id of its last checkpoint; None where it has none.
        last: That of the last of all, of nested runs too.
        heads: The last checkpoint of the run itself, and of each nested run that is under way in its step.
        writes: What was written at them: rows of the table of writes without the thread's id.
    """

    root: str | None
    last: str | None
    heads: list[str]
    writes: list[list[Any]]

    def as_json(self) -> str:
        """As it is kept."""
        writes = [[_packed(value) for value in row] for row in self.writes]
        return json.dumps({"root": self.root, "last": self.last, "heads": self.heads, "writes": writes})

    @classmethod
    def from_json(cls, text: str) -> Base:
        """See ``as_json``."""
        data = json.loads(text)
        writes = [[_unpacked(value) for value in row] for row in data["writes"]]
        return cls(data["root"], data["last"], data["heads"], writes)


def _packed(value: Any) -> Any:
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes | memoryview) else value


def _unpacked(value: Any) -> Any:
    return base64.b64decode(value["bytes"]) if isinstance(value, dict) else value


async def base_of(database: Database, thread_id: str) -> Base:
    """What a thread is at now."""
    query = "SELECT checkpoint_ns, max(checkpoint_id) FROM checkpoints WHERE thread_id = ? GROUP BY checkpoint_ns"
    found = {str(name): str(last) for name, last in await database.read(query, (thread_id,))}
    # of nested runs, those of the step that is under way: each step before has left some, too
    heads = sorted(last for name, last in found.items() if not name or last > found.get("", ""))
    table, columns = database.writes
    where = f"thread_id = ? AND checkpoint_id IN ({_marks(heads)})"
    written = f"SELECT {columns} FROM {table} WHERE {where}"  # noqa: S608 - our own names
    rows = await database.read(written, (thread_id, *heads)) if heads else []
    return Base(found.get(""), max(heads, default=None), heads, [list(row) for row in rows])


async def roll_back(database: Database, thread_id: str, base: Base) -> None:
    """Have a thread that nobody runs on be what it was; to be repeated where it breaks off."""
    table, columns = database.writes
    if base.last is None:
        await database.saver.adelete_thread(thread_id)
        return
    later = (thread_id, base.last)
    marks = _marks(base.heads)
    for statement, values in (
        ("DELETE FROM checkpoints WHERE thread_id = ? AND checkpoint_id > ?", later),
        (f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_id > ?", later),  # noqa: S608
        (f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_id IN ({marks})", (thread_id, *base.heads)),  # noqa: S608
    ):
        await database.write(thread_id, statement, values)
    insert = f"INSERT INTO {table} (thread_id, {columns}) VALUES ({_marks(['', *columns.split(',')])})"  # noqa: S608
    for row in base.writes:
        await database.write(thread_id, insert, (thread_id, *row))


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
