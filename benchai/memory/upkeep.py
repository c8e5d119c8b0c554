"""The memory looked after: counted, checked, its indexes made anew, its file made small."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from benchai.errors import StoreDamaged
from benchai.memory.database import Database
from benchai.memory.namespace import Namespace
from benchai.memory.pending import FINGERPRINT, Pending
from benchai.memory.types import Value

#: Table -> the kind of its passages.
OWNERS = {"documents": "document", "turns": "turn", "facts": "fact", "howtos": "howto", "summaries": "summary"}
_LONGEST = 20


class Stats(Value):
    """What is kept: rows by table and passages of a namespace and those below it, and what the files take.

    Attributes:
        counts: By table, and ``passages``.
        namespaces: Passages by namespace.
        bytes: By file or folder of the memory.
        embedder: Fingerprint of the embedder that worked last; None where none ever did.
        pending: Passages of the whole memory that have no vector of it yet; all, where none was ever made.
        weights: Of the legs, where they were learned.
        left: Places that the vectors have left and that are not empty yet, with what failed; "" where it is to come.
    """

    counts: dict[str, int]
    namespaces: dict[str, int]
    bytes: dict[str, int]
    embedder: str | None = None
    pending: int = 0
    weights: dict[str, float] = Field(default_factory=dict)
    left: dict[str, str] = Field(default_factory=dict)


class Verdict(Value):
    """What a look at the memory found: problems in words, none where all is well; and how much was looked at."""

    problems: tuple[str, ...] = ()
    passages: int = 0
    vectors: int | None = None


def count(database: Database, ns: Namespace) -> tuple[dict[str, int], dict[str, int]]:
    """Rows by table, and passages by namespace, of a namespace and those below it.

    Raises:
        StoreError: the file can't be read.
    """
    with database.looking() as connection:
        below = database.below(ns)
        asked = ",".join(str(number) for number in below)
        counts = {
            table: int(connection.execute(f"SELECT count(*) FROM {table} WHERE ns IN ({asked})").fetchone()[0])  # noqa: S608
            for table in (*OWNERS, "passages")
        }
        rows = connection.execute(f"SELECT ns, count(*) FROM passages WHERE ns IN ({asked}) GROUP BY ns")  # noqa: S608
        return counts, {database.name(number): found for number, found in rows}


def embedded(database: Database) -> tuple[str | None, int]:
    """The fingerprint of the embedder that worked last, None where none did, and how many passages lack its vector.

    Raises:
        StoreError: the file can't be read.
    """
    with database.told():
        fingerprint = database.setting(FINGERPRINT)
    # no vector is of an embedder without a fingerprint
    return fingerprint, Pending(database).count_pending(fingerprint or "")


def sizes(folder: Path) -> dict[str, int]:
    """Bytes by file and folder directly below the memory's folder."""
    found = {}
    for path in sorted(folder.iterdir()):
        files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        found[path.name] = sum(one.stat().st_size for one in files)
    return found


def verify(database: Database) -> Verdict:
    """Look at every page and every row; seconds for 100,000 passages.

    Raises:
        StoreError: the file can't be read at all.
    """
    try:
        with database.looking() as connection:
            problems = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_LONGEST})") if row[0] != "ok"]
            problems += [
                f"a row of {row[0]} points to a row of {row[2]} that is not there" for row in _dangling(database)
            ]
            for table, kind in OWNERS.items():
                asked = f"SELECT count(*) FROM passages WHERE kind = ? AND owner NOT IN (SELECT id FROM {table})"  # noqa: S608
                if lost := connection.execute(asked, (kind,)).fetchone()[0]:
                    problems.append(f"{lost} passages of the kind {kind} are part of nothing")
            passages = int(connection.execute("SELECT count(*) FROM passages").fetchone()[0])
    except StoreDamaged as error:
        return Verdict(problems=(error.message,))
    problems += _words(database)
    return Verdict(problems=tuple(problems[:_LONGEST]), passages=passages)


def rebuild_words(database: Database) -> None:
    """Make the full-text index anew from what is kept.

    Raises:
        StoreError: the file can't be written.
    """
    with database.writing() as connection:
        connection.execute("INSERT INTO words (words) VALUES ('rebuild')")


def vacuum(database: Database) -> None:
    """Give back what deleted rows took; needs as much room again as the file has for a moment.

    Raises:
        StoreFull: there is no room for it; nothing is changed.
        StoreError: the file can't be written.
    """
    with database.writing() as connection:
        connection.execute("INSERT INTO words (words) VALUES ('optimize')")
    with database.told():
        database.connection.execute("VACUUM")
        database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _dangling(database: Database) -> list[tuple[str, int, str, int]]:
    return database.connection.execute("PRAGMA foreign_key_check").fetchall()[:_LONGEST]


def _words(database: Database) -> list[str]:
    """Whether the full-text index says what the passages say."""
    try:
        with database.writing() as connection:
            connection.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")
    except StoreDamaged:
        return ["the full-text index differs from what is kept: `benchai memory rebuild` makes it anew"]
    return []
