"""What a run of a workflow costs and survives: six parts in one run, each beside what it is compared with.

step    what a framework adds to each step of a ReAct run, on a server that answers at once: milliseconds of wall and
        CPU time at 5 and 50 steps, for 1 run and for 16 at once; ratios to a bare loop over the SDK of OpenAI
cold    seconds from ``benchai run react`` to the first model request, beside importing langgraph and langchain_openai
prompt  tokens of the first request with one tool, counted in two ways
faults  the faults of small models and their servers, replayed on the workflow react
cache   the share of the previous prompt that the engine had kept, step by step, on the bundled model
tiny    the bundled models through every workflow on held-out tasks: completed, and right

    python benchmarks/workflows.py [--only PART] [--rounds 7] [--n 100] [--workflow NAME] [--peers-python PATH]
        [--json FILE] [--wrong 3]

Peers are measured where they can be imported; --peers-python names an interpreter of another environment that has
langchain, openai-agents, pydantic-ai or smolagents. Nothing is fetched. The tables are Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.fleet import machine  # noqa: E402
from benchmarks.workflow_parts import faults, first_request, steps, tiny  # noqa: E402
from benchmarks.workflow_parts.held_out import TASKS  # noqa: E402
from benchmarks.workflow_parts.report import Part  # noqa: E402

MODEL = ROOT / "benchai" / "models" / "tiny.gguf"
CACHE_RUNS = 10
LIBRARIES = ("openai", "langgraph", "langchain-core", "langchain-openai", "langgraph-checkpoint-sqlite")


def on_bench(work: Callable[[Any], Awaitable[Part]]) -> Part:
    """Do something with a bench on the bundled models, in a workspace of its own."""

    async def inside(folder: Path) -> Part:
        async with tiny.opened(folder) as bench:
            return await work(bench)

    with tempfile.TemporaryDirectory(prefix="benchai-workspace-") as folder:
        return asyncio.run(inside(Path(folder)))


#: In the order in which they are measured.
PARTS: dict[str, Callable[[argparse.Namespace], Part]] = {
    "step": lambda options: steps.measure(options.rounds, options.peers_python),
    "cold": lambda options: first_request.cold(max(options.rounds, 5)),
    "prompt": lambda options: first_request.prompt(MODEL, options.peers_python),
    "faults": lambda options: faults.measure(options.peers_python),
    "cache": lambda options: on_bench(lambda bench: tiny.cache(bench, min(CACHE_RUNS, options.n), options.seed)),
    "tiny": lambda options: on_bench(
        lambda bench: tiny.through_workflows(bench, options.workflow or list(TASKS), options.n, options.seed)
    ),
}


def measured(name: str, options: argparse.Namespace) -> Part:
    """One part, with the time that it took and how busy the machine was."""
    before, began = os.getloadavg(), time.perf_counter()
    part = PARTS[name](options)
    part.seconds, part.load_before, part.load_after = time.perf_counter() - began, before, os.getloadavg()
    return part


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(PARTS), help="only this part; may be repeated")
    parser.add_argument("--rounds", type=int, default=7, help="of the parts step and cold")
    parser.add_argument("--n", type=int, default=100, help="held-out tasks for each workflow")
    parser.add_argument("--workflow", action="append", choices=list(TASKS), help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other held-out tasks")
    parser.add_argument("--peers-python", type=Path, metavar="PATH", help="an interpreter that has peers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--wrong", type=int, default=0, help="show so many wrong runs of each workflow")
    return parser.parse_args()


def show_wrong(part: Part, most: int) -> None:
    """The first wrong runs of each workflow."""
    shown: dict[str, int] = {}
    for one in part.rows[-1].get("wrong", []):
        shown[one["workflow"]] = shown.get(one["workflow"], 0) + 1
        if shown[one["workflow"]] <= most:
            print(f"- {one['workflow']}: {one['task']!r} ended with {one['stop_reason']} {one['error']}")
            print(f"  chosen {one['chosen']!r} (fits: {', '.join(one['fits'])}), answer {one['output']!r}")


def main() -> None:
    """Measure all and print it."""
    options = arguments()
    for name in [name for name in os.environ if name.startswith("BENCHAI_")]:
        del os.environ[name]
    about = machine(["native"]) | {name: version(name) for name in LIBRARIES}
    print("\n".join(f"{key}: {value}" for key, value in about.items()))
    found = []
    with tempfile.TemporaryDirectory(prefix="benchai-bench-") as home:
        os.environ["BENCHAI_HOME"] = home
        for name in [name for name in PARTS if name in (options.only or PARTS)]:
            part = measured(name, options)
            found.append(part.as_json())
            print("", part.markdown(), sep="\n", flush=True)
            show_wrong(part, options.wrong)
            if options.json:
                options.json.write_text(json.dumps({"machine": about, "parts": found}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
