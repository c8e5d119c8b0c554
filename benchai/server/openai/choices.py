"""Streams of several choices: one usage for all of them, as OpenAI's are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import orjson

from benchai.runtime.router.cache.tally import Tally
from benchai.runtime.sse import DONE, Events
from benchai.server.openai.forward import as_object


async def one_usage(pieces: AsyncIterator[bytes], tally: Tally, *, wanted: bool) -> AsyncIterator[bytes]:
    """A stream whose server tells a usage with each choice, with one for all of them before its end mark.

    Args:
        pieces: As the engine sends them.
        tally: Counts the tokens.
        wanted: Whether the client asked for the usage; otherwise there is none in the stream.
    """
    reader, stream = Events(), _Stream(tally, wanted)
    async for piece in pieces:
        if text := b"".join(stream.passed(reader.feed(piece))):
            yield text
    if text := b"".join(stream.passed(reader.end())):
        yield text


class _Stream:
    def __init__(self, tally: Tally, wanted: bool) -> None:
        self._tally = tally
        self._wanted = wanted
        self._last: dict[str, Any] = {}

    def passed(self, events: Iterable[bytes]) -> Iterator[bytes]:
        for data in events:
            if data.strip() == DONE:
                yield from self._usage()
            # llama-server begins a stream of several prompts with null, which clients stumble over
            if data.strip() == b"null":
                continue
            chunk = as_object(data)
            self._tally.take(chunk)
            yield from self._without_usage(chunk) if chunk.get("usage") else _event(data)

    def _without_usage(self, chunk: dict[str, Any]) -> Iterator[bytes]:
        self._last = {name: value for name, value in chunk.items() if name not in ("choices", "usage")}
        if chunk.get("choices"):
            yield from _event(orjson.dumps({name: value for name, value in chunk.items() if name != "usage"}))

    def _usage(self) -> Iterator[bytes]:
        usage = self._tally.usage
        if self._wanted and usage is not None:
            yield from _event(orjson.dumps(self._last | {"choices": [], "usage": usage}))


def _event(data: bytes) -> Iterator[bytes]:
    yield b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"
