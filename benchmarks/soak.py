"""`benchai serve` under mixed clients that come and go while its models are killed: nothing may be lost or doubled.

Three copies of the bundled model serve three roles. Clients ask for streams, whole replies, tools, the same again (the
cache) and the workflow react; one in five leaves before its answer is there. Every --kill-every seconds SIGKILL ends a
model. Then: each request had exactly one answer, or a proper error in OpenAI's shape (JSON, or the last event of its
stream); none waited beyond --limit seconds; the usage rows are the requests, each once, and say the same; no process
is left; from the second quarter to the last the server's memory grew by no more than what is bounded may take (the
replies in memory, few here, and the table of sessions) and some noise. Exit code 1 where one of these does not hold.

    python benchmarks/soak.py [--minutes 5] [--clients 8] [--kill-every 10] [--seed 0] [--limit 60] [--engine KIND]
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import os
import random
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
import tracemalloc
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchai.runtime.router.session import LIMIT, Sessions  # noqa: E402
from benchmarks.router_parts.ways import TINY, benchai, fleet, start  # noqa: E402
from benchmarks.rows import percentile  # noqa: E402
from benchmarks.soak_parts.clients import KINDS, Ask, Outcome, draw, send  # noqa: E402
from benchmarks.workflow_parts.report import markdown, note  # noqa: E402

ROLES = ("general", "code", "planner")
MODELS = ["auto", *ROLES]
#: Replies that the cache keeps: by default 32 MiB of them stay in memory, and filling that takes longer than a run.
CACHE_MIB = 1
#: What the server's memory may grow by besides, from the run's second quarter to its last: pages of SQLite (2 MiB for
#: each connection) and of the allocator. In a run of less than a minute it is still loading.
NOISE_MIB, LOADING_MIB, LOADED_SECONDS = 8.0, 20.0, 60.0
LOOK_SECONDS = 0.5
MARK = "BENCHMARK_SOAK"


@dataclass
class Found:
    """What a run brought; ``sent`` counts what was not for the record, too."""

    outcomes: list[Outcome] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)
    killed: int = 0
    rows: list[tuple[str, str, int]] = field(default_factory=list)
    log: str = ""
    left: list[str] = field(default_factory=list)


def config(engine: str) -> dict[str, Any]:
    """A model for each role, all of them the bundled one."""
    model = {"file": str(TINY), "threads": 1, "threads_batch": 1, "context": 4096, "slots": 2}
    return {
        "models": {f"{role}-model": model for role in ROLES},
        "roles": {role: f"{role}-model" for role in ROLES},
        "router": {"port": 0, "max_concurrent": dict.fromkeys(ROLES, 2)},
        "fleet": {"core": list(ROLES)},
        "cache": {"size": CACHE_MIB},
        "engine": {"kind": engine},
    }


class Run:
    """One soak against a server that runs."""

    def __init__(self, record: Mapping[str, Any], options: argparse.Namespace) -> None:
        self.record = record
        self.options = options
        self.found = Found()
        self.chance = random.Random(options.seed)
        self.until = 0.0
        self._number = 0

    async def all(self) -> Found:
        """Warm up, then clients, kills and looks at the memory until the time is over."""
        # the first workflow loads its libraries: no leak
        warm = Ask("soak-warm", "workflow", draw(0, MODELS, self.chance).body | {"model": "workflow:react"})
        self.found.outcomes.append(await self._send(warm))
        self.until = time.monotonic() + 60 * self.options.minutes
        others = [asyncio.create_task(self._kill()), asyncio.create_task(self._look())]
        await asyncio.gather(*(self._client() for _ in range(self.options.clients)))
        for one in others:
            one.cancel()
        for ended in await asyncio.gather(*others, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        return self.found

    async def _client(self) -> None:
        while time.monotonic() < self.until:
            self._number += 1
            self.found.outcomes.append(await self._send(draw(self._number, MODELS, self.chance)))

    async def _send(self, ask: Ask) -> Outcome:
        address = urlsplit(self.record["url"])
        assert address.hostname
        assert address.port
        return await send(address.hostname, address.port, ask, self.options.limit)

    async def _kill(self) -> None:
        while True:
            await asyncio.sleep(self.options.kill_every)
            models = await asyncio.to_thread(fleet, self.record)
            ready = {name: one["pid"] for name, one in sorted(models.items()) if one["state"] == "ready"}
            if ready:
                name = self.chance.choice(list(ready))
                # asked for by name, its kills before are forgiven: else the fleet gives it up after some of them
                await asyncio.to_thread(start, self.record, name)
                os.kill(ready[name], signal.SIGKILL)
                self.found.killed += 1

    async def _look(self) -> None:
        server = psutil.Process(self.record["pid"])
        while True:
            self.found.rss.append(server.memory_info().rss / 2**20)
            await asyncio.sleep(LOOK_SECONDS)


def rows_of(home: Path) -> list[tuple[str, str, int]]:
    """Id, outcome and status of each usage row."""
    with closing(sqlite3.connect(f"file:{next(home.rglob('usage.sqlite'))}?mode=ro", uri=True)) as opened:
        return opened.execute("SELECT request_id, outcome, status FROM requests").fetchall()


def left_behind(mark: str) -> list[str]:
    """The processes of the server that outlive it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(f"{process.pid}: {' '.join(process.cmdline())[:100]}")
        except psutil.Error:
            continue
    return found


