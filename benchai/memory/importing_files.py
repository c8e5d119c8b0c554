"""Reading Markdown in: what export wrote comes back as it was, what others wrote comes in as notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from benchai.errors import SourceError
from benchai.memory.database import Database
from benchai.memory.importing import Imported, Importing, read_line
from benchai.memory.lines import Head
from benchai.memory.markdown import Record, is_export, read_paper, wrong
from benchai.memory.namespace import Namespace
from benchai.memory.notes import read_notes

# what is derived comes after what it comes from
_ORDER: Final = ("document", "turn", "fact", "howto", "summary", "label")


def import_markdown(database: Database, ns: Namespace, files: Mapping[str, str]) -> Imported:
    """Keep what Markdown files hold: rows in their namespaces, below ``ns``; notes of others in ``ns`` itself.

    Args:
        database: Where.
        ns: Whose.
        files: Texts by the names that errors tell.

    Raises:
        SourceError: a file can't be read in; the message names it and the line, and nothing is kept.
        StoreFull: the disk is full; nothing is kept.
        StoreError: it can't be written.
    """
    with database.writing():
        return _together([_of_file(database, ns, name, text) for name, text in files.items()])


def _of_file(database: Database, ns: Namespace, name: str, text: str) -> Imported:
    importing = Importing(database, ns)
    try:
        _read(importing, ns, text.split("\n"))
        return importing.end()
    except SourceError as error:
        raise SourceError(f"{name!r}, {error.message}" if name else error.message, hint=error.hint) from None


def _read(importing: Importing, ns: Namespace, lines: Sequence[str]) -> None:
    if not is_export(lines):
        _notes(importing, str(ns), lines)
        return
    paper = read_paper(lines)
    importing.line(1, Head().model_dump_json())
    for record in _in_order(paper.records):
        importing.line(record.line, record.text)
    for level in paper.levels:
        _notes(importing, str(ns) if level.namespace is None else level.namespace, level.lines, level.first, False)


def _notes(importing: Importing, level: str, lines: Sequence[str], first: int = 1, headings: bool = True) -> None:
    found = read_notes(lines, first, headings=headings)
    for line, text in found.notes:
        importing.note(line, level, text)
    for sort, count in found.skipped.items():
        importing.skip(sort, count)


def _in_order(records: Iterable[Record]) -> list[Record]:
    placed = []
    for record in records:
        line = read_line(record.line, record.text)
        if isinstance(line, Head):
            raise wrong(record.line, "the comment keeps no row")
        placed.append(((_ORDER.index(line.kind), line.id), record))
    return [record for _, record in sorted(placed)]


def _together(done: Iterable[Imported]) -> Imported:
    counts: dict[str, Counter[str]] = {"added": Counter(), "known": Counter(), "skipped": Counter()}
    for one in done:
        for name, counter in counts.items():
            counter.update(getattr(one, name))
    return Imported(**{name: dict(counter) for name, counter in counts.items()})
