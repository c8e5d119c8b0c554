"""How good a ranking is, for what should have been found: recall, reciprocal rank, nDCG; each from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def recall(ranking: Sequence[T], good: Collection[T], count: int) -> float:
    """Which part of what is good stands among the first ``count``."""
    return len(set(ranking[:count]) & set(good)) / len(set(good))


def reciprocal_rank(ranking: Sequence[T], good: Collection[T], count: int = 1000) -> float:
    """1 / the place of the first that is good; 0 where none stands among the first ``count``."""
    return next((1 / place for place, one in enumerate(ranking[:count], 1) if one in good), 0.0)


def ndcg(ranking: Sequence[T], good: Collection[T] | Mapping[T, float], count: int = 10) -> float:
    """Discounted cumulative gain of the first ``count`` beside that of the best ranking (Jarvelin, Kekalainen 2002).

    Args:
        ranking: Best first, each once.
        good: With their gains, as TREC counts it; 1 each where none are given.
        count: How many are looked at.
    """
    gains = dict(good) if isinstance(good, Mapping) else dict.fromkeys(good, 1.0)
    best = sum(
        gain / math.log2(place + 1) for place, gain in enumerate(sorted(gains.values(), reverse=True)[:count], 1)
    )
    found = sum(gains.get(one, 0.0) / math.log2(place + 1) for place, one in enumerate(ranking[:count], 1))
    return found / best if best else 0.0
