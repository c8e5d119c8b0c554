"""The SQLite file of the caches: read where it is asked, written in batches by a thread of its own.

A file that is damaged is set aside and a new one begun: nothing in it is needed. Several processes may share it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchai.config.paths import make_private

Job = Callable[[sqlite3.Connection], None]
Rows = list[tuple[Any, ...]]

VERSION = 1
TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replies (
    key BLOB PRIMARY KEY,
    source TEXT NOT NULL,
    version BLOB NOT NULL,
    created REAL NOT NULL,
    used REAL NOT NULL,
    size INTEGER NOT NULL,
    hits INTEGER NOT NULL,
    has_usage INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    reply BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS replies_by_use ON replies (used, size);
CREATE INDEX IF NOT EXISTS replies_by_source ON replies (source, version);
CREATE TABLE IF NOT EXISTS similar (
    scope BLOB NOT NULL,
    key BLOB NOT NULL,
    created REAL NOT NULL,
    text TEXT NOT NULL,
    vector BLOB NOT NULL,
    PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shadows (
    id INTEGER PRIMARY KEY,
    settings TEXT NOT NULL,
    time REAL NOT NULL,
    similarity REAL NOT NULL,
    agreed INTEGER NOT NULL
);
"""
#: Everything that ``clear`` empties.
NAMES = ("replies", "similar", "shadows", "facts")
GENERATION = "generation"

#: Seconds between the first write of a batch and its end: it costs a wake-up and a transaction.
LINGER = 0.2
#: Bytes that may wait for the disk; more are not written.
PENDING = 64 * 1024 * 1024
WRITE_SECONDS, READ_SECONDS = 5.0, 0.02
#: What SQLite says of a damaged file.
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_SIDE_FILES = ("-wal", "-shm", "-journal")


def damaged_file(file: Path) -> Path:
    """Where a damaged file is set aside."""
    return file.with_name(file.name + ".damaged")


def side_files(file: Path) -> list[Path]:
    """The files that SQLite keeps beside a database."""
    return [file.with_name(file.name + suffix) for suffix in _SIDE_FILES]


def connect(file: Path, seconds: float) -> sqlite3.Connection:
    """Open the file that is there, and make its tables; each statement commits itself and waits ``seconds`` for locks.

    Raises:
        sqlite3.Error: it can't be opened, or is no database.
    """
    end = time.monotonic() + seconds
    while True:
        opened = sqlite3.connect(file, timeout=seconds, isolation_level=None, check_same_thread=False)
        try:
            _prepare(opened)
            return opened
        except sqlite3.OperationalError as error:
            opened.close()
            # the change to WAL does not wait for another process that makes the same change
            if error.sqlite_errorcode & 0xFF not in _LOCKED or time.monotonic() > end:
                raise
        except BaseException:
            opened.close()
            raise


def _prepare(opened: sqlite3.Connection) -> None:
    [(version,)] = opened.execute("PRAGMA user_version").fetchall()
    if version != VERSION:
        opened.execute("PRAGMA auto_vacuum = INCREMENTAL")
    # a reader is never held up by a writer, and a kill costs nothing that was committed
    opened.execute("PRAGMA journal_mode = WAL").fetchall()
    opened.execute("PRAGMA synchronous = NORMAL")
    opened.execute("PRAGMA journal_size_limit = 16777216").fetchall()
    opened.execute("PRAGMA secure_delete = ON").fetchall()
    if version != VERSION:
        dropped = "".join(f"DROP TABLE IF EXISTS {name};" for name in NAMES) if version else ""
        begun = f"INSERT OR IGNORE INTO facts VALUES ('{GENERATION}', {secrets.randbits(62)});"  # noqa: S608 - ours
        opened.executescript(f"BEGIN IMMEDIATE;{dropped}{TABLES}{begun}PRAGMA user_version = {VERSION};COMMIT;")


class _Link:
    """One thread's connection: opened when it is needed, anew when the file has become another one."""

    def __init__(self, file: Path, seconds: float) -> None:
        self._file, self._seconds = file, seconds
        self._opened: sqlite3.Connection | None = None
        self.inode = 0
        self.times = 0

    def connection(self) -> sqlite3.Connection:
        """The connection; errors as ``connect`` has them, or OSError."""
        if self._opened is None or self._moved():
            self.close()
            make_private(self._file)
            self.inode = self._file.stat().st_ino
            self._opened = connect(self._file, self._seconds)
            self.times += 1
        return self._opened

    def _moved(self) -> bool:
        try:
            return os.stat(self._file).st_ino != self.inode  # noqa: PTH116 - on the path of every request
        except OSError:
            return True

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


