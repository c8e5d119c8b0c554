"""What paired samples say: is one setting faster than another, and how sure is that.

Two settings are measured in turns on the same prompts, so that what else the machine does meets both. The ratio of a
pair is what counts; their logarithms are resampled (percentile bootstrap, Efron 1979) for the interval.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 2000
CONFIDENCE = 0.95
LEAST_PAIRS = 5
"""Fewer pairs say nothing: the interval of a bootstrap over them is too narrow."""


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


def compare(old: Sequence[float], new: Sequence[float], *, seed: int = 1) -> Ratio:
    """The ratio of the costs ``new[i] / old[i]``.

    Args:
        old: Costs above 0 with the one setting.
        new: Costs with the other, each measured beside that of the same place in ``old``.
        seed: Of the resampling, so that the same samples say the same.

    Raises:
        ValueError: there are no pairs, or not as many on both sides, or a cost is not above 0.
    """
    if len(old) != len(new) or not old:
        raise ValueError(f"{len(old)} and {len(new)} samples are no pairs")
    if min(*old, *new) <= 0:
        raise ValueError("a cost must be above 0")
    logs = [math.log(b / a) for a, b in zip(old, new, strict=True)]
    low, high = _interval(logs, random.Random(seed))  # noqa: S311 - statistics, no secret
    return Ratio(math.exp(statistics.median(logs)), math.exp(low), math.exp(high), len(logs))


def _interval(values: Sequence[float], chance: random.Random) -> tuple[float, float]:
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    edge = int(RESAMPLES * (1 - CONFIDENCE) / 2)
    return medians[edge], medians[-edge - 1]
