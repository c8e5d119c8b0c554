"""The memory of a namespace, and of those below it, as JSON lines that can be read in again, and as Markdown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from benchai.memory.database import Database, marks
from benchai.memory.lines import (
    DocumentLine,
    FactLine,
    Head,
    HowtoLine,
    KeptPiece,
    SummaryLine,
    TurnLine,
)
from benchai.memory.namespace import Namespace
from benchai.memory.types import Document, Link

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


AnyKept = DocumentLine | TurnLine | FactLine | HowtoLine | SummaryLine


class _Lines:
    """Reads the rows of some namespaces as lines; within ``looking``."""

    def __init__(self, database: Database, below: tuple[int, ...]) -> None:
        self._database, self._below = database, below
        self._connection = database.connection
        self._names = {number: database.name(number) for number in below}
        # a row's place among those that are exported
        self._ids = {table: self._numbered(table) for table in ("documents", "turns", "facts")}

    def all(self) -> Iterator[AnyKept]:
        """Documents, turns, facts, how-tos, summaries, each in the order of their ids."""
        yield from self.documents()
        yield from self.turns()
        yield from self.facts()
        yield from self.howtos()
        yield from self.summaries()

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
        for place, row in enumerate(self._rows("howtos", "id, ns, task, steps, workflow, successes, at"), 1):
            number, ns, task, steps, workflow, successes, at = row
            yield HowtoLine(
                id=place,
                namespace=self._names[ns],
                task=task,
                steps=tuple(json.loads(steps)),
                workflow=workflow,
                successes=successes,
                at=at,
                sources=self._sources("howto", number),
            )

    def summaries(self) -> Iterator[SummaryLine]:
        for place, row in enumerate(self._rows("summaries", "id, ns, thread, text, extractor, stale, at"), 1):
            number, ns, thread, text, extractor, stale, at = row
            yield SummaryLine(
                id=place,
                namespace=self._names[ns],
                thread=thread,
                text=text,
                extractor=extractor,
                stale=bool(stale),
                at=at,
                sources=self._sources("summary", number),
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
    """Write all that a namespace and those below it hold for people to read; it can't be read in again.

    Raises:
        StoreError: the file can't be read.
        OSError: it can't be written.
    """
    with database.looking():
        below = database.below(ns)
        for number in sorted(below, key=database.name):
            lines = _Lines(database, (number,))
            parts = [part for part in (_facts(lines), _howtos(lines), _summaries(lines), _threads(lines)) if part]
            parts += [part for part in (_documents(lines),) if part]
            if parts:
                write(f"# {database.name(number) or ns.user}\n\n" + "\n".join(parts) + "\n")


def _facts(lines: _Lines) -> str:
    found = list(lines.facts())
    now = "".join(f"- {_one_line(fact.text)} (since {_day(fact.valid_at)})\n" for fact in found if not fact.invalid_at)
    past = "".join(
        f"- {_one_line(fact.text)} ({_day(fact.valid_at)} to {_day(fact.invalid_at)})\n"
        for fact in found
        if fact.invalid_at
    )
    return (f"## Facts\n\n{now}" if now else "") + (f"\n### No longer\n\n{past}" if past else "")


def _howtos(lines: _Lines) -> str:
    found = [
        f"### {_one_line(howto.task)}\n\n"
        + "".join(f"{place}. {_one_line(step)}\n" for place, step in enumerate(howto.steps, 1))
        + f"\nWorked {howto.successes} times ({howto.workflow}).\n"
        for howto in lines.howtos()
    ]
    return "## How-tos\n\n" + "\n".join(found) if found else ""


def _summaries(lines: _Lines) -> str:
    found = [f"### {_one_line(one.thread)}\n\n{one.text}\n" for one in lines.summaries() if not one.stale]
    return "## Summaries\n\n" + "\n".join(found) if found else ""


def _threads(lines: _Lines) -> str:
    threads: dict[str, list[str]] = {}
    for turn in lines.turns():
        quoted = "\n".join(f"> {line}" for line in turn.text.splitlines()) or ">"
        said = f"**{_one_line(turn.name or turn.role)}**, {_time(turn.at)}:\n\n{quoted}\n"
        threads.setdefault(turn.thread, []).append(said)
    found = [f"### {_one_line(thread)}\n\n" + "\n".join(turns) for thread, turns in threads.items()]
    return "## Threads\n\n" + "\n".join(found) if found else ""


def _documents(lines: _Lines) -> str:
    found = [f"- {_one_line(one.document.title)}: `{one.document.source}`\n" for one in lines.documents()]
    return "## Documents\n\n" + "".join(found) if found else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _day(at: float | None) -> str:
    return datetime.fromtimestamp(at or 0).astimezone().strftime("%Y-%m-%d")


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")
