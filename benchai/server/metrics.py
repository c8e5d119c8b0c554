"""/metrics in Prometheus's text format: what the wire answered, and how the models are."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from benchai.runtime.fleet.fleet import Fleet
from benchai.server.openai.job import Job

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATES = ("stopped", "starting", "ready", "backoff", "stopping", "failed")
SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counts requests; the fleet is looked at when somebody asks."""

    def __init__(self, fleet: Fleet) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_FleetCollector(fleet))
        self._counters: dict[tuple[Counter, tuple[str, ...]], Counter] = {}
        self._histograms: dict[tuple[str, str], Histogram] = {}
        self._requests = Counter(
            "benchai_requests", "Requests by their end", ("path", "role", "model", "outcome"), registry=self.registry
        )
        self._tokens = Counter("benchai_tokens", "Tokens of requests", ("model", "kind"), registry=self.registry)
        self._cache = Counter("benchai_cache", "Requests by what the cache had", ("state",), registry=self.registry)
        self._times = {
            name: Histogram(f"benchai_{name}_seconds", text, ("role",), buckets=SECONDS, registry=self.registry)
            for name, text in (
                ("request", "From the request to the end of its reply"),
                ("first_token", "From the request to the first piece of its reply"),
                ("queue", "Waiting for a place"),
                ("swap", "Waiting for a model to be ready"),
            )
        }

    def take(self, job: Job) -> None:
        """Count a request that has ended."""
        model, role = job.model, job.target.role
        self._counted(self._requests, job.path, role, model, job.outcome).inc()
        self._counted(self._cache, job.cache).inc()
        measured = job.measured
        for kind, count in (
            ("prompt", measured.prompt_tokens),
            ("cached", measured.cached_tokens),
            ("completion", measured.completion_tokens),
        ):
            if count:
                self._counted(self._tokens, model, kind).inc(count)
        self._observe("request", role, measured.total)
        if measured.first is not None:
            self._observe("first_token", role, measured.first)
        self._observe("queue", role, job.queue)
        if job.swap:
            self._observe("swap", role, job.swap)

    def _counted(self, family: Counter, *labels: str) -> Counter:
        """One of a family's counters: to look for it takes ten times as long as to count."""
        key = (family, labels)
        found = self._counters.get(key)
        if found is None:
            found = self._counters[key] = family.labels(*labels)
        return found

    def _observe(self, name: str, role: str, seconds: float) -> None:
        found = self._histograms.get((name, role))
        if found is None:
            found = self._histograms[name, role] = self._times[name].labels(role)
        found.observe(seconds)

    def text(self) -> bytes:
        """All figures."""
        return generate_latest(self.registry)


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
