"""Bytes from an engine to a client: nothing is decoded on the way but the end of the reply, which tells its tokens."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from benchai.runtime.sse import DONE, Events
from benchai.server.openai.exchange import Exchange, Pulse

#: The end of a stream in which its last events are looked for.
TAIL = 16_384
#: Bytes of a stream that are read at once: a tenth of a millisecond's work.
BATCH = 16_384
DATA = b"data: {"
#: A field cannot be put before nothing.
FULL = b'data: {"'
#: Events at the end of a stream that are looked at: usage, timings, a comment, the end mark.
LAST = 5


@dataclass
class Measured:
    """What a reply took: seconds since ``began``, and tokens as its server counted them."""

    began: float = field(default_factory=time.monotonic)
    first: float | None = None
    total: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    tokens_per_second: float | None = None

    def piece(self) -> None:
        """A piece of the reply came."""
        if self.first is None:
            self.first = time.monotonic() - self.began

    def count(self, reply: dict[str, Any]) -> None:
        """Take tokens from the ``usage`` and the ``timings`` of a reply or of its last event."""
        # the last event of /v1/responses holds the whole response
        usage, timings = (
            _inside(reply, "usage") or _inside(_inside(reply, "response"), "usage"),
            _inside(reply, "timings"),
        )
        if usage:
            self.prompt_tokens = _number(usage, "prompt_tokens") or _number(usage, "input_tokens")
            self.completion_tokens = _number(usage, "completion_tokens") or _number(usage, "output_tokens")
            details = _inside(usage, "prompt_tokens_details") or _inside(usage, "input_tokens_details")
            self.cached_tokens = _number(details, "cached_tokens")
        if timings:
            # the timings are those of one choice
            self.cached_tokens = self.cached_tokens or _number(timings, "cache_n")
            self.prompt_tokens = self.prompt_tokens or _number(timings, "prompt_n") + self.cached_tokens
            self.completion_tokens = self.completion_tokens or _number(timings, "predicted_n")
            speed = timings.get("predicted_per_second")
            self.tokens_per_second = speed if isinstance(speed, int | float) else None


class Batch:
    """Pieces of a stream for a reader that nobody waits for: many at once take a third of the time of each alone."""

    def __init__(self, feed: Callable[[bytes], None]) -> None:
        self._feed = feed
        self._pieces: list[bytes] = []
        self._size = 0

    def take(self, piece: bytes) -> None:
        """The next bytes."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > BATCH:
            self.end()

    def end(self) -> None:
        """Have read what came."""
        pieces, self._pieces, self._size = self._pieces, [], 0
        self._feed(b"".join(pieces))


async def pass_stream(
    pieces: AsyncIterator[bytes], exchange: Exchange, pulse: Pulse, about: bytes, taken: Callable[[bytes], None]
) -> bytes:
    """Pass a stream of events on, the first one with our field in it; returns its end.

    Args:
        pieces: As the engine sends them.
        exchange: The client's; status and headers are out.
        pulse: Told of each piece.
        about: Our field as JSON, such as ``"benchai":{...}``.
        taken: Gets each piece as it came.
    """
    last: list[bytes] = []
    size = 0
    async for piece in pieces:
        pulse.touch()
        await exchange.write(piece if last else with_field(piece, about))
        taken(piece)
        last.append(piece)
        size += len(piece)
        if size > 4 * TAIL:
            # to cut it at each piece would take longer than to pass it on
            last, size = [b"".join(last)[-TAIL:]], TAIL
    return b"".join(last)[-TAIL:]


def with_field(data: bytes, about: bytes) -> bytes:
    """The first event of a stream, or a whole JSON object, with a field more at its beginning."""
    if data.startswith(FULL):
        return DATA + about + b"," + data[len(DATA) :]
    if data.startswith(b'{"'):
        return b"{" + about + b"," + data[1:]
    return data


def last_events(tail: bytes) -> list[dict[str, Any]]:
    """The last two events of a stream, those that carry usage and timings."""
    at = len(tail)
    for _ in range(LAST):
        at = max(tail.rfind(b"\n\n", 0, at), 0)
    # the first one of the tail may be cut, and a server may leave out the empty line at the end
    found = [as_object(data) for data in Events().feed(tail[at:].strip() + b"\n\n")[-LAST:]]
    return [event for event in found if event][-2:]


def failed(events: list[dict[str, Any]]) -> bool:
    """Whether the last events of a stream tell that it failed."""
    return any(event.get("error") or event.get("type") in ("error", "response.failed") for event in events)


def whole(tail: bytes, events: list[dict[str, Any]]) -> bool:
    """Whether a stream of chunks came to its end: some servers send no end mark."""
    choices = [choice for event in events for choice in event.get("choices") or () if isinstance(choice, dict)]
    return DONE in tail[-64:] or any(choice.get("finish_reason") for choice in choices)


def as_object(data: bytes) -> dict[str, Any]:
    """An object in JSON; {} where it is none."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(found: dict[str, Any], name: str) -> int:
    """A count that is not negative; 0 where there is none."""
    number = found.get(name)
    return number if isinstance(number, int) and number > 0 else 0


def _inside(found: dict[str, Any], name: str) -> dict[str, Any]:
    """An object within another; {} where there is none."""
    inner = found.get(name)
    return inner if isinstance(inner, dict) else {}
