"""What a framework adds to each step of a ReAct run, on a server that answers at once."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.workflow_parts.loop_process import LoopProcess, instant_server
from benchmarks.workflow_parts.loops import FRAMEWORKS
from benchmarks.workflow_parts.report import Part, note

BARE, OURS = "bare openai SDK", "benchai react"
GOAL = 1.3


@dataclass(frozen=True)
class Setting:
    """Steps of a run, runs at once, and how many runs one round measures."""

    steps: int
    at_once: int
    runs: int

    def __str__(self) -> str:
        return f"{self.steps} steps, {self.at_once} at once"


SETTINGS = (Setting(5, 1, 8), Setting(50, 1, 1), Setting(5, 16, 16), Setting(50, 16, 16))


@dataclass(frozen=True)
class Cost:
    """Medians over the rounds, in milliseconds for each step; ratios are medians of each round's ratio to bare."""

    framework: str
    setting: str
    wall: float
    cpu: float
    wall_ratio: float
    cpu_ratio: float
    rounds: int


Rounds = Mapping[str, Sequence[tuple[float, float]]]


def costs(setting: str, found: Rounds) -> list[Cost]:
    """The medians of what was found: for each framework and round, milliseconds of wall and CPU time a step."""
    bare = found[BARE]
    made = []
    for framework, values in found.items():
        wall, cpu = (statistics.median(value[kind] for value in values) for kind in (0, 1))
        ratios = [
            statistics.median(value[kind] / base[kind] for value, base in zip(values, bare, strict=True))
            for kind in (0, 1)
        ]
        made.append(Cost(framework, setting, wall, cpu, ratios[0], ratios[1], len(values)))
    return made


def measured(
    loops: Sequence[LoopProcess], setting: Setting, rounds: int, failed: list[str]
) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds a step by framework; the frameworks take turns, each after a run that warms it up.

    One that fails is left out, and told of in ``failed``; all would be worth nothing without the bare loop.
    """
    found: dict[str, list[tuple[float, float]]] = {loop.framework: [] for loop in loops}
    order = list(loops)
    for _ in range(rounds):
        for loop in order:
            loop.ask(task="go 2 steps", runs=setting.at_once, at_once=setting.at_once, steps=2)
            task = f"go {setting.steps} steps"
            took = loop.ask(task=task, runs=setting.runs, at_once=setting.at_once, steps=setting.steps)
            if "wall" not in took:
                failed.append(f"{loop.framework}, {setting}: {took}")
                found.pop(loop.framework, None)
                continue
            each = setting.runs * setting.steps / 1000
            if loop.framework in found:
                found[loop.framework].append((took["wall"] / each, took["cpu"] / each))
        # nobody always comes after the same one
        order = [*order[1:], order[0]]
    return found


def measure(rounds: int, peers_python: Path | None) -> Part:
    """All frameworks that are there."""
    made: list[Cost] = []
    notes: list[str] = []
    with instant_server() as url, ExitStack() as stack:
        loops = [stack.enter_context(LoopProcess(name, url, peers_python)) for name in FRAMEWORKS]
        notes += [f"{loop.framework}: {loop.missing}" for loop in loops if loop.missing]
        loops = [loop for loop in loops if not loop.missing]
        for setting in SETTINGS:
            note(f"step: {setting}")
            # a round of the longest runs takes as long as all others together
            count = rounds if setting.steps * setting.runs < 500 else max(3, rounds // 3)
            made += costs(str(setting), measured(loops, setting, count, notes))
    return Part("step", [asdict(one) for one in made], table(made), notes)


def table(made: Sequence[Cost]) -> list[list[Any]]:
    """Frameworks down, settings across: wall and CPU milliseconds a step, their ratios to bare."""
    settings = list(dict.fromkeys(one.setting for one in made))
    lines: list[list[Any]] = [["ms a step: wall / CPU (ratios)", *settings]]
    for framework in dict.fromkeys(one.framework for one in made):
        cells = {one.setting: _cell(one) for one in made if one.framework == framework}
        lines.append([framework, *(cells.get(setting, "failed") for setting in settings)])
    return lines


def _cell(one: Cost) -> str:
    words = f"{one.wall:.2f} / {one.cpu:.2f} ({one.wall_ratio:.2f} / {one.cpu_ratio:.2f})"
    if one.framework != OURS:
        return words
    return f"{words} {'met' if one.wall_ratio <= GOAL else 'NOT met'}: {GOAL}"
