"""Figures of many requests: pure computations over rows that are looked at once, one after the other."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from benchai.runtime.usage.row import CANCELLED, OK

By = Literal["role", "model", "workflow", "key"]
BY: tuple[By, ...] = ("role", "model", "workflow", "key")
BUCKETS = 48
#: A request of the general role is simple below this complexity (seed, "Implement Complexity Scoring").
SIMPLE_BELOW = 0.3


class Measured(NamedTuple):
    """What of a row counts; ``name`` is its role, model, workflow or key, whichever is asked for."""

    name: str | None
    time: float
    total_s: float
    first_token_s: float | None
    tokens_in: int | None
    tokens_out: int | None
    tokens_cached: int | None
    tokens_per_s: float | None
    cache: str
    outcome: str
    role: str | None
    workflow: str | None
    score: float | None
    feedback: float | None


#: The columns that ``Measured`` needs after its name.
MEASURED = Measured._fields[1:]


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least ``share`` (0 to 1) of all do not exceed (nearest rank); None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def highest_concurrency(begins: Sequence[float], ends: Sequence[float]) -> int:
    """How many intervals overlap at most; one that begins where another ends does not overlap with it."""
    pairs = list(zip(begins, ends, strict=True))
    # of one moment, ends come first; but not before the begin of an interval without length
    moments = sorted([(begin, 1, 1) for begin, _ in pairs] + [(end, 2 * (end <= begin), -1) for begin, end in pairs])
    highest = now = 0
    for _, _, step in moments:
        now += step
        highest = max(highest, now)
    return highest


@dataclass(frozen=True)
class Group:
    """Figures of some requests. Seconds and speeds are those of requests that a model or a cache answered.

    ``cached`` is the share of prompt tokens that came from the engine's KV cache, ``hits`` the share of replies that
    came from a cache of replies or from an equal request under way, ``feedback`` the mean of what users gave.
    """

    name: str | None
    requests: int
    errors: int
    cancelled: int
    total_p50: float | None
    total_p95: float | None
    first_token_p50: float | None
    first_token_p95: float | None
    tokens_in: int
    tokens_out: int
    tokens_per_s: float | None
    cached: float | None
    hits: float | None
    feedback: float | None


@dataclass(frozen=True)
class Bucket:
    """Requests that came within a part of the period; ``total_p50`` in seconds."""

    time: float
    requests: int
    errors: int
    total_p50: float | None


@dataclass
class Tally:
    """Counts one group."""

    requests: int = 0
    errors: int = 0
    cancelled: int = 0
    hits: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("in", "out", "cached", "of"), 0))
    totals: array[float] = field(default_factory=lambda: array("d"))
    firsts: array[float] = field(default_factory=lambda: array("d"))
    speeds: array[float] = field(default_factory=lambda: array("d"))
    opinions: array[float] = field(default_factory=lambda: array("d"))

    def add(self, row: Measured) -> None:
        """Count one row."""
        self.requests += 1
        if row.feedback is not None:
            self.opinions.append(row.feedback)
        if row.outcome != OK:
            self.cancelled += row.outcome == CANCELLED
            self.errors += row.outcome != CANCELLED
            return
        self.hits += row.cache != "none"
        self.totals.append(row.total_s)
        if row.first_token_s is not None:
            self.firsts.append(row.first_token_s)
        if row.tokens_per_s is not None:
            self.speeds.append(row.tokens_per_s)
        self._count_tokens(row)

    def _count_tokens(self, row: Measured) -> None:
        self.tokens["in"] += row.tokens_in or 0
        self.tokens["out"] += row.tokens_out or 0
        if row.tokens_cached is not None and row.tokens_in:
            self.tokens["cached"] += row.tokens_cached
            self.tokens["of"] += row.tokens_in

    def merge(self, other: Tally) -> None:
        """Count what another one counted, too."""
        for name in ("requests", "errors", "cancelled", "hits"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in self.tokens:
            self.tokens[name] += other.tokens[name]
        for name in ("totals", "firsts", "speeds", "opinions"):
            getattr(self, name).extend(getattr(other, name))

    def group(self, name: str | None) -> Group:
        """What was counted."""
        return Group(
            name=name,
            requests=self.requests,
            errors=self.errors,
            cancelled=self.cancelled,
            total_p50=percentile(self.totals, 0.5),
            total_p95=percentile(self.totals, 0.95),
            first_token_p50=percentile(self.firsts, 0.5),
            first_token_p95=percentile(self.firsts, 0.95),
            tokens_in=self.tokens["in"],
            tokens_out=self.tokens["out"],
            tokens_per_s=percentile(self.speeds, 0.5),
            cached=self.tokens["cached"] / self.tokens["of"] if self.tokens["of"] else None,
            hits=self.hits / len(self.totals) if self.totals else None,
            feedback=sum(self.opinions) / len(self.opinions) if self.opinions else None,
        )


@dataclass(frozen=True)
class Facts:
    """What the seed's targets are about: seconds of code and of simple requests, and requests at the same time."""

    code: Sequence[float]
    simple: Sequence[float]
    at_once: int
    served_at_once: int


