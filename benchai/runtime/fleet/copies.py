"""Which copy of a role's model serves a request: the one with which it is expected to end soonest.

``router.copies`` names models that answer for a role as well as its own does: one on the CPU beside one on the GPU.
What a request takes on each of them is its wait for a place, its prompt's tokens at the rate at which this copy reads
prompts, and its reply's at the rate at which it writes: moving medians of what the engines themselves counted
(``/metrics``). A copy that has not been measured lately counts as fast as the others: it is tried when they are busy.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import re
import statistics
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from benchai.config.models import Config
from benchai.runtime.http import local_client

#: So many of the latest measurements make up a median; older ones than so many seconds say nothing any more.
NEWEST, STALE_SECONDS = 15, 600.0
ASK_SECONDS = 2.0
#: So long after it failed a copy that nobody here watches is the last that is asked.
REST_SECONDS = 30.0
#: Places of a model that somebody else serves.
REMOTE_SLOTS = 64
_COUNTERS = re.compile(r"^llamacpp:(prompt|tokens_predicted|prompt_tokens)(_seconds)?_total (\S+)$", re.MULTILINE)


# ---- the decision


@dataclass(frozen=True)
class Size:
    """How much a request is expected to be: tokens of its prompt that have to be read, and of its reply."""

    prompt_tokens: float
    reply_tokens: float


@dataclass(frozen=True)
class Pace:
    """How fast a model has been lately: seconds of a lease; tokens a second, None where that was not measured."""

    lease_seconds: float
    prompt_rate: float | None = None
    reply_rate: float | None = None

    def seconds(self, size: Size | None) -> float:
        """What a request takes once it is served."""
        if size is None or not self.prompt_rate or not self.reply_rate:
            return self.lease_seconds
        return size.prompt_tokens / self.prompt_rate + size.reply_tokens / self.reply_rate


@dataclass(frozen=True)
class Copy:
    """A model that is up and may serve: its places, the seconds of each lease under way, and who waits for it."""

    model: str
    slots: int = 1
    pace: Pace | None = None
    running: tuple[float, ...] = ()
    ahead: int = 0

    @property
    def free(self) -> bool:
        """Whether it has a place now."""
        return len(self.running) < self.slots

    def wait(self, lease_seconds: float) -> float:
        """Seconds until a request gets a place, where a lease takes so many."""
        # a lease that has taken longer than usual is thought to take as much again
        ends = [abs(lease_seconds - elapsed) for elapsed in self.running]
        ends += [0.0] * (self.slots - len(ends))
        heapq.heapify(ends)
        for _ in range(self.ahead):
            heapq.heapreplace(ends, ends[0] + lease_seconds)
        return ends[0]


@dataclass(frozen=True)
class Choice:
    """Where a request goes, and why in words; ``seconds`` until its end as expected, None where nothing is known."""

    model: str
    reason: str
    seconds: float | None = None


def choose(copies: Sequence[Copy], size: Size | None = None) -> Choice:
    """The copy with which a request is expected to end soonest; of equal ones the first.

    Args:
        copies: Those that are up, the role's own model first.
        size: What the request is expected to be; None while nothing is known of the role's requests.
    """
    known = [copy.pace for copy in copies if copy.pace is not None]
    if not known:
        first = min(copies, key=lambda copy: (copy.ahead + len(copy.running)) // copy.slots)
        return Choice(first.model, "nothing was measured yet")
    ends = [_end(copy, copy.pace or known[0], size) for copy in copies]
    seconds = min(ends)
    best = ends.index(seconds)
    others = ", ".join(
        f"{end:.2g} s on {copy.model!r}" for copy, end in zip(copies, ends, strict=True) if end > seconds
    )
    return Choice(copies[best].model, f"{seconds:.2g} s against {others or 'as much'}", seconds)


def _end(copy: Copy, pace: Pace, size: Size | None) -> float:
    return copy.wait(pace.lease_seconds) + pace.seconds(size)


# ---- what was measured


@dataclass(frozen=True)
class Counters:
    """What an engine has counted since it started: tokens, and seconds that they took."""

    prompt_tokens: float = 0
    prompt_seconds: float = 0
    reply_tokens: float = 0
    reply_seconds: float = 0


def parse_counters(text: str) -> Counters | None:
    """The counters of an engine's ``/metrics``; None where they are not there."""
    found = {f"{name}{seconds or ''}": float(value) for name, seconds, value in _COUNTERS.findall(text)}
    wanted = ("prompt_tokens", "prompt_seconds", "tokens_predicted", "tokens_predicted_seconds")
    return Counters(*(found[name] for name in wanted)) if found.keys() >= {*wanted} else None


@dataclass(frozen=True)
class Sample:
    """What some leases took between two looks, each on average; ``at`` is a moment on the monotonic clock."""

    at: float
    lease_seconds: float
    prompt_tokens: float | None = None
    reply_tokens: float | None = None
    prompt_rate: float | None = None
    reply_rate: float | None = None


