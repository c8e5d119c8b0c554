"""From the rankings of several legs to one, and from that to what fits and differs: plain functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

#: Dampens the first places; 60 in Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion", SIGIR 2009. With 60 a leg of
#: little weight still turns the first places of the other upside down: docs/benchmarks.md has the figures.
RRF_K = 10


def fuse(legs: Mapping[str, Sequence[int]], weights: Mapping[str, float]) -> list[tuple[int, float]]:
    """Weighted reciprocal rank fusion: what is found and its score, best first; equals in the order of their number.

    Args:
        legs: Numbers of passages, best first, by the name of the leg.
        weights: By the name of the leg; a leg without one, or with 0, is left out.
    """
    scores: dict[int, float] = {}
    for name, ranking in legs.items():
        weight = weights.get(name, 0.0)
        for rank, number in enumerate(ranking, 1) if weight > 0 else ():
            scores[number] = scores.get(number, 0.0) + weight / (RRF_K + rank)
    return sorted(scores.items(), key=lambda found: (-found[1], found[0]))


def diversify(
    ranking: Sequence[tuple[T, float]], alike: Callable[[T, T], float], count: int, diversity: float
) -> list[T]:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): the best that say something new.

    Args:
        ranking: What was found with its score, best first.
        alike: How alike two of them are, from 0 to 1.
        count: How many are wanted.
        diversity: 0 keeps the ranking, 1 looks at differences alone.
    """
    if diversity <= 0 or not ranking:
        return [one for one, _ in ranking[:count]]
    top = ranking[0][1] or 1.0
    left = [(one, score / top) for one, score in ranking]
    nearest = [0.0] * len(left)
    chosen: list[T] = []
    while left and len(chosen) < count:
        gains = [(1 - diversity) * score - diversity * near for (_, score), near in zip(left, nearest, strict=True)]
        best = max(range(len(left)), key=gains.__getitem__)
        one, _ = left.pop(best)
        nearest.pop(best)
        chosen.append(one)
        nearest = [max(near, alike(one, other)) for near, (other, _) in zip(nearest, left, strict=True)]
    return chosen


def within(found: Sequence[T], size: Callable[[T], int], budget: int) -> list[T]:
    """As many as fit a budget, in order; one that does not fit is left out, smaller ones behind it may still fit."""
    chosen, spent = [], 0
    for one in found:
        needed = size(one)
        if spent + needed <= budget:
            chosen.append(one)
            spent += needed
    return chosen
