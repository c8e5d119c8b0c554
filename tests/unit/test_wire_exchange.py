"""One exchange on ASGI: what goes out, and when a comment may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from benchai.server.openai.exchange import COMMENT, Exchange

Made = Callable[[Exchange], Coroutine[Any, Any, None]]


def sent(made: Made) -> list[bytes]:
    """The pieces of the body that an exchange sent."""
    pieces: list[bytes] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            pieces.append(message["body"])

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    asyncio.run(made(Exchange({"type": "http", "headers": []}, receive, send)))
    return pieces


@pytest.mark.parametrize(
    "pieces",
    [
        (b"data: 1\n\n",),
        (b"data: 1\n", b"\n"),
        (b"data: 1\r\n\r\n",),
        (b"data: 1\r\n", b"\r\n"),
        (b"data: 1\r", b"\n\r\n"),
    ],
)
def test_a_comment_follows_a_whole_event_however_it_came(pieces: tuple[bytes, ...]) -> None:
    async def made(exchange: Exchange) -> None:
        await exchange.start(200, [])
        for piece in pieces:
            await exchange.write(piece)
        await exchange.comment()

    assert sent(made) == [*pieces, COMMENT]


@pytest.mark.parametrize("pieces", [(b"data: 1\n",), (b"data: 1\n\n", b"data: 2"), (b"data: 1\r\n",)])
def test_no_comment_comes_into_an_event(pieces: tuple[bytes, ...]) -> None:
    async def made(exchange: Exchange) -> None:
        await exchange.start(200, [])
        for piece in pieces:
            await exchange.write(piece)
        await exchange.comment()

    assert sent(made) == [*pieces]


def test_no_comment_comes_after_the_end() -> None:
    async def made(exchange: Exchange) -> None:
        await exchange.start(200, [])
        await exchange.end(b"data: [DONE]\n\n")
        await exchange.comment()

    assert sent(made) == [b"data: [DONE]\n\n"]
