"""Past measurements of speed: one row a model and number of requests at a time; rows are only ever added."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchai.config import paths
from benchai.errors import BenchAIError
from benchai.runtime.measure.machine import benchai_version
from benchai.runtime.measure.speed import FIGURES, FigureName, Kind, Level, ModelSpeed

VERSION = 1
WAIT_SECONDS = 10.0
_TABLE = """
CREATE TABLE IF NOT EXISTS speeds (
    number INTEGER PRIMARY KEY,
    time REAL NOT NULL, benchai TEXT NOT NULL, machine TEXT NOT NULL, engine TEXT NOT NULL, model TEXT NOT NULL,
    fingerprint TEXT NOT NULL, settings TEXT NOT NULL, work TEXT NOT NULL, kind TEXT NOT NULL,
    devices TEXT NOT NULL, memory_mib TEXT NOT NULL, load_seconds REAL NOT NULL, slots INTEGER NOT NULL,
    concurrent INTEGER NOT NULL, requests INTEGER NOT NULL, figures TEXT NOT NULL, slow_seconds REAL NOT NULL
)"""
_COLUMNS = (
    *("time", "benchai", "machine", "engine", "model", "fingerprint", "settings", "work", "kind", "devices"),
    *("memory_mib", "load_seconds", "slots", "concurrent", "requests", "figures", "slow_seconds"),
)
_NAMES = ", ".join(_COLUMNS)
_INSERT = f"INSERT INTO speeds ({_NAMES}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - names of ours
# a file may stand under several names, with other settings: its own name comes first
_EARLIER = (
    f"SELECT number, {_NAMES} FROM speeds WHERE fingerprint = ? AND kind = ? AND work = ?"  # noqa: S608
    " AND machine = ? AND concurrent = ? AND time < ? ORDER BY model = ? DESC, number DESC LIMIT ?"
)
_LAST = f"SELECT number, {_NAMES} FROM speeds ORDER BY number DESC LIMIT ?"  # noqa: S608
#: Earlier runs that tell how much runs differ.
LOOKED_AT = 6
#: Fewer repeats tell nothing about how much they vary.
LEAST_REPEATS = 3
Verdict = Literal["better", "worse", "noise", "too few repeats"]


@dataclass(frozen=True)
class Row:
    """One row; ``figures`` holds a value for each repeat. Times are seconds since 1970, memory is MiB."""

    number: int
    time: float
    benchai: str
    machine: str
    engine: str
    model: str
    fingerprint: str
    settings: str
    work: str
    kind: Kind
    devices: tuple[str, ...]
    memory_mib: Mapping[str, int]
    load_seconds: float
    slots: int
    concurrent: int
    requests: int
    figures: Mapping[str, tuple[float, ...]]
    slow_seconds: float


@dataclass(frozen=True)
class Change:
    """A figure beside that of the last run: both medians, the change in %, and what it is worth.

    It is noise where it is no more than what repeats vary within the two runs, or what earlier runs of the same
    settings and engine vary among each other.
    """

    figure: str
    before: float
    now: float
    percent: float
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """A level beside the last run of the same model file, prompts and machine; ``other`` names what differed."""

    time: float
    other: tuple[str, ...]
    changes: tuple[Change, ...]


def history_file() -> Path:
    """The SQLite file of this user's measurements."""
    return paths.data_dir() / "measurements.sqlite"


def prove(file: Path) -> None:
    """Find out before a long measurement whether its result could be kept.

    Raises:
        BenchAIError: the file cannot be opened, read or written.
    """
    with _opened(file) as connection:
        connection.execute(_LAST, (0,)).fetchall()
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()


def save(file: Path, speed: ModelSpeed, machine: str, time: float) -> None:
    """Add a measured model, all its levels or none.

    Raises:
        BenchAIError: the file cannot be opened or written.
    """
    common = (
        time,
        benchai_version(),
        machine,
        speed.engine,
        speed.model,
        speed.fingerprint,
        speed.settings,
        speed.work,
    )
    places = (speed.kind, json.dumps(speed.devices), json.dumps(dict(speed.memory_mib)), speed.load_seconds)
    rows = [
        (*common, *places, speed.slots, one.concurrent, one.requests, json.dumps(dict(one.figures)), one.slow_seconds)
        for one in speed.levels
    ]
    with _opened(file) as connection, connection:
        connection.executemany(_INSERT, rows)


