"""Whose the memory is: one process at a time, by a lock that the kernel gives back when that process dies.

Two processes on one Chroma folder lose vectors without an exception, and a reader beside a writer stays stale.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import psutil
from filelock import BaseFileLock, FileLock, Timeout

from benchai.config import paths
from benchai.errors import StoreError, StoreFull, StoreInUse

LOCK = "owner.lock"
RECORD = "owner.json"
_SAME_MOMENT = 1.5


@dataclass(frozen=True)
class Holder:
    """A process that has taken a memory: its pid, when it started (seconds since 1970), and the program."""

    pid: int
    started: float
    program: str

    @property
    def runs(self) -> bool:
        """Whether this very process still runs: pids come again."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _SAME_MOMENT
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


class Owner:
    """The lock on a memory's folder, held from `take` to `close`, or to the end of the process."""

    def __init__(self, folder: Path, lock: BaseFileLock) -> None:
        self.folder = folder
        self._lock: BaseFileLock | None = lock

    @classmethod
    def take(cls, folder: Path, wait: float = 0.0, program: str = "") -> Owner:
        """Own the folder, which is made, for this user alone, if it is not there.

        Args:
            folder: Of the memory.
            wait: Seconds to wait for the process that has it.
            program: What others are told that has it; default: the program of this process.

        Raises:
            StoreInUse: another process, or another part of this one, has it; says which.
            StoreError: the folder can't be made, or can't be locked.
        """
        lock = _take(folder, wait)
        me = Holder(os.getpid(), psutil.Process().create_time(), program or _program())
        # the lock holds without it: who is told nothing about the holder is still kept out
        with contextlib.suppress(OSError):
            paths.replace_text(folder / RECORD, json.dumps(asdict(me)), mode=0o600)
        return cls(folder, lock)

    def close(self) -> None:
        """Let others have it; a second call does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            # before the release: afterwards it may be the next one's
            with contextlib.suppress(OSError):
                (self.folder / RECORD).unlink()
            lock.release()

    def __enter__(self) -> Owner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def holder(folder: Path) -> Holder | None:
    """The process that has the memory of this folder, None if none has it or it has not said so yet."""
    try:
        data = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        found = Holder(int(data["pid"]), float(data["started"]), str(data["program"])[:100])
        return found if found.runs else None
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return None


def asked_at(folder: Path) -> int:
    """When somebody wanted the memory of this folder last, and found it taken: changes with each time; 0 for never."""
    try:
        return (folder / LOCK).stat().st_mtime_ns
    except OSError:
        return 0


def _take(folder: Path, wait: float) -> BaseFileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # thread_local: the thread that closes need not be the one that took it
        lock = FileLock(folder / LOCK, mode=0o600, thread_local=False)
        lock.acquire(timeout=wait)
        return lock
    except Timeout:
        # the owner sees it, see `asked_at`
        with contextlib.suppress(OSError):
            os.utime(folder / LOCK)
        raise _in_use(folder) from None
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            text = f"the memory's folder {str(folder)!r} can't be locked: its disk is full"
            raise StoreFull(text, hint="free space on the disk") from error
        raise StoreError(
            f"the memory's folder {str(folder)!r} can't be locked: {error}",
            hint="name a folder of a local disk that you may write to (memory.path)",
        ) from error


def _in_use(folder: Path) -> StoreInUse:
    found = holder(folder)
    if found is None:
        who, hint = "another process", "try again in a moment"
    elif found.pid == os.getpid():
        who, hint = "this process already", "close the first one before another is opened"
    else:
        who = f"{found.program} (pid {found.pid})"
        hint = f"stop it (kill {found.pid}), or go through it: `benchai serve` keeps the memory for everybody"
    return StoreInUse(f"the memory in {str(folder)!r} is in use by {who}", hint=hint)


def _program() -> str:
    # never the whole command line: a task may stand in it
    name = Path(sys.argv[0] or sys.executable).name
    words = [word for word in sys.argv[1:2] if word.isalpha()]
    return " ".join([name, *words])
