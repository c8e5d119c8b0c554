"""Deleting all that is kept, so that nothing of it is left on the disk or in another process."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from pathlib import Path

from benchai.errors import BenchAIError
from benchai.runtime.router.cache.database import (
    DAMAGED,
    GENERATION,
    NAMES,
    WRITE_SECONDS,
    connect,
    damaged_file,
    side_files,
    transaction,
)


def clear(file: Path) -> int:
    """Delete all that is kept, for other processes too, and what a damaged file held. Returns how many replies went.

    Raises:
        BenchAIError: another process holds the file, or it can't be written.
    """
    try:
        damaged_file(file).unlink(missing_ok=True)
        if not file.exists():
            return 0
        with contextlib.closing(connect(file, WRITE_SECONDS)) as opened:
            return _empty(opened)
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF in DAMAGED:
            for one in (file, *side_files(file)):
                one.unlink(missing_ok=True)
            return 0
        raise _not_cleared(file, error, "try again; end benchai serve if it goes on") from error
    except OSError as error:
        raise _not_cleared(file, error, "check its permissions, or set BENCHAI_HOME") from error


def _not_cleared(file: Path, error: Exception, hint: str) -> BenchAIError:
    return BenchAIError(f"the cache in {str(file)!r} cannot be cleared: {error}", hint=hint)


def _empty(opened: sqlite3.Connection) -> int:
    with transaction(opened):
        [(count,)] = opened.execute("SELECT count(*) FROM replies").fetchall()
        for name in NAMES:
            opened.execute(f"DELETE FROM {name}")  # noqa: S608
        # tells other processes to forget what they have in memory, and not to write what they had before
        opened.execute("INSERT INTO facts VALUES (?, ?)", (GENERATION, secrets.randbits(62)))
    opened.execute("VACUUM")
    end = time.monotonic() + WRITE_SECONDS
    while opened.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0]:
        if time.monotonic() > end:
            raise sqlite3.OperationalError("another process reads it")
    return int(count)
