"""Bytes from an engine to a client: nothing is decoded on the way but the end of the reply, which tells its tokens."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from benchai.server.openai.exchange import Exchange, Pulse

#: The end of a stream in which its last events are looked for.
TAIL = 16_384
DATA = b"data: {"
DONE = b"data: [DONE]"


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
        usage, timings = reply.get("usage") or {}, reply.get("timings") or {}
        if usage:
            self.prompt_tokens = usage.get("prompt_tokens") or usage.get("input_tokens") or 0
            self.completion_tokens = usage.get("completion_tokens") or usage.get("output_tokens") or 0
            details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
            self.cached_tokens = details.get("cached_tokens") or 0
        if timings:
            self.cached_tokens = timings.get("cache_n", self.cached_tokens)
            self.prompt_tokens = self.prompt_tokens or timings.get("prompt_n", 0) + self.cached_tokens
            self.completion_tokens = self.completion_tokens or timings.get("predicted_n", 0)
            self.tokens_per_second = timings.get("predicted_per_second")


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
    tail = b""
    async for piece in pieces:
        pulse.touch()
        await exchange.write(piece if tail else with_field(piece, about))
        taken(piece)
        tail = (tail + piece)[-TAIL:]
    return tail


def with_field(data: bytes, about: bytes) -> bytes:
    """The first event of a stream, or a whole JSON object, with a field more at its beginning."""
    if data.startswith(DATA):
        return DATA + about + b"," + data[len(DATA) :]
    if data.startswith(b'{"'):
        return b"{" + about + b"," + data[1:]
    return data


def last_events(tail: bytes) -> list[dict[str, Any]]:
    """The last two events of a stream, those that carry usage and timings."""
    found = []
    for line in tail.split(b"\n")[-16:]:
        if line.startswith(DATA):
            try:
                found.append(orjson.loads(line[len(b"data: ") :]))
            except orjson.JSONDecodeError:
                # the first line of the tail was cut
                continue
    return [event for event in found[-2:] if isinstance(event, dict)]
