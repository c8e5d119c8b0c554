"""What is known: facts, with sources and times. A newer one supersedes an older one, which stays as history."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from benchai.memory.database import Database, marks
from benchai.memory.ids import number_of, unknown
from benchai.memory.namespace import Namespace
from benchai.memory.relations import is_single, line_key, relation_key, says, subject_key, value_key
from benchai.memory.turns import Text, Turn, read_turns
from benchai.memory.types import Value

#: Who learned what a person wrote down.
BY_HAND = "user"
NOTE = "note"
_COLUMNS = "id, ns, subject, relation, value, text, confidence, valid_at, invalid_at, superseded_by, extractor, at"
Confidence = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Time = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]


class Fact(Value):
    """A fact to be kept.

    Attributes:
        subject: Whom or what it is about; ``user`` for who speaks.
        relation: ``lives_in``, ``likes``, ``note``: see relations.py for those that hold one value at a time.
        text: The fact as a sentence; it is what a search finds.
        confidence: From 0 to 1.
        valid_at: Since when it holds, seconds since 1970; default: now.
    """

    subject: Annotated[Text, Field(min_length=1, max_length=200)]
    relation: Annotated[Text, Field(min_length=1, max_length=100)]
    value: Annotated[Text, Field(min_length=1, max_length=4_000)]
    text: Annotated[Text, Field(min_length=1, max_length=4_000)]
    confidence: Confidence = 1.0
    valid_at: Time | None = None


class Added(Value):
    """What came of a fact.

    Attributes:
        id: Of the new fact, or of the one that says the same.
        how: ``new``; ``known``: another source of one that was there; ``superseded``: new, and took an older one's
            place.
        superseded: Id of that older one.
    """

    id: str
    how: Literal["new", "known", "superseded"]
    superseded: str | None = None


class Known(Value):
    """A fact that is kept.

    Attributes:
        valid_at, invalid_at: From when until when it holds, seconds since 1970; None while it does.
        superseded_by: Id of the fact that took its place.
        extractor: Who learned it: ``user`` for a person, else the name of the model.
        at: When it was learned, seconds since 1970.
        sources: Ids of the turns that it was learned from.
    """

    id: str
    namespace: str
    subject: str
    relation: str
    value: str
    text: str
    confidence: float
    valid_at: float
    invalid_at: float | None
    superseded_by: str | None
    extractor: str
    at: float
    sources: tuple[str, ...] = ()


class Why(Value):
    """How a fact was learned: itself, the turns it comes from, and all that was held of the same, oldest first."""

    fact: Known
    sources: tuple[Turn, ...]
    history: tuple[Known, ...]


class _Held(NamedTuple):
    """A fact on the line of those of which one holds at a time."""

    id: int
    value_key: str
    valid_at: float
    invalid_at: float | None
    text: str


class Facts:
    """Facts of all namespaces; each call names one, writes there, and sees what is visible from there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, ns: Namespace, fact: Fact, sources: Sequence[int] = (), extractor: str = BY_HAND) -> Added:
        """Keep a fact, unless it is known: then its sources are those of the known one, too.

        Args:
            ns: Whose it is; only facts of this very namespace are superseded.
            fact: What is to be kept.
            sources: Numbers of the turns that it comes from.
            extractor: Who learned it.

        Raises:
            UnknownMemory: the call does not see one of the sources.
            StoreFull: the disk is full; nothing is kept.
            StoreError: it can't be written.
        """
        with self._database.writing() as connection:
            self._check(ns, sources)
            number = self._database.number(ns)
            added = self._add(number, fact, extractor)
            connection.executemany(
                "INSERT OR IGNORE INTO derived (kind, child, turn) VALUES ('fact', ?, ?)",
                [(number_of(added.id, "f"), source) for source in sources],
            )
            return added

    def note(self, ns: Namespace, text: str, sources: Sequence[int] = ()) -> Added:
        """Keep a free note.

        Raises:
            UnknownMemory: the call does not see one of the sources.
            StoreError: it can't be written.
        """
        return self.add(ns, Fact(subject="user", relation=NOTE, value=text, text=text), sources)

    def edit(
        self,
        ns: Namespace,
        id: str,
        *,
        text: str | None = None,
        value: str | None = None,
        confidence: float | None = None,
    ) -> Known:
        """Correct a fact of this very namespace: what it said before is not kept, for it never held.

        Raises:
            UnknownMemory: the namespace has no such fact.
            StoreError: it can't be written.
        """
        with self._database.writing() as connection:
            number = number_of(id, "f")
            kept = self._read("id = ? AND ns = ?", (number, self._database.own(ns)))
            if not kept:
                raise unknown(id)
            fact = Fact(
                subject=kept[0].subject,
                relation=kept[0].relation,
                value=kept[0].value if value is None else value,
                text=kept[0].text if text is None else text,
                confidence=kept[0].confidence if confidence is None else confidence,
            )
            connection.execute(
                "UPDATE facts SET text = ?, value = ?, value_key = ?, confidence = ? WHERE id = ?",
                (fact.text, fact.value, value_key(fact.value), fact.confidence, number),
            )
            return self._read("id = ?", (number,))[0]

    def show(self, ns: Namespace, id: str) -> Known:
        """One fact, whether it holds or held.

        Raises:
            UnknownMemory: the call sees no such fact.
            StoreError: the file can't be read.
        """
        with self._database.looking():
            return self._show(ns, id)

    def why(self, ns: Namespace, id: str) -> Why:
        """How a fact was learned.

        Raises:
            UnknownMemory: the call sees no such fact.
            StoreError: the file can't be read.
        """
        with self._database.looking():
            fact = self._show(ns, id)
            sources = read_turns(self._database, ns, [number_of(source, "t") for source in fact.sources])
            return Why(fact=fact, sources=tuple(sources), history=tuple(self._history(fact)))

    def holding(
        self,
        ns: Namespace,
        *,
        as_of: float | None = None,
        subject: str | None = None,
        relation: str | None = None,
    ) -> list[Known]:
        """The facts that a call sees and that hold now, or held at a time (seconds since 1970); oldest first.

        Raises:
            StoreError: the file can't be read.
        """
        with self._database.looking():
            visible = self._database.visible(ns)
            condition, values = f"ns IN ({marks(visible)})", list[Any](visible)
            if as_of is None:
                condition += " AND invalid_at IS NULL"
            else:
                condition += " AND valid_at <= ? AND (invalid_at IS NULL OR invalid_at > ?)"
                values += [as_of, as_of]
            found = self._read(condition, values)
        if subject is not None:
            found = [fact for fact in found if subject_key(fact.subject) == subject_key(subject)]
        if relation is not None:
            found = [fact for fact in found if fact.relation == relation_key(relation)]
        return found

    def _check(self, ns: Namespace, sources: Sequence[int]) -> None:
        seen = {turn.id for turn in read_turns(self._database, ns, sources)}
        for source in sources:
            if f"t{source}" not in seen:
                raise unknown(f"t{source}")

    def _add(self, ns: int, fact: Fact, extractor: str) -> Added:
        at = self._database.now() if fact.valid_at is None else fact.valid_at
        known = self._same_text(ns, fact)
        if known is not None:
            return self._again(known, fact)
        if is_single(fact.relation):
            return self._supersede(ns, fact, at, extractor)
        return Added(id=f"f{self._insert(ns, fact, at, None, None, extractor)}", how="new")

    def _supersede(self, ns: int, fact: Fact, at: float, extractor: str) -> Added:
        """Put a fact where it belongs in time, between the one that held before and the one that held after."""
        line, wanted = self._line(ns, line_key(fact.subject, fact.relation)), value_key(fact.value)
        before = next((held for held in reversed(line) if held.valid_at <= at), None)
        behind = next((held for held in line if held.valid_at > at), None)
        if before is not None and before.value_key == wanted:
            return self._again(before.id, fact)
        if behind is not None and behind.value_key == wanted:
            self._since(behind, at, before)
            return self._again(behind.id, fact)
        until, by = (None, None) if behind is None else (behind.valid_at, behind.id)
        number = self._insert(ns, fact, at, until, by, extractor)
        if before is None:
            return Added(id=f"f{number}", how="new")
        self._end(before.id, at, number)
        return Added(id=f"f{number}", how="superseded", superseded=f"f{before.id}")

    def _since(self, held: _Held, at: float, before: _Held | None) -> None:
        """An older source of the same: it held earlier than was known, yet not before what was said then instead."""
        if before is None or before.valid_at < at:
            self._database.connection.execute("UPDATE facts SET valid_at = ? WHERE id = ?", (at, held.id))
        if before is not None and before.valid_at < at:
            self._end(before.id, at, held.id)

    def _end(self, number: int, at: float, by: int) -> None:
        asked = (at, by, number)
        self._database.connection.execute("UPDATE facts SET invalid_at = ?, superseded_by = ? WHERE id = ?", asked)

    def _insert(
        self, ns: int, fact: Fact, at: float, invalid_at: float | None, superseded_by: int | None, extractor: str
    ) -> int:
        now = self._database.now()
        return add_fact(self._database.connection, ns, fact, extractor, at, now, invalid_at, superseded_by)

    def _again(self, number: int, fact: Fact) -> Added:
        """Whoever says it again makes it no less sure."""
        asked = (fact.confidence, number)
        self._database.connection.execute("UPDATE facts SET confidence = max(confidence, ?) WHERE id = ?", asked)
        return Added(id=f"f{number}", how="known")

    def _line(self, ns: int, key: str) -> list[_Held]:
        rows = self._database.connection.execute(
            "SELECT id, value_key, valid_at, invalid_at, text FROM facts WHERE ns = ? AND key = ? "
            "ORDER BY valid_at, id",
            (ns, key),
        )
        return [_Held(*row) for row in rows]

    def _same_text(self, ns: int, fact: Fact) -> int | None:
        """A fact that holds, of the same subject and value, with the same relation or another that says the same."""
        rows = self._database.connection.execute(
            "SELECT id, subject, relation, text FROM facts WHERE ns = ? AND value_key = ? AND invalid_at IS NULL "
            "ORDER BY id",
            (ns, value_key(fact.value)),
        )
        wanted = relation_key(fact.relation)
        for number, subject, relation, text in rows:
            if subject_key(subject) != subject_key(fact.subject):
                continue
            # of those with one value, the line tells when it held
            if (relation == wanted and not is_single(wanted)) or (relation != wanted and says(text) == says(fact.text)):
                return int(number)
        return None

    def _show(self, ns: Namespace, id: str) -> Known:
        visible = self._database.visible(ns)
        found = self._read(f"id = ? AND ns IN ({marks(visible)})", (number_of(id, "f"), *visible))
        if not found:
            raise unknown(id)
        return found[0]

    def _history(self, fact: Known) -> list[Known]:
        if not is_single(fact.relation):
            return [fact]
        asked = (number_of(fact.id, "f"), line_key(fact.subject, fact.relation))
        return self._read("ns = (SELECT ns FROM facts WHERE id = ?) AND key = ?", asked)

    def _read(self, condition: str, values: Sequence[Any]) -> list[Known]:
        rows = self._database.connection.execute(
            f"SELECT {_COLUMNS} FROM facts WHERE {condition} ORDER BY valid_at, id",  # noqa: S608 - question marks
            values,
        ).fetchall()
        return [known(self._database, row) for row in rows]