def violations(found: Found) -> list[str]:
    """What does not hold."""
    wrong = [f"{one.ask.id} ({one.ask.kind}): {one.end}" for one in found.outcomes if one.end.startswith("WRONG")]
    wrong += [*_rows(found), *_memory(found.rss)]
    wrong += [f"a process is left: {one}" for one in found.left]
    if "Traceback" in found.log:
        wrong.append(f"the server's log has a trace: {found.log[found.log.index('Traceback') :][:1500]}")
    if not any(one.end == "ok" for one in found.outcomes):
        wrong.append("no request was answered")
    return wrong


def _rows(found: Found) -> list[str]:
    times = collections.Counter(name for name, _, _ in found.rows)
    by_id = {name: (outcome, status) for name, outcome, status in found.rows}
    asked = {one.ask.id: one for one in found.outcomes}
    wrong = [f"{times[name]} usage rows of {name}" for name in asked if times[name] != 1]
    wrong += [f"a usage row of nobody's request: {name}" for name in times.keys() - asked.keys()]
    for name, one in asked.items():
        outcome, status = by_id.get(name, ("", 0))
        if one.end == "ok" and (outcome, status) != ("ok", 200):
            wrong.append(f"{name} was answered, its row says {outcome} {status}")
        if one.end == "error" and outcome in ("ok", "cancelled"):
            wrong.append(f"{name} got an error, its row says {outcome}")
        if one.end == "left" and outcome not in ("ok", "cancelled") and status < 400:
            wrong.append(f"{name} left, its row says {outcome} {status}")
    return wrong


def quarters(rss: Sequence[float]) -> tuple[float, float]:
    """The medians of the second quarter and of the last, MiB; the same of a run that is too short for that."""
    quarter = len(rss) // 4
    if not quarter:
        return 0.0, 0.0
    return statistics.median(rss[quarter : 2 * quarter]), statistics.median(rss[-quarter:])


def allowed(samples: int) -> float:
    """MiB by which the server's memory may grow between them, for so many looks at it."""
    return sessions_mib() + CACHE_MIB + (NOISE_MIB if samples * LOOK_SECONDS >= LOADED_SECONDS else LOADING_MIB)


def sessions_mib() -> float:
    """What the table of sessions takes once it is full of conversations as they are asked for here."""
    tracemalloc.start()
    try:
        table = Sessions()
        for number in range(LIMIT):
            table.find([{"role": "user", "content": f"What is {number} * 7?"}])
        return tracemalloc.get_traced_memory()[0] / 2**20
    finally:
        tracemalloc.stop()


def _memory(rss: Sequence[float]) -> list[str]:
    before, after = quarters(rss)
    most = allowed(len(rss))
    if after - before <= most:
        return []
    return [f"the server's memory grew from {before:.0f} to {after:.0f} MiB, by more than {most:.0f} MiB"]


def table(found: Found) -> str:
    """Kinds down, ends across."""
    ends = ("ok", "error", "left", "WRONG")
    lines: list[list[str]] = [["kind", "requests", *ends, "from the cache", "p50 s", "max s"]]
    for kind in (*KINDS, "all"):
        some = [one for one in found.outcomes if kind in (one.ask.kind, "all")]
        times = [one.seconds for one in some if one.end == "ok"]
        counts = [str(sum(one.end.startswith(end) for one in some)) for end in ends]
        cached = str(sum(one.cache in ("exact", "shared") for one in some))
        speed = [f"{percentile(times, 0.5):.2f}", f"{max(times):.2f}"] if times else ["", ""]
        lines.append([kind, str(len(some)), *counts, cached, *speed])
    return markdown(lines)


def memory(rss: Sequence[float]) -> str:
    """How it went, in words."""
    if not rss:
        return "unknown"
    before, after = quarters(rss)
    grown = (
        f"{before:.1f} in the second quarter, {after:.1f} in the last: {after - before:+.1f} of {allowed(len(rss)):.1f}"
    )
    return f"{rss[0]:.0f} -> {rss[-1]:.0f} MiB (at most {max(rss):.0f}); {grown} MiB"


def soak(folder: Path, options: argparse.Namespace) -> Found:
    """All of it."""
    mark = uuid.uuid4().hex
    os.environ[MARK] = mark
    try:
        with benchai(folder, config(options.engine)) as record:
            found = asyncio.run(Run(record, options).all())
    finally:
        del os.environ[MARK]
    found.left = left_behind(mark)
    found.rows = rows_of(folder / "home")
    found.log = (folder / "benchai.log").read_text(errors="replace")
    return found


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--clients", type=int, default=8, help="requests at a time")
    parser.add_argument("--kill-every", type=float, default=10, metavar="SECONDS")
    parser.add_argument("--limit", type=float, default=60, metavar="SECONDS", help="no request may take longer")
    parser.add_argument("--seed", type=int, default=0, help="of what is asked, who leaves, what is killed")
    parser.add_argument("--engine", choices=["auto", "native", "llama-server"], default="auto")
    return parser.parse_args(argv)


def main() -> int:
    """Run it and print what came of it; 1 where something does not hold."""
    options = arguments()
    # what was started ends with us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in [name for name in os.environ if name.startswith(("BENCHAI_", "LLAMA_ARG_"))]:
        del os.environ[name]
    note(f"soak: {options.minutes:g} minutes, {options.clients} clients, a kill every {options.kill_every:g} s")
    with tempfile.TemporaryDirectory(prefix="benchai-soak-") as temp:
        found = soak(Path(temp), options)
    wrong = violations(found)
    print(table(found), f"\n- models killed: {found.killed}", f"- memory of the server: {memory(found.rss)}", sep="\n")
    print(f"- usage rows: {len(found.rows)}", *(f"- NOT met: {one}" for one in wrong[:30]), sep="\n")
    print(f"{len(wrong)} violations" if wrong else "all of it holds")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
