"""Training on the CPU: seeded, a fixed number of steps, data made on the fly.

Muon updates the matrices of the blocks, AdamW the embedding and the norms. The rate rises over 60 steps, stays flat
for 45 % of the steps and then falls to 2 %. Loss counts the assistant's tokens only.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

# Threads that spin at a barrier starve each other beside another busy process; they must sleep instead.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import torch.nn.functional as F

from scripts.tiny_model.batches import Batch, batches
from scripts.tiny_model.model import Shape, TinyModel
from scripts.tiny_model.tokenizer import Tokenizer


@dataclass(frozen=True)
class Plan:
    """How to train. The rates are for the matrices of the blocks and for the rest."""

    steps: int = 4_000
    tokens_per_batch: int = 4_500
    matrix_rate: float = 0.02
    other_rate: float = 4e-3
    warm_up: int = 60
    flat: float = 0.45
    last: float = 0.02
    seed: int = 7
    threads: int = 2


def factor(plan: Plan, step: int) -> float:
    """The share of the full rate at a step."""
    if step < plan.warm_up:
        return (step + 1) / plan.warm_up
    progress = (step / plan.steps - plan.flat) / (1 - plan.flat)
    return 1.0 if progress < 0 else plan.last + (1 - plan.last) * (1 - progress)


def optimizers(model: TinyModel, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    matrices = [weight for weight in model.blk.parameters() if weight.dim() == 2]
    others = [weight for name, weight in model.named_parameters() if weight.dim() != 2 or "embd" in name]
    return [
        torch.optim.Muon(matrices, lr=plan.matrix_rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=plan.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def loss_of(model: TinyModel, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy of the assistant's tokens."""
    hidden = model(batch.tokens, batch.positions).flatten(0, 1)[batch.places]
    return F.cross_entropy(model.logits(hidden), batch.targets)


def save(model: TinyModel, path: Path) -> None:
    """Write shape and weights so that a reader never sees half a file."""
    partial = path.with_suffix(".partial")
    torch.save({"shape": asdict(model.shape), "weights": model.state_dict()}, partial)
    os.replace(partial, path)


def load(path: Path) -> TinyModel:
    """Read what `save` wrote."""
    read = torch.load(path, weights_only=True)
    model = TinyModel(Shape(**read["shape"]))
    model.load_state_dict(read["weights"])
    return model


def report(text: str) -> None:
    """Progress goes to the error stream."""
    print(text, file=sys.stderr, flush=True)


def train(
    shape: Shape,
    tokenizer: Tokenizer,
    plan: Plan,
    checkpoint: Path,
    every: int = 250,
    after: Callable[[int], None] | None = None,
) -> TinyModel:
    """Train from scratch; the checkpoint is written every `every` steps and at the end."""
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    model = TinyModel(shape)
    groups = optimizers(model, plan)
    rates = [group.param_groups[0]["lr"] for group in groups]
    began, tokens, window = time.monotonic(), 0, torch.zeros(())
    stream = batches(tokenizer, plan.seed, plan.tokens_per_batch, shape.context)
    for step in range(plan.steps):
        batch = next(stream)
        loss = loss_of(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in zip(groups, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor(plan, step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        tokens += batch.tokens.numel()
        window = window + loss.detach()
        if step % 50 == 49:
            seconds = time.monotonic() - began
            report(f"step {step + 1}/{plan.steps} loss {window.item() / 50:.4f} {tokens / 1e6:.2f} M tokens "
                   f"{tokens / seconds:.0f} tokens/s {seconds / 60:.1f} min")
            window = torch.zeros(())
        if step % every == every - 1:
            save(model, checkpoint)
    save(model, checkpoint)
    return model
