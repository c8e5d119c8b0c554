"""Several processes that train one model on CPU cores, one for each core with one thread each.

Every process takes its own batch, meets the others once a step, and then changes weights of its own. Threads of one
process would meet at every matrix product instead, and wait there whenever another program uses a core.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, multiprocessing, nn

from scripts.tiny_model.muon import Muon

LOST_SECONDS = 300

Figures = dict[str, float]


@dataclass(frozen=True)
class Plan:
    """One phase of a training: Muon takes a lesson's matrices with `matrix_rate`, AdamW the rest with `other_rate`.

    The rates rise over `warm_up` steps, stay for the share `flat` of the phase and then fall to the share `last`.
    `minutes` is an upper limit: a run that it shortens lowers its rates earlier, so it ends well but can't be repeated
    exactly.
    """

    steps: int
    minutes: float
    matrix_rate: float = 0.02
    other_rate: float = 4e-3
    workers: int = 2
    warm_up: int = 60
    flat: float = 0.45
    last: float = 0.02


class Lesson(Protocol):
    """What a phase teaches; it is sent to every process."""

    def batches(self, number: int, student: nn.Module, progress: Callable[[], float]) -> Iterator[Any]:
        """The batches of one process; `progress` tells how much of the phase is done, 0 to 1."""

    def loss(self, student: nn.Module, batch: Any) -> tuple[Tensor, Figures]:
        """The loss of a batch, and figures to report."""

    def is_matrix(self, name: str, weight: Tensor) -> bool:
        """Whether Muon takes a weight."""


@dataclass(frozen=True)
class Team:
    """What the processes share: weights and gradients lie in shared memory, a row of gradients for each process.

    All wait at `barrier` twice a step: when the gradients are there and when the weights are changed. `share` is that
    of the full rates at this step, `progress` how much of the phase is done, `done` is 1 after the last step.
    """

    student: nn.Module
    lesson: Lesson
    gradients: Tensor
    plan: Plan
    barrier: Any
    share: Any
    progress: Any
    done: Any


def factor(plan: Plan, step: int, progress: float) -> float:
    """The share of the full rates at a step, when `progress` of the phase is done."""
    if step < plan.warm_up:
        return (step + 1) / plan.warm_up
    if progress < plan.flat or plan.flat == 1:
        return 1.0
    falling = (progress - plan.flat) / (1 - plan.flat)
    return plan.last + (1 - plan.last) * max(0.0, 1 - falling)


def views(weights: list[nn.Parameter], flat: Tensor) -> Iterator[Tensor]:
    """The parts of a flat tensor of all weights, each in its weight's shape."""
    parts = flat.split([weight.numel() for weight in weights])  # type: ignore[no-untyped-call]
    return (part.view_as(weight) for weight, part in zip(weights, parts, strict=True))


