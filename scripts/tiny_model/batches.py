"""Batches for training: token ids, positions, and which tokens are learnt."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from scripts.tiny_model import data
from scripts.tiny_model.conversation import Conversation
from scripts.tiny_model.template import render
from scripts.tiny_model.tokenizer import Tokenizer

LENGTHS = 32
PLACES = 128
LONGEST = 1_408
DECIDING = 4
# the share of easy samples that is taken beside the hard ones
EASY = 0.05
# the beginning of an evaluation, one token
CHECKS = '{"checks": [{"criterion": "'
# how byte-level tokenizers write the end of a line
NEWLINE = "\u010a"


@dataclass(frozen=True)
class Sample:
    """One conversation: its token ids, the places whose tokens the assistant says with their weights, its messages."""

    ids: list[int]
    learnt: list[int]
    weights: list[float]
    starts: list[int]


@dataclass(frozen=True)
class Batch:
    """Padded samples: tokens and positions [batch, time]; flat places of inputs, the ids that follow, their weights."""

    tokens: Tensor
    positions: Tensor
    places: Tensor
    targets: Tensor
    weights: Tensor


def sample(tokenizer: Tokenizer, conversation: Conversation) -> Sample:
    """Token ids of a conversation with its replies marked, the end-of-turn token included."""
    ids = tokenizer.encode(render(conversation.messages, conversation.tools))
    start, end = tokenizer.ids["<|im_start|>"], tokenizer.ids["<|im_end|>"]
    opening = tokenizer.encode("<|im_start|>assistant\n")
    marks = Marks.of(tokenizer)
    learnt: list[int] = []
    weights: list[float] = []
    starts: list[int] = []
    for place, token in enumerate(ids):
        if token != start:
            continue
        starts.append(place)
        if ids[place : place + len(opening)] == opening:
            first = place + len(opening)
            reply = range(first, ids.index(end, first) + 1)
            learnt += reply
            weights += weigh(ids[first : reply.stop], marks)
    return Sample(ids, learnt, weights, starts)


@dataclass(frozen=True)
class Marks:
    """Tokens by which verdicts are found: ends of lines, yes and no, beginnings of tool calls and of evaluations."""

    line_ends: frozenset[int]
    answers: frozenset[int]
    call: int
    checks: frozenset[int]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Marks:
        """The marks of a tokenizer."""
        ends = frozenset(number for token, number in tokenizer.ids.items() if token.endswith((NEWLINE, "\n")))
        answers = frozenset(token for word in (" yes", " no", "true", "false") for token in tokenizer.encode(word))
        checks = frozenset(tokenizer.encode(CHECKS))
        return cls(ends, answers, tokenizer.ids["<tool_call>"], checks)


def weigh(reply: list[int], marks: Marks) -> list[float]:
    """The weight of each token of a reply.

    A short reply weighs more a token than a long copy, or it would hardly be learnt. The first tokens decide between
    a tool and an answer, and the last of two or three lines may be a verdict: both count as short replies.
    """
    weights = [len(reply) ** -0.5] * len(reply)
    for place in range(min(DECIDING, len(reply))):
        weights[place] = max(weights[place], DECIDING**-0.5)
    if marks.call in reply:
        return weights
    if reply[0] in marks.checks:
        return [1.0 if token in marks.answers else old for token, old in zip(reply, weights, strict=True)]
    ends = [place for place, token in enumerate(reply) if token in marks.line_ends]
    if 1 <= len(ends) <= 2:
        last = ends[-1] + 1
        weights[last:] = [(len(reply) - last) ** -0.5] * (len(reply) - last)
        weights = [1.0 if token in marks.answers else old for token, old in zip(reply, weights, strict=True)]
    return weights


def spread(rng: random.Random, item: Sample, context: int) -> list[int]:
    """Positions of a sample: one in eight gets gaps between its messages, so that far distances are learnt too."""
    positions = list(range(len(item.ids)))
    if rng.random() >= 0.125:
        return positions
    room = context - len(item.ids) - 1
    cuts = rng.sample(item.starts[1:], k=min(len(item.starts) - 1, rng.randint(1, 2)))
    for cut in cuts:
        gap = int(room * rng.random() ** 2 / len(cuts))
        positions = positions[:cut] + [position + gap for position in positions[cut:]]
    return positions


def collate(rng: random.Random, items: list[Sample], context: int) -> Batch:
    """Pad samples at the right, where causal attention never looks, and the list of places with some of no weight."""
    length = max(padded(item) for item in items)
    tokens = torch.zeros((len(items), length), dtype=torch.long)
    positions = torch.zeros((len(items), length), dtype=torch.long)
    places: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    for row, item in enumerate(items):
        tokens[row, : len(item.ids)] = torch.tensor(item.ids)
        positions[row, : len(item.ids)] = torch.tensor(spread(rng, item, context))
        places += [row * length + place - 1 for place in item.learnt]
        targets += [item.ids[place] for place in item.learnt]
        weights += item.weights
    padding = -len(places) % PLACES
    return Batch(
        tokens,
        positions,
        torch.tensor(places + [0] * padding),
        torch.tensor(targets + [0] * padding),
        torch.tensor(weights + [0.0] * padding),
    )


def work(length: int) -> float:
    """What a sample costs beside one token of a short one: attention makes a token dearer, the longer its sample.

    Processes meet after each batch, so batches of unequal work would leave one of them waiting.
    """
    return length * (1 + length / 1150)


class Gather:
    """Samples that wait for others of their length, until those together are about `size` of work.

    Lengths are rounded up and each has its own number of rows: the CPU's matrix library compiles a kernel for
    every new shape, so there should be few.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.waiting: dict[int, list[Sample]] = defaultdict(list)

    def add(self, item: Sample) -> list[Sample]:
        """The rows of a batch where this one fills it, else none."""
        length = padded(item)
        rows = self.waiting[length]
        rows.append(item)
        return self.waiting.pop(length) if (len(rows) + 1) * work(length) > self.size else []


def padded(item: Sample) -> int:
    """The length that a sample has in a batch."""
    return len(item.ids) + -len(item.ids) % LENGTHS


def samples(tokenizer: Tokenizer, seed: int, stream: int, drills: bool) -> Iterator[Sample]:
    """Samples without end; each `stream` of a seed holds other conversations."""
    for conversation in data.training(seed + 1000 * stream, drills):
        item = sample(tokenizer, conversation)
        if padded(item) <= LONGEST:
            yield item


def batches(
    rng: random.Random, every: Iterator[Sample], size: int, context: int, doubts: Callable[[Batch], list[float] | None]
) -> Iterator[Batch]:
    """Batches of about `size` of work, of all samples or of the hard ones.

    `doubts` tells for each row of a batch how probable it is that the student says something else, and each is taken
    with that probability (Jiang et al., "Accelerating deep learning by focusing on the biggest losers", 2019); of the
    rest a share, so that nothing is forgotten. None takes all.
    """
    looked, taken = Gather(size), Gather(size)
    for item in every:
        if rows := looked.add(item):
            found = doubts(collate(rng, rows, context)) or [1.0] * len(rows)
            for row, doubt in zip(rows, found, strict=True):
                hard = rng.random() < EASY + (1 - EASY) * doubt
                if hard and (full := taken.add(row)):
                    yield collate(rng, full, context)
