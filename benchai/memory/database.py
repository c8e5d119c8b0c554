"""The memory's SQLite file: opened, its errors in our words, namespaces as numbers, a clock that never runs back."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from benchai.errors import StoreDamaged, StoreError, StoreFull
from benchai.memory.namespace import Namespace
from benchai.memory.room import has_no_room
from benchai.memory.schema import TABLES, TRIGGERS, VERSION

BUSY_SECONDS = 10.0
_CACHE_KIB = 65_536


class Database:
    """One connection; use it from one thread.

    Args:
        file: Made where it is not there.
        reading: Whether this connection only reads, beside one that writes.

    Raises:
        StoreError: the file can't be opened, or is of a newer version.
        StoreDamaged: it is no database.
    """

    def __init__(self, file: Path, *, reading: bool = False) -> None:
        self.file = file
        self._namespaces: dict[Namespace, int] = {}
        self._names: dict[int, str] = {}
        self._latest = 0.0
        with _in_our_words(file):
            self.connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(reading)
            except BaseException:
                self.connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _prepare(self, reading: bool) -> None:
        # FULL: what was acknowledged survives a power failure, too
        for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"cache_size=-{_CACHE_KIB}"):
            self.connection.execute(f"PRAGMA {setting}")
        if reading:
            self.connection.execute("PRAGMA query_only=ON")
            return
        found = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if found > VERSION:
            raise StoreError(
                f"the memory {str(self.file)!r} has the version {found}, newer than {VERSION}",
                hint="update benchai, or set memory.path to another folder",
            )
        if found == 0:
            # one transaction, so that a crash leaves no half of it; executescript commits what is open
            self.connection.executescript(f"BEGIN IMMEDIATE; {TABLES} {TRIGGERS} PRAGMA user_version={VERSION}; COMMIT")
        self._latest = self.connection.execute("SELECT max(at) FROM passages").fetchone()[0] or 0.0

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is kept once the context is left, or nothing.

        Raises:
            StoreFull: the disk is full.
            StoreDamaged: the file is.
            StoreError: it can't be written.
        """
        with _in_our_words(self.file):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                # their numbers may be given to others
                self._namespaces.clear()
                self._names.clear()
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def looking(self) -> Iterator[sqlite3.Connection]:
        """Several looks at one state of the file.

        Raises:
            StoreDamaged: the file is.
            StoreError: it can't be read.
        """
        with _in_our_words(self.file):
            self.connection.execute("BEGIN")
            try:
                yield self.connection
            finally:
                self.connection.execute("ROLLBACK")

    @contextmanager
    def told(self) -> Iterator[None]:
        """Errors in our words, without a transaction."""
        with _in_our_words(self.file):
            yield

    def now(self) -> float:
        """Seconds since 1970, never less than before: the clock may be set back, what came later stays later."""
        self._latest = max(time.time(), self._latest)
        return self._latest

    def number(self, namespace: Namespace) -> int:
        """The number of a namespace, which is made where it is new; within ``writing``."""
        known = self._number(namespace)
        if known is None:
            row = self.connection.execute(
                "INSERT INTO namespaces (user, project, thread) VALUES (?, ?, ?) RETURNING id",
                (namespace.user, namespace.project, namespace.thread),
            ).fetchone()
            known = self._namespaces[namespace] = int(row[0])
        return known

    def own(self, namespace: Namespace) -> int:
        """The number of a namespace; -1, which no row has, where it is new."""
        known = self._number(namespace)
        return -1 if known is None else known

    def visible(self, namespace: Namespace) -> tuple[int, ...]:
        """The numbers of what a call in a namespace sees."""
        found = (self._number(level) for level in namespace.visible())
        return tuple(number for number in found if number is not None)

    def below(self, namespace: Namespace) -> tuple[int, ...]:
        """The numbers of a namespace and of all that lie below it."""
        rows = self.connection.execute(
            "SELECT id FROM namespaces WHERE user = ? AND (? = '' OR project = ?) "
            "AND (? = '' OR (thread = ? AND project = ?))",
            (
                namespace.user,
                namespace.project,
                namespace.project,
                namespace.thread,
                namespace.thread,
                namespace.project,
            ),
        )
        return tuple(row[0] for row in rows)

    def name(self, number: int) -> str:
        """How a namespace is written."""
        if number not in self._names:
            asked = "SELECT user, project, thread FROM namespaces WHERE id = ?"
            self._names[number] = str(Namespace(*self.connection.execute(asked, (number,)).fetchone()))
        return self._names[number]

    def setting(self, name: str) -> str | None:
        """A value that was set; None where it was not."""
        row = self.connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set(self, name: str, value: str | None) -> None:
        """Keep a value, or forget it; within ``writing``."""
        if value is None:
            self.connection.execute("DELETE FROM settings WHERE name = ?", (name,))
        else:
            self.connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def _number(self, namespace: Namespace) -> int | None:
        known = self._namespaces.get(namespace)
        if known is None:
            row = self.connection.execute(
                "SELECT id FROM namespaces WHERE user = ? AND project = ? AND thread = ?",
                (namespace.user, namespace.project, namespace.thread),
            ).fetchone()
            if row is None:
                return None
            known = self._namespaces[namespace] = int(row[0])
        return known


def marks(values: tuple[int, ...] | list[int]) -> str:
    """Question marks for values in a statement."""
    return ",".join("?" * len(values))


@contextmanager
def _in_our_words(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        # its lowest byte: the others tell of which kind
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        text = f"the memory {str(file)!r}: {error}"
        # of its own shared file it does not tell that the disk has no room for it
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and has_no_room(file.parent)):
            raise StoreFull(text, hint="free space on the disk; nothing of this call was kept") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            hint = "`benchai memory verify` tells what can be read; put a copy back, or move the file away"
            raise StoreDamaged(text, hint=hint) from error
        if code == sqlite3.SQLITE_IOERR:
            hint = "see whether its disk fails, or a quota or a limit on the size of files is met"
            raise StoreError(text, hint=hint) from error
        raise StoreError(text, hint="check the folder and its permissions") from error
