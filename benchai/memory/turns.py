"""What was said, verbatim: the turns of threads, each found by its words and those of its neighbours."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from benchai.memory.database import Database, marks
from benchai.memory.ids import number_of, unknown
from benchai.memory.namespace import Namespace
from benchai.memory.types import Value

Role = Literal["system", "user", "assistant", "tool"]
#: Characters of a passage of a turn, at most.
LONGEST = 1_200
_COLUMNS = "id, ns, thread, run, role, name, text, at"
# dates must be found whatever the language of the machine is
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)


def storable(text: str) -> str:
    """A text as SQLite can keep it: half a surrogate pair, which no file can hold, becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


Text = Annotated[str, AfterValidator(storable)]


class Said(Value):
    """A turn to be kept.

    Attributes:
        role: Who spoke, to the model.
        name: Who spoke, to people; "" for no other than the role.
        at: When, seconds since 1970; default: now.
    """

    role: Role
    text: Text
    name: Text = ""
    at: float | None = Field(None, ge=0, lt=1e11, allow_inf_nan=False)


class Turn(Value):
    """A turn that is kept.

    Attributes:
        id: ``t`` and a number; later turns have higher ones, whatever the clock said.
        at: When it was said, seconds since 1970.
    """

    id: str
    namespace: str
    thread: str
    run: str
    role: str
    name: str
    text: str
    at: float


class Thread(Value):
    """A thread that has turns: how many, their bytes (UTF-8) together, first and last time (seconds since 1970)."""

    thread: str
    namespace: str
    turns: int
    size: int
    first: float
    last: float


