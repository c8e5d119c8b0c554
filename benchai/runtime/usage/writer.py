"""What the thread of the usage rows does: batches into SQLite, each in one transaction, whatever the disk says."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchai.config.usage import UsageConfig
from benchai.errors import BenchAIError
from benchai.runtime.usage.purge import empty_wal, trim
from benchai.runtime.usage.row import UsageRow, speed_of, storable, values_of
from benchai.runtime.usage.schema import INSERT, connect, give_feedback, transaction
from benchai.runtime.usage.uptime import Change, Service

#: Rows that may wait while the file cannot be written; beyond, the oldest are lost.
MOST_WAITING = 10_000
BUSY_SECONDS = 1.0
TRIM_SECONDS = 6 * 3600.0
#: Between two lines about rows that were lost.
QUIET_SECONDS = 600.0
FIRST_RETRY, LONGEST_RETRY = 1.0, 30.0
#: What is wrong with one row, not with the file.
_BAD_ROW = (
    UnicodeEncodeError,
    OverflowError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.IntegrityError,
    sqlite3.DataError,
)
_CONTENTS = "INSERT INTO contents VALUES (?, ?, ?, ?)"
_STATE = "INSERT INTO states VALUES (?, ?, ?, ?, ?)"
_SERVICE = (
    "INSERT INTO services VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET seen = max(seen, excluded.seen), ended = max(ended, excluded.ended)"
)


@dataclass(frozen=True)
class Sample:
    """Shares of the GPUs at a moment: of their memory that is held, of the time they computed."""

    time: float
    memory: float
    compute: float | None


@dataclass(frozen=True)
class Feedback:
    """What a user thinks of a reply; ``done`` tells whether it could be attached."""

    id: str
    value: float
    comment: str | None
    done: Future[None] = field(default_factory=Future)


@dataclass(frozen=True)
class Flush:
    """``done`` tells, once all that came before it was tried, whether it is on the disk."""

    done: Future[bool] = field(default_factory=Future)


Item = UsageRow | Change | Service | Sample | Feedback | Flush


class Writer:
    """Writes items; what cannot be written now is kept and tried again. Used by one thread only.

    ``tell`` gets a line when writing fails, and one when it works again. ``lost`` counts rows that were given up.
    """

    def __init__(self, file: Path, config: UsageConfig, tell: Callable[[str], None]) -> None:
        self.config = config
        self.written = 0
        self.lost = 0
        self._file = file
        self._tell = tell
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._rows: deque[UsageRow] = deque()
        self._notes: deque[Change | Service | Sample] = deque(maxlen=MOST_WAITING)
        self._failures = 0
        self._told_lost = 0
        self._retry_at = 0.0
        self._trim_at = 0.0
        self._quiet_until = 0.0

    @property
    def waiting(self) -> int:
        """Rows that could not be written yet."""
        return len(self._rows)

    @property
    def retry_in(self) -> float | None:
        """Seconds until what waits should be tried again; None when nothing does."""
        return max(0.0, self._retry_at - time.monotonic()) if self._rows or self._notes else None

    def write(self, items: Sequence[Item], *, at_once: bool = False) -> None:
        """Take items, and write all that waits unless the last failure was a moment ago; never raises.

        Args:
            items: What came, in its order.
            at_once: Try in any case.
        """
        self._rows.extend(one for one in items if isinstance(one, UsageRow))
        self._notes.extend(one for one in items if isinstance(one, Change | Service | Sample))
        asked = [one for one in items if isinstance(one, Feedback)]
        urgent = at_once or any(isinstance(one, Feedback | Flush) for one in items)
        if urgent or time.monotonic() >= self._retry_at:
            self._try(asked)
        self._shed()
        for one in items:
            if isinstance(one, Flush):
                one.done.set_result(not self._rows)

    def close(self) -> None:
        """Close the file; rows that still wait are lost."""
        self.lost += len(self._rows)
        self._rows.clear()
        self._disconnect()
        self._quiet_until = 0.0
        self._tell_loss()

    def _try(self, asked: Sequence[Feedback]) -> None:
        if not (self._rows or self._notes or asked):
            return
        errors: list[BenchAIError | None] = []
        try:
            bad = self._commit(asked, errors)
        except (BenchAIError, OSError, sqlite3.Error) as error:
            self._failed(error)
            errors = [_unwritten(error)] * len(asked)
        else:
            self.written += len(self._rows) - bad
            self.lost += bad
            self._rows.clear()
            self._notes.clear()
            self._succeeded()
        for one, wrong in zip(asked, errors, strict=True):
            if wrong is None:
                one.done.set_result(None)
            else:
                one.done.set_exception(wrong)

    def _commit(self, asked: Sequence[Feedback], errors: list[BenchAIError | None]) -> int:
        """One transaction for all; returns how many rows cannot be kept, whatever the disk does."""
        connection = self._connect()
        with transaction(connection):
            bad = self._insert(connection)
            for note in self._notes:
                connection.execute(*_statement(note))
            for one in asked:
                errors.append(_given(connection, one))
        return bad

    def _insert(self, connection: sqlite3.Connection) -> int:
        # most rows bring their speed; to copy all would hold up the event loop, which shares the interpreter's lock
        rows = [row if row.tokens_per_s is not None else replace(row, tokens_per_s=speed_of(row)) for row in self._rows]
        connection.execute("SAVEPOINT batch")
        try:
            connection.executemany(INSERT, map(values_of, rows))
            connection.executemany(_CONTENTS, (_contents(row) for row in rows if self._keeps(row)))
            return 0
        except _BAD_ROW:
            connection.execute("ROLLBACK TO batch")
            return sum(not self._insert_one(connection, row) for row in rows)
        finally:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("RELEASE batch")

    def _insert_one(self, connection: sqlite3.Connection, row: UsageRow) -> bool:
        try:
            connection.execute(INSERT, tuple(map(storable, values_of(row))))
            if self._keeps(row):
                connection.execute(_CONTENTS, tuple(map(storable, _contents(row))))
        except _BAD_ROW:
            return False
        return True

    def _keeps(self, row: UsageRow) -> bool:
        return self.config.contents and (row.request is not None or row.reply is not None)

    def _connect(self) -> sqlite3.Connection:
        """The file as it is now: it may have been moved away, or deleted."""
        if self._connection is not None and self._opened != _identity(self._file):
            self._disconnect()
        if self._connection is None:
            self._connection = connect(self._file, wait=BUSY_SECONDS)
            self._opened = _identity(self._file)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        delay = min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(self._failures - 1, 10))
        self._retry_at = time.monotonic() + delay
        self._disconnect()
        if self._failures == 1:
            self._tell(f"usage rows cannot be written to {str(self._file)!r} now: {error}; requests go on without")

    def _succeeded(self) -> None:
        if self._failures:
            self._tell("usage rows are written again")
        self._failures, self._retry_at = 0, 0.0
        self._tell_loss()
        if time.monotonic() >= self._trim_at:
            self._trim_at = time.monotonic() + TRIM_SECONDS
            self._trim()

    def _trim(self) -> None:
        """Delete what is too old; what fails now is tried the next time."""
        assert self._connection is not None
        with contextlib.suppress(sqlite3.Error):
            if trim(self._connection, time.time() - self.config.retention * 86_400):
                empty_wal(self._connection)

    def _shed(self) -> None:
        while len(self._rows) > MOST_WAITING:
            self._rows.popleft()
            self.lost += 1

    def _tell_loss(self) -> None:
        # a client that sends nonsense all day must not fill the log
        if self.lost > self._told_lost and time.monotonic() >= self._quiet_until:
            self._tell(f"{self.lost - self._told_lost} usage rows were lost")
            self._told_lost = self.lost
            self._quiet_until = time.monotonic() + QUIET_SECONDS


def _contents(row: UsageRow) -> tuple[object, ...]:
    return (row.id, row.time, row.request, row.reply)


def _statement(note: Change | Service | Sample) -> tuple[str, tuple[object, ...]]:
    if isinstance(note, Change):
        return _STATE, (note.service, note.time, note.model, note.previous, note.state)
    if isinstance(note, Sample):
        return "INSERT INTO gpus VALUES (?, ?, ?)", (note.time, note.memory, note.compute)
    core = json.dumps(dict(note.core))
    return _SERVICE, (note.id, os.getpid(), note.started, note.seen, note.ended, core)


def _given(connection: sqlite3.Connection, one: Feedback) -> BenchAIError | None:
    try:
        give_feedback(connection, one.id, one.value, one.comment)
    except BenchAIError as error:
        return error
    return None


def _unwritten(error: Exception) -> BenchAIError:
    return BenchAIError(f"the feedback cannot be written now: {error}", hint="try again in a moment")


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino)
