"""Deleting usage rows so that nothing of them is left in the file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from benchai.errors import BenchAIError
from benchai.runtime.usage.schema import opened, transaction

#: For others that read or write.
WAIT_SECONDS = 10.0


def trim(connection: sqlite3.Connection, before: float) -> int:
    """Delete what came up to ``before`` (seconds since the epoch); returns how many requests that were.

    Raises:
        sqlite3.Error: it cannot be written.
    """
    with transaction(connection):
        gone = connection.execute("DELETE FROM requests WHERE time <= ?", (before,)).rowcount
        connection.execute("DELETE FROM contents WHERE time <= ?", (before,))
        connection.execute("DELETE FROM gpus WHERE time <= ?", (before,))
        # a server that still ran needs all of its states: the last one says what came after
        connection.execute("DELETE FROM services WHERE seen <= ?", (before,))
        connection.execute("DELETE FROM states WHERE service NOT IN (SELECT id FROM services)")
    return gone


def empty_wal(connection: sqlite3.Connection) -> bool:
    """Move the write-ahead log into the file and cut it to nothing; False while another process reads.

    Raises:
        sqlite3.Error: it cannot be written.
    """
    return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]


def count(file: Path, before: float | None) -> int:
    """Requests that ``purge`` would delete.

    Raises:
        BenchAIError: the file cannot be read.
    """
    with opened(file) as connection:
        limit = float("inf") if before is None else before
        return int(connection.execute("SELECT count(*) FROM requests WHERE time <= ?", (limit,)).fetchone()[0])


def purge(file: Path, before: float | None) -> int:
    """Delete rows for good: those older than ``before``, seconds since the epoch, or all.

    What is deleted is overwritten (``secure_delete``), the file is written anew, its log emptied. What a disk or a
    file system keeps of overwritten blocks is out of reach.

    Returns:
        How many requests were deleted.

    Raises:
        BenchAIError: the file cannot be written, or is read by another process, so that a part is left in its log.
    """
    with opened(file, WAIT_SECONDS) as connection:
        gone = trim(connection, float("inf") if before is None else before)
        connection.execute("VACUUM")
        if not empty_wal(connection):
            message = f"{gone} usage rows are deleted, but their traces are still in the log: another process reads it"
            raise BenchAIError(message, hint="end benchai stats elsewhere, and purge again")
    return gone
