"""What paired samples say: is one setting faster than another, and how sure is that.

Two settings are measured in turns on the same prompts, so that what else the machine does meets both. The ratio of a
pair is what counts. The interval of the median lies between two of the sorted ratios: how many values stand on each
side of a median is binomial, whatever they are spread like (Conover, Practical Nonparametric Statistics, 3.2).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
LEAST_PAIRS = 5
"""Fewer pairs say nothing; the interval of five is their whole range, and holds the median with 94 %."""
MOST_COUNTED = 200
"""With more pairs the binomial is as good as normal."""


@dataclass(frozen=True)
class Ratio:
    """``new / old`` of a cost (seconds): its median over the pairs and the interval that holds it.

    Below 1 the new setting is faster.
    """

    median: float
    low: float
    high: float
    pairs: int

    @property
    def better(self) -> bool:
        """Whether the new setting costs less beyond doubt: the whole interval lies below 1."""
        return self.pairs >= LEAST_PAIRS and self.high < 1

    @property
    def worse(self) -> bool:
        """Whether the new setting costs more beyond doubt."""
        return self.pairs >= LEAST_PAIRS and self.low > 1


def compare(old: Sequence[float], new: Sequence[float]) -> Ratio:
    """The ratio of the costs ``new[i] / old[i]``.

    Args:
        old: Costs above 0 with the one setting.
        new: Costs with the other, each measured beside that of the same place in ``old``.

    Raises:
        ValueError: there are no pairs, or not as many on both sides, or a cost is not above 0.
    """
    if len(old) != len(new) or not old:
        raise ValueError(f"{len(old)} and {len(new)} samples are no pairs")
    if min(*old, *new) <= 0:
        raise ValueError("a cost must be above 0")
    logs = sorted(math.log(b / a) for a, b in zip(old, new, strict=True))
    left_out = _left_out(len(logs))
    low, high = logs[left_out], logs[-1 - left_out]
    return Ratio(math.exp(statistics.median(logs)), math.exp(low), math.exp(high), len(logs))


def _left_out(count: int) -> int:
    """How many of so many values, on each side, the interval leaves out."""
    tail = (1 - CONFIDENCE) / 2
    if count > MOST_COUNTED:
        return int((count - statistics.NormalDist().inv_cdf(1 - tail) * math.sqrt(count)) / 2) - 1
    left, below = 0, 1
    while (below := below + math.comb(count, left + 1)) <= tail * 2**count:
        left += 1
    return left
