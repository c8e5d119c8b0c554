"""The two lessons: first the tower learns what its patches show, then tower and text model answer together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.tiny_model.precision import products
from scripts.tiny_model.team import Figures
from scripts.tiny_model.tokenizer import Tokenizer
from scripts.tiny_vision.batches import Pictures, Talks, picture_batches, talk_batches
from scripts.tiny_vision.labels import IGNORED, SIZES
from scripts.tiny_vision.model import Student


def patch_loss(scores: Tensor, pictures: Pictures) -> tuple[Tensor, Figures]:
    """Sum of the mean cross-entropies of each of labels.SIZES, and the shares of patches that are wrong."""
    total = scores.new_zeros(())
    wrong: Figures = {}
    parts = torch.split(scores, list(SIZES.values()), dim=-1)
    for part, (name, classes) in zip(parts, pictures.classes.items(), strict=True):
        known = classes != IGNORED
        if name == "role":
            # Most patches show the background, which is soon learnt.
            known &= (classes > 0) | (torch.rand(classes.shape) < 0.25)
        chosen, wanted = part[known], classes[known]
        if len(wanted):
            total = total + F.cross_entropy(chosen, wanted)
            wrong[name] = (chosen.detach().argmax(-1) != wanted).float().mean().item()
    return total, wrong


@dataclass(frozen=True)
class TowerLesson:
    """Pictures and what their patches show."""

    seed: int
    batch: int = 32

    def batches(self, number: int, _student: nn.Module, _progress: Callable[[], float]) -> Iterator[Pictures]:
        """The batches of one process."""
        torch.manual_seed(self.seed + number)
        return picture_batches(self.seed, self.batch, number)

    def loss(self, student: nn.Module, batch: Pictures) -> tuple[Tensor, Figures]:
        """Of the read-out of every patch."""
        assert isinstance(student, Student)
        with products():
            scores = student.read_out(student.tower(batch.pixels))
        return patch_loss(scores.float(), batch)

    def is_matrix(self, name: str, weight: Tensor) -> bool:
        """The matrices of the tower's blocks and of the projector."""
        return weight.dim() == 2 and (".blk." in name or ".mm." in name)


@dataclass(frozen=True)
class TalkLesson:
    """Conversations about pictures; the patches' lesson goes on beside them with a small weight."""

    seed: int
    tokenizer: Tokenizer
    patches: int
    tokens_per_batch: int = 2_000
    beside: float = 0.15

    def batches(self, number: int, _student: nn.Module, _progress: Callable[[], float]) -> Iterator[Talks]:
        """The batches of one process."""
        torch.manual_seed(self.seed + 100 + number)
        return talk_batches(self.tokenizer, self.seed + 50, self.tokens_per_batch, self.patches, number)

    def loss(self, student: nn.Module, batch: Talks) -> tuple[Tensor, Figures]:
        """Mean cross-entropy of the answers' tokens, and the patches' loss."""
        assert isinstance(student, Student)
        assert student.text
        with products():
            embeddings = student.tower(batch.pictures.pixels)
            seen = student.read_out(embeddings)
            hidden = student.hidden(batch.tokens, embeddings.float()).flatten(0, 1)[batch.places]
            scores = student.text.logits(hidden)
        losses = F.cross_entropy(scores.float(), batch.targets)
        beside, _ = patch_loss(seen.float(), batch.pictures)
        wrong = (scores.detach().argmax(-1) != batch.targets).float().mean().item()
        return losses + self.beside * beside, {"loss": losses.item(), "wrong": wrong, "patches": beside.item()}

    def is_matrix(self, name: str, weight: Tensor) -> bool:
        """The matrices of all blocks and of the projector."""
        return weight.dim() == 2 and (".blk." in name or ".mm." in name)
