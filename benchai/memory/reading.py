"""Reading one file whole: never one that is too large, and not one that is being written."""

from __future__ import annotations

import os
import stat
import time
from typing import NamedTuple

from benchai.config.paths import of_database
from benchai.errors import SourceBusy, SourceError
from benchai.memory.loaders import check_size
from benchai.memory.scan import File, mend_of, reason_of

# a link that took the file's place is not followed, and a pipe not waited for
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
_TICK = 20_000_000  # ns: a clock of files goes in steps of up to 10 ms
_COARSE_TICK = 2_000_000_000  # ns: those of FAT


class Content(NamedTuple):
    """What a file holds, and when it was changed: ns since 1970, 0 where a later change might not be seen by that."""

    data: bytes
    mtime_ns: int


def read_file(file: File, cap: int) -> Content:
    """The content of a regular file; one that changes meanwhile is read once more.

    Args:
        file: As it was found; what it is now counts.
        cap: Bytes of the largest file that is read.

    Raises:
        SourceBusy: it can't be read, or changes all the time.
        SourceError: it is empty or too large, or a database that may be open.
    """
    if of_database(file.source):
        raise SourceError(f"{file.source!r} is a SQLite database in use, or belongs to one", hint="export it as text")
    try:
        return _read(file.source, cap) or _read(file.source, cap) or _restless(file.source)
    except OSError as error:
        raise SourceBusy(f"{file.source!r} can't be read: {reason_of(error)}", hint=mend_of(error)) from error


def _restless(source: str) -> Content:
    raise SourceBusy(f"{source!r} changes while it is read", hint="add it again when its writer has finished")


def _read(source: str, cap: int) -> Content | None:
    """The content; None when it changed meanwhile."""
    descriptor = os.open(source, _FLAGS)
    try:
        before, now = os.fstat(descriptor), time.time_ns()
        if not stat.S_ISREG(before.st_mode):
            raise SourceBusy(f"{source!r} is no file any more", hint="add it again")
        check_size(source, before.st_size, cap)
        data = _all(descriptor, cap + 1)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != after.st_size:
        return None
    return Content(data, 0 if _fresh(after.st_mtime_ns, now) else after.st_mtime_ns)


def _all(descriptor: int, most: int) -> bytes:
    parts: list[bytes] = []
    while most > 0 and (part := os.read(descriptor, min(most, 1 << 20))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


def _fresh(mtime_ns: int, now_ns: int) -> bool:
    """Whether the file may change once more without another time of change."""
    return abs(now_ns - mtime_ns) < (_TICK if mtime_ns % 1_000_000_000 else _COARSE_TICK)
