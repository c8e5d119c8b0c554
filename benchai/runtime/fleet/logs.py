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
BLOCK = 65_536
#: Lines of a ready engine are taken so often: it writes about seven for each request, each on its own.
PAUSE_SECONDS = 0.1
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
        self._stamp = logging.Formatter()

    async def read(self, stream: asyncio.StreamReader, pipe: asyncio.ReadTransport | None = None) -> None:
        """Take lines until the end of the stream; ``pipe`` is where they come from, and can be made to wait."""
        rest = b""
        while block := await stream.read(BLOCK):
            *lines, rest = (rest + block).split(b"\n")
            if len(rest) > MAX_LINE:
                lines, rest = [*lines, rest], b""
            self._take([line.decode(errors="replace") for line in lines])
            if pipe is not None and self.listening.is_set():
                await _rest(pipe)
        self.add(rest.decode(errors="replace"))

    def add(self, text: str) -> None:
        """Take one line."""
        self._take([text])

    def _take(self, texts: list[str]) -> None:
        # one write for all that came at once: an engine has seven lines for each request
        texts = [_COLOUR.sub("", text) if "\x1b" in text else text for text in texts]
        lines = [line for text in texts if (line := text.rstrip()[:MAX_LINE])]
        if not lines:
            return
        self.count += len(lines)
        if not self.listening.is_set() and any(LISTENING in line for line in lines):
            self.listening.set()
        self.lines.extend(lines)
        record = logging.LogRecord("model", logging.INFO, "", 0, "", None, None)
        stamp = self._stamp.formatTime(record)
        record.msg = "\n".join(f"{stamp} {line}" for line in lines)
        self._handler.emit(record)

    def tail(self, lines: int = 12) -> list[str]:
        """The last lines."""
        return list(self.lines)[-lines:]

    def close(self) -> None:
        """Close the file. What a full disk did not take is lost; the engine's end must not hang on it."""
        with contextlib.suppress(OSError):
            self._handler.close()


async def _rest(pipe: asyncio.ReadTransport) -> None:
    """Leave what comes in the pipe for a while."""
    pipe.pause_reading()
    try:
        await asyncio.sleep(PAUSE_SECONDS)
    finally:
        if not pipe.is_closing():
            pipe.resume_reading()