def earlier(
    file: Path, speed: ModelSpeed, machine: str, concurrent: int, before: float, limit: int = LOOKED_AT
) -> list[Row]:
    """Runs of the same model file, prompts and machine, the newest first; those of the same model before others.

    Args:
        file: The history.
        speed: What was measured now.
        machine: Where.
        concurrent: Requests at a time.
        before: Rows from this time on are left out.
        limit: Rows at most.

    Raises:
        BenchAIError: the file cannot be opened or read.
    """
    same = (speed.fingerprint, speed.kind, speed.work, machine, concurrent)
    return _read(file, _EARLIER, (*same, before, speed.model, limit))


def last_rows(file: Path, count: int) -> list[Row]:
    """The newest rows of all, the newest first. Raises what ``earlier`` raises."""
    return _read(file, _LAST, (count,))


def compare(speed: ModelSpeed, level: Level, past: Sequence[Row]) -> Comparison | None:
    """A level beside the newest of some earlier runs; None where there is none.

    Args:
        speed: What was measured now.
        level: One of its levels.
        past: Earlier runs of the same work, the newest first.
    """
    if not past:
        return None
    last = past[0]
    found = {"settings": last.settings != speed.settings, "engine": last.engine != speed.engine}
    alike = [row for row in past if (row.settings, row.engine) == (last.settings, last.engine)]
    changes = tuple(_change(name, level, alike) for name in FIGURES[speed.kind])
    return Comparison(last.time, tuple(name for name, differs in found.items() if differs), changes)


def _change(name: FigureName, level: Level, alike: Sequence[Row]) -> Change:
    old, new = alike[0].figures[name.key], level.figures[name.key]
    before, now = statistics.median(old), statistics.median(new)
    percent = 100 * (now / before - 1) if before else 0.0
    among = _range([statistics.median(row.figures[name.key]) for row in alike])
    return Change(name.key, before, now, percent, _verdict(name, old, new, max(_range(old) + _range(new), among)))


def _verdict(name: FigureName, old: Sequence[float], new: Sequence[float], band: float) -> Verdict:
    if min(len(old), len(new)) < LEAST_REPEATS:
        return "too few repeats"
    change = statistics.median(new) - statistics.median(old)
    if abs(change) <= band:
        return "noise"
    return "better" if (change > 0) == name.more else "worse"


def _range(values: Sequence[float]) -> float:
    return max(values) - min(values)


def _read(file: Path, query: str, parameters: tuple[Any, ...]) -> list[Row]:
    if not file.is_file():
        return []
    with _opened(file) as connection:
        return [_row(found) for found in connection.execute(query, parameters)]


def _row(found: tuple[Any, ...]) -> Row:
    values = dict(zip(("number", *_COLUMNS), found, strict=True))
    figures = {key: tuple(each) for key, each in json.loads(values["figures"]).items()}
    devices, memory = tuple(json.loads(values["devices"])), json.loads(values["memory_mib"])
    return Row(**values | {"figures": figures, "devices": devices, "memory_mib": memory})


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(file, timeout=WAIT_SECONDS)) as connection:
            _prepare(connection)
            yield connection
    except (OSError, sqlite3.Error, ValueError, KeyError) as error:
        hint = "check its folder's permissions and the disk, move the file away if it is damaged, or set BENCHAI_HOME"
        raise BenchAIError(f"the measurements in {str(file)!r} cannot be used: {error}", hint=hint) from error


def _prepare(connection: sqlite3.Connection) -> None:
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > VERSION:
        message = f"the measurements were written by a newer BenchAI (version {found} of the file)"
        raise BenchAIError(message, hint=f"this one knows {VERSION}: upgrade it, or move the file away")
    if found < VERSION:
        with connection:
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA user_version = {VERSION}")
