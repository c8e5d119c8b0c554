"""Who waits for a model: one line, oldest first."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchai.config.models import RouterConfig
from benchai.errors import BenchAIError, QueueFull

NEWEST = 0.2


@dataclass(eq=False)
class Waiter:
    """A request in line, and the lease that it becomes.

    `models` may serve it, its own first; role "" is an operator's. `prompt_tokens` is how many it has, about, where the
    caller knows; `reason` says why it waits for this copy. Once it is served, `since` is the moment, `holder` what
    holds the model, and `failed` says that what it was served with did not do it.
    """

    role: str
    models: list[str]
    arrived: float
    granted: asyncio.Future[None]
    prompt_tokens: int | None = None
    passes: int = 0
    since: float = 0.0
    holder: object = None
    reason: str = ""
    failed: bool = False

    @property
    def model(self) -> str:
        """The model that it waits for now."""
        return self.models[0]


@dataclass
class Counts:
    """What the dispatcher has done: swaps, requests refused, and the running mean of a lease's seconds by role."""

    swaps: int = 0
    refused: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class Line:
    """The requests that wait, and how many of each role are being served."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.in_use: Counter[str] = Counter()
        self._waiters: list[Waiter] = []

    def __iter__(self) -> Iterator[Waiter]:
        """Those who wait, oldest first; the line may change meanwhile."""
        return iter(self._waiters[:])

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self._waiters

    def waiting(self, model: str) -> int:
        """Requests that wait for a model."""
        return sum(waiter.model == model for waiter in self._waiters)

    def join(self, role: str, models: list[str], limit: int, places: int, prompt_tokens: int | None = None) -> Waiter:
        """A new request at the end of the line; `places` requests of the role are served at a time.

        Raises:
            QueueFull: `limit` requests of this role wait already.
        """
        waiting = sum(waiter.role == role for waiter in self._waiters)
        if waiting >= limit:
            self.counts.refused += 1
            seconds = self.counts.seconds.get(role, 1.0) * waiting / places
            message = f"{waiting} requests wait for the role {role!r} already (router.max_queue = {limit})"
            raise QueueFull(message, retry_after=max(1.0, round(seconds)))
        waiter = Waiter(role, models, time.monotonic(), asyncio.get_running_loop().create_future(), prompt_tokens)
        self._waiters.append(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """It does not wait any more."""
        self._waiters.remove(waiter)

    def grant(self, waiter: Waiter) -> None:
        """Serve a request; older ones for other models were passed over."""
        for older in self._waiters[: self._waiters.index(waiter)]:
            if older.model != waiter.model:
                older.passes += 1
        self.leave(waiter)
        self.in_use[waiter.role] += 1
        waiter.since = time.monotonic()
        waiter.granted.set_result(None)

    def refuse(self, waiter: Waiter, error: BenchAIError) -> None:
        """Tell a request that it is not served."""
        self.leave(waiter)
        if not waiter.granted.done():
            waiter.granted.set_exception(error)
            # a caller that was cancelled meanwhile never looks at it
            waiter.granted.exception()

    def served(self, waiter: Waiter) -> None:
        """A lease has ended."""
        role, seconds = waiter.role, time.monotonic() - waiter.since
        self.in_use[role] -= 1
        mean = self.counts.seconds.setdefault(role, seconds)
        self.counts.seconds[role] = mean + NEWEST * (seconds - mean)


def starved(waiter: Waiter, router: RouterConfig, now: float) -> bool:
    """Whether nobody may be served ahead of this request any more."""
    return waiter.passes >= router.max_passes or now - waiter.arrived >= router.max_wait
