"""Batches for training: token ids, positions, and which tokens are learnt."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from scripts.tiny_model import data
from scripts.tiny_model.conversation import Conversation
from scripts.tiny_model.template import render
from scripts.tiny_model.tokenizer import Tokenizer

POOL = 192
LONGEST = 1_400


@dataclass(frozen=True)
class Sample:
    """One conversation: its token ids, and the places whose tokens the assistant says."""

    ids: list[int]
    learnt: list[int]
    starts: list[int]


@dataclass(frozen=True)
class Batch:
    """Padded samples: tokens and positions [batch, time]; flat places of inputs and the ids that follow them."""

    tokens: Tensor
    positions: Tensor
    places: Tensor
    targets: Tensor


def sample(tokenizer: Tokenizer, conversation: Conversation) -> Sample:
    """Token ids of a conversation with its replies marked, the end-of-turn token included."""
    ids = tokenizer.encode(render(conversation.messages, conversation.tools))
    start, end = tokenizer.ids["<|im_start|>"], tokenizer.ids["<|im_end|>"]
    opening = tokenizer.encode("<|im_start|>assistant\n")
    learnt: list[int] = []
    starts: list[int] = []
    for place, token in enumerate(ids):
        if token != start:
            continue
        starts.append(place)
        if ids[place : place + len(opening)] == opening:
            first = place + len(opening)
            learnt.extend(range(first, ids.index(end, first) + 1))
    return Sample(ids, learnt, starts)


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
    """Pad samples at the right, where causal attention never looks."""
    longest = max(len(item.ids) for item in items)
    tokens = torch.zeros((len(items), longest), dtype=torch.long)
    positions = torch.zeros((len(items), longest), dtype=torch.long)
    places: list[int] = []
    targets: list[int] = []
    for row, item in enumerate(items):
        tokens[row, : len(item.ids)] = torch.tensor(item.ids)
        positions[row, : len(item.ids)] = torch.tensor(spread(rng, item, context))
        places += [row * longest + place - 1 for place in item.learnt]
        targets += [item.ids[place] for place in item.learnt]
    return Batch(tokens, positions, torch.tensor(places), torch.tensor(targets))


def batches(tokenizer: Tokenizer, seed: int, tokens_per_batch: int, context: int) -> Iterator[Batch]:
    """Batches without end: a pool of samples is sorted by length, cut into batches, and these are shuffled."""
    rng = random.Random(seed + 1)
    stream = data.training(seed)
    while True:
        pool = [sample(tokenizer, next(stream)) for _ in range(POOL)]
        pool = sorted((item for item in pool if len(item.ids) <= LONGEST), key=lambda item: len(item.ids))
        groups: list[list[Sample]] = [[]]
        for item in pool:
            if groups[-1] and len(item.ids) * (len(groups[-1]) + 1) > tokens_per_batch:
                groups.append([])
            groups[-1].append(item)
        rng.shuffle(groups)
        for group in groups:
            yield collate(rng, group, context)
