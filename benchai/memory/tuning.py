"""Weights of the legs, learned from questions whose good passages are known: a leg that does not help stays off."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchai.errors import UsageError
from benchai.memory.database import Database, marks
from benchai.memory.fuse import fuse
from benchai.memory.measures import ndcg, reciprocal_rank
from benchai.memory.namespace import Namespace
from benchai.memory.types import Value

#: Questions below which nothing is learned: what a few of them prefer is chance.
LEAST = 20
#: Weights that are tried, as multiples of the base's.
RATIOS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0)
#: Up to so many questions each is judged by weights that all others gave; of more, in so many folds.
LEAVE_ONE_OUT, FOLDS = 60, 10
RESAMPLES, DOUBT = 2_000, 0.05
Metric = Literal["ndcg", "mrr"]
Weights = tuple[float, ...]


@dataclass(frozen=True)
class Example:
    """A question, the numbers of its good passages, and what each leg found, best first."""

    query: str
    good: frozenset[int]
    legs: Mapping[str, Sequence[int]]


class LegReport(Value):
    """What became of a leg.

    Attributes:
        alone: Mean of the metric when this leg ranks alone.
        on: Whether it takes part.
        gain: What it added to the mean of those before it, on questions that its weight was not learned from.
        low, high: Between which that lies, nine times out of ten (paired bootstrap).
        reason: Why it is on or off.
    """

    alone: float
    on: bool
    gain: float = 0.0
    low: float = 0.0
    high: float = 0.0
    reason: str


class Tuned(Value):
    """Weights that were learned.

    Attributes:
        weights: By leg, the highest 1; 0 for a leg that stays off.
        metric: By which they were chosen: ndcg (of the first ten) or mrr.
        examples: Questions that were learned from.
        before: Mean of the metric with the weights that were used till now.
        after: With these, on the same questions.
        legs: What became of each.
    """

    weights: dict[str, float]
    metric: Metric
    examples: int
    before: float
    after: float
    legs: dict[str, LegReport]


def labelled(database: Database, ns: Namespace) -> dict[str, frozenset[int]]:
    """Questions that were asked in a namespace, or one it sees, and the numbers of the passages found good for them.

    Raises:
        StoreError: the file can't be read.
    """
    with database.looking() as connection:
        visible = database.visible(ns)
        rows = connection.execute(
            "SELECT l.query, l.passage FROM labels l JOIN passages p ON p.id = l.passage "  # noqa: S608 - marks
            f"WHERE l.good AND l.ns IN ({marks(visible)}) AND p.ns IN ({marks(visible)}) ORDER BY l.id",
            (*visible, *visible),
        ).fetchall()
    found: dict[str, set[int]] = {}
    for query, passage in rows:
        found.setdefault(query, set()).add(passage)
    return {query: frozenset(good) for query, good in found.items()}


def learn(
    examples: Sequence[Example],
    current: Mapping[str, float],
    *,
    base: str = "lexical",
    metric: Metric = "ndcg",
    seed: int = 0,
) -> Tuned:
    """Learn the weights of the legs; one takes part only if it helps beyond chance.

    Legs join the base one after the other. Each is judged on questions that its weight was not learned from, by the
    differences to the ranking without it (paired bootstrap: better in 95 of 100 resamples).

    Args:
        examples: At least 20, each with a good passage.
        current: Weights that are used till now, for the report.
        base: The leg that is always on.
        metric: ndcg counts all good passages among the first ten, mrr the first one.
        seed: Of the resampling; the same examples then give the same weights.

    Raises:
        UsageError: there are too few examples, or one has no good passage or no ranking of the base.
    """
    _check(examples, base)
    table = _Table(examples, metric)
    joined, reports = [base], {base: LegReport(alone=table.mean({base: 1.0}), on=True, reason="every search has it")}
    for leg in dict.fromkeys(name for example in examples for name in example.legs):
        if leg == base:
            continue
        reports[leg] = _judge(table, joined, leg, seed)
        joined += [leg] if reports[leg].on else []
    weights = dict.fromkeys(reports, 0.0) | _best(table, joined)
    return Tuned(
        weights=weights,
        metric=metric,
        examples=len(examples),
        before=table.mean(current),
        after=table.mean(weights),
        legs=reports,
    )


def keep(database: Database, tuned: Tuned) -> None:
    """Keep weights for the searches to come, and the report on them.

    Raises:
        StoreError: the file can't be written.
    """
    with database.writing():
        database.set("weights", json.dumps(tuned.weights))
        database.set("tuning", tuned.model_dump_json())


def kept(database: Database) -> Tuned | None:
    """The report on the weights that were learned last; None where nothing was learned.

    Raises:
        StoreError: the file can't be read.
    """
    with database.looking():
        text = database.setting("tuning")
    return None if text is None else Tuned.model_validate_json(text)


class _Table:
    """What each example scores with weights; each combination is worked out once."""

    def __init__(self, examples: Sequence[Example], metric: Metric) -> None:
        self.examples = examples
        self._metric = metric
        self._known: dict[tuple[tuple[str, float], ...], list[float]] = {}

    def scores(self, weights: Mapping[str, float]) -> list[float]:
        key = tuple(sorted(item for item in weights.items() if item[1] > 0))
        if key not in self._known:
            self._known[key] = [self._score(example, dict(key)) for example in self.examples]
        return self._known[key]

    def mean(self, weights: Mapping[str, float]) -> float:
        return _mean(self.scores(weights))

    def _score(self, example: Example, weights: Mapping[str, float]) -> float:
        ranking = [number for number, _ in fuse(example.legs, weights)]
        return ndcg(ranking, example.good) if self._metric == "ndcg" else reciprocal_rank(ranking, example.good)


def _judge(table: _Table, joined: Sequence[str], leg: str, seed: int) -> LegReport:
    alone = table.mean({leg: 1.0})
    with_it, without = _held_out(table, [*joined, leg]), _held_out(table, joined)
    gains = [one - other for one, other in zip(with_it, without, strict=True)]
    low, high = _bounds(gains, seed)
    gain = _mean(gains)
    on = low > 0 and _best(table, [*joined, leg])[leg] > 0
    reason = f"{gain:+.3f} ({low:+.3f} to {high:+.3f}) beside {' and '.join(joined)} on {len(gains)} questions"
    reason = f"it helps: {reason}" if on else f"it does not help beyond chance: {reason}"
    return LegReport(alone=alone, on=on, gain=gain, low=low, high=high, reason=reason)


def _held_out(table: _Table, legs: Sequence[str]) -> list[float]:
    """What each example scores with the weights that the examples of the other folds give."""
    count = len(table.examples)
    folds = count if count <= LEAVE_ONE_OUT else FOLDS
    found = [0.0] * count
    for fold in range(folds):
        weights = _best(table, legs, {number for number in range(count) if number % folds != fold})
        for number in range(fold, count, folds):
            found[number] = table.scores(weights)[number]
    return found


def _best(table: _Table, legs: Sequence[str], among: Iterable[int] | None = None) -> dict[str, float]:
    """The weights of the best mean, of equal ones those that trust the base most; the first leg is the base."""
    chosen = list(range(len(table.examples)) if among is None else among)
    best, weights = -1.0, {legs[0]: 1.0}
    for ratios in sorted(itertools.product(RATIOS, repeat=len(legs) - 1), key=sum):
        tried = dict(zip(legs, (1.0, *ratios), strict=True))
        scores = table.scores(tried)
        mean = sum(scores[number] for number in chosen) / len(chosen)
        if mean > best + 1e-9:
            best, weights = mean, tried
    highest = max(weights.values())
    return {leg: round(weight / highest, 4) for leg, weight in weights.items()}


def _bounds(gains: Sequence[float], seed: int) -> tuple[float, float]:
    """Between which values the mean lies in nine of ten resamples."""
    chance = random.Random(seed)  # noqa: S311 - a resampling, no secret
    means = sorted(_mean(chance.choices(gains, k=len(gains))) for _ in range(RESAMPLES))
    return means[int(RESAMPLES * DOUBT)], means[int(RESAMPLES * (1 - DOUBT)) - 1]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _check(examples: Sequence[Example], base: str) -> None:
    if len(examples) < LEAST:
        raise UsageError(
            f"{len(examples)} questions with a known good passage are too few to learn weights from",
            hint=f"at least {LEAST} are needed; the weights stay as they are",
        )
    for example in examples:
        if not example.good or base not in example.legs:
            lacking = "good passage" if not example.good else f"ranking of the leg {base!r}"
            raise UsageError(f"the question {example.query[:100]!r} has no {lacking}", hint="leave it out")
