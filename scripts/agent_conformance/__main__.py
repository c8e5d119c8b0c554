"""`python -m scripts.agent_conformance`: play the script of calls to the reference server and to BenchAI.

What they answer differently must be listed in docs/agent.md, with the reason; anything else, and a row of that table
that nothing comes of any more, is a failure. The reference server is `langgraph dev` (`make conformance` installs it).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from scripts.agent_conformance import servers
from scripts.agent_conformance.compare import Difference, alike, differences
from scripts.agent_conformance.listed import Row, read_table
from scripts.agent_conformance.player import Player
from scripts.agent_conformance.servers import Server
from scripts.agent_conformance.steps import Step, read_scenes

AGAIN = 3
#: Scenes that are played side by side.
AT_ONCE = 4
PYTHON = Path("build/conformance/bin/python")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.agent_conformance", description=__doc__)
    parser.add_argument(
        "--reference-python", type=Path, default=PYTHON, help="of an environment that has langgraph-cli"
    )
    parser.add_argument("--only", metavar="FILE", help="only this scene: a file of calls/, without its ending")
    parser.add_argument("--same", action="store_true", help="compare the reference server with itself")
    parser.add_argument("--recorded", type=Path, metavar="FILE", help="compare with what --answers wrote before")
    parser.add_argument("--answers", type=Path, metavar="FILE", help="write both servers' answers there, as JSON")
    return parser.parse_args()


def played(start: AbstractContextManager[Server], scenes: Sequence[Sequence[Step]], again: int = 0) -> dict[str, Any]:
    """The answers of a server, made alike; scenes are played side by side. ``again``: see ``Player``."""
    with start as server, ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(partial(_scene, server, again), scenes)
        return {name: answer for answers in found for name, answer in answers.items()}


def _scene(server: Server, again: int, scene: Sequence[Step]) -> dict[str, Any]:
    with server.client() as client:
        player = Player(client, again)
        answers = player.play(scene)
    return {name: alike(answer, player.kept, server.url) for name, answer in answers.items()}


def _recorded(path: Path) -> dict[str, Any]:
    """What the reference server answered before."""
    answers: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))[0]
    return answers


def compared(scenes: Sequence[Sequence[Step]], reference: dict[str, Any], ours: dict[str, Any]) -> list[Difference]:
    """All differences, in the order of the script; without what its steps ignore."""
    found = []
    for step in (step for scene in scenes for step in scene):
        made = differences(step.name, reference.get(step.name, {}), ours.get(step.name, {}))
        found += [one for one in made if not any(fnmatchcase(one.path, pattern) for pattern in step.ignore)]
    return found


def report(found: Sequence[Difference], rows: Sequence[Row], whole: bool) -> int:
    """Tell what is not listed, and which rows are not needed; how much that is."""
    unlisted = [one for one in found if not any(row.covers(one) for row in rows)]
    idle = [row for row in rows if whole and not any(row.covers(one) for one in found)]
    for one in unlisted:
        print(one)
    for row in idle:
        print(f"listed, but nothing differs there: {' '.join(row.calls)}, {' '.join(row.where)}")
    listed = len(found) - len(unlisted)
    print(f"{len(found)} differences: {listed} listed, {len(unlisted)} not; {len(idle)} rows without one")
    return len(unlisted) + len(idle)


def main() -> int:
    """Play and compare; 1 when something is not as it is listed."""
    options = arguments()
    scenes = read_scenes(only=options.only)
    with tempfile.TemporaryDirectory(prefix="benchai-conformance-") as temp, ThreadPoolExecutor(2) as pool:
        folder, python = Path(temp), options.reference_python.absolute()
        theirs, mine = servers.reference(folder / "1", python), servers.ours(folder / "2")
        if options.same:
            mine = servers.reference(folder / "2", python)
        other = pool.submit(played, mine, scenes)
        reference = _recorded(options.recorded) if options.recorded else played(theirs, scenes, AGAIN)
        ours = other.result()
    if options.answers:
        options.answers.write_text(json.dumps([reference, ours], indent=1), encoding="utf-8")
    print(f"{len(reference)} answers of {sum(map(len, scenes))} steps", file=sys.stderr)
    return min(1, report(compared(scenes, reference, ours), [] if options.same else read_table(), not options.only))


if __name__ == "__main__":
    sys.exit(main())
