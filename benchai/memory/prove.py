"""The proof of forgetting: everything is written anew without what was forgotten, then all bytes are looked through.

It covers the files: what a file system keeps of blocks that a file has given back (snapshots, backups, the cells of an
SSD) is beyond the reach of a program.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import Field

from benchai.errors import StoreError, StoreFull
from benchai.memory.database import Database
from benchai.memory.file_scan import scan
from benchai.memory.needles import Haystack, Needle, text_needles, vector_needle
from benchai.memory.types import Value

#: Findings that are told; of each text, in each file, the first.
MOST = 200
_SHORTEST_WORD = 6
_ROWS = 500
_SIDE_FILES = ("", "-wal", "-shm", "-journal")
#: Columns with texts that other rows may have said as well.
_SAID = (
    "SELECT text FROM passages",
    "SELECT context FROM passages",
    "SELECT title || char(10) || heading FROM passages",
    "SELECT text FROM turns",
    "SELECT subject || char(10) || value || char(10) || text FROM facts",
    "SELECT task || char(10) || steps FROM howtos",
    "SELECT text FROM summaries",
    "SELECT source || char(10) || title || char(10) || meta FROM documents",
    "SELECT query FROM labels",
    "SELECT target || char(10) || part FROM links",
    "SELECT thread || char(10) || run || char(10) || name FROM turns",
    "SELECT user || char(10) || project || char(10) || thread FROM namespaces",
    # as they are compared
    "SELECT key || char(10) || value_key FROM facts",
    "SELECT key FROM howtos",
    "SELECT term FROM vocabulary",
)


class Finding(Value):
    """Something that should be gone and is not.

    Attributes:
        place: Where: ``memory``, or the name that the caller gave to a file outside it.
        offset: Bytes from the beginning of the file.
        what: Whether it is a whole text, a part of one, a word of the full-text index, or a vector.
        origin: Which of the texts, words or vectors that were asked for, from 0.
        sample: Its beginning, for people; of a vector "".
    """

    place: str
    file: str
    offset: int
    what: str
    encoding: str
    origin: int
    sample: str = ""


class Proof(Value):
    """What the proof looked at and found.

    Attributes:
        files, bytes: That were looked through.
        findings: What is still there; none means that all of it is gone.
        words: Words, as the full-text index keeps them, that only the forgotten had said; they were looked for, too.
        elsewhere: Texts, by their place in what was asked, that other rows still say in part or as a whole: those parts
            could not be looked for.
        short: Texts that are too short to be looked for.
        unread: Files that could not be read, with the reason: nothing is proved for them.
        seconds: What each part took.
    """

    files: int = 0
    bytes: int = 0
    findings: tuple[Finding, ...] = ()
    words: tuple[str, ...] = ()
    elsewhere: tuple[int, ...] = ()
    short: tuple[int, ...] = ()
    unread: dict[str, str] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether nothing was found in any file, and all could be read."""
        return not self.findings and not self.unread


def prove(
    folder: Path,
    database: Database,
    rebuild_vectors: Callable[[], object] | None,
    texts: Sequence[str],
    vectors: Sequence[Sequence[float]] = (),
    elsewhere: Sequence[tuple[str, Path]] = (),
) -> Proof:
    """Write the memory's files anew, and look for what was forgotten in all of their bytes.

    Args:
        folder: Of the memory.
        database: Its file, in which the forgetting is done; nobody else may read it meanwhile.
        rebuild_vectors: Makes the vector index anew in another folder, puts that in the place of the old one, and
            removes the old one; None where there is none.
        texts: What was forgotten.
        vectors: Of what was forgotten.
        elsewhere: Files and folders outside the memory that may hold the texts, with a name for people.

    Raises:
        StoreError: the files can't be written anew.
    """
    began = time.perf_counter()
    rewrite(database)
    rewritten = time.perf_counter()
    if rebuild_vectors is not None:
        rebuild_vectors()
    rebuilt = time.perf_counter()
    words = rare_words(database, texts)
    proof = _look(folder, database, texts, words, vectors, elsewhere)
    seconds = {
        "sqlite": rewritten - began,
        "vectors": rebuilt - rewritten,
        "scan": time.perf_counter() - rebuilt,
    }
    return proof.model_copy(update={"seconds": seconds, "words": tuple(words)})


def see_room(database: Database) -> None:
    """Refuse what would not end, before anything is forgotten: index and rows are written anew, both into the log.

    Raises:
        StoreFull: there is too little room for that.
        StoreError: the file can't be read.
    """
    with database.looking() as connection:
        size = (
            connection.execute("PRAGMA page_count").fetchone()[0] * connection.execute("PRAGMA page_size").fetchone()[0]
        )
    log = database.file.with_name(f"{database.file.name}-wal")
    needed = 2 * size - (log.stat().st_size if log.exists() else 0)
    free = shutil.disk_usage(database.file.parent).free
    if free < needed:
        text = f"to be proved, the memory {str(database.file)!r} needs {needed:,} bytes of room, and has {free:,}"
        raise StoreFull(text, hint="free space on the disk, or forget without --prove; nothing was forgotten")


