"""The memory of a namespace, and of those below it, as JSON lines or Markdown; both can be read in again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchai.memory.database import Database, marks
from benchai.memory.lines import (
    DocumentLine,
    FactLine,
    Head,
    HowtoLine,
    Kept,
    KeptPiece,
    LabelLine,
    SummaryLine,
    TurnLine,
)
from benchai.memory.markdown import as_markdown
from benchai.memory.namespace import Namespace
from benchai.memory.types import Document, Link
from benchai.memory.upkeep import OWNERS

#: Takes a piece of text: the ``write`` of a file.
Write = Callable[[str], object]


def export_lines(database: Database, ns: Namespace, write: Write) -> Counter[str]:
    """Write all that a namespace and those below it hold, a JSON object on each line; how many of each kind.

    The ids in the lines are those of the export, from 1: two memories that hold the same give the same lines.

    Raises:
        StoreError: the file can't be read.
        OSError: it can't be written.
    """
    counts: Counter[str] = Counter()
    write(Head().model_dump_json() + "\n")
    with database.looking():
        for line in _Lines(database, database.below(ns)).all():
            counts[line.kind] += 1
            write(line.model_dump_json() + "\n")
    return counts


class _Lines:
    """Reads the rows of some namespaces as lines; within ``looking``."""

    def __init__(self, database: Database, below: tuple[int, ...]) -> None:
        self._database, self._below = database, below
        self._connection = database.connection
        self._names = {number: database.name(number) for number in below}
        # a row's place among those that are exported
        self._ids = {table: self._numbered(table) for table in OWNERS}

    def all(self) -> Iterator[Kept]:
        """Documents, turns, facts, how-tos, summaries, labels, each in the order of their ids."""
        yield from self.documents()
        yield from self.turns()
        yield from self.facts()
        yield from self.howtos()
        yield from self.summaries()
        yield from self.labels()

    def documents(self) -> Iterator[DocumentLine]:
        columns = "id, ns, source, title, media, hash, size, mtime_ns, version, meta, at"
        for row in self._rows("documents", columns):
            number, ns, source, title, media, hashed, size, mtime_ns, version, meta, at = row
            yield DocumentLine(
                id=self._ids["documents"][number],
                namespace=self._names[ns],
                at=at,
                document=Document(
                    source=source,
                    title=title,
                    media=media,
                    hash=hashed,
                    size=size,
                    mtime_ns=mtime_ns,
                    version=version,
                    meta=json.loads(meta),
                ),
                pieces=tuple(self._pieces(number)),
                links=tuple(self._links(number)),
            )

    def turns(self) -> Iterator[TurnLine]:
        for row in self._rows("turns", "id, ns, thread, run, role, name, text, at"):
            number, ns, thread, run, role, name, text, at = row
            yield TurnLine(
                id=self._ids["turns"][number],
                namespace=self._names[ns],
                thread=thread,
                run=run,
                role=role,
                name=name,
                text=text,
                at=at,
            )

    def facts(self) -> Iterator[FactLine]:
        columns = (
            "id, ns, subject, relation, value, text, confidence, valid_at, invalid_at, superseded_by, extractor, at"
        )
        for row in self._rows("facts", columns):
            number, ns, subject, relation, value, text, confidence, valid_at, invalid_at, by, extractor, at = row
            yield FactLine(
                id=self._ids["facts"][number],
                namespace=self._names[ns],
                subject=subject,
                relation=relation,
                value=value,
                text=text,
                confidence=confidence,
                valid_at=valid_at,
                invalid_at=invalid_at,
                superseded_by=None if by is None else self._ids["facts"][by],
                extractor=extractor,
                at=at,
                sources=self._sources("fact", number),
            )

    def howtos(self) -> Iterator[HowtoLine]:
        for row in self._rows("howtos", "id, ns, task, steps, workflow, successes, at"):
            number, ns, task, steps, workflow, successes, at = row
            yield HowtoLine(
                id=self._ids["howtos"][number],
                namespace=self._names[ns],
                task=task,
                steps=tuple(json.loads(steps)),
                workflow=workflow,
                successes=successes,
                at=at,
                sources=self._sources("howto", number),
            )

    def summaries(self) -> Iterator[SummaryLine]:
        for row in self._rows("summaries", "id, ns, thread, text, extractor, stale, at"):
            number, ns, thread, text, extractor, stale, at = row
            yield SummaryLine(
                id=self._ids["summaries"][number],
                namespace=self._names[ns],
                thread=thread,
                text=text,
                extractor=extractor,
                stale=bool(stale),
                at=at,
                sources=self._sources("summary", number),
            )

    def labels(self) -> Iterator[LabelLine]:
        """Those of passages above the namespace are left out: the passages are not exported."""
        below = marks(self._below)
        rows = self._connection.execute(
            "SELECT l.ns, l.query, l.good, p.kind, p.owner, p.place, p.text, l.at FROM labels l "  # noqa: S608 - marks
            f"JOIN passages p ON p.id = l.passage WHERE l.ns IN ({below}) AND p.ns IN ({below}) ORDER BY l.id",
            (*self._below, *self._below),
        )
        tables = {kind: table for table, kind in OWNERS.items()}
        for number, (ns, query, good, kind, owner, place, text, at) in enumerate(rows, 1):
            yield LabelLine(
                id=number,
                namespace=self._names[ns],
                query=query,
                good=bool(good),
                part_of=kind,
                owner=self._ids[tables[kind]][owner],
                place=place,
                text=text,
                at=at,
            )

    def _pieces(self, document: int) -> Iterator[KeptPiece]:
        rows = self._connection.execute(
            "SELECT text, context, heading, line, end_line, page, at FROM passages "
            "WHERE kind = 'document' AND owner = ? ORDER BY place",
            (document,),
        )
        for text, context, heading, line, end_line, page, at in rows:
            yield KeptPiece(text=text, context=context, heading=heading, line=line, end_line=end_line, page=page, at=at)

    def _links(self, document: int) -> Iterator[Link]:
        asked = "SELECT target, part, kind FROM links WHERE document = ? ORDER BY rowid"
        for target, part, kind in self._connection.execute(asked, (document,)):
            yield Link(target=target, part=part, kind=kind)

    def _sources(self, kind: str, child: int) -> tuple[int, ...]:
        """Of what was derived from turns above the namespace, those are left out: they are not exported."""
        rows = self._connection.execute(
            "SELECT turn FROM derived WHERE kind = ? AND child = ? ORDER BY turn", (kind, child)
        )
        known = self._ids["turns"]
        return tuple(known[row[0]] for row in rows if row[0] in known)

    def _rows(self, table: str, columns: str) -> Sequence[tuple[Any, ...]]:
        asked = f"SELECT {columns} FROM {table} WHERE ns IN ({marks(self._below)}) ORDER BY id"  # noqa: S608 - constants
        return self._connection.execute(asked, self._below).fetchall()

    def _numbered(self, table: str) -> dict[int, int]:
        return {row[0]: place for place, row in enumerate(self._rows(table, "id"), 1)}


def export_markdown(database: Database, ns: Namespace, write: Write) -> None:
    """Write all that a namespace and those below it hold for people to read; comments keep what they need not see.

    Raises:
        StoreError: the file can't be read.
        OSError: it can't be written.
    """
    with database.looking():
        write(as_markdown(list(_Lines(database, database.below(ns)).all()), ns.user))
