"""The wire when it asks again, when it does not, and what it tells of that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchai.server.openai.forward import Measured
from tests.integration.helpers import loaded, tiny_config
from tests.integration.test_wire_review import far, row_of_last
from tests.integration.wire_helpers import wire

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


def refusal(seconds: str) -> bytes:
    body = b'{"error":{"message":"too much to do"}}'
    head = f"HTTP/1.1 429 Too Many Requests\r\nRetry-After: {seconds}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


async def test_a_long_retry_after_is_passed_on(tmp_path: Path) -> None:
    async with far(tmp_path, refusal("7")) as (server, upstream):
        reply = await server.chat("Hello")
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "7")
        assert "too much to do" in reply.text
        assert len(upstream.bodies) == 1


async def test_a_short_retry_after_is_waited_for(tmp_path: Path) -> None:
    began = asyncio.get_running_loop().time()
    async with far(tmp_path, refusal("0.2")) as (server, upstream):
        reply = await server.chat("Hello")
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert len(upstream.bodies) == 3
    assert asyncio.get_running_loop().time() - began >= 0.4


async def test_a_body_that_grows_too_long_is_told_in_its_row(tmp_path: Path) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"messages":"'
        for _ in range(20):
            yield b"x" * 1000

    settings = loaded(tmp_path, tiny_config() | {"server": {"max_body": 10_000}})
    async with wire(settings) as server, server.client() as client:
        reply = await client.post("/v1/chat/completions", content=body())
        assert reply.status_code == 413
        row = row_of_last(server)
        assert (row.outcome, row.status) == ("body_too_large", 413)


async def test_a_brief_reply_is_the_one_that_a_stream_adds_up_to(tmp_path: Path) -> None:
    async with wire(loaded(tmp_path, tiny_config())) as server:
        pace, found = server.face.upstream.pace, []
        async with server.fleet.lease("general") as endpoint:
            pass
        for brief in (False, True):
            assert pace.brief(endpoint, 16) == brief
            reply = await server.chat("What is 48 * 52?", max_tokens=16, temperature=0, benchai={"cache": False})
            assert reply.status_code == 200
            told = reply.json()
            assert {"id", "created", "model", "object", "usage", "timings", "choices", "benchai"} <= told.keys()
            choice = told["choices"][0]
            found.append(
                (choice["message"]["content"], choice["finish_reason"], told["usage"]["total_tokens"], told["object"])
            )
            for _ in range(8):
                pace.note(endpoint, Measured(completion_tokens=50, tokens_per_second=1000.0))
    assert found[0] == found[1]
