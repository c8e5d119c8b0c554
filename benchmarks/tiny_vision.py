"""Exact match of the bundled vision model on held-out pictures, kind by kind, through a real llama.cpp server.

Every picture is drawn from the held-out side of the split: digits, places (position, size, shade and background
together) and phrasings that training never showed. Each kind is asked twice: without a system prompt, and as the agent
asks, with the ReAct prompt and the shipped tools. Pictures have 64 to 1,200 pixels; PNG and JPEG.

    python benchmarks/tiny_vision.py [--n 200] [--kind NAME] [--engine embedded|PATH] [--json] [--faults 3]
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from scripts.tiny_vision import data  # noqa: E402
from scripts.tiny_vision.evaluate import Score, score  # noqa: E402
from scripts.tiny_vision.scene import KINDS  # noqa: E402
from scripts.tiny_vision.serve import EMBEDDED, served  # noqa: E402

MODELS = ROOT / "benchai" / "models"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Exact match of the bundled vision model on held-out pictures.")
    parser.add_argument("--n", type=int, default=200, help="pictures of each kind, without the agent's prompt and with")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this kind; may be repeated")
    parser.add_argument("--engine", default="embedded", help='"embedded", or the path of a llama-server')
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other held-out pictures")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--faults", type=int, default=0, help="show so many wrong answers of each row")
    parser.add_argument("--model", type=Path, default=MODELS / "tiny-vision.gguf")
    parser.add_argument("--mmproj", type=Path, default=MODELS / "tiny-vision-mmproj.gguf")
    return parser.parse_args()


def show(result: Score, faults: int) -> None:
    """One row, and below it the wrong answers that were asked for."""
    share, milliseconds = 100 * result.right / result.total, 1000 * result.seconds / result.total
    print(f"{result.task:<20} {result.right:>4} / {result.total:<4} {share:6.1f} % {milliseconds:6.0f} ms", flush=True)
    for fault in result.faults[:faults]:
        print(f"    asked  {fault['asked']!r}\n    wanted {fault['wanted']!r}\n    got    {fault['got']!r}")


def main() -> None:
    """Score all kinds, alone and as the agent asks, and print them."""
    options = arguments()
    program = EMBEDDED if options.engine == "embedded" else (options.engine,)
    rows = []
    with served(program, options.model, options.mmproj) as client:
        for kind in options.kind or KINDS:
            for agent in (False, True):
                task = f"{kind}, agent" if agent else kind
                result = score(client, task, data.held_out(kind, agent, options.n, options.seed))
                rows.append(asdict(result))
                if not options.json:
                    show(result, options.faults)
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
