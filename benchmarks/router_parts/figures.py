"""What is computed from the bursts of the ways: latencies, what a router adds to them, and whether goals are met."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.router_parts.ways import CPP, OURS, Way
from benchmarks.rows import percentile

Burst = Mapping[str, Any]
LEAST_THROUGHPUT = 0.98


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one way in one setting; ``added`` to the same engine asked without it (None: is that).

    ``cpu`` is what the router's own process computed for a request, its engine left out.
    """

    way: str
    p50: float
    p99: float
    added_p50: float | None
    added_p99: float | None
    ratio: float | None
    cpu: float
    n: int


@dataclass(frozen=True)
class Goal:
    """A bound and what was measured; ``at_least``: more is better."""

    name: str
    value: float
    limit: float
    unit: str = "ms"
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it is."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        verdict = "met" if self.met else "NOT met"
        return f"{self.name}: {self.value:.3g} {self.unit}, goal {self.limit:.3g} {self.unit}: {verdict}"


def latencies(ways: Sequence[Way], found: Mapping[str, Sequence[Burst]], kind: str) -> list[Latency]:
    """What each way took, and what it added.

    Added at p50 is the median over the rounds of the difference of the bursts' medians, which drift of the machine
    does not touch; added at p99 is the difference of the p99s of all requests.

    Args:
        ways: In the order of the result.
        found: The bursts of each, in rounds.
        kind: "total" or "first".
    """
    made = []
    for way in ways:
        bursts, others = found[way.name], found[way.against]
        if not (values := _all(bursts, kind)) or not (against := _all(others, kind)):
            continue
        p50, p99 = statistics.median(values), percentile(values, 0.99)
        cpu = sum(burst["cpu"] for burst in bursts) / len(values)
        if way.name == way.against:
            made.append(Latency(way.name, p50, p99, None, None, None, cpu, len(values)))
            continue
        pairs = zip(bursts, others, strict=True)
        both = [(one[kind], other[kind]) for one, other in pairs if one[kind] and other[kind]]
        added = statistics.median(statistics.median(one) - statistics.median(other) for one, other in both)
        beyond = p99 - percentile(against, 0.99)
        ratio = p50 / statistics.median(against)
        made.append(Latency(way.name, p50, p99, added, beyond, ratio, cpu, len(values)))
    return made


def _all(bursts: Sequence[Burst], kind: str) -> list[float]:
    return [value for burst in bursts for value in burst[kind]]


def table(made: Sequence[Latency]) -> list[list[str]]:
    """One line a way."""
    lines = [["way", "p50", "p99", "added p50", "added p99", "p50 / direct", "its CPU", "n"]]
    for one in made:
        added = ["" if value is None else f"{value:+.2f}" for value in (one.added_p50, one.added_p99)]
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        cpu = f"{one.cpu:.2f}" if one.cpu else ""
        lines.append([one.way, f"{one.p50:.2f}", f"{one.p99:.2f}", *added, ratio, cpu, str(one.n)])
    return lines


def goals(name: str, made: Sequence[Latency], p50: float | None, p99: float | None) -> list[Goal]:
    """What is asked of ours: at most what the C++ router adds in the same run, and fixed bounds in milliseconds."""
    by_way = {one.way: one for one in made}
    ours, cpp = by_way.get(OURS), by_way.get(CPP)
    if ours is None or ours.added_p50 is None or ours.added_p99 is None:
        return []
    found = (
        []
        if cpp is None or cpp.added_p50 is None
        else [Goal(f"{name}, added p50, C++ router", ours.added_p50, cpp.added_p50)]
    )
    if p50 is not None:
        found.append(Goal(f"{name}, added p50", ours.added_p50, p50))
    if p99 is not None:
        found.append(Goal(f"{name}, added p99", ours.added_p99, p99))
    return found


@dataclass(frozen=True)
class Throughput:
    """Events and bytes a second of one way, medians over the rounds; ``share`` of direct, the median of the rounds'."""

    way: str
    events: float
    bytes: float
    share: float


def throughputs(ways: Sequence[Way], found: Mapping[str, Sequence[Burst]]) -> list[Throughput]:
    """What the ways carried."""
    made = []
    for way in ways:
        bursts, others = found[way.name], found[way.against]
        rates = [burst["events"] / burst["wall"] for burst in bursts]
        against = [burst["events"] / burst["wall"] for burst in others]
        if not any(rates) or not any(against):
            continue
        sizes = statistics.median(burst["bytes"] / burst["wall"] for burst in bursts)
        share = statistics.median(one / other for one, other in zip(rates, against, strict=True))
        made.append(Throughput(way.name, statistics.median(rates), sizes, share))
    return made


def throughput_table(made: Sequence[Throughput]) -> list[list[str]]:
    """One line a way."""
    head = [["way", "events/s", "kB/s", "share of direct"]]
    return head + [[one.way, f"{one.events:.0f}", f"{one.bytes / 1000:.0f}", f"{one.share:.3f}"] for one in made]


def throughput_goals(made: Sequence[Throughput]) -> list[Goal]:
    """98 % of direct."""
    shares = [one.share for one in made if one.way == OURS]
    return [Goal("streaming throughput, of direct", share, LEAST_THROUGHPUT, "", at_least=True) for share in shares]


@dataclass(frozen=True)
class Growth:
    """Memory of a process, in MiB after so many requests."""

    after: Sequence[int]
    rss: Sequence[float]

    @property
    def per_thousand(self) -> float:
        """MiB for each 1,000 requests over the second half."""
        middle = len(self.rss) // 2
        requests = self.after[-1] - self.after[middle]
        return 1000 * (self.rss[-1] - self.rss[middle]) / requests if requests else 0.0


def rows(made: Sequence[Latency | Throughput]) -> list[dict[str, Any]]:
    """Plain data."""
    return [asdict(one) for one in made]
