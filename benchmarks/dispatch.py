"""What copies of a role's model bring: the same requests to one model, to two by turns, and where they end soonest.

Two real engines serve synthetic models of random weights with one thread each. The second one has several times the
layers of the first and stands for a copy on the CPU beside one on the GPU: the ratio of their speeds is what matters,
not what they say. They share this machine's cores, which a CPU and a GPU do not: with --devices two programs that wait
as long as the devices would take stand in for them. Some clients send short and long prompts one after the other,
without a pause. The three ways take turns, so that a machine that slows down slows all of them.

    python benchmarks/dispatch.py [--engine native|llama-server] [--clients 4] [--requests 6] [--slower 4] [--n 3]
        [--devices] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchai.config import load_config  # noqa: E402
from benchai.runtime.endpoints import Endpoint  # noqa: E402
from benchai.runtime.engine import native_flags  # noqa: E402
from benchai.runtime.fleet.fleet import Fleet  # noqa: E402
from benchai.runtime.http import local_client  # noqa: E402
from benchmarks.rows import Row, percentile, table  # noqa: E402
from benchmarks.synthetic_model import synthetic  # noqa: E402

WAYS = ("the role's model alone", "two by turns", "router.copies")
LAYERS = 4
#: A 7B on the seed's GPU reads and writes about so many tokens a second; here so many times more.
SPED_UP = 5
#: Words of a prompt and tokens of its reply.
SHORT, LONG = (20, 48), (600, 12)
_MODEL: dict[str, Any] = {"threads": 1, "threads_batch": 1, "temperature": 0, "context": 4096, "slots": 1}


@dataclass(frozen=True)
class Served:
    """One request: seconds until it had a place, and until its reply; which model gave it."""

    waited: float
    seconds: float
    model: str


class Ways:
    """Leases of the two models, in each of the ways."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._turn = count()

    def lease(self, way: str, words: int) -> AbstractAsyncContextManager[Endpoint]:
        """A lease for a request of so many words."""
        if way == WAYS[0]:
            return self._fleet.lease_one_of("general", ["fast"])
        if way == WAYS[1]:
            return self._fleet.lease_one_of("general", [("fast", "slow")[next(self._turn) % 2]])
        return self._fleet.lease_one_of("general", ["fast", "slow"], prompt_tokens=words)


async def request(ways: Ways, way: str, number: int) -> Served:
    """Lease a model and ask it."""
    words, tokens = (SHORT, LONG)[number % 3 == 2]
    began = time.perf_counter()
    async with ways.lease(way, words) as endpoint:
        waited = time.perf_counter() - began
        body = {
            "model": endpoint.served_name,
            "messages": [{"role": "user", "content": f"{number} " * words}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "cache_prompt": False,
        }
        async with local_client(timeout=120) as client:
            (await client.post(f"{endpoint.base_url}/chat/completions", json=body)).raise_for_status()
    return Served(waited, time.perf_counter() - began, endpoint.model)


async def round_of(ways: Ways, way: str, clients: int, requests: int) -> tuple[float, list[Served]]:
    """All clients at once; seconds until the last reply, and every request."""

    async def client(number: int) -> list[Served]:
        return [await request(ways, way, number + step) for step in range(requests)]

    began = time.perf_counter()
    done = await asyncio.gather(*(client(number) for number in range(clients)))
    return time.perf_counter() - began, [one for each in done for one in each]


async def measure(engine: str, folder: Path, asked: argparse.Namespace) -> list[Row]:
    """The rows of one engine."""
    layers = {"fast": LAYERS, "slow": LAYERS * (1 if asked.devices else asked.slower)}
    files = {name: synthetic(folder / f"{name}.gguf", 384, number) for name, number in layers.items()}
    data = {
        "models": {
            name: _MODEL | {"file": str(file), "placement": "cpu", "keep": True} for name, file in files.items()
        },
        "roles": {"general": "fast"},
        "router": {"copies": {"general": ["slow"]}, "max_concurrent": {"general": 2 * asked.clients}},
        "engine": {"kind": "llama-server", "path": device(folder, asked)} if asked.devices else {"kind": engine},
        "fleet": {"memory": {"reserve": 0}},
    }
    config = folder / "benchai.yaml"
    config.write_text(json.dumps(data), encoding="utf-8")
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    served: dict[str, list[Served]] = {way: [] for way in WAYS}
    async with Fleet(load_config(config)) as fleet:
        for name in files:
            await fleet.start(name)
        ways = Ways(fleet)
        for way in WAYS:
            await round_of(ways, way, asked.clients, 1)
        for _ in range(asked.n):
            for way in WAYS:
                took, each = await round_of(ways, way, asked.clients, asked.requests)
                seconds[way].append(took)
                served[way] += each
    return [row for way in WAYS for row in rows(engine, way, seconds, served)]


def device(folder: Path, asked: argparse.Namespace) -> str:
    """The program that stands in for two devices, one of them slower."""
    place = folder / "device"
    place.mkdir()
    fast = (1500 * SPED_UP, 35 * SPED_UP)
    rates = {"fast": fast, "slow": [rate / asked.slower for rate in fast]}
    (place / "rates.json").write_text(json.dumps(rates), encoding="utf-8")
    (place / "help.txt").write_text(native_flags.usage(), encoding="utf-8")
    program = place / "llama-server"
    lines = (ROOT / "benchmarks" / "device.py").read_text(encoding="utf-8")
    program.write_text(f"#!{sys.executable} -I\n{lines}", encoding="utf-8")
    program.chmod(0o755)
    return str(program)


def rows(engine: str, way: str, seconds: dict[str, list[float]], served: dict[str, list[Served]]) -> list[Row]:
    """What one way has shown, beside the first one."""

    def row(name: str, figures: Sequence[float], first: Sequence[float], note: str = "") -> Row:
        more = {} if way == WAYS[0] else {"compared": "alone", "against": statistics.fmean(first)}
        return Row(engine, f"{way}: {name}", statistics.fmean(figures), n=len(figures), note=note, **more)

    now, alone = served[way], served[WAYS[0]]
    slow = sum(one.model == "slow" for one in now)
    late = percentile([one.seconds for one in now], 0.95)
    note = f"{slow} of {len(now)} requests went to the slow copy; 95 % had their reply within {late:.2f} s"
    return [
        row("mean wait for a place", [one.waited for one in now], [one.waited for one in alone]),
        row("mean time to the reply", [one.seconds for one in now], [one.seconds for one in alone], note),
        row("all requests", seconds[way], seconds[WAYS[0]]),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("native", "llama-server"))
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=6)
    parser.add_argument("--slower", type=int, default=4)
    parser.add_argument("--n", type=int, default=3)
    parser.add_argument("--devices", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    engine = (
        "devices" if asked.devices else asked.engine or ("llama-server" if shutil.which("llama-server") else "native")
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCHAI_HOME"] = folder
        found = asyncio.run(measure(engine, Path(folder), asked))
    print(json.dumps([row.as_json() for row in found]) if asked.json else table(found))


if __name__ == "__main__":
    main()
