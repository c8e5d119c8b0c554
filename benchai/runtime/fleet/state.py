"""Which engines run, noted on disk: what a supervisor that was killed left behind is found and ended at the next start.

Each supervisor writes a file of its own, named by its pid. A pid alone says little, since pids come again: a process
is known by its pid and the moment it started.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchai.config import paths
from benchai.runtime.fleet.group import living_members, signal_group

SAME_MOMENT = 1.5
TERM_SECONDS = 2.0
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class ProcessId:
    """A process: its pid and when it started, in seconds since the epoch."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process of this pid, None if there is none."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.Error:
            return None

    @property
    def runs(self) -> bool:
        """Whether this very process still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < SAME_MOMENT
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


class EngineRecord:
    """The file of this process; empty ones are deleted."""

    def __init__(self, folder: Path | None = None) -> None:
        self._file = (folder or paths.state_dir() / "engines") / f"{os.getpid()}-{id(self):x}.json"
        self._engines: dict[int, tuple[str, ProcessId]] = {}

    def add(self, model: str, pid: int) -> None:
        """Note an engine that was just started."""
        found = ProcessId.of(pid)
        if found is not None:
            self._engines[pid] = (model, found)
            self._write()

    def remove(self, pid: int) -> None:
        """Its process group is gone."""
        if self._engines.pop(pid, None) is not None:
            self._write()

    def _write(self) -> None:
        # what can't be noted can still run: the children end with their parent anyway
        with contextlib.suppress(OSError):
            if not self._engines:
                self._file.unlink(missing_ok=True)
                return
            owner = ProcessId.of(os.getpid())
            engines = [{"model": model} | asdict(engine) for model, engine in self._engines.values()]
            text = json.dumps({"owner": asdict(owner) if owner else None, "engines": engines})
            paths.replace_text(self._file, text)


def end_leftovers(folder: Path | None = None) -> list[str]:
    """End the engines of supervisors that are gone, and nothing else. Returns a line for each.

    Blocks for as long as they take to end, two seconds at most each.
    """
    ended = []
    for file in sorted((folder or paths.state_dir() / "engines").glob("*.json")):
        record = _read(file)
        owner = _process(record.get("owner"))
        if owner is not None and owner.runs:
            continue
        for engine in record.get("engines", []):
            process = _process(engine)
            if process is not None and process.runs:
                _end(process.pid)
                ended.append(f"ended {engine.get('model')!r} (pid {process.pid}), left by a supervisor that is gone")
        with contextlib.suppress(OSError):
            file.unlink()
    return ended


def _read(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) and isinstance(data.get("engines", []), list) else {}


def _process(data: object) -> ProcessId | None:
    if not isinstance(data, dict):
        return None
    pid, started = data.get("pid"), data.get("started")
    known = isinstance(pid, int) and pid > 1 and isinstance(started, int | float)
    return ProcessId(pid, started) if known else None  # type: ignore[arg-type]


def _end(pid: int) -> None:
    """SIGTERM to a group, then SIGKILL."""
    signal_group(pid, signal.SIGTERM)
    deadline = time.monotonic() + TERM_SECONDS
    while living_members(pid) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    signal_group(pid, signal.SIGKILL)