class Update:
    """What one process does of a step: all take the mean of the gradients, and each changes weights of its own.

    Muon's matrices are dealt out evenly; AdamW's weights are the first process's.
    """

    def __init__(self, team: Team, number: int) -> None:
        self.team, plan = team, team.plan
        names, weights = zip(*team.student.named_parameters(), strict=True)
        self.mean = torch.zeros(team.gradients.shape[1])
        # Of the weights themselves, the gradients are those of this process's own batches.
        self.weights = [weight.detach() for weight in weights]
        for weight, part in zip(self.weights, views(list(weights), self.mean), strict=True):
            weight.grad = part
        kinds = [team.lesson.is_matrix(*named) for named in zip(names, weights, strict=True)]
        matrices = [weight for weight, matrix in zip(self.weights, kinds, strict=True) if matrix]
        others = [weight for weight, matrix in zip(self.weights, kinds, strict=True) if not matrix]
        self.muon = Muon(sorted(matrices, key=torch.numel)[number :: plan.workers], plan.matrix_rate)
        adam = torch.optim.AdamW(others, lr=plan.other_rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.adam = adam if number == 0 else None

    def step(self) -> None:
        """Change this process's weights, at the step's share of the full rates."""
        plan, share = self.team.plan, self.team.share.value
        torch.mean(self.team.gradients, dim=0, out=self.mean)
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.muon.rate = plan.matrix_rate * share
        self.muon.step()
        if self.adam:
            self.adam.param_groups[0]["lr"] = plan.other_rate * share
            self.adam.step()


class Worker:
    """One process of a team, with its own stream of batches and its row of gradients."""

    def __init__(self, team: Team, number: int) -> None:
        torch.set_num_threads(1)
        self.student, self.lesson = team.student, team.lesson
        self.gradients = team.gradients[number]
        self.stream = team.lesson.batches(number, team.student, lambda: float(team.progress.value))
        self.update = Update(team, number)
        # Gradients are written straight into the row that all processes read.
        weights = list(self.student.parameters())
        for weight, part in zip(weights, views(weights, self.gradients), strict=True):
            weight.grad = part

    def compute(self) -> Figures:
        """Gradients of the next batch, and its figures."""
        batch = next(self.stream)
        self.gradients.zero_()
        loss, figures = self.lesson.loss(self.student, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return figures


def follow(team: Team, number: int) -> None:
    """A further process: compute and update as the first one does, until that is done."""
    worker = Worker(team, number)
    while not team.done.value:
        worker.compute()
        # The limit ends this process should the first one be killed.
        team.barrier.wait(LOST_SECONDS)
        worker.update.step()
        team.barrier.wait(LOST_SECONDS)


def lead(team: Team, keep: Callable[[], None], every: int) -> None:
    """The first process: compute and update as the others do, set the rates, report and keep."""
    plan, worker, sums = team.plan, Worker(team, 0), Sums(every)
    began, step = time.monotonic(), 0
    while not team.done.value:
        sums.add(worker.compute())
        minutes = (time.monotonic() - began) / 60
        progress = max(step / plan.steps, minutes / plan.minutes)
        team.share.value = factor(plan, step, progress)
        team.barrier.wait()
        # here all see the same, as nobody is making a batch
        team.progress.value = progress
        worker.update.step()
        step += 1
        team.done.value = int(step == plan.steps or progress >= 1)
        team.barrier.wait()
        if step % every == 0 or team.done.value:
            report(f"step {step} {sums.told()} {minutes:.1f} min")
        if step % (5 * every) == 0 or team.done.value:
            keep()


class Sums:
    """The means of figures since they were told last."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.sums: Figures = {}
        self.count = 0

    def add(self, figures: Figures) -> None:
        """The figures of one batch."""
        self.count += 1
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def told(self) -> str:
        """The means, which begin anew."""
        text = " ".join(f"{name} {value / self.count:.4f}" for name, value in self.sums.items())
        self.sums, self.count = {}, 0
        return text


def report(text: str) -> None:
    """Progress goes to the error stream."""
    print(text, file=sys.stderr, flush=True)


def save(content: Any, path: Path) -> None:
    """Write a checkpoint so that a reader never sees half a file."""
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    partial.replace(path)


def teach(student: nn.Module, lesson: Lesson, plan: Plan, keep: Callable[[], None], every: int = 100) -> None:
    """Run one phase; the figures of every `every` steps are told, and `keep` is called now and then and at the end."""
    torch.set_num_threads(1)
    student.zero_grad(set_to_none=True)
    student.share_memory()
    gradients = torch.zeros(plan.workers, sum(weight.numel() for weight in student.parameters()))
    gradients.share_memory_()  # type: ignore[no-untyped-call]
    processes = multiprocessing.get_context("spawn")
    values = processes.Value("d", 0.0), processes.Value("d", 0.0), processes.Value("b", 0)
    team = Team(student, lesson, gradients, plan, processes.Barrier(plan.workers), *values)
    others = [processes.Process(target=follow, args=(team, number), daemon=True) for number in range(1, plan.workers)]
    for process in others:
        process.start()
    lead(team, keep, every)
    for process in others:
        process.join()
