"""Training of the text model: seeded, data made on the fly.

Muon updates the matrices of the blocks, AdamW the embedding and the norms. Loss counts the assistant's tokens only,
those of short replies more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.tiny_model.batches import Batch, batches, samples
from scripts.tiny_model.model import Shape, TinyModel
from scripts.tiny_model.precision import products
from scripts.tiny_model.team import Figures, Plan, save, teach
from scripts.tiny_model.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextLesson:
    """All tasks. `batch` is the work of one process's batch (see `batches.work`), about 1,800 tokens.

    With `drills`, the data begin with many of them: for weights that can't copy yet. From `choosy` on, a share of the
    phase, only what the student may get wrong is learnt.
    """

    seed: int
    tokenizer: Tokenizer
    context: int
    drills: bool
    choosy: float = 1.0
    batch: int = 2_500

    def batches(self, number: int, student: nn.Module, progress: Callable[[], float]) -> Iterator[Batch]:
        """The batches of one process."""
        every = samples(self.tokenizer, self.seed, number, self.drills)
        rng = random.Random(self.seed + 1 + 1000 * number)

        def doubts(batch: Batch) -> list[float] | None:
            return self.doubts(student, batch) if progress() >= self.choosy else None

        return batches(rng, every, self.batch, self.context, doubts)

    def losses(self, student: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of each of the assistant's tokens, [places]."""
        assert isinstance(student, TinyModel)
        with products():
            scores = student.logits(student(batch.tokens, batch.positions, batch.places))
        return F.cross_entropy(scores.float(), batch.targets, reduction="none")

    def loss(self, student: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        """Weighted mean cross-entropy of the assistant's tokens."""
        loss = (self.losses(student, batch) * batch.weights).sum() / batch.weights.sum()
        return loss, {"loss": loss.item(), "tokens": batch.tokens.numel()}

    @torch.no_grad()
    def doubts(self, student: nn.Module, batch: Batch) -> list[float]:
        """For each row the probability that the student, drawing its tokens, says something else."""
        losses = self.losses(student, batch) * (batch.weights > 0)
        rows = torch.zeros(len(batch.tokens)).index_add_(0, batch.places // batch.tokens.shape[1], losses)
        # a student that has diverged says something else
        found: list[float] = (1 - torch.exp(-rows)).nan_to_num(nan=1.0).tolist()
        return found

    def is_matrix(self, name: str, weight: Tensor) -> bool:
        """The matrices of the blocks."""
        return weight.dim() == 2 and "embd" not in name


def load(path: Path) -> TinyModel:
    """Read what `train` wrote."""
    read = torch.load(path, weights_only=True)
    model = TinyModel(Shape(**read["shape"]))
    model.load_state_dict(read["weights"])
    return model


def train(shape: Shape, lesson: TextLesson, plan: Plan, checkpoint: Path, start: Path | None = None) -> TinyModel:
    """Train from scratch or from the weights of `start`; a checkpoint is written now and then."""
    torch.manual_seed(lesson.seed)
    model = load(start) if start else TinyModel(shape)

    def keep() -> None:
        save({"shape": asdict(model.shape), "weights": model.state_dict()}, checkpoint)

    teach(model, lesson, plan, keep, every=50)
    return model
