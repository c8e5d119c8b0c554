"""Seeded questions: a stream for training, and held-out ones for the benchmark."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

from scripts.tiny_model.split import Draw
from scripts.tiny_vision.questions import Question, question
from scripts.tiny_vision.scene import KINDS

# How often training shows each kind; numbers are the hardest to learn.
MIXTURE = {"one shape": 0.2, "two shapes": 0.3, "number": 0.48, "no picture": 0.02}


def training(seed: int, pictures_only: bool = False) -> Iterator[Question]:
    """Questions for training without end; the same for the same seed."""
    draw = Draw(random.Random(seed), held_out=False)
    kinds = {kind: share for kind, share in MIXTURE.items() if kind in KINDS or not pictures_only}
    while True:
        draw.begin()
        draw.forget()
        yield question(draw, draw.rng.choices(list(kinds), list(kinds.values()))[0])


def held_out(kind: str, agent: bool, count: int, seed: int = 0) -> list[Question]:
    """The first `count` held-out questions of a kind, with or without the agent's prompt and tools."""
    draw = Draw(random.Random(zlib.crc32(f"{kind}:{agent}:{seed}".encode())), held_out=True)
    return [question(draw, kind, agent) for _ in range(count)]
