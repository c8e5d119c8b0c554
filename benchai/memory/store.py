"""Documents in the memory's SQLite file: put, replaced, moved and dropped, each call in one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchai.memory.database import Database
from benchai.memory.namespace import Namespace
from benchai.memory.types import Document, Link, Piece, Stamp, Value
from benchai.memory.wording import parts_of

_PREFIX_END = "\U0010ffff"


class Put(Value):
    """What came of documents that were put: how many were new, changed, and as they were; passages now in them."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    passages: int = 0

    def __add__(self, other: Put) -> Put:
        return Put(
            added=self.added + other.added,
            changed=self.changed + other.changed,
            unchanged=self.unchanged + other.unchanged,
            passages=self.passages + other.passages,
        )


class _Kept(NamedTuple):
    id: int
    hash: str
    version: str
    title: str


class Store:
    """Documents of all namespaces; each call names one and touches no other."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, ns: Namespace, prefix: str = "") -> dict[str, Stamp]:
        """Documents of this very namespace whose source begins with a prefix.

        Raises:
            StoreError: the file can't be read.
        """
        with self._database.looking() as connection:
            rows = connection.execute(
                "SELECT source, hash, size, mtime_ns, version FROM documents "
                "WHERE ns = ? AND source >= ? AND source < ?",
                (self._database.own(ns), prefix, prefix + _PREFIX_END),
            )
            return {
                source: Stamp.model_construct(hash=hashed, size=size, mtime_ns=mtime, version=version)
                for source, hashed, size, mtime, version in rows
            }

    def put(self, ns: Namespace, documents: Sequence[Document]) -> Put:
        """Keep documents; one of the same source is replaced, and what it said no more is gone with it.

        Raises:
            StoreFull: the disk is full; none of them is kept.
            StoreError: they can't be written.
        """
        with self._database.writing():
            number = self._database.number(ns)
            done = Put()
            for document in documents:
                done += self._put(number, document)
            return done

    def drop(self, ns: Namespace, sources: Iterable[str]) -> int:
        """Forget documents of this very namespace; how many there were.

        Raises:
            StoreError: the file can't be written.
        """
        with self._database.writing() as connection:
            number = self._database.own(ns)
            asked = [(number, source) for source in sources]
            return connection.executemany("DELETE FROM documents WHERE ns = ? AND source = ?", asked).rowcount

    def move(self, ns: Namespace, old: str, new: str) -> bool:
        """Give a document another source, with all that is known of it; False where there is none to move.

        Raises:
            StoreError: the file can't be written, or has another document of the new source.
        """
        with self._database.writing() as connection:
            asked = (new, self._database.own(ns), old)
            return connection.execute("UPDATE documents SET source = ? WHERE ns = ? AND source = ?", asked).rowcount > 0

    def _put(self, ns: int, document: Document) -> Put:
        connection, now = self._database.connection, self._database.now()
        row = connection.execute(
            "SELECT id, hash, version, title FROM documents WHERE ns = ? AND source = ?", (ns, document.source)
        ).fetchone()
        if row is None:
            number = add_document(connection, ns, document, now)
            self._cut(ns, number, document, now, {})
            return Put(added=1, passages=len(document.pieces))
        kept = _Kept(*row)
        self._update(kept.id, document)
        if (kept.hash, kept.version, kept.title) == (document.hash, document.version, document.title):
            return Put(unchanged=1, passages=len(document.pieces))
        self._cut(ns, kept.id, document, now, self._pieces(kept))
        return Put(changed=1, passages=len(document.pieces))

    def _update(self, number: int, document: Document) -> None:
        self._database.connection.execute(
            "UPDATE documents SET title = ?, media = ?, hash = ?, size = ?, mtime_ns = ?, version = ?, meta = ? "
            "WHERE id = ?",
            (*_columns(document), number),
        )

    def _pieces(self, kept: _Kept) -> dict[tuple[str, str, str], list[int]]:
        """The passages of a document by what they say; the same may stand in it twice."""
        rows = self._database.connection.execute(
            "SELECT id, title, heading, text FROM passages WHERE kind = 'document' AND owner = ? ORDER BY place DESC",
            (kept.id,),
        )
        found: dict[tuple[str, str, str], list[int]] = {}
        for number, title, heading, text in rows:
            found.setdefault((title, heading, text), []).append(number)
        return found

    def _cut(
        self, ns: int, number: int, document: Document, now: float, kept: dict[tuple[str, str, str], list[int]]
    ) -> None:
        """Make the passages those of the document; one that stays keeps its id, and with it its vector."""
        connection = self._database.connection
        new = []
        for place, piece in enumerate(document.pieces):
            same = kept.get((document.title, piece.heading, piece.text))
            if same:
                asked = (place, piece.line, piece.end_line, piece.page, same.pop())
                connection.execute(
                    "UPDATE passages SET place = ?, line = ?, end_line = ?, page = ? WHERE id = ?", asked
                )
            else:
                new.append((ns, number, place, *_said(document, piece), piece.line, piece.end_line, piece.page, now))
        # first what goes: the old and the new must not be found together
        connection.executemany("DELETE FROM passages WHERE id = ?", [(one,) for ones in kept.values() for one in ones])
        connection.executemany(
            "INSERT INTO passages (ns, kind, owner, place, text, title, heading, context, line, end_line, page, at) "
            "VALUES (?, 'document', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            new,
        )
        connection.execute("DELETE FROM links WHERE document = ?", (number,))
        add_links(connection, number, document.links)


def add_document(connection: sqlite3.Connection, ns: int, document: Document, at: float) -> int:
    """The row of a new document, without its pieces and links; within ``writing``. Its number."""
    row = connection.execute(
        "INSERT INTO documents (ns, source, title, media, hash, size, mtime_ns, version, meta, at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (ns, document.source, *_columns(document), at),
    ).fetchone()
    return int(row[0])


def add_links(connection: sqlite3.Connection, document: int, links: Sequence[Link]) -> None:
    """The links of a document, by its number; within ``writing``."""
    connection.executemany(
        "INSERT INTO links (document, target, part, kind) VALUES (?, ?, ?, ?)",
        [(document, link.target, link.part, link.kind) for link in links],
    )


def _columns(document: Document) -> tuple[str, str, str, int, int, str, str]:
    meta = json.dumps(document.meta, ensure_ascii=False)
    return (
        document.title,
        document.media,
        document.hash,
        document.size,
        document.mtime_ns,
        document.version,
        meta,
    )


def _said(document: Document, piece: Piece) -> tuple[str, str, str, str]:
    # a question has the words of an identifier, seldom the identifier itself
    return piece.text, document.title, piece.heading, parts_of(f"{piece.heading} {piece.text}")
