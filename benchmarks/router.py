"""What the router adds to an engine: latency, time to the first token, throughput, memory; beside other routers.

latency     milliseconds added to whole replies of 1 and of 16 tokens, for 1 client and for 16 at once
first       the same up to the first event of a stream
throughput  events a second of 16 streams at once, as a share of what they are without a router
hit         milliseconds of replies from the exact cache
memory      MiB of the server's process over many requests

    python benchmarks/router.py [--only PART] [--rounds 20] [--requests 10000] [--engine KIND] [--peers-python PATH]
        [--json FILE] [--quick]

All ways lead to the bundled model on one thread with 16 places; each server, and the client, is a process of its own,
and the ways take turns, burst by burst. ``benchai serve`` runs as it does by default: requests name the model "auto",
are routed, belong to a session, look into the exact cache (temperature 0, each text once) and leave a usage row.
llama-server's router mode is measured against its own engine, where a llama-server is on PATH; LiteLLM's proxy where
--peers-python names an interpreter of an environment that has litellm[proxy]. Nothing is fetched.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.fleet import machine  # noqa: E402
from benchmarks.router_parts import figures  # noqa: E402
from benchmarks.router_parts.client import PLACE  # noqa: E402
from benchmarks.router_parts.figures import Goal, Growth  # noqa: E402
from benchmarks.router_parts.ways import OURS, Way, all_ways  # noqa: E402
from benchmarks.rows import percentile  # noqa: E402
from benchmarks.workflow_parts.report import Part, note  # noqa: E402

CLIENT = Path(__file__).parent / "router_parts" / "client.py"
PATH = "/v1/chat/completions"
#: Clients at once -> added p50 and p99 that are allowed, in milliseconds.
BOUNDS = {1: (0.7, 3.0), 16: (4.0, 10.0)}
HIT_MS = 2.0
#: MiB for each 1,000 requests, in the second half of them, that still pass for flat.
FLAT = 0.5
SAMPLES = 10
LONG = 128
#: Requests before those that count; the first ones also wait for the model's identity, without which nothing is cached.
WARM = 20


@dataclass
class Setup:
    """What the parts share."""

    ways: Sequence[Way]
    rounds: int
    requests: int
    quick: bool = False
    notes: list[str] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def ask(
        self,
        ways: Sequence[Way],
        *,
        tokens: int,
        at_once: int,
        rounds: int,
        requests: int,
        stream: bool = False,
        warm: int = WARM,
        ends: bool = False,
        same: bool = False,
    ) -> dict[str, list[dict[str, Any]]]:
        """The bursts of each way; a way that fails is told of, and has the bursts without what failed."""
        body = {
            "messages": [{"role": "user", "content": f"What comes after number {PLACE}?"}],
            "max_tokens": tokens,
            "temperature": 0,
            # else replies are as long as the model likes; but only those that end are kept by a cache
            "ignore_eos": not ends,
        } | ({"stream": True} if stream else {})
        job = {
            "ways": {
                way.name: {"url": way.url + PATH, "body": body | {"model": way.model}, "pid": way.pid} for way in ways
            },
            "rounds": rounds,
            "requests": requests,
            "at_once": at_once,
            "warm": 3 if self.quick else warm,
            "same": same,
            # no text comes twice, not even in another run on the same cache
            "first": random.randrange(10**9, 10**12),
        }
        argv = [sys.executable, str(CLIENT)]
        done = subprocess.run(argv, input=json.dumps(job), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        found = json.loads(done.stdout)
        for name, one in found.items():
            if one["failures"]:
                self.notes.append(f"{name}: {len(one['failures'])} requests failed, such as {one['failures'][0]}")
        return {name: one["bursts"] for name, one in found.items()}


def latency(setup: Setup) -> Part:
    """Whole replies."""
    return _latency(setup, "latency", "total", [(1, 1), (16, 1), (1, 16), (16, 16)], stream=False)


def first(setup: Setup) -> Part:
    """The first event of streams."""
    return _latency(setup, "first token", "first", [(16, 1), (16, 16)], stream=True)


def _latency(setup: Setup, name: str, kind: str, settings: Sequence[tuple[int, int]], stream: bool) -> Part:
    rows, lines = [], []
    for tokens, at_once in settings:
        title = f"{name}, {tokens} tokens, {at_once} at once"
        note(title)
        # a burst must be long enough for all places to be in use
        requests = 5 if at_once == 1 else (1 if setup.quick else 4) * at_once
        found = setup.ask(
            setup.ways, tokens=tokens, at_once=at_once, rounds=setup.rounds, requests=requests, stream=stream
        )
        made = figures.latencies(setup.ways, found, kind)
        table = figures.table(made)
        lines += ([["tokens", "at once", *table[0]]] if not lines else []) + [
            [str(tokens), str(at_once), *line] for line in table[1:]
        ]
        rows += [{"tokens": tokens, "at_once": at_once, "stream": stream} | one for one in figures.rows(made)]
        setup.goals += figures.goals(title, made, *BOUNDS[at_once])
    return Part(f"{name}, ms", rows, lines)


def throughput(setup: Setup) -> Part:
    """16 streams at once."""
    note("throughput")
    rounds, tokens = max(1, setup.rounds // 3), 8 if setup.quick else LONG
    found = setup.ask(setup.ways, tokens=tokens, at_once=16, rounds=rounds, requests=16, stream=True)
    made = figures.throughputs(setup.ways, found)
    setup.goals += figures.throughput_goals(made)
    return Part(f"throughput of 16 streams of {tokens} tokens", figures.rows(made), figures.throughput_table(made))


def hit(setup: Setup) -> Part:
    """The same request again and again."""
    note("hit")
    ways, rows, lines = [way for way in setup.ways if way.name == OURS], [], [["at once", "p50", "p99", "n", "hits"]]
    for at_once in (1, 16):
        found = setup.ask(
            ways, tokens=LONG, at_once=at_once, rounds=setup.rounds, requests=20 * at_once, ends=True, same=True
        )[OURS]
        values = [value for burst in found for value in burst["total"]]
        p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
        hits = sum(burst["hits"] for burst in found)
        rows.append({"at_once": at_once, "p50": p50, "p99": p99, "n": len(values), "hits": hits})
        lines.append([str(at_once), f"{p50:.2f}", f"{p99:.2f}", str(len(values)), str(hits)])
        if hits < len(values):
            setup.notes.append(f"only {hits} of {len(values)} were hits")
        if at_once == 1:
            setup.goals.append(Goal("exact cache, hit, p50", p50, HIT_MS))
    return Part("hits of the exact cache, ms", rows, lines)


def memory(setup: Setup) -> Part:
    """The server's process, without its engine."""
    note("memory")
    [way] = [way for way in setup.ways if way.name == OURS]
    each = max(setup.requests // SAMPLES, 1)
    after, rss = [0], [_rss(way.pid)]
    for number in range(SAMPLES):
        setup.ask([way], tokens=1, at_once=16, rounds=1, requests=each, warm=1)
        after.append((number + 1) * (each + 1))
        rss.append(_rss(way.pid))
    grown = Growth(after, rss)
    setup.goals.append(Goal("memory, growth a 1,000 requests", grown.per_thousand, FLAT, "MiB"))
    lines = [["requests", *map(str, after)], ["MiB", *(f"{one:.1f}" for one in rss)]]
    return Part("memory of benchai serve", [{"after": after, "rss": rss}], lines)


def _rss(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 2**20


#: In the order in which they are measured.
PARTS: dict[str, Callable[[Setup], Part]] = {
    "latency": latency,
    "first": first,
    "throughput": throughput,
    "hit": hit,
    "memory": memory,
}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(PARTS), help="only this part; may be repeated")
    parser.add_argument("--rounds", type=int, default=20, help="bursts of each way in each setting")
    parser.add_argument("--requests", type=int, default=10_000, help="of the part memory")
    parser.add_argument("--engine", choices=["native", "llama-server"], help="default: llama-server, if on PATH")
    parser.add_argument("--peers-python", type=Path, metavar="PATH", help="an interpreter that has litellm[proxy]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--quick", action="store_true", help="a few requests of each part, to see that all runs")
    return parser.parse_args(argv)


def measured(name: str, setup: Setup) -> Part:
    """One part, with the time that it took and how busy the machine was."""
    before, began = os.getloadavg(), time.perf_counter()
    told, wanted = len(setup.notes), len(setup.goals)
    part = PARTS[name](setup)
    part.seconds, part.load_before, part.load_after = time.perf_counter() - began, before, os.getloadavg()
    part.notes += [*map(str, setup.goals[wanted:]), *setup.notes[told:]]
    return part


def main() -> None:
    """Measure all and print it."""
    options = arguments()
    # what was started ends with us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in [name for name in os.environ if name.startswith(("BENCHAI_", "LLAMA_ARG_"))]:
        del os.environ[name]
    engine = options.engine or ("llama-server" if shutil.which("llama-server") else "native")
    about = machine([engine])
    print("\n".join(f"{key}: {value}" for key, value in about.items()))
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="benchai-bench-") as temp:
        os.environ["BENCHAI_HOME"] = str(Path(temp, "home"))
        with all_ways(Path(temp), engine, options.peers_python, notes) as ways:
            rounds, requests = (1, 20) if options.quick else (options.rounds, options.requests)
            setup = Setup(ways, rounds, requests, options.quick)
            for name in [name for name in PARTS if name in (options.only or PARTS)]:
                part = measured(name, setup)
                found.append(part.as_json())
                print("", part.markdown(), sep="\n", flush=True)
            if options.json:
                whole = {"machine": about, "parts": found, "left out": notes}
                options.json.write_text(json.dumps(whole, indent=1), encoding="utf-8")
    print("\n".join(f"- {one}" for one in notes))


if __name__ == "__main__":
    main()
