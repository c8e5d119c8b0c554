"""What a KV cache takes by the types of K and V, as the engine allocates it, and what they cost in quality.

The size is what the engine logs for a context, beside what BenchAI estimates. Quality is, for the bundled model, how
many of its held-out tasks it gets right in every reply; with --text, for any model, the perplexity of that text, token
by token against f16, through the engine's own endpoints.

    python benchmarks/kv_cache.py [--engine native|llama-server] [--file F.gguf --text T.txt] [--tokens 512] [--n 10]
        [--context 8192] [--types f16/f16,q8_0/q8_0,...] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchai.config import load_config, paths  # noqa: E402
from benchai.runtime.measure.perplexity import Perplexity, change, perplexity, read_text  # noqa: E402
from benchai.runtime.measure.rig import started  # noqa: E402
from benchai.runtime.placement.footprint import Settings, kv_bytes  # noqa: E402
from benchai.runtime.placement.model_info import read_model_info  # noqa: E402
from scripts.tiny_model import data  # noqa: E402
from scripts.tiny_model.evaluate import score  # noqa: E402

MIB = 1024 * 1024
TYPES = "f16/f16,q8_0/q8_0,q8_0/q4_0,q4_0/q4_0"
_BUFFER = re.compile(r"KV buffer size = +([\d.]+) MiB")


@dataclass(frozen=True)
class Row:
    """One pair of types; sizes in MiB, and what was found of the quality."""

    types: str
    engine_mib: float
    estimated_mib: float
    quality: str


async def measure(engine: str, folder: Path, asked: argparse.Namespace) -> list[Row]:
    """A row for each pair of types, the first one being what the others are compared with."""
    rows: list[Row] = []
    first: Perplexity | None = None
    info = read_model_info(asked.file)
    for types in asked.types.split(","):
        k, v = types.split("/")
        size, found = await one(engine, folder, asked, k, v)
        expected = kv_bytes(info, Settings(asked.context, cache_type_k=k, cache_type_v=v)) / MIB
        if isinstance(found, Perplexity):
            first = first or found
            found = told(first, found)
        rows.append(Row(types, size, round(expected, 2), found))
    return rows


def told(first: Perplexity, found: Perplexity) -> str:
    """A perplexity and its change, with the interval that holds it (95 %)."""
    against = change(first, found)
    low, high = 100 * (against.low - 1), 100 * (against.high - 1)
    return f"{found.value:.3f} ± {found.error:.3f}, {against.percent:+.2f} % ({low:+.2f} to {high:+.2f})"


async def one(engine: str, folder: Path, asked: argparse.Namespace, k: str, v: str) -> tuple[float, Perplexity | str]:
    """MiB that an engine allocates with these types, and what it makes of the text or the tasks."""
    model = {"file": str(asked.file), "context": asked.context, "slots": 1, "flash_attn": True}
    model |= {"cache_type_k": k, "cache_type_v": v, "extra_args": ["-lv", "4"], "threads": asked.threads}
    entry = {"models": {"kv": model}, "engine": {"kind": engine}, "fleet": {"memory": {"reserve": 0}}}
    config = folder / "benchai.yaml"
    config.write_text(json.dumps(entry), encoding="utf-8")
    log = paths.log_dir() / "kv.measured.log"
    log.unlink(missing_ok=True)
    async with started(load_config(config), "kv") as rig:
        # before requests fill the log
        sizes = _BUFFER.findall(log.read_text(encoding="utf-8"))
        if asked.text:
            found: Perplexity | str = await perplexity(rig.ready.root, read_text(asked.text)[0], asked.tokens)
        else:
            found = await asyncio.to_thread(tasks, rig.ready.root, asked.n)
    return round(sum(map(float, sizes)), 2), found


def tasks(root: str, n: int) -> str:
    """How many held-out tasks the bundled model gets right."""
    with httpx.Client(base_url=root, timeout=60) as client:
        scores = [score(client, task, data.held_out(task, n)) for task in data.TASKS]
    return f"{sum(one.right for one in scores)} of {sum(one.total for one in scores)} tasks right"


def printed(rows: list[Row]) -> str:
    """A Markdown table."""
    head = ["| K/V | engine, MiB | estimate, MiB | of the first | quality |", "| --- | --- | --- | --- | --- |"]
    return "\n".join(
        head
        + [
            f"| {row.types} | {row.engine_mib:.2f} | {row.estimated_mib:.2f} "
            f"| {100 * row.engine_mib / rows[0].engine_mib:.0f} % | {row.quality} |"
            for row in rows
        ]
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("native", "llama-server"))
    parser.add_argument("--file", type=Path, default=ROOT / "benchai" / "models" / "tiny.gguf")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--n", type=int, default=10)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--types", default=TYPES)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    engine = asked.engine or ("llama-server" if shutil.which("llama-server") else "native")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCHAI_HOME"] = folder
        rows = asyncio.run(measure(engine, Path(folder), asked))
    print(json.dumps([asdict(row) for row in rows]) if asked.json else printed(rows))


if __name__ == "__main__":
    main()
