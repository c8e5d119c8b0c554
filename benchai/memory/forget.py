"""Forgetting: what is named goes, with all that was derived from it and with every row of the indexes."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import Field, model_validator

from benchai.memory.database import Database, marks
from benchai.memory.ids import TABLES, split, unknown
from benchai.memory.namespace import Namespace
from benchai.memory.relations import folded
from benchai.memory.turns import Text, refresh
from benchai.memory.types import Value

#: Fewer characters stand in nearly everything.
SHORTEST_MATCH = 3
_KINDS = {"d": "document", "t": "turn", "f": "fact", "h": "howto", "s": "summary"}
_SAYS = {
    "documents": "source, title, meta",
    "turns": "name, text",
    "facts": "subject, value, text",
    "howtos": "task, steps",
    "summaries": "text",
    "labels": "query",
}
_TABLES = tuple((letter, TABLES[letter]) for letter in _KINDS)


class Target(Value):
    """What is to be forgotten, of a namespace and those below it; one of these.

    Attributes:
        ids: Documents, turns, facts, how-tos, summaries, or passages (which stand for what they are a part of).
        source: Documents whose source matches this pattern (``*``, ``?``, ``[a-z]``; ``*`` goes beyond slashes).
        thread: The turns of a thread, and what the namespace of the thread holds.
        matching: All that contains this text, whatever its case and white space.
        everything: All there is.
        sources: With facts, how-tos and summaries go the turns that they were derived from.
    """

    ids: tuple[str, ...] = ()
    source: str | None = Field(None, min_length=1)
    thread: Text | None = Field(None, min_length=1)
    matching: Text | None = None
    everything: bool = False
    sources: bool = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = (bool(self.ids), self.source is not None, self.thread is not None, self.matching is not None)
        if sum((*given, self.everything)) != 1:
            raise ValueError("name one of ids, source, thread, matching, everything")
        if self.matching is not None and len(folded(self.matching)) < SHORTEST_MATCH:
            raise ValueError(f"matching needs {SHORTEST_MATCH} characters at least")
        return self


class Forgotten(Value):
    """What was forgotten, or would be.

    Attributes:
        counts: By kind: document, turn, fact, howto, summary, label.
        stale: Ids of summaries whose text is gone since one of their turns is; they can be made anew from what is left.
        remaining: Ids of turns that stay, though something that was derived from them was forgotten by its id.
        texts: All that was said there: what must be found nowhere any more.
        passages: Numbers of the passages that went, by which the vector index knows them.
    """

    counts: dict[str, int] = Field(default_factory=dict)
    stale: tuple[str, ...] = ()
    remaining: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    passages: tuple[int, ...] = ()


@dataclass
class _Chosen:
    """Numbers of rows, by the letter of their ids."""

    rows: dict[str, set[int]] = field(default_factory=lambda: {letter: set() for letter in _KINDS})
    labels: set[int] = field(default_factory=set)
    stale: set[int] = field(default_factory=set)
    remaining: set[int] = field(default_factory=set)


class Forgetting:
    """Forgets for all namespaces; a call names one, and reaches it and those below it, never those above or beside."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def would(self, ns: Namespace, target: Target) -> Forgotten:
        """What ``forget`` would do; nothing is changed.

        Raises:
            UnknownMemory: an id is none, or is not of the namespace or below it.
            StoreError: the file can't be read.
        """
        with self._database.looking():
            return self._told(self._choose(ns, target), target)

    def forget(self, ns: Namespace, target: Target) -> Forgotten:
        """Forget, in one transaction.

        Raises:
            UnknownMemory: an id is none, or is not of the namespace or below it; nothing is forgotten.
            StoreError: the file can't be written; nothing is forgotten.
        """
        with self._database.writing():
            chosen = self._choose(ns, target)
            told = self._told(chosen, target)
            self._delete(chosen)
            return told

    def _choose(self, ns: Namespace, target: Target) -> _Chosen:
        below = self._database.below(ns)
        if target.ids:
            chosen = self._by_id(below, target.ids)
        elif target.source is not None:
            chosen = _Chosen()
            chosen.rows["d"] = self._numbers("documents", below, "source GLOB ?", target.source)
        elif target.thread is not None:
            chosen = self._by_thread(below, target.thread)
        elif target.matching is not None:
            chosen = self._by_text(below, folded(target.matching))
        else:
            chosen = _Chosen({letter: self._numbers(table, below) for letter, table in _TABLES})
        self._follow(below, chosen, target.sources)
        return chosen

    def _by_id(self, below: tuple[int, ...], ids: Iterable[str]) -> _Chosen:
        chosen = _Chosen()
        for id in ids:
            letter, number = self._owner(below, id)
            if number not in self._numbers(TABLES[letter], below, "id = ?", number):
                raise unknown(id)
            chosen.rows[letter].add(number)
        return chosen

    def _owner(self, below: tuple[int, ...], id: str) -> tuple[str, int]:
        letter, number = split(id)
        if letter != "p":
            return letter, number
        asked = f"SELECT kind, owner FROM passages WHERE id = ? AND ns IN ({marks(below)})"  # noqa: S608
        row = self._database.connection.execute(asked, (number, *below)).fetchone()
        if row is None:
            raise unknown(id)
        return row[0][0], row[1]

    def _by_thread(self, below: tuple[int, ...], thread: str) -> _Chosen:
        asked = f"SELECT id FROM namespaces WHERE id IN ({marks(below)}) AND thread = ?"  # noqa: S608
        own = tuple(row[0] for row in self._database.connection.execute(asked, (*below, thread)))
        chosen = _Chosen({letter: self._numbers(table, own) for letter, table in _TABLES})
        chosen.rows["t"] |= self._numbers("turns", below, "thread = ?", thread)
        chosen.rows["s"] |= self._numbers("summaries", below, "thread = ?", thread)
        return chosen

    def _by_text(self, below: tuple[int, ...], wanted: str) -> _Chosen:
        chosen = _Chosen()
        for letter, table in _TABLES:
            rows = self._database.connection.execute(
                f"SELECT id, {_SAYS[table]} FROM {table} WHERE ns IN ({marks(below)})",  # noqa: S608 - constants
                below,
            )
            for number, *texts in rows:
                if any(wanted in folded(text) for text in texts):
                    chosen.rows[letter].add(number)
        chosen.rows["d"] |= self._documents_with(below, wanted)
        asked = f"SELECT id, query FROM labels WHERE ns IN ({marks(below)})"  # noqa: S608 - question marks
        rows = self._database.connection.execute(asked, below)
        chosen.labels = {number for number, query in rows if wanted in folded(query)}
        return chosen

    def _documents_with(self, below: tuple[int, ...], wanted: str) -> set[int]:
        """Documents whose pieces contain a text, also where one piece ends and the next begins."""
        rows = self._database.connection.execute(
            "SELECT owner, heading, text FROM passages "  # noqa: S608 - question marks
            f"WHERE kind = 'document' AND ns IN ({marks(below)}) ORDER BY owner, place",
            below,
        )
        found, last, end = set(), 0, ""
        for number, heading, text in rows:
            said = folded(f"{end if number == last else ''} {text}")
            if wanted in said or wanted in folded(heading):
                found.add(number)
            last, end = number, said[-len(wanted) :]
        return found

    def _numbers(self, table: str, below: tuple[int, ...], condition: str = "1", *values: Any) -> set[int]:
        asked = f"SELECT id FROM {table} WHERE ns IN ({marks(below)}) AND {condition}"  # noqa: S608 - constants
        return {row[0] for row in self._database.connection.execute(asked, (*below, *values))}

    def _follow(self, below: tuple[int, ...], chosen: _Chosen, sources: bool) -> None:
        """Add what hangs on the chosen: their sources, if asked for, and what has no source left."""
        connection, turns = self._database.connection, chosen.rows["t"]
        for letter in "fhs":
            for child in chosen.rows[letter]:
                asked = "SELECT turn FROM derived WHERE kind = ? AND child = ?"
                chosen.remaining |= {row[0] for row in connection.execute(asked, (_KINDS[letter], child))}
        if sources:
            turns |= chosen.remaining & self._numbers("turns", below)
        chosen.remaining -= turns
        for (kind, child), count in self._children(turns).items():
            asked = "SELECT count(*) FROM derived WHERE kind = ? AND child = ?"
            if connection.execute(asked, (kind, child)).fetchone()[0] == count:
                chosen.rows[kind[0]].add(child)
            elif kind == "summary":
                chosen.stale.add(child)
        chosen.stale -= chosen.rows["s"]

    def _children(self, turns: Iterable[int]) -> Counter[tuple[str, int]]:
        """What was derived from the turns, and from how many of them each."""
        found: Counter[tuple[str, int]] = Counter()
        for some in _chunks(turns):
            asked = f"SELECT kind, child FROM derived WHERE turn IN ({marks(some)})"  # noqa: S608 - question marks
            found.update((kind, child) for kind, child in self._database.connection.execute(asked, some))
        return found

    def _told(self, chosen: _Chosen, target: Target) -> Forgotten:
        texts, passages = [target.matching or ""], list[int]()
        for letter, rows in (*chosen.rows.items(), ("s", chosen.stale)):
            for some in _chunks(rows):
                found = self._passages(_KINDS[letter], some)
                passages += [number for number, _ in found]
                texts += [text for _, text in found] if letter == "d" else self._texts(TABLES[letter], some)
        labels = chosen.labels | self._labels(passages)
        for some in _chunks(labels):
            texts += self._texts("labels", some)
        counts = {_KINDS[letter]: len(rows) for letter, rows in chosen.rows.items() if rows}
        return Forgotten(
            counts=counts | ({"label": len(labels)} if labels else {}),
            stale=tuple(f"s{number}" for number in sorted(chosen.stale)),
            remaining=tuple(f"t{number}" for number in sorted(chosen.remaining)),
            texts=tuple(dict.fromkeys(text for text in texts if text.strip())),
            passages=tuple(sorted(passages)),
        )

    def _passages(self, kind: str, owners: list[int]) -> list[tuple[int, str]]:
        asked = f"SELECT id, text FROM passages WHERE kind = ? AND owner IN ({marks(owners)})"  # noqa: S608
        return self._database.connection.execute(asked, (kind, *owners)).fetchall()

    def _texts(self, table: str, numbers: list[int]) -> list[str]:
        column = _SAYS[table].rpartition(" ")[2]
        columns = "task || char(10) || steps" if table == "howtos" else column
        asked = f"SELECT {columns} FROM {table} WHERE id IN ({marks(numbers)}) ORDER BY id"  # noqa: S608 - constants
        return [row[0] for row in self._database.connection.execute(asked, numbers)]

    def _labels(self, passages: Iterable[int]) -> set[int]:
        found = set[int]()
        for some in _chunks(passages):
            asked = f"SELECT id FROM labels WHERE passage IN ({marks(some)})"  # noqa: S608 - question marks
            found |= {row[0] for row in self._database.connection.execute(asked, some)}
        return found

    def _delete(self, chosen: _Chosen) -> None:
        connection = self._database.connection
        gaps = self._threads_of(chosen.rows["t"])
        for letter, rows in chosen.rows.items():
            # one by one, in order: each fact that goes gives its place on the line back to the one before it
            asked = f"DELETE FROM {TABLES[letter]} WHERE id = ?"  # noqa: S608 - a constant
            connection.executemany(asked, [(number,) for number in sorted(rows)])
        connection.executemany("DELETE FROM labels WHERE id = ?", [(number,) for number in chosen.labels])
        for number in chosen.stale:
            connection.execute("UPDATE summaries SET stale = 1, text = '' WHERE id = ?", (number,))
            connection.execute("DELETE FROM passages WHERE kind = 'summary' AND owner = ?", (number,))
        _close(connection, gaps)

    def _threads_of(self, turns: Iterable[int]) -> list[tuple[int, str, int]]:
        found: list[tuple[int, str, int]] = []
        for some in _chunks(turns):
            asked = f"SELECT ns, thread, id FROM turns WHERE id IN ({marks(some)})"  # noqa: S608 - question marks
            found += self._database.connection.execute(asked, some).fetchall()
        return sorted(found)


def _close(connection: sqlite3.Connection, gaps: Sequence[tuple[int, str, int]]) -> None:
    """Take the words of turns that went out of the context of their neighbours."""
    done: tuple[int, str, int | None] | None = None
    for ns, thread, number in gaps:
        asked = "SELECT min(id) FROM turns WHERE ns = ? AND thread = ? AND id > ?"
        gap = (ns, thread, connection.execute(asked, (ns, thread, number)).fetchone()[0])
        if gap != done:
            refresh(connection, ns, thread, number, number)
            done = gap


def _chunks(numbers: Iterable[int], size: int = 500) -> Iterator[list[int]]:
    line = sorted(numbers)
    return (line[begin : begin + size] for begin in range(0, len(line), size))
