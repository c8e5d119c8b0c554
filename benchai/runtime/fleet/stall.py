"""Does a starting engine make progress? Weights may be read in silence for minutes."""

from __future__ import annotations

import time

import psutil

from benchai.runtime.fleet.logs import ModelLog


class StallWatch:
    """Seconds since a starting engine last showed a sign of work: a log line, I/O, or memory growth."""

    def __init__(self, pid: int | None, log: ModelLog) -> None:
        self._pid = pid
        self._log = log
        self._last = self._signs()
        self._since = time.monotonic()

    def seconds(self) -> float:
        """Seconds without a sign of work, 0 if there was one since the last call."""
        signs = self._signs()
        if signs != self._last:
            self._last, self._since = signs, time.monotonic()
        return time.monotonic() - self._since

    def _signs(self) -> tuple[int, ...]:
        try:
            proc = psutil.Process(self._pid) if self._pid else None
            memory = proc.memory_info().rss // (1024 * 1024) if proc else 0
            read = proc.io_counters().read_bytes if proc and hasattr(proc, "io_counters") else 0
        except psutil.Error:
            memory = read = 0
        return self._log.count, memory, read
