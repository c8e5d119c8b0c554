"""What the file of the usage rows tells about a period."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchai.config import paths
from benchai.runtime.usage.row import COLUMNS, UsageRow
from benchai.runtime.usage.schema import opened
from benchai.runtime.usage.statistics import BY, MEASURED, By, Measured, Summary, summarise
from benchai.runtime.usage.targets import GpuFigures, Target, judge
from benchai.runtime.usage.uptime import SAMPLE_SECONDS, Change, Service, Uptime, uptimes

#: A server that has not ended, and said nothing for so long, was killed.
SILENT_SECONDS = 4 * SAMPLE_SECONDS


@dataclass(frozen=True)
class Report:
    """All figures of a period; times are seconds since the epoch."""

    since: float
    until: float
    by: By
    summary: Summary
    uptimes: list[Uptime]
    gpu: GpuFigures | None
    targets: list[Target]

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "since": self.since,
            "until": self.until,
            "by": self.by,
            **self.summary.as_json(),
            "highest_concurrency": self.summary.facts.at_once,
            "uptime": [asdict(one) | {"share": one.share} for one in self.uptimes],
            "gpu": asdict(self.gpu) if self.gpu is not None else None,
            "targets": [target.as_json() for target in self.targets],
        }


def report(file: Path, by: By = "role", since: float | None = None, now: float | None = None) -> Report | None:
    """The figures from ``since`` (default: all there is) until ``now``; None where no row was ever kept.

    Raises:
        BenchAIError: the file cannot be read.
    """
    if not paths.is_file(file):
        return None
    until = time.time() if now is None else now
    with opened(file) as connection:
        # one state of the file, whatever is written meanwhile
        connection.execute("BEGIN")
        first = connection.execute("SELECT min(time) FROM requests").fetchone()[0]
        if first is None:
            return None
        if since is None:
            started = connection.execute("SELECT min(started) FROM services").fetchone()[0]
            since = min(first, first if started is None else started)
        begin = min(since, until)
        summary = summarise(_measured(connection, by, begin), begin, until)
        services, changes = _lives(connection, begin, until)
        gpu = _gpu(connection, begin)
    ups = uptimes(services, changes, begin, until)
    killed = sum(not one.ended and one.seen < until - SILENT_SECONDS for one in services)
    return Report(begin, until, by, summary, ups, gpu, judge(summary.facts, ups, killed, gpu))


def last_rows(file: Path, count: int) -> list[UsageRow]:
    """The last requests, the newest first, without their contents.

    Raises:
        BenchAIError: the file cannot be read.
    """
    if not paths.is_file(file):
        return []
    query = f"SELECT {', '.join(COLUMNS)} FROM requests ORDER BY time DESC, number DESC LIMIT ?"  # noqa: S608 - ours
    with opened(file) as connection:
        return [UsageRow(**dict(zip(COLUMNS, row, strict=True))) for row in connection.execute(query, (count,))]


def _measured(connection: sqlite3.Connection, by: By, since: float) -> Iterator[Measured]:
    assert by in BY
    query = f"SELECT nullif({by}, ''), {', '.join(MEASURED)} FROM requests WHERE time >= ?"  # noqa: S608 - names of ours
    return map(Measured._make, connection.execute(query, (since,)))


def _lives(connection: sqlite3.Connection, since: float, until: float) -> tuple[list[Service], list[Change]]:
    """The servers that ran in a period, and all states of their models."""
    query = "SELECT id, started, seen, core, ended FROM services WHERE seen >= ? AND started <= ?"
    services = [
        Service(name, started, seen, json.loads(core), bool(ended))
        for name, started, seen, core, ended in connection.execute(query, (since, until))
    ]
    states = (
        "SELECT service, time, model, previous, state FROM states"
        " WHERE service IN (SELECT id FROM services WHERE seen >= ? AND started <= ?)"
    )
    return services, [Change(*row) for row in connection.execute(states, (since, until))]


def _gpu(connection: sqlite3.Connection, since: float) -> GpuFigures | None:
    query = "SELECT count(*), avg(memory), avg(compute) FROM gpus WHERE time >= ?"
    samples, memory, compute = connection.execute(query, (since,)).fetchone()
    return GpuFigures(samples, memory, compute) if samples else None