def rewrite(database: Database) -> None:
    """Write the SQLite file anew from the rows that are left, and empty its log.

    Raises:
        StoreFull: the disk is full; the file is as it was.
        StoreError: somebody reads the file, so that its log can't be emptied; or it can't be written.
    """
    with database.writing() as connection:
        # the index is made from the rows; deleted terms are in none of its parts any more
        connection.execute("INSERT INTO words (words) VALUES ('rebuild')")
        connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        connection.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")
    with database.told():
        connection = database.connection
        kept = connection.execute("PRAGMA secure_delete").fetchone()[0]
        connection.execute("PRAGMA secure_delete=ON")
        try:
            connection.execute("VACUUM")
        finally:
            connection.execute(f"PRAGMA secure_delete={int(kept)}")
        busy, left, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy or left:
        raise StoreError(
            f"the log of the memory {str(database.file)!r} can't be emptied: somebody reads it",
            hint="close what else has it open, and prove again",
        )


def rare_words(database: Database, texts: Sequence[str]) -> list[str]:
    """The words of texts, as the full-text index keeps them, that no row of the memory has."""
    with contextlib.closing(sqlite3.connect(":memory:")) as stems:
        stems.execute("CREATE VIRTUAL TABLE said USING fts5 (text, tokenize='porter unicode61 remove_diacritics 2')")
        stems.execute("CREATE VIRTUAL TABLE terms USING fts5vocab ('said', 'row')")
        stems.executemany("INSERT INTO said (text) VALUES (?)", [(text,) for text in texts])
        found = [row[0] for row in stems.execute("SELECT term FROM terms ORDER BY term")]
    with database.looking() as connection:
        asked = "SELECT 1 FROM vocabulary WHERE term = ?"
        return [word for word in found if connection.execute(asked, (word,)).fetchone() is None]


def _look(
    folder: Path,
    database: Database,
    texts: Sequence[str],
    words: Sequence[str],
    vectors: Sequence[Sequence[float]],
    elsewhere: Sequence[tuple[str, Path]],
) -> Proof:
    needles = [needle for origin, text in enumerate(texts) for needle in text_needles(text, origin)]
    needles += [vector_needle(vector, origin) for origin, vector in enumerate(vectors)]
    needles += [
        Needle(word.encode(), "word", "utf-8", origin)
        for origin, word in enumerate(words)
        if len(word.encode()) >= _SHORTEST_WORD
    ]
    said = _still_said(database, needles)
    files = [("memory", file) for file in _files(folder)]
    files += [(name, file) for name, path in elsewhere for file in _files(path)]
    seen = scan([needle for needle in needles if needle not in said], [file for _, file in files])
    return Proof(
        files=len(files) - len(seen.unread),
        bytes=seen.size,
        findings=tuple(_finding(*files[number], offset, needle) for number, offset, needle in seen.found[:MOST]),
        elsewhere=tuple(sorted({needle.origin for needle in said if needle.what in ("text", "part")})),
        short=tuple(place for place, text in enumerate(texts) if not text_needles(text, place)),
        unread={str(files[number][1]): reason for number, reason in seen.unread.items()},
    )


def _still_said(database: Database, needles: Sequence[Needle]) -> set[Needle]:
    """Those of the needles that stand in rows that stay: nobody forgot these."""
    haystack, found = Haystack(needles), set[Needle]()
    with database.looking() as connection:
        for asked in _SAID:
            rows = connection.execute(asked)
            while some := rows.fetchmany(_ROWS):
                # together: each look at bytes has a price, however few they are
                joined = "\n".join(text for (text,) in some).encode("utf-8", "replace")
                found |= {needle for _, needle in haystack.within(joined)}
    same = {(needle.origin, needle.what) for needle in found if needle.what == "text"}
    # a short text that is still said is not looked for in another encoding either
    return found | {needle for needle in needles if (needle.origin, needle.what) in same}


def _finding(place: str, file: Path, offset: int, needle: Needle) -> Finding:
    return Finding(
        place=place,
        file=str(file),
        offset=offset,
        what=needle.what,
        encoding=needle.encoding,
        origin=needle.origin,
        sample=_sample(needle),
    )


def _sample(needle: Needle) -> str:
    if needle.what == "vector":
        return ""
    encoding = "utf-16-le" if needle.encoding == "utf-16-le" else "utf-8"
    return needle.data.decode(encoding, "replace")[:40]


def _files(path: Path) -> Iterator[Path]:
    """The files of a folder, or a file and what SQLite keeps beside it.

    Links at the top of a folder are followed: vectors, or the rows, may be on another disk.
    """
    if not path.is_dir():
        sides = (path.with_name(path.name + side) for side in _SIDE_FILES)
        yield from (file for file in sides if file.is_file())
        return
    yield from _below(path)
    for link in sorted(one for one in path.iterdir() if one.is_symlink()):
        if link.is_dir():
            yield from _below(link)
        elif link.is_file():
            # what SQLite keeps beside it is beside the one that is meant
            yield from _files(link.resolve())
        elif not link.exists():
            # told as one that can't be read
            yield link


def _below(path: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(path):
        # the lock has no text, sockets and pipes have no end
        yield from (file for name in sorted(names) if (file := Path(folder, name)).is_file() and not file.is_symlink())
