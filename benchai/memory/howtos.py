"""How-tos: steps by which a task was done. The same task done again makes its how-to surer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from benchai.memory.database import Database, marks
from benchai.memory.facts import sources_of
from benchai.memory.ids import number_of, unknown
from benchai.memory.namespace import Namespace
from benchai.memory.relations import value_key
from benchai.memory.turns import Text, parts, read_turns
from benchai.memory.types import Value

_COLUMNS = "id, ns, task, steps, workflow, successes, at"


class Howto(Value):
    """A how-to that is kept.

    Attributes:
        steps: What was done, in order, the last time it worked.
        successes: How often it worked.
        at: When it was learned first, seconds since 1970.
        sources: Ids of the turns that it was learned from.
    """

    id: str
    namespace: str
    task: str
    steps: tuple[str, ...]
    workflow: str
    successes: int
    at: float
    sources: tuple[str, ...] = ()


class Worked(Value):
    """What a workflow did with success, to be kept."""

    task: Annotated[Text, Field(min_length=1, max_length=4_000)]
    steps: Annotated[tuple[Annotated[Text, Field(min_length=1, max_length=4_000)], ...], Field(min_length=1)]
    workflow: Annotated[Text, Field(min_length=1, max_length=200)]


class Howtos:
    """How-tos of all namespaces; each call names one, writes there, and sees what is visible from there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def learned(
        self, ns: Namespace, task: str, steps: Sequence[str], workflow: str, sources: Sequence[int] = ()
    ) -> Howto:
        """Keep what worked; of the same task (case, white space and full stop aside) the latest steps stay.

        Raises:
            UnknownMemory: the call does not see one of the sources.
            StoreFull: the disk is full; nothing is kept.
            StoreError: it can't be written.
        """
        worked = Worked(task=task.strip(), steps=tuple(steps), workflow=workflow)
        with self._database.writing() as connection:
            seen = {turn.id for turn in read_turns(self._database, ns, sources)}
            for missing in [source for source in sources if f"t{source}" not in seen]:
                raise unknown(f"t{missing}")
            number = self._keep(self._database.number(ns), worked)
            connection.executemany(
                "INSERT OR IGNORE INTO derived (kind, child, turn) VALUES ('howto', ?, ?)",
                [(number, source) for source in sources],
            )
            return self._read("id = ?", (number,))[0]

    def show(self, ns: Namespace, id: str) -> Howto:
        """One how-to.

        Raises:
            UnknownMemory: the call sees no such how-to.
            StoreError: the file can't be read.
        """
        with self._database.looking():
            visible = self._database.visible(ns)
            found = self._read(f"id = ? AND ns IN ({marks(visible)})", (number_of(id, "h"), *visible))
        if not found:
            raise unknown(id)
        return found[0]

    def all(self, ns: Namespace) -> list[Howto]:
        """The how-tos that a call sees, oldest first.

        Raises:
            StoreError: the file can't be read.
        """
        with self._database.looking():
            visible = self._database.visible(ns)
            return self._read(f"ns IN ({marks(visible)})", visible)

    def _keep(self, ns: int, worked: Worked) -> int:
        connection, steps = self._database.connection, written(worked.steps)
        row = connection.execute(
            "SELECT id, steps, task FROM howtos WHERE ns = ? AND key = ? AND workflow = ?",
            (ns, value_key(worked.task), worked.workflow),
        ).fetchone()
        if row is None:
            number = add_howto(connection, ns, worked, 1, self._database.now())
        else:
            number = int(row[0])
            changed = "UPDATE howtos SET successes = successes + 1, task = ?, steps = ? WHERE id = ?"
            connection.execute(changed, (worked.task, steps, number))
        if row is None or row[1:] != (steps, worked.task):
            connection.execute("DELETE FROM passages WHERE kind = 'howto' AND owner = ?", (number,))
            add_passages(connection, ns, number, worked, self._database.now())
        return number

    def _read(self, condition: str, values: Sequence[Any]) -> list[Howto]:
        rows = self._database.connection.execute(
            f"SELECT {_COLUMNS} FROM howtos WHERE {condition} ORDER BY id",  # noqa: S608 - question marks
            values,
        ).fetchall()
        return [
            Howto(
                id=f"h{number}",
                namespace=self._database.name(ns),
                task=task,
                steps=tuple(json.loads(steps)),
                workflow=workflow,
                successes=successes,
                at=at,
                sources=sources_of(self._database.connection, "howto", number),
            )
            for number, ns, task, steps, workflow, successes, at in rows
        ]


def written(steps: Sequence[str]) -> str:
    """Steps as the table keeps them."""
    return json.dumps(list(steps), ensure_ascii=False)


def add_howto(connection: Any, ns: int, worked: Worked, successes: int, at: float) -> int:
    """Keep a how-to, whose passages are yet to be added."""
    row = connection.execute(
        "INSERT INTO howtos (ns, task, steps, workflow, successes, key, at) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (ns, worked.task, written(worked.steps), worked.workflow, successes, value_key(worked.task), at),
    ).fetchone()
    return int(row[0])


def add_passages(connection: Any, ns: int, number: int, worked: Worked, at: float) -> None:
    """Make a how-to be found: its steps, each part below the task."""
    steps = "\n".join(f"{place}. {step}" for place, step in enumerate(worked.steps, 1))
    connection.executemany(
        "INSERT INTO passages (ns, kind, owner, place, text, title, heading, at) VALUES (?, 'howto', ?, ?, ?, ?, ?, ?)",
        [
            (ns, number, place, part, worked.task, f"how-to, {worked.workflow}", at)
            for place, part in enumerate(parts(f"{worked.task}\n{steps}"))
        ],
    )
