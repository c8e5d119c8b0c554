"""What a usage row costs the request that leaves it, and what it costs to read many.

append      microseconds to make a row, and to hand it over: in a burst, at 200 a second, while another process locks
            the file, and where it cannot be made
processor   microseconds of processor time for a row, the writing thread included
disk        seconds from the hand-over until another process can read it, rows a second, bytes a row
report      seconds of ``benchai stats`` over many rows, without the imports

    python benchmarks/usage.py [--rows 20000] [--many 100000] [--json]

All of it goes into a folder of its own, which is deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchai.runtime.usage.log import UsageLog  # noqa: E402
from benchai.runtime.usage.read import report  # noqa: E402
from benchai.runtime.usage.row import UsageRow  # noqa: E402
from benchmarks.fleet import machine  # noqa: E402
from benchmarks.rows import percentile  # noqa: E402

PACE = 1 / 200
PACED = 400
VISIBLE = 10
WEEK = 7 * 86_400.0
Figures = dict[str, Any]


def made(number: int, when: float) -> UsageRow:
    """A row as a chat completion leaves it."""
    return UsageRow(
        id=f"req-{number:032x}",
        time=when,
        key="laptop",
        session="0123456789abcdef0123456789abcdef",
        asked="auto",
        role="code" if number % 3 else "general",
        model="qwen2.5-coder",
        score=0.25,
        reason="code: a verb of making, a language; the session stays with its model",
        tokens_in=812,
        tokens_out=120,
        tokens_cached=640,
        queue_s=0.0,
        swap_s=0.0,
        first_token_s=0.2,
        total_s=1.5 + number % 7,
        tokens_per_s=42.0,
    )


def timed(work: Callable[[int], Any], count: int, pause: float = 0.0) -> Figures:
    """Microseconds of each call: median, 99th percentile, the longest."""
    spent = []
    for number in range(count):
        began = time.perf_counter_ns()
        work(number)
        spent.append((time.perf_counter_ns() - began) / 1000)
        if pause:
            time.sleep(pause)
    return {"p50": percentile(spent, 0.5), "p99": percentile(spent, 0.99), "longest": max(spent), "n": count}


def appends(folder: Path, count: int) -> dict[str, Figures]:
    """Handing rows over, in fair weather and foul."""
    found = {"make a row": timed(lambda number: made(number, 0.0), count)}
    rows = [made(number, time.time()) for number in range(count)]
    # below the number that may wait
    burst = min(count, 8000)
    with UsageLog(file=folder / "append.sqlite") as log:
        log.append(rows[0])
        log.flush()
        found["append, burst"] = timed(lambda number: log.append(rows[number]), burst)
        log.flush()
        found["append, 200 a second"] = timed(lambda number: log.append(rows[number]), PACED, PACE)
        with closing(sqlite3.connect(log.file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            found["append, file locked"] = timed(lambda number: log.append(rows[number]), PACED, PACE)
    (folder / "none.sqlite").mkdir()
    with UsageLog(file=folder / "none.sqlite") as log:
        found["append, no file"] = timed(lambda number: log.append(rows[number]), PACED, PACE)
    return found


def disk(folder: Path, count: int) -> Figures:
    """What the writing costs, and how soon a row is there."""
    rows = [made(number, time.time()) for number in range(min(count, 8000))]
    with UsageLog(file=folder / "disk.sqlite") as log:
        log.append(rows[0])
        log.flush()
        wall, processor = time.perf_counter(), time.process_time()
        for row in rows:
            log.append(row)
        log.flush()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        delays = [_delay(log, rows[0]) for _ in range(VISIBLE)]
    size = log.file.stat().st_size
    return {
        "processor, us a row": processor / len(rows) * 1e6,
        "rows a second": len(rows) / wall,
        "bytes a row": size / len(rows),
        "until it can be read, s, median": percentile(delays, 0.5),
        "until it can be read, s, longest": max(delays),
    }


def _delay(log: UsageLog, row: UsageRow) -> float:
    with closing(sqlite3.connect(log.file)) as reader:
        version = reader.execute("PRAGMA data_version").fetchone()
        began = time.perf_counter()
        log.append(row)
        while reader.execute("PRAGMA data_version").fetchone() == version:
            time.sleep(0.001)
        return time.perf_counter() - began


def reading(folder: Path, count: int) -> Figures:
    """A report over many rows of a week."""
    now = time.time()
    chance = random.Random(1)
    with UsageLog(file=folder / "many.sqlite") as log:
        for number in range(count):
            log.append(made(number, now - chance.random() * WEEK))
            if number % 5000 == 4999:
                log.flush()
    began, processor = time.perf_counter(), time.process_time()
    found = report(log.file)
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    assert found is not None
    assert found.summary.total.requests == count
    return {"rows": count, "seconds": seconds, "processor": processor}


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| what | median | p99 | longest | n |", "| --- | --- | --- | --- | --- |"]
    for name, one in found["append"].items():
        lines.append(f"| {name} | {one['p50']:.2f} us | {one['p99']:.2f} us | {one['longest']:.0f} us | {one['n']} |")
    rest = [f"{name}: {value:.4g}" for name, value in found["disk"].items()]
    read = found["report"]
    last = f"report over {read['rows']:,} rows: {read['seconds']:.2f} s, {read['processor']:.2f} s of processor time"
    return "\n".join([*lines, "", *rest, last])


def main() -> None:
    """Measure all and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="rows that are handed over")
    parser.add_argument("--many", type=int, default=100_000, help="rows of the report")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("BENCHAI_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="benchai-usage-") as temp:
        folder = Path(temp)
        about = machine([])
        found = {
            "append": appends(folder, options.rows),
            "disk": disk(folder, options.rows),
            "report": reading(folder, options.many),
        }
    if options.json:
        print(json.dumps({"machine": about, **found}, indent=2))
    else:
        print("\n".join(f"{key}: {value}" for key, value in about.items()), table(found), sep="\n\n")


if __name__ == "__main__":
    main()
