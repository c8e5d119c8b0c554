"""The agent endpoint with graphs that need no model: how fast it is, whether it stays so, and back after a SIGKILL.

wait     POST /runs/wait of a graph with one instant node, a new thread each: requests a second and milliseconds at 1
         and at 32 clients; beside ``langgraph dev`` by default and with 32 jobs at once, in turns, burst by burst
threads  1,000 threads with 10 turns each: milliseconds of the first and the last 1,000 turns, MiB of the process
killed   seconds from SIGKILL to the next event of the run that was under way, as a client of langgraph_sdk that joins
         it sees it; the server is started again at once, on the same port, and that time is told apart

    python benchmarks/agent_endpoint.py [--only PART] [--reference-python PATH] [--rounds 5] [--threads 1000]
        [--json FILE] [--quick]

--reference-python names the interpreter of an environment that has langgraph-cli[inmem]; without one, ``wait`` has
ours alone. Each server, and the client of ``wait``, is a process of its own. Nothing is fetched. Tables: Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from langgraph_sdk import get_client

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.agent_parts.lives import Life, ours, reference  # noqa: E402
from benchmarks.agent_parts.turns import asked, converse  # noqa: E402
from benchmarks.fleet import machine  # noqa: E402
from benchmarks.router_parts.client import PLACE  # noqa: E402
from benchmarks.router_parts.figures import Growth  # noqa: E402
from benchmarks.rows import percentile  # noqa: E402
from benchmarks.workflow_parts.report import Part, note  # noqa: E402

CLIENT = Path(__file__).parent / "router_parts" / "client.py"
REFERENCE = ROOT / "build" / "conformance" / "bin" / "python"
OURS, THEIRS = "benchai serve", "langgraph dev"
#: Clients at once -> requests of a burst; one client alone waits a second for each run of ``langgraph dev``.
BURSTS = {1: 5, 32: 128}
JOBS = 32
TURNS, TALKING = 10, 4
KILLS = 5
Found = dict[str, Any]


def wait(options: argparse.Namespace, folder: Path) -> Part:
    """Create and wait."""
    part = Part("create and wait of an instant run", [], [["clients", "server", "requests/s", "p50 ms", "p99 ms", "n"]])
    part.table[0] += ["requests/s, ours / it", "p99, ours / it"]
    with ExitStack() as stack:
        lives = {OURS: stack.enter_context(ours(folder / "ours"))}
        if options.reference_python.exists():
            for jobs, name in ((None, THEIRS), (JOBS, f"{THEIRS}, {JOBS} jobs")):
                work = folder / f"reference-{jobs or 'default'}"
                lives[name] = stack.enter_context(reference(work, options.reference_python, jobs))
        else:
            part.notes.append(f"langgraph dev left out: no {options.reference_python}")
        for at_once, requests in BURSTS.items():
            note(f"wait, {at_once} at once")
            rows = bursts(lives, at_once, max(requests // 8, 2) if options.quick else requests, options.rounds, part)
            part.rows += rows
            part.table += [cells(row, rows[0]) for row in rows]
    return part


def bursts(lives: Mapping[str, Life], at_once: int, requests: int, rounds: int, part: Part) -> list[Found]:
    """A row for each server, in the order given."""
    ways = {
        name: {"url": f"{life.url}/runs/wait", "body": asked(PLACE), "pid": life.pid} for name, life in lives.items()
    }
    job = {"ways": ways, "rounds": rounds, "requests": requests, "at_once": at_once, "warm": 2 * at_once, "first": 1}
    argv = [sys.executable, str(CLIENT)]
    done = subprocess.run(argv, input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = json.loads(done.stdout)
    part.notes += [f"{name}: {one['failures'][:2]} failed" for name, one in found.items() if one["failures"]]
    return [row_of(name, at_once, found[name]["bursts"]) for name in lives]


def row_of(name: str, at_once: int, measured: Sequence[Found]) -> Found:
    """Requests a second over all bursts; milliseconds of all requests."""
    values = [value for burst in measured for value in burst["total"]]
    rate = len(values) / sum(burst["wall"] for burst in measured)
    row = {"server": name, "at_once": at_once, "n": len(values), "rate": rate}
    return row | {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99)}


def cells(row: Found, own: Found) -> list[str]:
    """A line of the table."""
    line = [str(row["at_once"]), row["server"], f"{row['rate']:.1f}", f"{row['p50']:.1f}", f"{row['p99']:.1f}"]
    ratios = ["", ""] if row is own else [f"{own['rate'] / row['rate']:.2f}", f"{own['p99'] / row['p99']:.2f}"]
    return [*line, str(row["n"]), *ratios]


def threads(options: argparse.Namespace, folder: Path) -> Part:
    """Many conversations."""
    note("threads")
    count = 20 if options.quick else options.threads
    edge = count * TURNS // 10
    with ours(folder / "threads") as life:
        talk = asyncio.run(converse(life, count, TURNS, TALKING, edge))
    parts = {f"first {edge} turns": talk.of(0, edge), f"last {edge} turns": talk.of(-edge, len(talk.turns))}
    parts |= {"first turn of each thread": talk.nth(0), "last turn of each thread": talk.nth(TURNS - 1)}
    rows = [
        {"what": what, "n": len(one), "p50": percentile(one, 0.5), "p99": percentile(one, 0.99)}
        for what, one in parts.items()
    ]
    table = [["what", "p50 ms", "p99 ms", "n"]]
    table += [[row["what"], f"{row['p50']:.1f}", f"{row['p99']:.1f}", str(row["n"])] for row in rows]
    grown = Growth(talk.after, talk.rss)
    notes = ["MiB after turns: " + ", ".join(f"{at}: {mib:.0f}" for at, mib in zip(talk.after, talk.rss, strict=True))]
    notes += [f"MiB a 1,000 turns in the second half: {grown.per_thousand:.2f}", *talk.failures[:3]]
    name = f"{count} threads with {TURNS} turns each, {TALKING} at a time"
    return Part(name, [*rows, {"after": talk.after, "rss": talk.rss}], table, notes)


def killed(options: argparse.Namespace, folder: Path) -> Part:
    """SIGKILL, and back."""
    with ours(folder / "killed") as life:
        found = []
        for number in range(1 if options.quick else KILLS):
            note(f"killed, {number + 1}")
            found.append(asyncio.run(one_kill(life)))
    table = [["s", "median", "least", "most"]]
    for what in ("SIGKILL to /ok", "SIGKILL to the next event", "/ok to the next event"):
        values = [one[what] for one in found]
        table.append([what, *(f"{one:.3f}" for one in (statistics.median(values), min(values), max(values)))])
    return Part(f"a run whose server is killed, {len(found)} times", found, table)


async def one_kill(life: Life) -> Found:
    """Kill the server in a node that has told of its beginning; joined again, the node begins again, and tells it."""
    client = get_client(url=life.url)
    thread = (await client.threads.create())["thread_id"]
    body = asked("hold") | {"assistant_id": "held", "stream_mode": ["custom"]}
    run = (await client.runs.create(thread, **body))["run_id"]
    last = await begun(life, thread, run, None)
    at = life.kill()
    life.start()
    life.ready()
    ready = time.perf_counter() - at
    await begun(life, thread, run, last)
    event = time.perf_counter() - at
    await client.runs.cancel(thread, run, wait=True)
    await client.aclose()
    return {"SIGKILL to /ok": ready, "SIGKILL to the next event": event, "/ok to the next event": event - ready}


async def begun(life: Life, thread: str, run: str, last: str | None) -> str:
    """Join the run after an event that is known; the id of the next one that the node sends."""
    async with get_client(url=life.url) as client:
        joined = client.runs.join_stream(thread, run, stream_mode=["custom"], last_event_id=last or "-1")
        async with aclosing(joined) as parts:  # type: ignore[type-var]
            async for part in parts:
                if part.event == "custom":
                    return str(part.id)
    raise RuntimeError(f"the run {run} ended without an event after {last}")


#: In the order in which they are measured.
PARTS: dict[str, Callable[[argparse.Namespace, Path], Part]] = {"wait": wait, "threads": threads, "killed": killed}


def measured(name: str, options: argparse.Namespace, folder: Path) -> Part:
    """One part, with the time that it took and how busy the machine was."""
    before, began = os.getloadavg(), time.perf_counter()
    part = PARTS[name](options, folder)
    part.seconds, part.load_before, part.load_after = time.perf_counter() - began, before, os.getloadavg()
    return part


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(PARTS), help="only this part; may be repeated")
    parser.add_argument("--reference-python", type=Path, metavar="PATH", default=REFERENCE, help="has langgraph dev")
    parser.add_argument("--rounds", type=int, default=5, help="bursts of each server in each setting of wait")
    parser.add_argument("--threads", type=int, default=1000, help="of the part threads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--quick", action="store_true", help="a few requests of each part, to see that all runs")
    return parser.parse_args()


def main() -> None:
    """Measure all and print it."""
    options = arguments()
    # what was started ends with us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in [name for name in os.environ if name.startswith("BENCHAI_")]:
        del os.environ[name]
    about = machine([]) | {name: version(name) for name in ("langgraph", "langgraph-sdk")}
    print("\n".join(f"{key}: {value}" for key, value in about.items()))
    found = []
    with tempfile.TemporaryDirectory(prefix="benchai-bench-") as temp:
        for name in [name for name in PARTS if name in (options.only or PARTS)]:
            part = measured(name, options, Path(temp))
            found.append(part.as_json())
            print("", part.markdown(), sep="\n", flush=True)
            if options.json:
                options.json.write_text(json.dumps({"machine": about, "parts": found}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
