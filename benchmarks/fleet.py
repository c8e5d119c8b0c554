"""The fleet against what a bare engine costs: restarts, swaps, returns, leases, all measured in one run.

Real engines serve the bundled model with one thread; a configured budget stands in for a GPU. Variants take turns, so
that a machine that slows down slows all of them. "Bare" is the same command line under ``EngineProcess`` alone, from
its spawn until it is ready. The return of a long conversation is also measured on a synthetic model of random weights,
made for this run: the bundled one reads 2,000 tokens faster than any real model would.

    python benchmarks/fleet.py [--engine native|llama-server] [--only PART] [--n 7] [--seconds 120] [--json]

Without --engine the embedded engine is measured, and llama-server where one is on PATH. A round that has begun is
finished, so a run may take a little longer than --seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchai.config import LoadedConfig, load_config, paths  # noqa: E402
from benchai.config.models import EngineConfig  # noqa: E402
from benchai.events import Event, ModelState  # noqa: E402
from benchai.runtime.endpoints import Endpoint  # noqa: E402
from benchai.runtime.engine.discover import find_engine  # noqa: E402
from benchai.runtime.fleet.fleet import Fleet  # noqa: E402
from benchai.runtime.fleet.logs import ModelLog  # noqa: E402
from benchai.runtime.fleet.process import EngineProcess, LaunchSpec  # noqa: E402
from benchai.runtime.placement.gauge import Gauge  # noqa: E402
from benchmarks.rows import LEAST, Row, percentile, rounds, table  # noqa: E402
from benchmarks.synthetic_model import CONTEXT, TINY, synthetic  # noqa: E402

MODEL: dict[str, Any] = {"threads": 1, "threads_batch": 1, "temperature": 0, "context": CONTEXT, "slots": 1}
#: A swap or a restart may cost so much more than the bare engine.
OVERHEAD = 0.3
#: The seed waits so long for VRAM ("VRAM Cold-Swapping Strategy").
SEED_SLEEP = 3.0
TOKENS = 2000
LEASES, TASKS = 5000, 16
MODELS_AT_ONCE = 5
REPLY_SECONDS = 300.0


class Record:
    """Takes the fleet's events and the moment at which each came."""

    def __init__(self) -> None:
        self.states: list[tuple[float, ModelState]] = []
        self._news = asyncio.Event()

    def __call__(self, event: Event) -> None:
        if isinstance(event, ModelState):
            self.states.append((time.perf_counter(), event))
            self._news.set()

    async def when(self, mark: int, state: str | None = None) -> float:
        """The moment of the first event after ``mark`` events, of one state if that is given."""
        while True:
            self._news.clear()
            for moment, event in self.states[mark:]:
                if state in (None, event.state):
                    return moment
            await self._news.wait()


