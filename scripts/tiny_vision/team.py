"""Several processes that train one model: each computes gradients of its own batches, the first updates the weights.

One process for each core with one thread each, as in `scripts.tiny_model.train`, here for any lesson.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, multiprocessing, nn

from scripts.tiny_model.muon import Muon
from scripts.tiny_model.train import LOST_SECONDS, report


@dataclass(frozen=True)
class Plan:
    """One phase of a training. `minutes` is an upper limit: a run that it shortens can't be repeated exactly.

    Muon takes the matrices of a lesson with `matrix_rate`, AdamW everything else with `other_rate`.
    """

    steps: int
    minutes: float
    matrix_rate: float
    other_rate: float
    workers: int = 2
    warm_up: int = 60
    flat: float = 0.45
    last: float = 0.02


class Lesson(Protocol):
    """What a phase teaches; it is sent to every process."""

    def batches(self, number: int) -> Iterator[Any]:
        """The batches of one process."""

    def loss(self, student: nn.Module, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch, and figures to report."""

    def is_matrix(self, name: str, weight: Tensor) -> bool:
        """Whether Muon takes a weight."""


@dataclass(frozen=True)
class Team:
    """What the processes share: weights and gradients lie in shared memory, a row of gradients for each process."""

    student: nn.Module
    lesson: Lesson
    gradients: Tensor
    plan: Plan
    barrier: Any
    done: Any


def factor(plan: Plan, step: int, progress: float) -> float:
    """The share of the full rates at a step, when `progress` of the phase is done."""
    if step < plan.warm_up:
        return (step + 1) / plan.warm_up
    if progress < plan.flat or plan.flat == 1:
        return 1.0
    falling = (progress - plan.flat) / (1 - plan.flat)
    return plan.last + (1 - plan.last) * max(0.0, 1 - falling)


class Worker:
    """One process of a team, with its own stream of batches and its row of gradients."""

    def __init__(self, team: Team, number: int) -> None:
        torch.set_num_threads(1)
        self.student, self.lesson = team.student, team.lesson
        self.gradients = team.gradients[number]
        self.stream = team.lesson.batches(number)
        # Gradients are written straight into the row that the first process reads.
        sizes = [weight.numel() for weight in self.student.parameters()]
        parts = self.gradients.split(sizes)  # type: ignore[no-untyped-call]
        for weight, part in zip(self.student.parameters(), parts, strict=True):
            weight.grad = part.view_as(weight)

    def compute(self) -> dict[str, float]:
        """Gradients of the next batch, and its figures."""
        batch = next(self.stream)
        self.gradients.zero_()
        loss, figures = self.lesson.loss(self.student, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return figures


def follow(team: Team, number: int) -> None:
    """A further process: compute gradients and wait for the update, until the first process is done."""
    worker = Worker(team, number)
    while not team.done.value:
        worker.compute()
        # The limit ends this process should the first one be killed.
        team.barrier.wait(LOST_SECONDS)
        team.barrier.wait(LOST_SECONDS)


class Optimizers:
    """Muon for a lesson's matrices and AdamW for the rest, fed with the mean of all gradients."""

    def __init__(self, team: Team) -> None:
        named = list(team.student.named_parameters())
        matrices = [weight for name, weight in named if team.lesson.is_matrix(name, weight)]
        others = [weight for name, weight in named if not team.lesson.is_matrix(name, weight)]
        self.team, self.plan = team, team.plan
        self.muon = Muon(matrices, self.plan.matrix_rate)
        self.adam = torch.optim.AdamW(others, lr=self.plan.other_rate, betas=(0.9, 0.98), weight_decay=0.0)

    def step(self, share: float) -> None:
        """Change the weights, with a share of the full rates."""
        self.team.gradients[0].copy_(self.team.gradients.mean(dim=0))
        torch.nn.utils.clip_grad_norm_(self.team.student.parameters(), 1.0)
        self.muon.rate = self.plan.matrix_rate * share
        self.adam.param_groups[0]["lr"] = self.plan.other_rate * share
        self.muon.step()
        self.adam.step()


def save(student: nn.Module, path: Path) -> None:
    """Write the weights so that a reader never sees half a file."""
    partial = path.with_suffix(".partial")
    torch.save(student.state_dict(), partial)
    partial.replace(path)


def lead(team: Team, checkpoint: Path, every: int = 100) -> None:
    """The first process: compute gradients as the others do, then update the weights; report now and then."""
    plan, worker, optimizers = team.plan, Worker(team, 0), Optimizers(team)
    began, step, sums = time.monotonic(), 0, {"": 0.0}
    while not team.done.value:
        for name, value in worker.compute().items():
            sums[name] = sums.get(name, 0.0) + value
        team.barrier.wait()
        minutes = (time.monotonic() - began) / 60
        progress = max(step / plan.steps, minutes / plan.minutes)
        optimizers.step(factor(plan, step, progress))
        step += 1
        team.done.value = int(step == plan.steps or progress >= 1)
        team.barrier.wait()
        if step % every == 0 or team.done.value:
            figures = " ".join(f"{name} {value / every:.4f}" for name, value in sums.items() if name)
            report(f"step {step} {figures} {minutes:.1f} min")
            sums = {"": 0.0}
        if step % (5 * every) == 0 or team.done.value:
            save(team.student, checkpoint)


def teach(student: nn.Module, lesson: Lesson, plan: Plan, checkpoint: Path) -> None:
    """Run one phase; its weights are saved now and then, and at the end."""
    torch.set_num_threads(1)
    student.zero_grad(set_to_none=True)
    student.share_memory()
    gradients = torch.zeros(plan.workers, sum(weight.numel() for weight in student.parameters()))
    gradients.share_memory_()  # type: ignore[no-untyped-call]
    processes = multiprocessing.get_context("spawn")
    team = Team(student, lesson, gradients, plan, processes.Barrier(plan.workers), processes.Value("b", 0))
    others = [processes.Process(target=follow, args=(team, number), daemon=True) for number in range(1, plan.workers)]
    for process in others:
        process.start()
    lead(team, checkpoint)
    for process in others:
        process.join()
