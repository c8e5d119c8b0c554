"""Rankings become one, its passages differ and fit; and what is said of a ranking in numbers."""

from __future__ import annotations

import math
import random

import pytest

from benchai.memory.fuse import diversify, fuse, within
from benchai.memory.measures import ndcg, recall, reciprocal_rank
from benchai.memory.search import Likeness
from benchai.memory.types import Passage


def order(legs: dict[str, list[int]], weights: dict[str, float]) -> list[int]:
    return [number for number, _ in fuse(legs, weights)]


def test_one_leg_keeps_its_order() -> None:
    assert order({"a": [3, 1, 2]}, {"a": 0.2}) == [3, 1, 2]


def test_what_both_legs_find_comes_first_and_the_weights_decide_between_the_others() -> None:
    assert order({"a": [1, 2], "b": [3, 2]}, {"a": 0.6, "b": 0.4}) == [2, 1, 3]
    assert order({"a": [1, 2], "b": [3, 2]}, {"a": 0.4, "b": 0.6}) == [2, 3, 1]


def test_equals_come_in_the_order_of_their_number() -> None:
    assert order({"a": [9], "b": [4]}, {"a": 0.5, "b": 0.5}) == [4, 9]


def test_a_leg_without_weight_says_nothing() -> None:
    assert order({"a": [1], "b": [2]}, {"a": 1.0}) == [1]
    assert order({"a": [1], "b": [2]}, {"a": 1.0, "b": 0.0}) == [1]


@pytest.mark.parametrize("seed", range(5))
def test_of_many_passages_a_light_leg_shows_none_that_the_words_do_not_find(seed: int) -> None:
    chance = random.Random(seed)
    lexical, noise = chance.sample(range(100_000), 50), chance.sample(range(100_000, 200_000), 50)
    fused = order({"lexical": lexical, "dense": noise}, {"lexical": 0.8, "dense": 0.2})
    assert fused[:10] == lexical[:10]


def passage(number: int, text: str) -> Passage:
    return Passage(id=f"p{number}", kind="turn", owner=f"t{number}", text=text)


def test_likeness_is_the_share_of_common_words() -> None:
    one, two, three = passage(1, "Red apples fall"), passage(2, "red Apples rot fall"), passage(3, "")
    alike = Likeness([one, two, three])
    assert alike(one, two) == alike(two, one) == pytest.approx(3 / 4)
    assert alike(one, one) == 1.0
    assert alike(one, three) == alike(three, three) == 0.0


def test_diversity_puts_what_says_the_same_behind_what_says_something_new() -> None:
    same, other = passage(1, "the red apple fell"), passage(2, "the red apple fell down")
    new = passage(3, "a pear hangs")
    ranking = [(same, 1.0), (other, 0.99), (new, 0.7)]
    alike = Likeness([same, other, new])
    assert diversify(ranking, alike, 2, 0.0) == [same, other]
    assert diversify(ranking, alike, 2, 0.5) == [same, new]
    assert diversify(ranking, alike, 3, 0.5) == [same, new, other]
    assert diversify([], alike, 3, 0.5) == []


def test_what_does_not_fit_is_left_out_and_smaller_ones_behind_it_are_not() -> None:
    assert within([4, 9, 3, 2], int, 8) == [4, 3]
    assert within([9], int, 8) == []


def test_measures_of_a_ranking() -> None:
    assert recall([1, 2, 3], {2, 9}, 2) == 0.5
    assert reciprocal_rank([1, 2, 3], {3, 2}) == 0.5
    assert reciprocal_rank([1, 2, 3], {9}) == 0.0
    assert ndcg([5, 6], {5}) == 1.0
    assert ndcg([6, 5], {5}) == pytest.approx(1 / math.log2(3))
    assert ndcg([6, 5], {5: 1.0, 6: 2.0}) == 1.0
    assert ndcg([5, 6], {5: 1.0, 6: 2.0}) == pytest.approx((1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3)))
    assert ndcg([7], {}) == 0.0
