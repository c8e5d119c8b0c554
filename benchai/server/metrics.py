"""/metrics in Prometheus's text format: what the wire answered, and how the models are."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from benchai.runtime.fleet.fleet import Fleet
from benchai.server.openai.job import Job

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATES = ("stopped", "starting", "ready", "backoff", "stopping", "failed")
_ENDS = ("path", "role", "model", "outcome")
SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


#: Histogram -> what it measures, by role.
TIMES = {
    "request": "From the request to the end of its reply",
    "first_token": "From the request to the first piece of its reply",
    "queue": "Waiting for a place",
    "swap": "Waiting for a model to be ready",
}


class Metrics(Collector):
    """Counts requests; the fleet is looked at when somebody asks.

    The counts are plain numbers until then: the library's own counters take a lock and 3 microseconds for each.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.registry.register(_FleetCollector(fleet))
        self._requests: Counter[tuple[str, ...]] = Counter()
        self._tokens: Counter[tuple[str, ...]] = Counter()
        self._cache: Counter[tuple[str, ...]] = Counter()
        self._times: defaultdict[tuple[str, str], _Times] = defaultdict(_Times)

    def take(self, job: Job) -> None:
        """Count a request that has ended."""
        model, role, measured = job.model, job.target.role, job.measured
        self._requests[job.path, role, model, job.outcome] += 1
        self._cache[job.cache,] += 1
        if measured.prompt_tokens:
            self._tokens[model, "prompt"] += measured.prompt_tokens
        if measured.cached_tokens:
            self._tokens[model, "cached"] += measured.cached_tokens
        if measured.completion_tokens:
            self._tokens[model, "completion"] += measured.completion_tokens
        self._times["request", role].add(measured.total)
        if measured.first is not None:
            self._times["first_token", role].add(measured.first)
        self._times["queue", role].add(job.queue)
        if job.swap:
            self._times["swap", role].add(job.swap)

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        yield _counted("benchai_requests", "Requests by their end", _ENDS, self._requests)
        yield _counted("benchai_tokens", "Tokens of requests", ("model", "kind"), self._tokens)
        yield _counted("benchai_cache", "Requests by what the cache had", ("state",), self._cache)
        for name, text in TIMES.items():
            family = HistogramMetricFamily(f"benchai_{name}_seconds", text, labels=("role",))
            for (of, role), times in self._times.items():
                if of == name:
                    family.add_metric((role,), times.buckets(), times.seconds)
            yield family

    def text(self) -> bytes:
        """All figures."""
        return generate_latest(self.registry)


class _Times:
    """How many times lie within each of ``SECONDS``, and their sum."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._counts = [0] * (len(SECONDS) + 1)

    def add(self, seconds: float) -> None:
        self.seconds += seconds
        self._counts[bisect_left(SECONDS, seconds)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds, with how many lie below each."""
        bounds = [*map(floatToGoString, SECONDS), "+Inf"]
        return list(zip(bounds, accumulate(self._counts), strict=True))


def _counted(name: str, text: str, labels: Sequence[str], counts: Mapping[tuple[str, ...], int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


class _FleetCollector(Collector):
    """States, queues and restarts of the models."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        state = GaugeMetricFamily("benchai_model_state", "1 for the state that it is in", labels=("model", "state"))
        used = GaugeMetricFamily("benchai_model_leases", "Requests under way", labels=("model",))
        queue = GaugeMetricFamily("benchai_model_queue", "Requests that wait", labels=("model",))
        restarts = GaugeMetricFamily("benchai_model_restarts", "Restarts in a row", labels=("model",))
        for name, member in self._fleet.members.items():
            for one in STATES:
                state.add_metric((name, one), float(member.supervisor.state == one))
            used.add_metric((name,), member.uses.total)
            queue.add_metric((name,), self._fleet.dispatcher.waiting(name))
            restarts.add_metric((name,), member.supervisor.restarts)
        return (state, used, queue, restarts)
