"""What a trial measures: requests to one engine, each step of them one cost in seconds.

Latency is the time of a whole reply of ``max_tokens`` tokens: the time to the first token, and the time between two
tokens as often as that reply has them; so a reply that ends early costs no less. Throughput is the time for one token
while several requests run, over all of them. Nothing is taken from the KV cache of the prompt before.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchai.errors import EndpointError
from benchai.runtime.measure.prompts import Prompts
from benchai.runtime.measure.request import Sample, ask, ask_together
from benchai.runtime.measure.rig import Rig
from benchai.runtime.tune.space import Goal

MOST_PROMPTS = 6
WARM_TOKENS = 4
Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Load:
    """What is asked of every engine of a tune, in steps that are the same for all."""

    goal: Goal
    prompts: tuple[Messages, ...]
    max_tokens: int
    concurrent: int = 1

    @property
    def steps(self) -> int:
        """Steps until each prompt was asked once."""
        return -(-len(self.prompts) // self.concurrent)

    def batch(self, step: int) -> list[Messages]:
        """The prompts of one step, which are asked at the same moment."""
        first = step * self.concurrent
        return [self.prompts[(first + place) % len(self.prompts)] for place in range(self.concurrent)]


def load_of(prompts: Prompts, goal: Goal, max_tokens: int, concurrent: int) -> Load:
    """A load of some of the prompts, evenly spread where there are many."""
    every = prompts.messages
    count = min(len(every), MOST_PROMPTS)
    chosen = tuple(every[place * len(every) // count] for place in range(count))
    return Load(goal, chosen, max_tokens, concurrent if goal == "throughput" else 1)


@dataclass(frozen=True)
class Step:
    """One step: its cost in seconds, and the replies."""

    cost: float
    replies: tuple[str, ...]


async def warm_up(rig: Rig, load: Load) -> None:
    """Ask once, so that what an engine does for its first request is done.

    Raises:
        EndpointError: it refuses.
    """
    await ask(rig.ready.root, load.prompts[0], min(WARM_TOKENS, load.max_tokens), cache_prompt=False)


async def measure(rig: Rig, load: Load, step: int) -> Step:
    """The cost of one step.

    Raises:
        EndpointError: the engine refuses, breaks off, or generates nothing.
    """
    began = time.perf_counter()
    samples = await ask_together(rig.ready.root, load.batch(step), load.max_tokens, cache_prompt=False)
    seconds = time.perf_counter() - began
    return Step(cost(samples, seconds, load), tuple(one.text for one in samples))


def cost(samples: Sequence[Sample], seconds: float, load: Load) -> float:
    """The cost of requests that took ``seconds`` together.

    Raises:
        EndpointError: nothing was generated.
    """
    generated = sum(one.generated_tokens for one in samples)
    if generated == 0:
        raise EndpointError("the engine generated nothing", hint="give other prompts")
    if load.goal == "throughput":
        return seconds / generated
    sample = samples[0]
    if load.goal == "first-token":
        return sample.first_token
    if sample.generated_tokens < 2:
        return sample.seconds
    between = (sample.seconds - sample.first_token) / (sample.generated_tokens - 1)
    return sample.first_token + between * (load.max_tokens - 1)


def same_replies(one: Sequence[Step], other: Sequence[Step]) -> tuple[int, int]:
    """How many replies of the same prompts are equal, and how many there are."""
    pairs = list(
        itertools.chain.from_iterable(zip(a.replies, b.replies, strict=True) for a, b in zip(one, other, strict=False))
    )
    return sum(a == b for a, b in pairs), len(pairs)