def add_fact(
    connection: sqlite3.Connection,
    ns: int,
    fact: Fact,
    extractor: str,
    valid_at: float,
    at: float,
    invalid_at: float | None = None,
    superseded_by: int | None = None,
) -> int:
    """The row of a new fact; within ``writing``. Its number."""
    row = connection.execute(
        "INSERT INTO facts (ns, subject, relation, value, text, confidence, valid_at, invalid_at, superseded_by, "
        "extractor, key, value_key, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            ns,
            fact.subject,
            relation_key(fact.relation),
            fact.value,
            fact.text,
            fact.confidence,
            valid_at,
            invalid_at,
            superseded_by,
            extractor,
            line_key(fact.subject, fact.relation),
            value_key(fact.value),
            at,
        ),
    ).fetchone()
    return int(row[0])


def known(database: Database, row: tuple[Any, ...]) -> Known:
    """A fact from its row; within ``looking`` or ``writing``."""
    number, ns, subject, relation, value, text, confidence, valid_at, invalid_at, superseded_by, extractor, at = row
    return Known(
        id=f"f{number}",
        namespace=database.name(ns),
        subject=subject,
        relation=relation,
        value=value,
        text=text,
        confidence=confidence,
        valid_at=valid_at,
        invalid_at=invalid_at,
        superseded_by=None if superseded_by is None else f"f{superseded_by}",
        extractor=extractor,
        at=at,
        sources=sources_of(database.connection, "fact", number),
    )


def sources_of(connection: sqlite3.Connection, kind: str, child: int) -> tuple[str, ...]:
    """Ids of the turns that something was derived from, oldest first."""
    rows = connection.execute("SELECT turn FROM derived WHERE kind = ? AND child = ? ORDER BY turn", (kind, child))
    return tuple(f"t{row[0]}" for row in rows)
