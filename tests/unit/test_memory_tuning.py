"""Weights are learned only from enough examples, and no leg is on that does not help."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from benchai.errors import UsageError
from benchai.memory.tuning import LEAST, Example, learn

Leg = Callable[[int, random.Random], Sequence[int]]
BEFORE = {"lexical": 0.8, "dense": 0.2}


def at(place: int, good: int, chance: random.Random) -> list[int]:
    """A ranking with what is good at a place, from 1."""
    found = chance.sample(range(1_000, 9_000), 30)
    found[place - 1] = good
    return found


def weak(good: int, chance: random.Random) -> list[int]:
    return at(chance.randint(1, 25), good, chance)


def strong(good: int, chance: random.Random) -> list[int]:
    return at(chance.randint(1, 2), good, chance)


def noise(good: int, chance: random.Random) -> list[int]:
    return chance.sample(range(1_000, 9_000), 30)


def misleading(good: int, chance: random.Random) -> list[int]:
    return list(range(500, 530))


def examples(count: int, **legs: Leg) -> list[Example]:
    chance = random.Random(count)
    return [
        Example(f"question {good}", frozenset([good]), {name: leg(good, chance) for name, leg in legs.items()})
        for good in range(count)
    ]


def test_a_leg_that_helps_is_on_and_the_ranking_gets_better() -> None:
    tuned = learn(examples(40, lexical=weak, dense=strong), BEFORE)
    assert tuned.legs["dense"].on
    assert tuned.weights["dense"] >= 0.5
    assert tuned.weights["lexical"] > 0
    assert tuned.after > tuned.before > tuned.legs["lexical"].alone
    assert tuned.legs["dense"].low > 0
    assert "it helps" in tuned.legs["dense"].reason
    assert tuned.examples == 40


@pytest.mark.parametrize("bad", [noise, misleading])
@pytest.mark.parametrize("metric", ["ndcg", "mrr"])
def test_a_leg_that_does_not_help_stays_off_and_nothing_is_lost(bad: Leg, metric: str) -> None:
    tuned = learn(examples(40, lexical=strong, dense=bad), BEFORE, metric=metric)  # type: ignore[arg-type]
    assert tuned.weights == {"lexical": 1.0, "dense": 0.0}
    assert not tuned.legs["dense"].on
    assert tuned.legs["dense"].reason.startswith("it does not help beyond chance")
    assert tuned.after == tuned.legs["lexical"].alone >= tuned.before


def test_a_leg_that_helps_on_few_questions_is_taken_for_chance() -> None:
    found = examples(40, lexical=strong, dense=noise)
    lucky = found[0].legs | {"lexical": [7, 8, 0], "dense": [0]}
    tuned = learn([Example(found[0].query, found[0].good, lucky), *found[1:]], BEFORE)
    assert tuned.legs["dense"].gain >= 0
    assert tuned.weights["dense"] == 0.0


def test_a_useless_leg_does_not_come_in_with_a_useful_one() -> None:
    tuned = learn(examples(40, lexical=weak, dense=noise, rerank=strong), BEFORE)
    assert (tuned.legs["dense"].on, tuned.legs["rerank"].on) == (False, True)
    assert tuned.weights["dense"] == 0.0


def test_the_same_examples_give_the_same_weights() -> None:
    found = examples(70, lexical=weak, dense=weak)
    assert learn(found, BEFORE) == learn(found, BEFORE)


def test_too_few_examples_are_refused() -> None:
    with pytest.raises(UsageError, match=f"^{LEAST - 1} questions") as caught:
        learn(examples(LEAST - 1, lexical=weak, dense=strong), BEFORE)
    assert str(LEAST) in str(caught.value.hint)
    assert learn(examples(LEAST, lexical=weak, dense=strong), BEFORE).examples == LEAST


def test_an_example_without_the_base_or_without_a_good_passage_is_refused() -> None:
    found = examples(LEAST, lexical=weak, dense=strong)
    with pytest.raises(UsageError, match=r"'lost' has no ranking of the leg 'lexical'"):
        learn([*found, Example("lost", frozenset([1]), {"dense": [1]})], BEFORE)
    with pytest.raises(UsageError, match=r"'lost' has no good passage"):
        learn([*found, Example("lost", frozenset(), {"lexical": [1]})], BEFORE)
