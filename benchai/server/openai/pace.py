"""How fast models write, and so which replies are over before it matters how they are asked for."""

from __future__ import annotations

from collections import deque

from benchai.server.openai.forward import Measured

#: A reply that is written in so many seconds is asked for as a whole.
BRIEF_SECONDS = 0.25
#: Of shorter replies the time is mostly that of the prompt.
LEAST_TOKENS = 8
#: Replies of a model that are remembered.
REMEMBERED = 8


class Pace:
    """The speeds of the last replies, by model.

    A whole reply is asked for as a stream, because an engine that writes one as a whole finds only at its end that
    nobody waits for it any more. That costs more than the reply where it has but a few tokens, and a reply that ends
    within ``BRIEF_SECONDS`` needs no abort: it is asked for as it is.
    """

    def __init__(self) -> None:
        self._speeds: dict[str, deque[float]] = {}

    def note(self, model: str, measured: Measured) -> None:
        """Take the speed of a reply that has ended."""
        speed = measured.tokens_per_second
        if speed and measured.completion_tokens >= LEAST_TOKENS:
            self._speeds.setdefault(model, deque(maxlen=REMEMBERED)).append(speed)

    def brief(self, model: str, tokens: int) -> bool:
        """Whether a reply of so many tokens is written in no time; the slowest of the last replies counts."""
        if tokens <= 1:
            # it ends with the prompt
            return True
        speeds = self._speeds.get(model)
        return speeds is not None and (tokens - 1) / min(speeds) <= BRIEF_SECONDS
