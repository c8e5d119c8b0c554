"""Batches for training: pictures with what their patches show, and conversations about them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scripts.tiny_model.template import render
from scripts.tiny_model.tokenizer import Tokenizer
from scripts.tiny_vision import data
from scripts.tiny_vision.labels import SIZES, labels
from scripts.tiny_vision.paint import pixels
from scripts.tiny_vision.questions import MARKER, Question
from scripts.tiny_vision.scene import Scene

LENGTHS = 32
LONGEST = 384
PICTURE = -1
STREAM = 1_000_003


@dataclass(frozen=True)
class Pictures:
    """Pictures [batch, side, side, 3] of bytes, and for each of labels.SIZES the classes [batch, patches]."""

    pixels: Tensor
    classes: dict[str, Tensor]


@dataclass(frozen=True)
class Talks:
    """Padded conversations [batch, time] with PICTURE where embeddings go; flat places to learn and what follows."""

    pictures: Pictures
    tokens: Tensor
    places: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Sample:
    """Token ids of one conversation about at most one picture, and the place of the answer's first token."""

    ids: list[int]
    answer: int
    scene: Scene | None


def stack(scenes: list[Scene]) -> Pictures:
    """Paint scenes and label their patches."""
    painted = torch.from_numpy(np.stack([pixels(scene) for scene in scenes]))
    found = [labels(scene) for scene in scenes]
    return Pictures(painted, {name: torch.from_numpy(np.stack([one[name] for one in found])) for name in SIZES})


def picture_batches(seed: int, size: int, number: int) -> Iterator[Pictures]:
    """Batches of pictures without end; each process of a training has its `number`."""
    waiting: list[Scene] = []
    for question in data.training(seed + STREAM * number, pictures_only=True):
        assert question.scene
        waiting.append(question.scene)
        if len(waiting) == size:
            yield stack(waiting)
            waiting = []


def sample(tokenizer: Tokenizer, question: Question, patches: int) -> Sample:
    """A conversation cut as the server does it: the texts before and after the picture each on their own."""
    messages = question.conversation().messages
    prompt = render(messages[:-1], question.tools, generation_prompt=True)
    before, marker, after = prompt.partition(MARKER)
    ids = tokenizer.encode(before) + ([PICTURE] * patches if marker else []) + tokenizer.encode(after)
    answer = tokenizer.encode(question.answer + "<|im_end|>")
    return Sample(ids + answer, len(ids), question.scene)


def collate(items: list[Sample], length: int) -> Talks:
    """Pad samples at the right, where causal attention never looks."""
    tokens = torch.zeros((len(items), length), dtype=torch.long)
    places: list[int] = []
    targets: list[int] = []
    for row, item in enumerate(items):
        tokens[row, : len(item.ids)] = torch.tensor(item.ids)
        places += range(row * length + item.answer - 1, row * length + len(item.ids) - 1)
        targets += item.ids[item.answer :]
    pictures = stack([item.scene for item in items if item.scene])
    return Talks(pictures, tokens, torch.tensor(places), torch.tensor(targets))


def talk_batches(tokenizer: Tokenizer, seed: int, tokens_per_batch: int, patches: int, number: int) -> Iterator[Talks]:
    """Batches of conversations without end, each of about one length."""
    waiting: dict[int, list[Sample]] = defaultdict(list)
    for question in data.training(seed + STREAM * number + 1):
        item = sample(tokenizer, question, patches)
        length = len(item.ids) + -len(item.ids) % LENGTHS
        if length > LONGEST:
            continue
        waiting[length].append(item)
        ready = len(waiting[length]) * length > tokens_per_batch - length
        if ready and any(one.scene for one in waiting[length]):
            yield collate(waiting.pop(length), length)
