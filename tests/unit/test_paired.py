"""What paired samples say, and how often they say it wrongly."""

from __future__ import annotations

import math
import random

import pytest

from benchai.runtime.measure.paired import compare

TRIES = 3000


@pytest.mark.parametrize(
    ("pairs", "low", "high"),
    # the ranks for 95 % in any table of the sign test; of five pairs the whole range is not enough
    [(1, 1, 1), (5, 1, 5), (6, 1, 6), (7, 1, 7), (8, 1, 8), (9, 2, 8), (12, 3, 10), (20, 6, 15), (200, 86, 115)],
)
def test_the_interval_lies_between_two_of_the_ratios(pairs: int, low: int, high: int) -> None:
    found = compare([1.0] * pairs, [float(value) for value in range(1, pairs + 1)])
    assert (round(found.low), round(found.high)) == (low, high)


def test_many_pairs_have_the_interval_of_the_normal_distribution() -> None:
    below, above = (compare([1.0] * count, [float(value + 1) for value in range(count)]) for count in (200, 201))
    assert (round(above.low), round(above.high)) in {(86, 116), (87, 115)}
    assert below.pairs, above.pairs


@pytest.mark.parametrize("pairs", [6, 7, 8, 10, 13])
def test_equal_settings_are_seldom_called_faster(pairs: int) -> None:
    chance = random.Random(pairs)
    wrong = 0
    for _ in range(TRIES):
        old, new = ([math.exp(chance.gauss(0, 0.05)) for _ in range(pairs)] for _ in range(2))
        wrong += compare(old, new).better
    # 2.5 % on each side, and what chance adds to that in so many tries
    assert wrong / TRIES < 0.034


def test_clear_differences_are_found() -> None:
    assert compare([2.0] * 5, [1.0, 1.1, 1.2, 1.3, 1.9]).better
    assert compare([1.0] * 9, [1.5] * 8 + [0.9]).worse
    assert not compare([2.0] * 4, [1.0] * 4).better
    found = compare([1.0, 1.0, 4.0], [2.0, 1.0, 1.0])
    assert found.median == pytest.approx(1.0)
    assert not found.better
    assert not found.worse
    for bad in (([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0])):
        with pytest.raises(ValueError, match=r"pairs|above 0"):
            compare(*bad)