def sample_of(before: Counters, after: Counters, leases: Sequence[float], now: float) -> Sample | None:
    """What leases of so many seconds took; None where the engine wrote nothing for them: they failed."""
    prompt, reply = after.prompt_tokens - before.prompt_tokens, after.reply_tokens - before.reply_tokens
    if not leases or reply <= 0:
        return None
    prompt_seconds = after.prompt_seconds - before.prompt_seconds
    reply_seconds = after.reply_seconds - before.reply_seconds
    # the first token of a reply comes with the prompt, in no time of its own
    steps = reply - len(leases)
    return Sample(
        now,
        statistics.fmean(leases),
        prompt / len(leases),
        reply / len(leases),
        prompt / prompt_seconds if prompt_seconds > 0 and prompt > 0 else None,
        steps / reply_seconds if reply_seconds > 0 and steps > 0 else None,
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


@dataclass
class Record:
    """What is known of one model: the leases under way (their moments), those that ended since the last look, samples.

    ``engine`` is the process that ``counters`` are of, ``failed_at`` the moment when a request failed there.
    """

    running: dict[int, float] = field(default_factory=dict)
    ended: list[float] = field(default_factory=list)
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=NEWEST))
    counters: Counters = field(default_factory=Counters)
    engine: object = None
    looking: bool = False
    failed_at: float = -math.inf

    def lately(self, now: float) -> list[Sample]:
        """The samples that still count."""
        return [sample for sample in self.samples if now - sample.at < STALE_SECONDS]

    def pace(self, now: float) -> Pace | None:
        """How fast the model has been lately; None where that is not known."""
        samples = self.lately(now)
        if not samples:
            return None
        seconds = statistics.median(sample.lease_seconds for sample in samples)
        rates = (_median(one.prompt_rate for one in samples), _median(one.reply_rate for one in samples))
        return Pace(seconds, *rates)

    def take(self, engine: object, counters: Counters, leases: Sequence[float], now: float) -> None:
        """An engine was looked at: the leases that have ended are measured by what it has counted since."""
        before = self.counters if engine is self.engine else Counters()
        sample = sample_of(before, counters, leases, now)
        self.engine, self.counters = engine, counters
        if sample is not None:
            self.samples.append(sample)


class Copies:
    """Measures the models that are copies of each other, and looks their requests up."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def record(self, model: str) -> Record:
        """What is known of a model."""
        return self._records.setdefault(model, Record())

    def granted(self, model: str, lease: object) -> None:
        """A lease begins."""
        self.record(model).running[id(lease)] = time.monotonic()

    def ended(self, model: str, lease: object, ready: Any, *, measured: bool = True) -> None:
        """A lease ends; ``ready`` is the engine that served it, None for one that cannot be asked."""
        record = self.record(model)
        began = record.running.pop(id(lease), None)
        if began is None or not measured:
            return
        now = time.monotonic()
        if ready is None:
            record.samples.append(Sample(now, now - began))
            return
        record.ended.append(now - began)
        if not record.looking:
            record.looking = True
            task = asyncio.create_task(self._look(record, ready))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _look(self, record: Record, ready: Any) -> None:
        try:
            while record.ended:
                # what ends while the engine answers may not be counted yet
                leases, record.ended = record.ended, []
                counters = await read_counters(ready.root)
                if counters is not None:
                    record.take(ready, counters, leases, time.monotonic())
        finally:
            record.looking = False

    def rests(self, model: str, now: float) -> bool:
        """Whether a model failed just now."""
        return model in self._records and now - self._records[model].failed_at < REST_SECONDS

    def copy(self, model: str, slots: int, ahead: int, now: float) -> Copy:
        """A model that is up, as it is now."""
        record = self.record(model)
        return Copy(model, slots, record.pace(now), tuple(now - began for began in record.running.values()), ahead)

    def size(self, models: Iterable[str], prompt_tokens: int | None, now: float) -> Size | None:
        """What a request for these models is expected to be; ``prompt_tokens`` where that is known of it."""
        samples = [sample for model in models for sample in self.record(model).lately(now)]
        prompt, reply = _median(one.prompt_tokens for one in samples), _median(one.reply_tokens for one in samples)
        if prompt is None or reply is None:
            return None
        return Size(prompt if prompt_tokens is None else prompt_tokens, reply)

    def shown(self, model: str) -> Mapping[str, float | None]:
        """What a model's pace is, as plain data; empty where nothing was measured lately."""
        pace = self.record(model).pace(time.monotonic()) if model in self._records else None
        if pace is None:
            return {}
        return {
            "lease_seconds": round(pace.lease_seconds, 3),
            "prompt_tokens_per_second": pace.prompt_rate and round(pace.prompt_rate, 1),
            "reply_tokens_per_second": pace.reply_rate and round(pace.reply_rate, 1),
        }

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def read_counters(root: str) -> Counters | None:
    """What an engine has counted; None where it does not tell."""
    try:
        async with local_client(timeout=ASK_SECONDS) as client:
            return parse_counters((await client.get(f"{root}/metrics")).raise_for_status().text)
    except httpx.HTTPError:
        return None


def copied_models(config: Config) -> set[str]:
    """All models that have copies, and the copies."""
    roles = config.role_map() if config.router.copies else {}
    return {name for role, copies in config.router.copies.items() for name in (roles.get(role, ""), *copies)}


def group_of(config: Config, role: str, models: Sequence[str]) -> list[str]:
    """Which of the models that a request may have are copies of each other, the role's own first."""
    copies = config.router.copies.get(role)
    if not copies:
        return []
    return [name for name in dict.fromkeys((config.role_map().get(role, ""), *copies)) if name in models]
