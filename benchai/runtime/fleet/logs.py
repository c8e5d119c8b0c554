"""The output of one engine process: the last lines in memory, all of it in a rotated file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import deque
from logging.handlers import RotatingFileHandler
from pathlib import Path

LINES_KEPT = 400
FILE_BYTES = 5_000_000
FILES_KEPT = 3
MAX_LINE = 8_192
#: What both engines write once they answer.
LISTENING = "listening on http"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class _QuietHandler(RotatingFileHandler):
    """Gives the file up at its first failure (a full disk, no permission): the lines in memory go on."""

    failed = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.failed:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        self.failed = True


class ModelLog:
    """Collects lines; ``count`` grows with each, so that a watcher can tell a stall from work.

    ``listening`` is set when the engine says that it listens.
    """

    def __init__(self, name: str, folder: Path) -> None:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.log"
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self.count = 0
        self.listening = asyncio.Event()
        self._handler = _QuietHandler(
            self.path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8", delay=True
        )
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Take lines until the end of the stream."""
        while True:
            try:
                raw = await stream.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                raw = error.partial
                if not raw:
                    return
            except asyncio.LimitOverrunError as error:
                raw = await stream.read(max(error.consumed, 1))
            self.add(raw.decode(errors="replace"))

    def add(self, text: str) -> None:
        """Take one line."""
        line = _COLOUR.sub("", text).rstrip()[:MAX_LINE]
        if not line:
            return
        self.count += 1
        if LISTENING in line:
            self.listening.set()
        self.lines.append(line)
        self._handler.emit(logging.LogRecord("model", logging.INFO, "", 0, line, None, None))

    def tail(self, lines: int = 12) -> list[str]:
        """The last lines."""
        return list(self.lines)[-lines:]

    def close(self) -> None:
        """Close the file."""
        self._handler.close()