@dataclass
class Setup:
    """What the parts share: the engine, a folder for this run, how often and until when."""

    engine: str
    folder: Path
    n: int
    until: float = 0.0
    gpu: bool = False
    rows: list[Row] = field(default_factory=list)

    def load(self, models: Mapping[str, Mapping[str, Any]], **sections: Any) -> LoadedConfig:
        """A configuration of these models, which may use all memory."""
        data = {"models": {name: MODEL | dict(model) for name, model in models.items()}, **sections}
        data["engine"] = {"kind": self.engine}
        data["fleet"] = {"memory": {"reserve": 0}} | dict(sections.get("fleet", {}))
        file = self.folder / "benchai.yaml"
        file.write_text(json.dumps(data), encoding="utf-8")
        return load_config(file)

    async def crowded(
        self, models: Mapping[str, Path], others: Mapping[str, Mapping[str, Any]] | None = None, **settings: Any
    ) -> LoadedConfig:
        """Models of which one at a time fits on a GPU that only the configuration knows, and others elsewhere."""
        entries = {name: {"file": str(file), "placement": "gpu"} for name, file in models.items()}
        wide = Fleet(self.load(entries, fleet={"memory": {"vram": 1_000_000, "reserve": 0}}))
        needs = [wide.member(name) for name in models]
        for one in needs:
            await one.look()
        sizes = [sum(one.need.options[0].values()) for one in needs if one.need]
        memory = {"vram": max(sizes) + min(sizes) // 2, "reserve": 0}
        return self.load(entries | dict(others or {}), fleet={"memory": memory, **settings})

    def rounds(self, n: int | None = None, least: int = LEAST) -> Iterator[int]:
        """As often as is asked for, while there is time."""
        return rounds(self.n if n is None else n, self.until, least)

    def add(self, name: str, values: Sequence[float], **more: Any) -> None:
        """A row of the median of ``values``."""
        self.rows.append(Row(self.engine, name, statistics.median(values), n=len(values), **more))


async def timed(work: Awaitable[object]) -> float:
    """Seconds until it is done."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def bare(spec: LaunchSpec) -> tuple[float, float]:
    """Seconds from spawn to ready, and from the order to stop to the end, without a fleet."""
    process = EngineProcess(spec, ModelLog("bare", paths.log_dir()))
    try:
        return await timed(process.start()), await timed(process.stop())
    finally:
        await process.stop()


async def seed_swap(one: LaunchSpec, other: LaunchSpec) -> float:
    """Seconds of the seed's procedure: stop, a fixed sleep, start."""
    first, second = (EngineProcess(spec, ModelLog("seed", paths.log_dir())) for spec in (one, other))
    try:
        await first.start()
        began = time.perf_counter()
        await first.stop()
        await asyncio.sleep(SEED_SLEEP)
        await second.start()
        return time.perf_counter() - began
    finally:
        await asyncio.gather(first.stop(), second.stop())


async def leased(fleet: Fleet, role: str) -> Endpoint:
    """Lease a role and give it back."""
    async with fleet.lease(role) as endpoint:
        return endpoint


# ---- parts


async def recovery(setup: Setup) -> None:
    """A model that is killed: until the fleet knows, and until it answers again."""
    record = Record()
    noticed, ready, loads = [], [], []
    loaded = setup.load({"general": {"file": str(TINY), "placement": "cpu"}})
    async with Fleet(loaded, record, keep_core=True) as fleet:
        await fleet.start("general")
        member = fleet.member("general")
        spec = await member.prepare()
        for _ in setup.rounds():
            # asked for by name: the kills before are forgiven, each is a first one without delay
            await fleet.start("general")
            assert member.supervisor.ready is not None
            mark, began = len(record.states), time.perf_counter()
            os.kill(member.supervisor.ready.pid, signal.SIGKILL)
            noticed.append(1000 * (await record.when(mark) - began))
            ready.append(await record.when(mark, "ready") - began)
            loads.append((await bare(spec))[0])
    load = statistics.median(loads)
    goal = f"bare + {OVERHEAD} s"
    setup.add("kill -9 to ready again", ready, compared="bare load", against=load, goal=goal, limit=load + OVERHEAD)
    setup.add("kill -9 to the event", noticed, unit="ms")


async def swap(setup: Setup) -> None:
    """A lease of a model while another holds the only place."""
    swaps, costs, seeds = [], [], []
    async with Fleet(await setup.crowded({"a": TINY, "b": TINY})) as fleet:
        for name in ("a", "b", "a"):
            await leased(fleet, name)
        specs = [await fleet.member(name).prepare() for name in ("a", "b")]
        for number in setup.rounds():
            swaps += [await timed(leased(fleet, name)) for name in ("b", "a")]
            costs.append(sum(await bare(specs[1])))
            if number < LEAST:
                seeds.append(await seed_swap(specs[0], specs[1]))
        assert fleet.dispatcher.counts.swaps == len(swaps) + 2, "the models fitted side by side"
    cost = statistics.median(costs)
    goal = f"bare + {OVERHEAD} s"
    setup.add(
        "swap, lease to lease", swaps, compared="bare stop + load", against=cost, goal=goal, limit=cost + OVERHEAD
    )
    setup.add("the seed's swap", seeds, compared="swap of the fleet", against=statistics.median(swaps))


async def come_back(setup: Setup) -> None:
    """A conversation of 2,000 tokens after a swap, on the bundled model and on one of random weights."""
    await _come_back(setup, "bundled model", TINY, setup.n, LEAST)
    await _come_back(setup, "90 M random weights", synthetic(setup.folder / "synthetic.gguf"), LEAST, 2)


async def _come_back(setup: Setup, label: str, file: Path, n: int, least: int) -> None:
    kept = await setup.crowded({"a": file, "b": TINY})
    lost = await setup.crowded({"a": file, "b": TINY}, slot_cache=0)
    results: dict[str, list[tuple[float, dict[str, Any]]]] = {"restored": [], "read anew": []}
    async with Fleet(kept) as keeping, Fleet(lost) as losing:
        fleets = {"restored": keeping, "read anew": losing}
        talk = await _talk(keeping)
        # the first save also tests once whether this engine restores at all
        await leased(keeping, "b")
        for number in setup.rounds(n, least):
            for name, fleet in fleets.items():
                results[name].append(await _return(fleet, talk, number))
    anew = statistics.median(seconds for seconds, _ in results["read anew"])
    proof = "; ".join(f"{name}: {_proof(found)}" for name, found in results.items())
    name = f"return to first token, {label}"
    setup.add(name, [seconds for seconds, _ in results["restored"]], compared="read anew", against=anew, note=proof)


async def _talk(fleet: Fleet) -> list[dict[str, str]]:
    """Begin the long conversation."""
    async with fleet.lease("a") as endpoint:
        talk = [{"role": "user", "content": await _long_text(endpoint)}]
        reply = await _chat(endpoint, talk, 8)
    return [*talk, {"role": "assistant", "content": reply["choices"][0]["message"]["content"] or ""}]


async def _return(fleet: Fleet, talk: list[dict[str, str]], number: int) -> tuple[float, dict[str, Any]]:
    """Swap it out and go on with it: seconds from asking for the lease to the first token, the engine's timings."""
    await leased(fleet, "b")
    began = time.perf_counter()
    async with fleet.lease("a") as endpoint:
        granted = time.perf_counter() - began
        reply = await _chat(endpoint, [*talk, {"role": "user", "content": f"And what is {number + 7}?"}], 1)
    return time.perf_counter() - began, reply["timings"] | {"granted": granted}


def _proof(results: Sequence[tuple[float, dict[str, Any]]]) -> str:
    def middle(key: str) -> float:
        return statistics.median(float(timings[key]) for _, timings in results)

    tokens = f"cache_n {middle('cache_n'):.0f}, prompt_n {middle('prompt_n'):.0f}"
    return f"{tokens} in {middle('prompt_ms'):.0f} ms, lease after {middle('granted'):.3f} s"


async def _long_text(endpoint: Endpoint) -> str:
    words: list[str] = []
    async with httpx.AsyncClient(base_url=endpoint.base_url.removesuffix("/v1"), trust_env=False) as client:
        while True:
            words += [f"Item {len(words) + step} costs {(len(words) + step) * 37 % 91}." for step in range(10)]
            answer = await client.post("/tokenize", json={"content": " ".join(words)})
            if len(answer.raise_for_status().json()["tokens"]) >= TOKENS:
                return " ".join(words)


async def _chat(endpoint: Endpoint, messages: list[dict[str, str]], tokens: int) -> dict[str, Any]:
    body = {"model": endpoint.served_name, "messages": messages, "max_tokens": tokens, "temperature": 0}
    async with httpx.AsyncClient(timeout=REPLY_SECONDS, trust_env=False) as client:
        answer = await client.post(f"{endpoint.base_url}/chat/completions", json=body)
    data: dict[str, Any] = answer.raise_for_status().json()
    return data


async def leases(setup: Setup) -> None:
    """A lease of a model that is ready: by one task, by many, and while somebody waits for another model."""
    model = {"general": {"file": str(TINY), "placement": "cpu", "slots": TASKS}}
    async with Fleet(setup.load(model, router={"max_concurrent": {"general": TASKS}})) as fleet:
        await leased(fleet, "general")
        for tasks in (1, TASKS):
            took: list[float] = []
            await asyncio.gather(*(_lease_often(fleet, LEASES // tasks, took) for _ in range(tasks)))
            _add_leases(setup, "lease of a ready model" if tasks == 1 else f"lease, {tasks} tasks at once", took)
    if not setup.gpu:
        await _lease_beside_a_wait(setup)


async def _lease_beside_a_wait(setup: Setup) -> None:
    """The place of "a" is wanted for "b"; "general" has nothing to do with either."""
    loaded = await setup.crowded({"a": TINY, "b": TINY}, others={"general": {"file": str(TINY), "placement": "cpu"}})
    took: list[float] = []
    async with Fleet(loaded) as fleet:
        for role in ("general", "b", "a"):
            await leased(fleet, role)
        async with fleet.lease("a"):
            waiting = asyncio.create_task(leased(fleet, "b"))
            await asyncio.sleep(0.1)
            assert fleet.dispatcher.waiting("b") == 1
            await _lease_often(fleet, LEASES // 10, took)
        await waiting
    _add_leases(setup, "lease while a swap waits", took)


def _add_leases(setup: Setup, name: str, took: Sequence[float]) -> None:
    setup.add(f"{name}, p50", took, unit="ms", goal="0.2 ms", limit=0.2)
    setup.rows.append(Row(setup.engine, f"{name}, p99", percentile(took, 0.99), "ms", len(took)))


async def _lease_often(fleet: Fleet, times: int, took: list[float]) -> None:
    for _ in range(times):
        began = time.perf_counter()
        async with fleet.lease("general"):
            took.append(1000 * (time.perf_counter() - began))
            # the others ask while this one is held
            await asyncio.sleep(0)


async def together(setup: Setup) -> None:
    """Several models brought up at once, against the slowest of them alone."""
    names = [f"m{number}" for number in range(MODELS_AT_ONCE)]
    all_at_once, slowest, floor, work = [], [], [], []
    async with Fleet(setup.load({name: {"file": str(TINY), "placement": "cpu"} for name in names})) as fleet:
        specs = [await fleet.member(name).prepare() for name in names]
        for _ in setup.rounds():
            each = []
            for name in names:
                each.append(await timed(fleet.start(name)))
                await fleet.stop(name)
            slowest.append(max(each))
            all_at_once.append(await timed(asyncio.gather(*(fleet.start(name) for name in names))))
            work += [_cpu_seconds(fleet, name) for name in names]
            await asyncio.gather(*(fleet.stop(name) for name in names))
            floor.append(max(load for load, _ in await asyncio.gather(*(bare(spec) for spec in specs))))
    note = f"{statistics.median(work):.3f} CPU seconds for each model, {os.cpu_count()} cores"
    name = f"{MODELS_AT_ONCE} models up at once"
    alone = statistics.median(slowest)
    limit = 1.5 * alone
    setup.add(name, all_at_once, compared="slowest alone", against=alone, goal="1.5 times", limit=limit, note=note)
    setup.add(f"{name}, bare", floor, compared="slowest alone", against=alone)


def _cpu_seconds(fleet: Fleet, name: str) -> float:
    ready = fleet.member(name).supervisor.ready
    assert ready is not None
    times = psutil.Process(ready.pid).cpu_times()
    return float(times.user) + float(times.system)


# ---- the run

#: Each part and the share of the time that it may take.
PARTS: dict[str, tuple[Callable[[Setup], Awaitable[None]], float]] = {
    "recovery": (recovery, 0.1),
    "swap": (swap, 0.25),
    "together": (together, 0.2),
    "lease": (leases, 0.05),
    "return": (come_back, 0.4),
}
NEED_ROOM = ("swap", "return")


def machine(engines: Sequence[str]) -> dict[str, str]:
    """What this was measured on."""
    names = Path("/proc/cpuinfo")
    lines = names.read_text(encoding="utf-8").splitlines() if names.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        **{engine: _version(engine) for engine in engines},
    }


def _version(kind: str) -> str:
    return find_engine(EngineConfig.model_validate({"kind": kind})).version()


def _has_gpu() -> bool:
    with Gauge() as gauge:
        return any(one.device != "cpu" for one in gauge.devices())


async def measure(engine: str, parts: Sequence[str], folder: Path, n: int, seconds: float) -> list[Row]:
    """All parts on one engine."""
    setup = Setup(engine, folder, n, gpu=_has_gpu())
    whole = sum(PARTS[part][1] for part in parts)
    setup.until = time.monotonic()
    for part in parts:
        work, share = PARTS[part]
        # what the parts before left over is theirs too
        setup.until += seconds * share / whole
        if part in NEED_ROOM and setup.gpu:
            print(f"{part}: left out, the budget stands in for a GPU and here is a real one", file=sys.stderr)
            continue
        print(f"{engine}: {part}", file=sys.stderr)
        await work(setup)
    return setup.rows


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="The fleet against what a bare engine costs.")
    parser.add_argument("--engine", action="append", choices=["native", "llama-server"], help="default: all there are")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="only this part; may be repeated")
    parser.add_argument("--n", type=int, default=7, help="rounds of each part, while there is time")
    parser.add_argument("--seconds", type=float, default=120, help="of the whole run, about")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


def main() -> None:
    """Measure all and print it."""
    options = arguments()
    found = ["native", *(["llama-server"] if shutil.which("llama-server") else [])]
    engines = list(dict.fromkeys(options.engine or found))
    for name in [name for name in os.environ if name.startswith("BENCHAI_")]:
        del os.environ[name]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="benchai-bench-") as temp:
        os.environ["BENCHAI_HOME"] = str(Path(temp, "home"))
        about = machine(engines)
        for engine in engines:
            seconds = options.seconds / len(engines)
            rows += asyncio.run(measure(engine, options.only or list(PARTS), Path(temp), options.n, seconds))
    if options.json:
        print(json.dumps({"machine": about, "rows": [row.as_json() for row in rows]}, indent=2))
    else:
        print("\n".join(f"{key}: {value}" for key, value in about.items()), table(rows), sep="\n\n")


if __name__ == "__main__":
    main()