class Turns:
    """Turns of all namespaces; each call names one, writes there, and sees what is visible from there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, ns: Namespace, thread: str, run: str, turns: Sequence[Said]) -> list[int]:
        """Keep the turns of a run, from its first on; those that are kept are not kept twice. Their numbers.

        Raises:
            StoreFull: the disk is full; none of them is kept.
            StoreError: they can't be written.
        """
        thread, run = storable(thread), storable(run)
        with self._database.writing() as connection:
            number = self._database.number(ns)
            numbers = _known(_of_run(connection, number, thread, run), turns)
            added = [place for place, known in enumerate(numbers) if known == 0]
            for place in added:
                numbers[place] = self._add(number, thread, run, turns[place])
            if added:
                refresh(connection, number, thread, numbers[added[0]], numbers[added[-1]])
            return numbers

    def turns_of(self, ns: Namespace, thread: str) -> list[Turn]:
        """The turns of a thread, in the order in which they were said.

        Raises:
            StoreError: the file can't be read.
        """
        with self._database.looking() as connection:
            visible = self._database.visible(ns)
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM turns WHERE ns IN ({marks(visible)}) AND thread = ? ORDER BY id",  # noqa: S608
                (*visible, storable(thread)),
            )
            return [turn(self._database, row) for row in rows]

    def show(self, ns: Namespace, id: str) -> Turn:
        """One turn.

        Raises:
            UnknownMemory: the call sees no such turn.
            StoreError: the file can't be read.
        """
        with self._database.looking():
            found = read_turns(self._database, ns, [number_of(id, "t")])
        if not found:
            raise unknown(id)
        return found[0]

    def threads(self, ns: Namespace) -> list[Thread]:
        """The threads that a call sees, the last one that was spoken in first.

        Raises:
            StoreError: the file can't be read.
        """
        with self._database.looking() as connection:
            visible = self._database.visible(ns)
            rows = connection.execute(
                "SELECT thread, ns, count(*), sum(length(CAST(text AS BLOB))), min(at), max(at) FROM turns "  # noqa: S608
                f"WHERE ns IN ({marks(visible)}) GROUP BY thread, ns ORDER BY max(id) DESC",
                visible,
            )
            return [
                Thread(
                    thread=thread,
                    namespace=self._database.name(number),
                    turns=count,
                    size=size,
                    first=first,
                    last=last,
                )
                for thread, number, count, size, first, last in rows
            ]

    def _add(self, ns: int, thread: str, run: str, said: Said) -> int:
        now = self._database.now()
        return add_turn(self._database.connection, ns, thread, run, said, now if said.at is None else said.at)


def add_turn(connection: sqlite3.Connection, ns: int, thread: str, run: str, said: Said, at: float) -> int:
    """Keep a turn and its passages, which ``refresh`` has yet to give their context."""
    row = connection.execute(
        "INSERT INTO turns (ns, thread, run, role, name, text, at) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (ns, thread, run, said.role, said.name, said.text, at),
    ).fetchone()
    heading = f"{said.name or said.role}, {date_in_words(at)}"
    connection.executemany(
        "INSERT INTO passages (ns, kind, owner, place, text, heading, at) VALUES (?, 'turn', ?, ?, ?, ?, ?)",
        [(ns, row[0], place, part, heading, at) for place, part in enumerate(parts(said.text))],
    )
    return int(row[0])


def refresh(connection: sqlite3.Connection, ns: int, thread: str, first: int, last: int) -> None:
    """Give the passages of turns, and the neighbours of these, their context: the texts before and behind each."""
    asked = (
        "SELECT p.id, p.text, p.context FROM turns t JOIN passages p ON p.kind = 'turn' AND p.owner = t.id "
        "WHERE t.ns = ? AND t.thread = ? AND t.id "
    )
    before = connection.execute(f"{asked} < ? ORDER BY t.id DESC, p.place DESC LIMIT 2", (ns, thread, first)).fetchall()
    among = connection.execute(f"{asked} BETWEEN ? AND ? ORDER BY t.id, p.place", (ns, thread, first, last)).fetchall()
    behind = connection.execute(f"{asked} > ? ORDER BY t.id, p.place LIMIT 2", (ns, thread, last)).fetchall()
    line = [*before[::-1], *among, *behind]
    begin, end = (1 if len(before) == 2 else 0), len(line) - (1 if len(behind) == 2 else 0)
    for place in range(begin, end):
        number, _, kept = line[place]
        context = "\n".join(text for _, text, _ in (*line[max(place - 1, 0) : place], *line[place + 1 : place + 2]))
        if context != kept:
            connection.execute("UPDATE passages SET context = ? WHERE id = ?", (context, number))


def read_turns(database: Database, ns: Namespace, numbers: Sequence[int]) -> list[Turn]:
    """Those of the turns that a call sees, in order; within ``looking`` or ``writing``."""
    visible, found = database.visible(ns), []
    for begin in range(0, len(numbers), 500):
        part = list(numbers[begin : begin + 500])
        found += database.connection.execute(
            f"SELECT {_COLUMNS} FROM turns WHERE id IN ({marks(part)}) AND ns IN ({marks(visible)})",  # noqa: S608
            (*part, *visible),
        ).fetchall()
    return [turn(database, row) for row in sorted(found)]


def turn(database: Database, row: tuple[Any, ...]) -> Turn:
    """A turn from its row."""
    number, ns, thread, run, role, name, text, at = row
    return Turn(
        id=f"t{number}", namespace=database.name(ns), thread=thread, run=run, role=role, name=name, text=text, at=at
    )


def date_in_words(at: float) -> str:
    """A day as people write it, in the time zone of the machine: ``Monday 8 May 2023``."""
    day = datetime.fromtimestamp(at).astimezone()
    return f"{_DAYS[day.weekday()]} {day.day} {_MONTHS[day.month - 1]} {day.year}"


def parts(text: str, longest: int = LONGEST) -> list[str]:
    """A text in parts of at most so many characters, cut between paragraphs, else lines, sentences, words."""
    found: list[str] = []
    left = text.strip()
    while len(left) > longest:
        at = _cut_at(left, longest)
        found.append(left[:at].rstrip())
        left = left[at:].lstrip()
    return [*found, left] if left else found


def _cut_at(text: str, longest: int) -> int:
    for end in ("\n\n", "\n", ". ", " "):
        # a part of a few words says too little
        at = text.rfind(end, longest // 4, longest)
        if at > 0:
            return at + len(end)
    return longest


def _of_run(connection: sqlite3.Connection, ns: int, thread: str, run: str) -> list[tuple[int, str, str, str]]:
    return connection.execute(
        "SELECT id, role, name, text FROM turns WHERE ns = ? AND run = ? AND thread = ? ORDER BY id", (ns, run, thread)
    ).fetchall()


def _known(kept: Sequence[tuple[int, str, str, str]], turns: Sequence[Said]) -> list[int]:
    """The numbers of turns that are kept, each found behind the one before it; 0 for a new one."""
    numbers, begin = [], 0
    for said in turns:
        wanted = (said.role, said.name, said.text)
        place = next((place for place in range(begin, len(kept)) if kept[place][1:] == wanted), None)
        numbers.append(0 if place is None else kept[place][0])
        begin = begin if place is None else place + 1
    return numbers