@dataclass(frozen=True)
class Summary:
    """Figures of a period: of all requests, by group (the busiest first), and over time."""

    total: Group
    groups: tuple[Group, ...]
    timeline: tuple[Bucket, ...]
    facts: Facts

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "total": asdict(self.total),
            "groups": [asdict(group) for group in self.groups],
            "timeline": [asdict(bucket) for bucket in self.timeline],
        }


def summarise(rows: Iterable[Measured], since: float, until: float) -> Summary:
    """Look at all rows of a period once.

    Args:
        rows: The rows, in any order.
        since: Beginning of the period, seconds since the epoch.
        until: Its end.
    """
    groups: defaultdict[str | None, Tally] = defaultdict(Tally)
    line = _Timeline(since, until)
    look = _FactsTally()
    for row in rows:
        groups[row.name].add(row)
        line.add(row)
        look.add(row)
    total = Tally()
    for tally in groups.values():
        total.merge(tally)
    found = [tally.group(name) for name, tally in groups.items()]
    found.sort(key=lambda one: (-one.requests, one.name or ""))
    return Summary(total.group(None), tuple(found), line.buckets(), look.facts())


class _Timeline:
    def __init__(self, since: float, until: float) -> None:
        self._since = since
        self._step = max(until - since, 1e-9) / BUCKETS
        self._requests = [0] * BUCKETS
        self._errors = [0] * BUCKETS
        self._totals = [array("d") for _ in range(BUCKETS)]

    def add(self, row: Measured) -> None:
        place = min(max(int((row.time - self._since) / self._step), 0), BUCKETS - 1)
        self._requests[place] += 1
        if row.outcome == OK:
            self._totals[place].append(row.total_s)
        else:
            self._errors[place] += row.outcome != CANCELLED

    def buckets(self) -> tuple[Bucket, ...]:
        counted = zip(self._requests, self._errors, self._totals, strict=True)
        return tuple(
            Bucket(self._since + number * self._step, requests, errors, percentile(totals, 0.5))
            for number, (requests, errors, totals) in enumerate(counted)
        )


class _FactsTally:
    def __init__(self) -> None:
        self._code = array("d")
        self._simple = array("d")
        self._begins = array("d")
        self._ends = array("d")
        self._served: list[array[float]] = [array("d"), array("d")]

    def add(self, row: Measured) -> None:
        self._begins.append(row.time)
        self._ends.append(row.time + row.total_s)
        if row.outcome != OK:
            return
        self._served[0].append(row.time)
        self._served[1].append(row.time + row.total_s)
        # a cache is no model, and a workflow makes many requests
        if row.cache == "none" and not row.workflow:
            if row.role == "code":
                self._code.append(row.total_s)
            elif row.role == "general" and (row.score is None or row.score < SIMPLE_BELOW):
                self._simple.append(row.total_s)

    def facts(self) -> Facts:
        at_once = highest_concurrency(self._begins, self._ends)
        return Facts(self._code, self._simple, at_once, highest_concurrency(*self._served))
