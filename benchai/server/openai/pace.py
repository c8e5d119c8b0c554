"""How fast models write, and so which replies are over before it matters how they are asked for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from benchai.runtime.endpoints import Endpoint
from benchai.server.openai.forward import Measured

#: A reply that is written in so many seconds is asked for as a whole: a model four times slower writes it in one.
BRIEF_SECONDS = 0.25
#: A longer one never is: of a model that slows down by more, each token may take up to a second.
MOST_TOKENS = 64
#: Of shorter replies the time is mostly that of the prompt.
LEAST_TOKENS = 8
#: Replies of a model that are remembered, and for how many seconds.
REMEMBERED, FRESH_SECONDS = 8, 10.0
#: A brief reply under way for longer shows that its model is slow now, or reads a long prompt.
LATE_SECONDS = BRIEF_SECONDS


@dataclass
class _Model:
    """What is known of a model where it runs now."""

    place: tuple[str, str]
    speeds: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))


class Pace:
    """The speeds of the last replies, by model.

    A whole reply is asked for as a stream, because an engine that writes one as a whole looks but once a second whether
    somebody waits for it, and while others are streamed not at all: then it writes to the end, whether its connection
    was closed or reset. A stream costs more than the reply where that has but a few tokens, and a reply that ends
    within ``BRIEF_SECONDS`` needs no abort: it is asked for as it is. How fast the next one comes nobody knows, so the
    slowest of the last ones counts, of the last seconds and from the same engine, and nothing is brief while one is
    late.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._models: dict[str, _Model] = {}
        self._under_way: dict[str, tuple[str, float]] = {}

    def note(self, endpoint: Endpoint, measured: Measured) -> None:
        """Take the speed of a reply that has ended."""
        speed = measured.tokens_per_second
        if not speed or measured.completion_tokens < LEAST_TOKENS:
            return
        known = self._models.get(endpoint.model)
        if known is None or known.place != _place(endpoint):
            # an engine that was started again may have moved to where it is slower
            known = self._models[endpoint.model] = _Model(_place(endpoint))
        known.speeds.append((self._clock(), speed))

    def brief(self, endpoint: Endpoint, tokens: int) -> bool:
        """Whether a reply of so many tokens is written in no time."""
        if tokens <= 1:
            # it ends with the prompt, as a stream does
            return True
        known = self._models.get(endpoint.model)
        if tokens > MOST_TOKENS or known is None or known.place != _place(endpoint) or self._late(endpoint.model):
            return False
        since = self._clock() - FRESH_SECONDS
        speeds = [speed for when, speed in known.speeds if when >= since]
        return bool(speeds) and (tokens - 1) / min(speeds) <= BRIEF_SECONDS

    def begun(self, request: str, model: str) -> None:
        """A reply is asked for as it is; ``ended`` has to be told of it."""
        self._under_way[request] = (model, self._clock())

    def ended(self, request: str, *, well: bool) -> None:
        """A request is over, whichever way it was asked for; ``well`` where its speed was noted."""
        model, began = self._under_way.pop(request, ("", 0.0))
        if model and not well and self._clock() - began > LATE_SECONDS:
            # who leaves a reply that is late leaves no speed behind; those before it do not hold any more
            self._models.pop(model, None)

    def _late(self, model: str) -> bool:
        since = self._clock() - LATE_SECONDS
        return any(began < since for name, began in self._under_way.values() if name == model)


def _place(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.base_url, endpoint.placement
