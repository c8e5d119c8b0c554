"""The process that reads what `apart` gives it: a job as one line of JSON and the bytes of the source, again and again.

Its answers are lines: a letter and JSON. ``d`` the document without its parts, ``p`` some of its pieces, ``l`` some of
its links, or ``f`` why it can't be read; then ``e`` and whether another job may follow; ``.`` at any time: it goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import TypeAdapter

from benchai.errors import SourceError
from benchai.memory.cut import Cutting
from benchai.memory.loaders import Read, Reader, base
from benchai.memory.types import Document, Link, Piece

_SOME = 256  # pieces or links of one line: whoever reads it is held up for a millisecond
_PR_SET_PDEATHSIG = 1
_PIECES = TypeAdapter(Sequence[Piece])
_LINKS = TypeAdapter(Sequence[Link])


def main(parent: int, memory: int) -> None:
    """Read what comes over the standard input, until it ends.

    Args:
        parent: Process id of whoever asks; without it this one has no reason to be.
        memory: Bytes that this process may take.
    """
    _tie(parent)
    _bound(memory)
    jobs = sys.stdin.buffer
    told = os.fdopen(os.dup(1), "wb")
    # a parser that prints must not write into the answers
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def tell(kind: bytes, said: bytes = b"") -> None:
        told.write(kind + said + b"\n")

    def alive() -> None:
        tell(b".")
        told.flush()

    base.signs.append(alive)
    goes_on = True
    while goes_on and (line := jobs.readline()):
        _do(json.loads(line), jobs.read, tell)
        goes_on = not _is_swollen(memory)
        tell(b"e", json.dumps(goes_on).encode())
        told.flush()


def _do(job: dict[str, Any], take: Callable[[int], bytes], tell: Callable[[bytes, bytes], None]) -> None:
    source, data = job["source"], take(job["size"])
    try:
        _tell(_reader(job)(source, data, job["mtime_ns"], media_type=job["media_type"]), tell)
    except SourceError as error:
        tell(b"f", json.dumps([error.message, error.hint]).encode())
    except MemoryError:
        os.abort()  # nothing can be told any more
    except Exception as error:  # a bug of a parser must not end the reading of all others
        said = json.dumps([f"{source!r} can't be read: {type(error).__name__}", "save it anew, or as text"])
        tell(b"f", said.encode())


def _reader(job: dict[str, Any]) -> Read:
    cutting = Cutting(*job["cutting"])
    if job["vault"] is None:
        return Reader(cutting, job["cap"])
    from benchai.memory.vault.reader import NoteReader

    return NoteReader(job["vault"], cutting, job["cap"])


def _tell(document: Document, tell: Callable[[bytes, bytes], None]) -> None:
    tell(b"d", document.model_dump_json(exclude={"pieces", "links"}).encode())
    for start in range(0, len(document.pieces), _SOME):
        tell(b"p", _PIECES.dump_json(document.pieces[start : start + _SOME]))
    for start in range(0, len(document.links), _SOME):
        tell(b"l", _LINKS.dump_json(document.links[start : start + _SOME]))


def _tie(parent: int) -> None:
    """End with the parent, on Linux at once, elsewhere with the next answer; an interrupt is the parent's matter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(0)
        # the one to end where the machine runs out of memory
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("1000")


def _bound(memory: int) -> None:
    try:
        import resource
    except ImportError:  # no POSIX system
        return
    for limit, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (most, most))


def _is_swollen(memory: int) -> bool:
    """Whether what is left of one document could be in the way of the next one."""
    try:
        import resource
    except ImportError:
        return False
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit > memory // 4


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
