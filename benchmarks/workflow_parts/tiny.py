"""The bundled models through every workflow, and how much of a prompt their engine keeps from step to step."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchai.bench import Bench
from benchai.config import load_config
from benchai.errors import BenchAIError
from benchai.events import Event, ModelCall, Result, Step
from benchmarks.workflow_parts.held_out import Task, held_out
from benchmarks.workflow_parts.report import Part, note

CACHE_GOAL, COMPLETED_GOAL = 0.9, 0.95


@dataclass
class Ran:
    """A run on a held-out task; ``chosen`` is the workflow that the router chose."""

    task: str
    stop_reason: str
    output: str
    right: bool
    fits: tuple[str, ...]
    chosen: str
    error: str
    seconds: float

    @property
    def completed(self) -> bool:
        return self.stop_reason == "completed"


async def events_of(bench: Bench, workflow: str, task: Task) -> tuple[list[Event], str]:
    """The events of a run in a workspace that holds the task's files alone, and its error."""
    empty(bench.workspace)
    for name, content in task.files.items():
        file = bench.workspace / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    events: list[Event] = []
    try:
        async with aclosing(bench.stream(workflow, task.text, inputs=task.inputs, images=task.images)) as stream:
            async for event in stream:
                events.append(event)
    except BenchAIError as error:
        return events, error.message
    return events, ""


def empty(folder: Path) -> None:
    """Take away all that a folder holds."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


async def run_one(bench: Bench, workflow: str, task: Task) -> Ran:
    """Run a task and judge its answer."""
    began = time.perf_counter()
    events, error = await events_of(bench, workflow, task)
    seconds = time.perf_counter() - began
    last = events[-1] if events else None
    output, reason = (last.output, str(last.stop_reason)) if isinstance(last, Result) else ("", "error")
    details = [event.detail for event in events if isinstance(event, Step) and event.node == "choose"]
    chosen = details[0].partition(":")[0].partition(",")[0] if details else ""
    right = reason == "completed" and await task.judge(output)
    return Ran(task.text, reason, output, right, task.fits, chosen, error, seconds)


@dataclass(frozen=True)
class Rate:
    """How many runs of a workflow completed, and how many were right; ``chosen`` as the router should, else None."""

    workflow: str
    n: int
    completed: int
    right: int
    chosen: int | None
    seconds: float
    ends: dict[str, int]

    @property
    def met(self) -> bool:
        """Whether enough of them completed, for the router by the workflow that fits."""
        return (self.completed if self.chosen is None else self.chosen) >= COMPLETED_GOAL * self.n


def rate(workflow: str, runs: Sequence[Ran]) -> Rate:
    """Count the runs of a workflow; ``seconds`` is the median of a run."""
    ends: dict[str, int] = {}
    for one in runs:
        ends[one.stop_reason] = ends.get(one.stop_reason, 0) + 1
    chosen = sum(one.completed and one.chosen in one.fits for one in runs) if workflow == "router" else None
    seconds = statistics.median(one.seconds for one in runs)
    completed, right = sum(one.completed for one in runs), sum(one.right for one in runs)
    return Rate(workflow, len(runs), completed, right, chosen, seconds, ends)


async def through_workflows(bench: Bench, workflows: Sequence[str], count: int, seed: int) -> Part:
    """Every workflow on ``count`` held-out tasks of its own."""
    rates: list[Rate] = []
    wrong: list[dict[str, Any]] = []
    for workflow in workflows:
        note(f"tiny: {workflow}")
        runs = [await run_one(bench, workflow, task) for task in held_out(workflow, count, seed)]
        rates.append(rate(workflow, runs))
        misled = [one for one in runs if workflow == "router" and one.chosen not in one.fits]
        wrong += [{"workflow": workflow, **asdict(one)} for one in runs if not one.right or one in misled]
    rows = [asdict(one) | {"met": one.met} for one in rates] + [{"wrong": wrong}]
    return Part("tiny", rows, rate_table(rates))


def rate_table(rates: Sequence[Rate]) -> list[list[Any]]:
    """Workflows down; completed and right apart."""
    lines: list[list[Any]] = [["workflow", "n", "completed", "right", "median s", "goal: 95 % completed", "ended"]]
    for one in rates:
        ends = ", ".join(f"{reason} {count}" for reason, count in one.ends.items())
        share = f"{one.completed} ({100 * one.completed / one.n:.0f} %)"
        if one.chosen is not None:
            share += f", {one.chosen} of them by the workflow that fits"
        right = f"{one.right} ({100 * one.right / one.n:.0f} %)"
        lines.append([one.workflow, one.n, share, right, f"{one.seconds:.2f}", "met" if one.met else "NOT met", ends])
    return lines


# ---- what the engine keeps


def kept(events: Sequence[Event]) -> list[float]:
    """For each call of a model but the first: the share of the prompt before it that came from the cache.

    A call may find more than that prompt, namely the reply to it, too; that counts as all of it.
    """
    calls = [event for event in events if isinstance(event, ModelCall) and event.error is None]
    return [min(1.0, later.cached_tokens / earlier.prompt_tokens) for earlier, later in pairwise(calls)]


async def cache(bench: Bench, count: int, seed: int) -> Part:
    """The share of the previous prompt that the engine had kept, step by step of ReAct runs with several steps."""
    note("cache")
    shares: list[float] = []
    runs = 0
    for task in held_out("react", 8 * count, seed + 1):
        if runs >= count:
            break
        events, _ = await events_of(bench, "react", task)
        found = kept(events)
        # of a single step more there is nothing to see
        if len(found) > 1:
            shares += found
            runs += 1
    figures: Mapping[str, float] = {"median": statistics.median(shares), "least": min(shares)}
    row = {"runs": runs, "steps": len(shares), **figures, "goal": CACHE_GOAL, "shares": shares}
    met = "met" if figures["least"] > CACHE_GOAL else "NOT met"
    cells = [runs, len(shares), f"{figures['median']:.1%}", f"{figures['least']:.1%}", met]
    head = ["runs", "steps", "median share of the previous prompt from the cache", "least", "goal: over 90 %"]
    return Part("cache", [row], [head, cells])


def opened(workspace: Path) -> Any:
    """A bench on the built-in configuration: every role on the bundled models."""
    assert "BENCHAI_HOME" in os.environ, "the benchmark must not touch a user's own folder"
    return Bench.open(load_config(None, {}), workspace=workspace)
