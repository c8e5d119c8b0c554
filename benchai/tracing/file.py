"""A trace in a file: OTLP in JSON, one finished span a line, as OpenTelemetry's "OTLP file exporter" lays it down.

Collectors read it with their ``otlpjsonfile`` receiver. Each line goes out in one write to the end of the file, so
that runs which write at the same time do not mix, and a killed process leaves all spans that were finished.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from benchai.config.paths import expand
from benchai.errors import UsageError
from benchai.tracing.spans import Span, Value, as_request

PRIVATE = 0o600


class TraceFile:
    """Appends spans to a file that only its owner may read; ``tell`` takes what goes wrong later, once."""

    def __init__(self, path: Path, origin: Mapping[str, Value], tell: Callable[[str], None]) -> None:
        self._path = path
        self._origin = origin
        self._tell = tell
        self._file: int | None = _opened(expand(path))

    def write(self, span: Span) -> None:
        """Append a finished span."""
        if self._file is None:
            return
        line = json.dumps(as_request(span, self._origin), separators=(",", ":")).encode() + b"\n"
        try:
            whole = os.write(self._file, line) == len(line)
            error = None if whole else "the disk is full"
        except OSError as fault:
            error = fault.strerror
        if error is not None:
            self._tell(f"the trace ends early: {str(self._path)!r} cannot be written: {error}")
            self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _opened(path: Path) -> int:
    """The file, open at its end, on a line of its own.

    Raises:
        UsageError: it can't be written, or it is no file.
    """
    hint = "give --trace a file in a folder that you may write to"
    try:
        # not to wait for somebody who reads, where it is a pipe
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, PRIVATE)
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"the trace file {str(path)!r} cannot be written: {words}", hint=hint) from error
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"the trace file {str(path)!r} is no regular file", hint=hint)
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(file, PRIVATE)
        if found.st_size and os.pread(file, 1, found.st_size - 1) != b"\n":
            # a full disk, or a power loss, cut the last line
            os.write(file, b"\n")
    except OSError as error:
        os.close(file)
        raise UsageError(f"the trace file {str(path)!r} cannot be written: {error.strerror}", hint=hint) from error
    except UsageError:
        os.close(file)
        raise
    return file
