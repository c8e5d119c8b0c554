"""The wire when things go wrong: clients that leave, engines that die, models that take their time."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchai.config import LoadedConfig
from benchai.events import ModelReady
from tests.integration.fleet_helpers import FakeEngine, Record, eventually, fake_fleet
from tests.integration.helpers import loaded, tiny_config
from tests.integration.wire_helpers import about, asked, wire

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


def fakes(folder: Path, plan: str | list[str], record: Record, **config: Any) -> tuple[LoadedConfig, Any, FakeEngine]:
    fleet, engine = fake_fleet(folder, ["general"], record, plans={"general": plan}, **config)
    return fleet.loaded, fleet, engine


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_ends_the_work(tmp_path: Path, stream: bool) -> None:
    record = Record()
    settings, fleet, engine = fakes(tmp_path, "trickles", record)
    async with wire(settings, fleet, record) as server, server.client() as client:
        leaving = asyncio.create_task(client.post("/v1/chat/completions", json=asked("Hello", stream=stream)))
        await engine.until_noted("general", "requests")
        assert fleet.members["general"].uses.total == 1
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await asyncio.wait_for(fleet.members["general"].uses.nobody.wait(), 1)
        # the engine finds the connection closed at its next piece
        await eventually(lambda: engine.noted("general", "gone"))


async def test_a_whole_reply_outlives_the_kill_of_its_engine(tmp_path: Path) -> None:
    killed: list[int] = []
    record = Record()
    settings, fleet, engine = fakes(tmp_path, ["trickles", ""], record)
    async with wire(settings, fleet, record) as server:
        asking = asyncio.create_task(server.chat("Hello"))
        await engine.until_noted("general", "requests")
        killed += record.pids()
        os.kill(killed[0], signal.SIGKILL)
        reply = await asking
    assert reply.status_code == 200
    assert reply.json()["choices"][0]["message"]["content"] == "one two"
    assert len(engine.noted("general", "requests")) == 2


async def test_a_stream_that_breaks_off_ends_with_an_error(tmp_path: Path) -> None:
    record = Record()
    settings, fleet, _ = fakes(tmp_path, ["trickles", ""], record)
    async with wire(settings, fleet, record) as server, server.client() as client:
        async with client.stream("POST", "/v1/chat/completions", json=asked("Hello", stream=True)) as answer:
            assert answer.status_code == 200
            pieces = answer.aiter_text()
            text = await anext(pieces)
            os.kill(record.pids()[0], signal.SIGKILL)
            async for piece in pieces:
                text += piece
    assert '"error"' in text.rsplit("data: ", 1)[-1]
    assert "[DONE]" not in text
    assert "Traceback" not in text


async def test_a_stream_waits_for_a_model_with_comments(tmp_path: Path) -> None:
    record = Record()
    settings, fleet, _ = fakes(tmp_path, "loads", record, router={"keep_alive": 0.2})
    async with wire(settings, fleet, record) as server:
        reply = await server.chat("Hello", stream=True)
    assert reply.text.startswith(": waiting\n\n: waiting\n\n")
    assert reply.text.endswith("data: [DONE]\n\n")
    assert any(isinstance(event, ModelReady) for event in record.events)


async def test_a_whole_reply_waits_without_a_word(tmp_path: Path) -> None:
    record = Record()
    settings, fleet, _ = fakes(tmp_path, "loads", record, router={"keep_alive": 0.2})
    async with wire(settings, fleet, record) as server:
        reply = await server.chat("Hello")
        assert about(reply)["swap_ms"] > 500


async def test_a_model_that_cannot_start_is_an_error_before_the_stream(tmp_path: Path) -> None:
    record = Record()
    settings, fleet, _ = fakes(tmp_path, "exits", record, fleet={"max_restarts": 1})
    async with wire(settings, fleet, record) as server:
        for stream in (True, False):
            reply = await server.chat("Hello", stream=stream)
            assert reply.status_code == 503
            assert reply.json()["error"]["message"]


async def test_identical_requests_at_once_become_one(tmp_path: Path) -> None:
    async with wire(loaded(tmp_path, tiny_config(slots=4))) as server:
        while about(await server.chat("First"))["cache"] == "none":
            # identities are taken beside the first requests
            pass
        uses = server.fleet.members["tiny"].uses
        before = uses.served
        asking = (server.chat("What is 48 * 52?", stream=True, model="tiny") for _ in range(5))
        replies = await asyncio.gather(*asking)
    assert len({reply.text.partition("choices")[2] for reply in replies}) == 1
    states = sorted(reply.headers["x-benchai-cache"] for reply in replies)
    assert states == ["none", "shared", "shared", "shared", "shared"]
    assert uses.served - before == 1


async def test_a_full_queue_is_told_with_the_time_to_come_again(tmp_path: Path) -> None:
    record = Record()
    settings, fleet, engine = fakes(
        tmp_path, "trickles", record, router={"max_queue": 1, "max_concurrent": {"general": 1}}
    )
    async with wire(settings, fleet, record) as server:
        running = [asyncio.create_task(server.chat("Hello"))]
        await engine.until_noted("general", "requests")
        running.append(asyncio.create_task(server.chat("Hello again")))
        await eventually(lambda: fleet.dispatcher.waiting("general") == 1)
        refused = await server.chat("One more", model="general")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def test_bytes_that_stop_in_the_middle_of_a_body(tmp_path: Path) -> None:
    async with wire(loaded(tmp_path, tiny_config())) as server:
        host, port = server.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        # the server goes on
        assert (await server.chat("Hello")).status_code == 200
        del reader


async def test_the_client_sees_nothing_of_engines_addresses(tmp_path: Path) -> None:
    async with wire(loaded(tmp_path, tiny_config())) as server:
        reply = await server.chat("Hello")
        assert "127.0.0.1" not in reply.text
        assert isinstance(reply, httpx.Response)
