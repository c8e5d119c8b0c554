"""Training on the CPU: seeded, data made on the fly, one process for each core.

Muon updates the matrices of the blocks, AdamW the embedding and the norms. The rate rises over 60 steps, stays flat
for 45 % of the run and then falls to 2 %. Loss counts the assistant's tokens only, those of short replies more.

Every process takes its own batch with one thread and meets the others once a step. Threads of one process would
meet at every matrix product instead, and wait there whenever another program uses a core.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, multiprocessing

from scripts.tiny_model.batches import Batch, batches
from scripts.tiny_model.model import Shape, TinyModel
from scripts.tiny_model.muon import Muon
from scripts.tiny_model.tokenizer import Tokenizer

LOST_SECONDS = 300


@dataclass(frozen=True)
class Plan:
    """How to train. The rates are for the matrices of the blocks and for the rest; `minutes` is an upper limit.

    A run that the limit shortens lowers its rates earlier, so it ends well but can't be repeated exactly. With
    `drills`, the data begin with many of them: for weights that can't copy yet.
    """

    steps: int = 7_000
    minutes: float = 55.0
    tokens_per_batch: int = 2_000
    workers: int = 2
    matrix_rate: float = 0.02
    other_rate: float = 4e-3
    warm_up: int = 60
    flat: float = 0.45
    last: float = 0.02
    seed: int = 7
    drills: bool = True


def factor(plan: Plan, step: int, progress: float) -> float:
    """The share of the full rate at a step, when `progress` of the run is done."""
    if step < plan.warm_up:
        return (step + 1) / plan.warm_up
    falling = (progress - plan.flat) / (1 - plan.flat)
    return 1.0 if falling < 0 else plan.last + (1 - plan.last) * max(0.0, 1 - falling)


def optimizers(model: TinyModel, plan: Plan) -> tuple[Muon, torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    matrices = [weight for weight in model.blk.parameters() if weight.dim() == 2]
    others = [weight for name, weight in model.named_parameters() if weight.dim() != 2 or "embd" in name]
    adam = torch.optim.AdamW(others, lr=plan.other_rate, betas=(0.9, 0.98), weight_decay=0.0)
    return Muon(matrices, plan.matrix_rate), adam


def loss_of(model: TinyModel, batch: Batch) -> Tensor:
    """Weighted mean cross-entropy of the assistant's tokens."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(batch.tokens, batch.positions).flatten(0, 1)[batch.places]
        scores = model.logits(hidden)
    losses = F.cross_entropy(scores.float(), batch.targets, reduction="none")
    return (losses * batch.weights).sum() / batch.weights.sum()


def save(model: TinyModel, path: Path) -> None:
    """Write shape and weights so that a reader never sees half a file."""
    partial = path.with_suffix(".partial")
    torch.save({"shape": asdict(model.shape), "weights": model.state_dict()}, partial)
    partial.replace(path)


def load(path: Path) -> TinyModel:
    """Read what `save` wrote."""
    read = torch.load(path, weights_only=True)
    model = TinyModel(Shape(**read["shape"]))
    model.load_state_dict(read["weights"])
    return model


def report(text: str) -> None:
    """Progress goes to the error stream."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Team:
    """What the processes of a training share: weights and gradients lie in shared memory.

    `gradients` has a row for each process. All wait at `barrier` twice a step: when the gradients are there and
    when the weights are updated. `done` is 1 after the last step.
    """

    model: TinyModel
    gradients: Tensor
    tokenizer: Tokenizer
    plan: Plan
    barrier: Any
    done: Any


class Worker:
    """One process of a team, with its own stream of batches and its row of gradients."""

    def __init__(self, team: Team, number: int) -> None:
        torch.set_num_threads(1)
        self.model = team.model
        self.gradients = team.gradients[number]
        plan = team.plan
        self.stream = batches(
            team.tokenizer, plan.seed, plan.tokens_per_batch, self.model.shape.context, number, plan.drills
        )
        self.tokens = 0
        # Gradients are written straight into the row that the first process reads.
        sizes = [weight.numel() for weight in self.model.parameters()]
        parts = self.gradients.split(sizes)  # type: ignore[no-untyped-call]
        for weight, part in zip(self.model.parameters(), parts, strict=True):
            weight.grad = part.view_as(weight)

    def compute(self) -> float:
        """Gradients of the next batch; its loss."""
        batch = next(self.stream)
        self.tokens += batch.tokens.numel()
        self.gradients.zero_()
        loss = loss_of(self.model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()


def follow(team: Team, number: int) -> None:
    """A further process: compute gradients and wait for the update, until the first process is done."""
    worker = Worker(team, number)
    while not team.done.value:
        worker.compute()
        # The limit ends this process should the first one be killed.
        team.barrier.wait(LOST_SECONDS)
        team.barrier.wait(LOST_SECONDS)


def train(
    shape: Shape, tokenizer: Tokenizer, plan: Plan, checkpoint: Path, start: Path | None = None, every: int = 250
) -> TinyModel:
    """Train from scratch or from the weights of `start`; a checkpoint is written every `every` steps."""
    torch.manual_seed(plan.seed)
    torch.set_num_threads(1)
    model = load(start) if start else TinyModel(shape)
    model.share_memory()
    gradients = torch.zeros(plan.workers, model.parameter_count())
    gradients.share_memory_()  # type: ignore[no-untyped-call]
    processes = multiprocessing.get_context("spawn")
    team = Team(model, gradients, tokenizer, plan, processes.Barrier(plan.workers), processes.Value("b", 0))
    for number in range(1, plan.workers):
        processes.Process(target=follow, args=(team, number), daemon=True).start()
    lead(team, checkpoint, every)
    return model


def lead(team: Team, checkpoint: Path, every: int) -> None:
    """The first process: compute gradients as the others do, then update the model with the mean of all."""
    plan, worker = team.plan, Worker(team, 0)
    muon, adam = optimizers(team.model, plan)
    began, window, step = time.monotonic(), 0.0, 0
    while not team.done.value:
        window += worker.compute()
        team.barrier.wait()
        minutes = (time.monotonic() - began) / 60
        progress = max(step / plan.steps, minutes / plan.minutes)
        update(team, muon, adam, factor(plan, step, progress))
        step += 1
        team.done.value = int(step == plan.steps or progress >= 1)
        team.barrier.wait()
        if step % 50 == 0:
            tokens = worker.tokens * plan.workers / 1e6
            report(f"step {step} loss {window / 50:.4f} about {tokens:.2f} M tokens {minutes:.1f} min")
            window = 0.0
        if step % every == 0 or team.done.value:
            save(team.model, checkpoint)


def update(team: Team, muon: Muon, adam: torch.optim.Optimizer, share: float) -> None:
    """One step of both optimizers with the mean of all gradients and a share of the full rates."""
    team.gradients[0].copy_(team.gradients.mean(dim=0))
    torch.nn.utils.clip_grad_norm_(team.model.parameters(), 1.0)
    muon.rate = team.plan.matrix_rate * share
    adam.param_groups[0]["lr"] = team.plan.other_rate * share
    muon.step()
    adam.step()
