"""The wire when things go wrong: clients that leave, engines that die, models that take their time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from benchai.config import LoadedConfig
from benchai.events import ModelReady
from tests.integration.fleet_helpers import FakeEngine, Record, eventually, fake_fleet
from tests.integration.helpers import loaded, tiny_config
from tests.integration.wire_helpers import about, asked, wire

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
#: Tokens of a reply that takes an engine several seconds.
WHOLE = 4000


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


# ---- what may take long before an engine is asked


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_client_is_watched_and_told_while_an_embedding_is_made(tmp_path: Path, leaves: bool) -> None:
    record = Record()
    fleet, engine = fake_fleet(
        tmp_path,
        ["general", "vectors"],
        record,
        roles={"general": "general", "embed": "vectors"},
        router={"keep_alive": 0.1},
        cache={"similar": {"enabled": True}},
    )
    body = asked("Hello", model="general", stream=True, temperature=0)
    async with wire(fleet.loaded, fleet, record) as server, server.client() as client:
        await server.chat("Hello", model="general", temperature=0)
        server.replies._identities.of(fleet.members["general"])
        await server.replies.settled()
        uses = fleet.members["vectors"].uses
        async with fleet.lease("embed"):
            engine.tell("vectors", "wedged")
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            pieces = answer.aiter_text()
            assert await anext(pieces) == ": waiting\n\n"
            assert uses.total == 1
            if not leaves:
                fleet.members["vectors"].supervisor.want(False, "the test has seen enough")
                assert "[DONE]" in "".join([text async for text in pieces])
        await asyncio.wait_for(uses.nobody.wait(), 10)


async def test_a_client_is_told_while_its_picture_is_read(tmp_path: Path) -> None:
    png = BytesIO()
    Image.new("RGB", (5000, 5000), "red").save(png, "PNG")
    # that it is cut is seen at its end
    url = f"data:image/png;base64,{b64encode(png.getvalue()[:-100]).decode()}"
    record = Record()
    settings, fleet, _ = fakes(tmp_path, "", record, router={"keep_alive": 0.02})
    content = [{"type": "image_url", "image_url": {"url": url}}]
    async with wire(settings, fleet, record) as server, server.client() as client:
        body = {"model": "general", "stream": True, "messages": [{"role": "user", "content": content}]}
        reply = await client.post("/v1/chat/completions", json=body)
    assert reply.text.startswith(": waiting\n\n")
    assert "data:image/png" in json.loads(reply.text.rsplit("data: ", 1)[-1])["error"]["message"]
    assert not record.pids()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", asked("Hello", n=2, max_tokens=WHOLE)),
        ("/v1/completions", {"prompt": "Hello", "max_tokens": WHOLE}),
        ("/v1/completions", {"prompt": ["Hello", "you"], "max_tokens": WHOLE}),
        ("/v1/responses", {"input": "Hello", "max_output_tokens": WHOLE}),
    ],
    ids=["several", "completion", "prompts", "response"],
)
async def test_who_leaves_a_whole_reply_ends_the_work_of_a_real_engine(
    tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    async with wire(loaded(tmp_path, tiny_config(context=16384, slots=2))) as server, server.client() as client:
        async with server.fleet.lease("general") as endpoint:
            slots = endpoint.base_url.removesuffix("/v1") + "/slots"

        async def works() -> bool:
            return any(one["is_processing"] for one in (await client.get(slots)).json())

        async def longest() -> int:
            return max(one.get("n_prompt_tokens", 0) for one in (await client.get(slots)).json())

        sent = {"model": "tiny", "ignore_eos": True, "temperature": 1, **body}
        leaving = asyncio.create_task(client.post(path, json=sent))
        while not await works():
            assert not leaving.done()
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        while await works():
            pass
        # the tokens that it wrote are among those of the slot
        assert await longest() < WHOLE