class Database:
    """The file as one thread reads it, with the thread that writes it.

    What the disk refuses is told once through ``report`` (from either thread) and otherwise ignored: a read finds
    nothing then.
    """

    def __init__(self, file: Path, report: Callable[[str], None]) -> None:
        self.file = file
        self._report = report
        self._told: set[str] = set()
        self._reader = _Link(file, READ_SECONDS)
        self._writer = _Link(file, WRITE_SECONDS)
        self._setting_aside = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Job | None, int]] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._put, self._done = 0, 0
        self._thread = threading.Thread(target=self._run, name="cache writer", daemon=True)
        self.read("PRAGMA user_version")
        self._thread.start()

    def read(self, query: str, values: Sequence[Any] = ()) -> Rows:
        """The rows of a query, [] where they can't be read; for one thread only. It waits 20 ms at most for locks."""
        try:
            return self._reader.connection().execute(query, values).fetchall()
        except (OSError, sqlite3.Error) as error:
            self._failed(error, self._reader)
            return []

    def mark(self) -> tuple[int, int] | None:
        """What changes whenever anybody else has written, or the file is another one; None while it can't be read."""
        rows = self.read("PRAGMA data_version")
        return (self._reader.times, rows[0][0]) if rows else None

    def write(self, job: Job, size: int = 0) -> None:
        """Have a job done in the next transaction of the writing thread; ``size``: bytes that it holds."""
        if self._put - self._done + size > PENDING:
            self._tell("the disk does not keep up, replies are not kept")
            return
        self._put += size
        self._jobs.put((job, size))

    def flush(self, seconds: float = 2 * WRITE_SECONDS) -> bool:
        """Wait until all that was written so far is on the disk; whether it was within ``seconds``."""
        written = threading.Event()
        self._jobs.put((_signal(written), 0))
        self._hurry.set()
        return written.wait(seconds)

    def close(self) -> None:
        """Write what is left and close the file."""
        self._jobs.put((None, 0))
        self._hurry.set()
        self._thread.join(2 * WRITE_SECONDS)
        self._reader.close()

    def _run(self) -> None:
        ended = False
        while not ended:
            batch = [self._jobs.get()]
            if batch[0][0] is not None:
                self._hurry.wait(LINGER)
            self._hurry.clear()
            with contextlib.suppress(queue.Empty):
                while True:
                    batch.append(self._jobs.get_nowait())
            jobs = [job for job, _ in batch if job is not None]
            ended = len(jobs) < len(batch)
            self._commit(jobs)
            self._done += sum(size for _, size in batch)
        self._writer.close()

    def _commit(self, jobs: Sequence[Job]) -> None:
        signals = [job for job in jobs if isinstance(job, _signal)]
        try:
            opened = self._writer.connection()
            with transaction(opened):
                for job in jobs:
                    job(opened)
            opened.execute("PRAGMA incremental_vacuum").fetchall()
        except Exception as error:
            self._failed(error, self._writer)
        for signal in signals:
            signal.written.set()

    def _failed(self, error: Exception, link: _Link) -> None:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        inode = link.inode
        link.close()
        if code in DAMAGED:
            self._set_aside(inode, error)
        elif code not in _LOCKED:
            self._tell(f"{str(self.file)!r} cannot be used, replies are kept in memory alone: {error}")

    def _set_aside(self, inode: int, error: Exception) -> None:
        with self._setting_aside, contextlib.suppress(OSError):
            # another thread or process may have begun anew already
            if self.file.stat().st_ino != inode:
                return
            aside = damaged_file(self.file)
            self.file.replace(aside)
            for one in side_files(self.file):
                one.unlink(missing_ok=True)
            self._report(f"cache: {str(self.file)!r} is damaged ({error}); set aside as {aside.name!r}, begun anew")

    def _tell(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._report(f"cache: {what}")


class _signal:  # noqa: N801 - a job like the functions
    """Sets an event when everything before it is on the disk."""

    def __init__(self, written: threading.Event) -> None:
        self.written = written

    def __call__(self, _: sqlite3.Connection) -> None:
        pass


@contextlib.contextmanager
def transaction(opened: sqlite3.Connection) -> Any:
    """Have all that is done inside take effect together, or none of it."""
    opened.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if opened.in_transaction:
            opened.execute("ROLLBACK")
        raise
    opened.execute("COMMIT")
