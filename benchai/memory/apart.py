"""Reading in a process of its own: a parser that hangs, swells or dies takes one document with it, and nobody waits.

Parsers written in C hold Python's lock, for seconds on code made to be hard: no thread beside them would run.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import IO, Self

from pydantic import TypeAdapter, ValidationError

from benchai.errors import SourceBusy, SourceError
from benchai.memory.loaders import Reader, is_risky
from benchai.memory.probe import environment
from benchai.memory.types import Document, Link, Piece
from benchai.memory.vault.reader import NoteReader

_MEND = "split it, or save it as text"
_PIECES = TypeAdapter(list[Piece])
_LINKS = TypeAdapter(list[Link])
#: Bytes of a note from which on it is read apart.
_LARGE_NOTE = 256 << 10
_DYING = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the reading of one document may take.

    Args:
        seconds: Without a sign that it goes on; PDF and HTML give signs, and have time limits of their own.
        memory: Bytes, where the system can hold a process to it (Linux).
    """

    seconds: float = 120.0
    memory: int = 4 << 30


class Apart:
    """Reads as another reader does, what is large or of a risky format in a process of its own.

    That starts with the first such document and serves all that follow; it dies with this process, on Linux already
    with the thread that read the first one.

    Args:
        read: Makes the documents.
        bounds: Of each document that is read apart.
    """

    def __init__(self, read: Reader | NoteReader, bounds: Bounds | None = None) -> None:
        self._read, self._bounds = read, bounds or Bounds()
        self._child: _Child | None = None
        self._closed = False
        self._starting, self._busy = threading.Lock(), threading.Lock()

    @property
    def version(self) -> str:
        """As `Read.version`."""
        return self._read.version

    @property
    def cap(self) -> int:
        """As `Read.cap`."""
        return self._read.cap

    def __call__(self, source: str, data: bytes, mtime_ns: int = 0, *, media_type: str = "") -> Document:
        """As the reader.

        Raises:
            SourceError: as the reader; or reading it takes too long or too much memory, or ends the process.
            SourceBusy: no process can be started, or this is closed.
        """
        if not self._is_risky(source, data, media_type):
            return self._read(source, data, mtime_ns, media_type=media_type)
        job = {"source": source, "size": len(data), "mtime_ns": mtime_ns, "media_type": media_type}
        with self._busy:
            child = self._started(source)
            try:
                return child.read(source, json.dumps(job | _settings(self._read)).encode(), data, self._bounds.seconds)
            except _Died as died:
                raise self._why(source, died) from None
            finally:
                if child.ended:
                    child.close()
                    self._child = None

    def close(self) -> None:
        """End the process, whatever it does, from any thread; nothing is read apart afterwards."""
        with self._starting:
            self._closed = True
            if self._child is not None:
                self._child.kill()
        with self._busy:
            if self._child is not None:
                self._child.close()
                self._child = None

    def _is_risky(self, source: str, data: bytes, media_type: str) -> bool:
        if len(data) > self.cap:
            return False  # it is refused at once
        if isinstance(self._read, NoteReader):
            return len(data) >= _LARGE_NOTE
        return is_risky(source, data, media_type)

    def _started(self, source: str) -> _Child:
        with self._starting:
            if self._closed:
                raise SourceBusy(f"{source!r} is not read: the reading was ended", hint="add it again")
            if self._child is not None and self._child.is_gone():
                self._child.close()
                self._child = None
            if self._child is None:
                try:
                    self._child = _Child(self._bounds.memory)
                except OSError as error:
                    reason = error.strerror or type(error).__name__
                    text = f"{source!r} can't be read: no process for it: {reason}"
                    raise SourceBusy(text, hint="add it again when the machine has less to do") from error
            return self._child

    def _why(self, source: str, died: _Died) -> SourceError:
        if self._closed:
            return SourceBusy(f"{source!r} is not read: the reading was ended", hint="add it again")
        if died.late:
            return SourceError(f"{source!r} takes longer than {self._bounds.seconds:g} s to read", hint=_MEND)
        if died.code >= 0:
            text = f"{source!r} can't be read: the process that reads it ended with status {died.code}"
            return SourceBusy(text, hint="see what `python -m benchai.memory.apart_child` says")
        name = signal.Signals(-died.code).name
        most = f"it may need more than {self._bounds.memory >> 20} MiB of memory"
        return SourceError(f"{source!r} can't be read: its parser ended by {name}; {most}", hint=_MEND)


class _Died(Exception):
    def __init__(self, code: int, late: bool) -> None:
        super().__init__(code)
        self.code, self.late = code, late


class _Child:
    """The process that reads, and the pipes to it."""

    def __init__(self, memory: int) -> None:
        argv = [sys.executable, "-P", "-m", "benchai.memory.apart_child", str(os.getpid()), str(memory)]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=nothing, env=environment())
        #: Whether it can't be asked any more.
        self.ended = False

    def read(self, source: str, job: bytes, data: bytes, seconds: float) -> Document:
        """Have a document read.

        Raises:
            SourceError: it can't be read.
            _Died: the process ended over it.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with _Patience(self._process, seconds) as patience:
            try:
                stdin.writelines((job, b"\n", data))
                stdin.flush()
                reply = self._reply(stdout, patience)
            except (BrokenPipeError, ConnectionError):
                reply = None
            except ValidationError as error:
                self.kill()
                raise SourceError(f"{source!r} can't be read: the answer makes no sense", hint=_MEND) from error
        if reply is None or patience.late:
            raise _Died(self._end(), patience.late)
        if isinstance(reply, SourceError):
            raise reply
        return reply

    def is_gone(self) -> bool:
        """Whether something ended it since the last document."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """End it; whoever waits for its answer hears of that."""
        self.ended = True
        self._process.kill()

    def _end(self) -> int:
        """Its exit code; the pipe of a process that dies ends a moment before it does."""
        self.ended = True
        try:
            return self._process.wait(_DYING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def close(self) -> None:
        """Give its pipes back; it has ended, or ends now."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # half of a document may wait in it
                    pipe.close()

    def _reply(self, stdout: IO[bytes], patience: _Patience) -> Document | SourceError | None:
        """What was read, or why not; None where the process ended before it had said so."""
        document: Document | SourceError | None = None
        pieces: list[Piece] = []
        links: list[Link] = []
        for line in stdout:
            kind, said = line[:1], line[1:]
            if kind == b".":
                patience.renew()
            elif not line.endswith(b"\n"):
                return None
            elif kind == b"e":
                self.ended = json.loads(said) is False
                break
            elif kind == b"p":
                pieces += _PIECES.validate_json(said)
            elif kind == b"l":
                links += _LINKS.validate_json(said)
            else:
                document = _refused(said) if kind == b"f" else Document.model_validate_json(said)
        else:
            return None
        if isinstance(document, Document):
            return document.model_copy(update={"pieces": tuple(pieces), "links": tuple(links)})
        return document


class _Patience:
    """Ends a process that gives no sign for so many seconds."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.late = False
        self._process, self._seconds = process, seconds
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        self.renew()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def renew(self) -> None:
        """It goes on: wait from now."""
        self.__exit__()
        self._timer = threading.Timer(self._seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def _end(self) -> None:
        self.late = True
        self._process.kill()


def _refused(said: bytes) -> SourceError:
    message, hint = json.loads(said)
    return SourceError(message, hint=hint)


def _settings(read: Reader | NoteReader) -> dict[str, object]:
    vault = read.vault if isinstance(read, NoteReader) else None
    return {"vault": vault, "cutting": [read.cutting.size, read.cutting.overlap], "cap": read.cap}
