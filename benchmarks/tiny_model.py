"""Exact match of the bundled model on held-out inputs, task by task, through a real llama.cpp server.

Every conversation is drawn from the held-out side of the split (numbers, names and phrasings that training never
showed). It counts as right when each reply of the model equals the expected one: text, tool name and arguments.

    python benchmarks/tiny_model.py [--n 100] [--task NAME] [--json] [--faults 3] [--model PATH]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from scripts.tiny_model import data  # noqa: E402
from scripts.tiny_model.evaluate import Score, score  # noqa: E402
from scripts.tiny_model.serve import served  # noqa: E402


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Exact match of the bundled model on held-out inputs.")
    parser.add_argument("--n", type=int, default=100, help="conversations for each task")
    parser.add_argument("--task", action="append", choices=list(data.TASKS), help="only this task; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other held-out conversations")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--faults", type=int, default=0, help="show so many wrong replies of each task")
    parser.add_argument("--model", type=Path, default=ROOT / "benchai" / "models" / "tiny.gguf")
    return parser.parse_args()


def show(result: Score, seconds: float, faults: int) -> None:
    """One row, and below it the wrong replies that were asked for."""
    print(
        f"{result.task:<16} {result.right:>4} / {result.total:<4} "
        f"{100 * result.right / result.total:6.1f} % {seconds:7.1f} s"
    )
    for fault in result.faults[:faults]:
        print(f"    after  {fault['after']!r}\n    wanted {fault['wanted']!r}\n    got    {fault['got']!r}")


def main() -> None:
    """Score all tasks and print them."""
    options = arguments()
    rows = []
    with served(options.model) as client:
        for task in options.task or data.TASKS:
            began = time.monotonic()
            result = score(client, task, data.held_out(task, options.n, options.seed))
            rows.append({"task": task, "right": result.right, "total": result.total})
            if not options.json:
                show(result, time.monotonic() - began, options.faults)
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
