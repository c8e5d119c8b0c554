"""Replies on the OpenAI wire: events as their bytes come, and what servers say in place of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from benchai.agents.wire import ServerError, events

STREAM = b': hello\r\n\r\nevent: x\ndata: {"a": "\xc3\xa4"}\n\ndata:{\ndata: }\n\nid: 1\n\ndata: [DONE]\n\n'
DATA = [b'{"a": "\xc3\xa4"}', b"{\n}", b"[DONE]"]


async def read(*pieces: bytes) -> list[bytes]:
    async def source() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return [data async for data in events(source())]


@pytest.mark.parametrize("size", [1, 2, 7, len(STREAM)])
def test_events_are_read_however_their_bytes_come(size: int) -> None:
    assert asyncio.run(read(*(STREAM[at : at + size] for at in range(0, len(STREAM), size)))) == DATA


def test_a_last_event_needs_no_empty_line_but_a_whole_one() -> None:
    assert asyncio.run(read(b"data: 1\n\ndata: 2\n")) == [b"1", b"2"]
    assert asyncio.run(read(b"data: 1\n\ndata: 2")) == [b"1"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "no", "type": "t"}}, "HTTP 400: no"),
        ({"error": "no"}, "HTTP 400: no"),
        ({"message": "no"}, "HTTP 400: no"),
        ("<html>", "HTTP 400: <html>"),
        ("", "HTTP 400: it does not say why"),
        ([1], "HTTP 400: [1]"),
    ],
)
def test_what_a_server_says(body: object, words: str) -> None:
    assert str(ServerError(body, 400)) == words


def test_the_inner_error_is_the_body() -> None:
    assert ServerError({"error": {"type": "t"}}, 400).body == {"type": "t"}
