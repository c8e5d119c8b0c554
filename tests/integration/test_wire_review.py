"""The wire against what others send: upstream servers that end badly, clients that try their luck, a changed config."""

from __future__ import annotations

import asyncio
import contextlib
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from benchai.config.models import default_config
from benchai.config.paths import threads_file
from benchai.runtime.router.cache.identity import Identity
from benchai.runtime.usage.read import last_rows
from benchai.runtime.usage.row import UsageRow
from benchai.server.app import make_app
from benchai.server.events import EventLog
from benchai.server.face import Face
from benchai.server.openai.job import LIMITS
from tests.integration.fleet_helpers import Record, fake_fleet
from tests.integration.helpers import loaded, tiny_config
from tests.integration.wire_helpers import Server, about, asked, wire

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
FAILED = b"HTTP/1.1 500 Failed\r\nContent-Length: 100\r\n\r\n{"
VISION = default_config().models["tiny-vision"].model_dump(exclude_none=True, exclude_defaults=True) | {"threads": 1}
ADDRESS = "http://127.0.0.1:1/cat.png"


def chunk(text: str, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}
    data = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "far", "choices": [choice], **more}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


class Far:
    """An upstream server that says the same to each request; ``bodies`` are those of the requests."""

    def __init__(self, says: bytes) -> None:
        self.says = says
        self.bodies: list[bytes] = []
        self.config: dict[str, Any] = {}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        self.bodies.append(await reader.readexactly(int(length.split(b":")[1])))
        writer.write(self.says)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def far(folder: Path, says: bytes) -> AsyncIterator[tuple[Server, Far]]:
    """The wire before a remote model."""
    upstream = Far(says)
    async with await asyncio.start_server(upstream.answer, "127.0.0.1", 0) as bound:
        port = bound.sockets[0].getsockname()[1]
        models = {"far": {"endpoint": f"http://127.0.0.1:{port}/v1", "model": "far"}}
        async with wire(loaded(folder, {"models": models, "roles": {"general": "far"}})) as server:
            yield server, upstream


async def post(server: Server, path: str, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with server.client() as client:
        return await client.post(path, content=content, headers={"Content-Type": "application/json"})


def row_of_last(server: Server) -> UsageRow:
    server.face.usage.flush()
    return last_rows(server.face.usage.file, 1)[0]


async def identity(server: Server) -> Identity:
    """That of the model ``general``, which is taken aside."""
    member, identities = server.fleet.members["general"], server.replies._identities
    await member.look()
    identities.of(member)
    await asyncio.gather(*server.replies._tasks)
    found = identities.of(member)
    assert found is not None
    return found


# ---- what upstream servers do


@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_that_breaks_off_is_an_error_of_the_model(tmp_path: Path, stream: bool) -> None:
    async with far(tmp_path, FAILED) as (server, _):
        reply = await server.chat("Hello", stream=stream)
        assert (reply.status_code, reply.json()["error"]["type"]) == (502, "server_error")
        assert "far" in reply.json()["error"]["message"]


async def test_a_stream_with_an_error_in_it_is_none_that_went_well(tmp_path: Path) -> None:
    broken = OK + chunk("one") + b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    async with far(tmp_path, broken) as (server, _):
        reply = await server.chat("Hello", stream=True)
        assert reply.text.count('"error"') == 1
        assert row_of_last(server).outcome != "ok"


async def test_a_stream_without_its_end_is_an_error(tmp_path: Path) -> None:
    async with far(tmp_path, OK + chunk("one")) as (server, _):
        reply = await server.chat("Hello", stream=True)
        assert '"error"' in reply.text
        assert row_of_last(server).outcome == "ReplyBroken"


async def test_odd_figures_break_no_reply(tmp_path: Path) -> None:
    odd = chunk("one", "stop", usage=[1], timings="fast")
    async with far(tmp_path, OK + odd + b"data: [DONE]\n\n") as (server, _):
        for stream in (True, False):
            reply = await server.chat("Hello", stream=stream)
            assert reply.status_code == 200
            assert row_of_last(server).outcome == "ok"


async def test_an_empty_first_event_stays_json(tmp_path: Path) -> None:
    async with far(tmp_path, OK + b"data: {}\n\n" + chunk("one", "stop") + b"data: [DONE]\n\n") as (server, _):
        reply = await server.chat("Hello", stream=True)
    events = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: {")]
    assert all(isinstance(json.loads(one), dict) for one in events)


async def test_responses_leave_their_tokens_in_the_row(tmp_path: Path) -> None:
    told = {"input_tokens": 7, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 2}}
    event = {"type": "response.completed", "response": {"status": "completed", "usage": told}}
    says = OK + b"event: response.completed\ndata: " + json.dumps(event).encode() + b"\n\n"
    async with far(tmp_path, says) as (server, _):
        reply = await post(server, "/v1/responses", {"model": "far", "input": "Hello", "stream": True})
        assert reply.content == says[len(OK) :]
        row = row_of_last(server)
    assert (row.tokens_in, row.tokens_out, row.tokens_cached, row.outcome) == (7, 5, 2, "ok")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_long_response_leaves_its_tokens_in_the_row(tmp_path: Path, stream: bool) -> None:
    told = {"input_tokens": 7, "output_tokens": 5}
    whole = {"status": "completed", "usage": told, "output": ["x" * 100_000], "more": "\r\n\n"}
    first = b'event: response.created\ndata: {"type": "response.created", "response": {}}\n\n'
    last = {"type": "response.completed", "response": whole}
    says = OK + first + b"event: response.completed\ndata: " + json.dumps(last).encode() + b"\n\n"
    async with far(tmp_path, says) as (server, upstream):
        reply = await post(server, "/v1/responses", {"model": "far", "input": "Hello", "stream": stream})
        row = row_of_last(server)
    assert (row.tokens_in, row.tokens_out, row.outcome) == (7, 5, "ok")
    assert json.loads(upstream.bodies[0])["stream"] is True
    if stream:
        assert len(reply.content) > 100_000
    else:
        assert {name: value for name, value in reply.json().items() if name != "benchai"} == whole


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_what_cannot_be_streamed_is_asked_for_as_a_whole(tmp_path: Path, path: str) -> None:
    async with far(tmp_path, OK) as (server, upstream):
        body = {"model": "far", "messages": asked("Hello")["messages"], "prompt": "Hello", "best_of": 3}
        await post(server, path, body)
    assert all("stream" not in json.loads(one) for one in upstream.bodies)


# ---- what clients try


def seen(kind: str, given: Any) -> bytes:
    part = {"type": kind, kind: given}
    return json.dumps({"model": "far", "messages": [{"role": "user", "content": [part]}]}).encode()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", seen("image_url", {"url": ADDRESS}).replace(b"image", b"im\\u0061ge")),
        ("/v1/chat/completions", seen("input_audio", {"url": ADDRESS})),
        ("/v1/chat/completions", seen("video_url", {"url": ADDRESS})),
        ("/v1/chat/completions", seen("input_video", {"data": "file:///etc/passwd"})),
        (
            "/v1/responses",
            b'{"model": "far", "input": [{"type": "function_call_output", "call_id": "1", "output":'
            b' [{"type": "input_image", "image_url": "%s"}]}]}' % ADDRESS.encode(),
        ),
    ],
    ids=["escaped", "audio", "video", "file", "output"],
)
async def test_engines_never_get_an_address(tmp_path: Path, path: str, body: bytes) -> None:
    async with far(tmp_path, OK + chunk("one", "stop") + b"data: [DONE]\n\n") as (server, upstream):
        reply = await post(server, path, body)
        assert reply.status_code == 400
        assert not upstream.bodies


async def test_a_conversation_stands_where_its_path_has_it(tmp_path: Path) -> None:
    async with far(tmp_path, OK) as (server, _):
        reply = await post(server, "/v1/embeddings", {"": 5, "input": "image", "model": "nobody"})
        assert reply.status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": [1, 2]}),
        ("/v1/completions", {"prompt": "Hello", "stream_options": 1, "stream": True}),
        ("/v1/responses", {"input": "Hello"}),
        ("/v1/embeddings", {"input": "Hello"}),
        ("/tokenize", {"content": "Hello"}),
    ],
)
async def test_workflows_answer_chats_alone(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    async with far(tmp_path, OK) as (server, _):
        reply = await post(server, path, {"model": "workflow:react", **body})
        assert reply.status_code == 400
        assert "/v1/chat/completions" in reply.json()["error"]["message"]


async def test_a_row_keeps_little_of_a_long_name(tmp_path: Path) -> None:
    async with far(tmp_path, OK) as (server, _):
        for name in ("x" * 1_000_000, "workflow:" + "x" * 1_000_000):
            assert (await server.chat("Hello", model=name)).status_code == 404
            row = row_of_last(server)
            assert len(row.asked or "") < 1000
            assert len(row.workflow or "") < 1000


def noise(side: int) -> str:
    """A data URL of a picture that cannot be compressed."""
    drawn = Image.effect_noise((side, side), 100)
    png = BytesIO()
    drawn.save(png, "PNG")
    return f"data:image/png;base64,{b64encode(png.getvalue()).decode()}"


async def test_the_bytes_of_a_picture_are_no_words_of_the_prompt(tmp_path: Path) -> None:
    config = tiny_config()
    config["models"]["eyes"] = VISION | {"context": 2048}
    config["roles"]["vision"] = "eyes"
    async with wire(loaded(tmp_path, config)) as server:
        content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": noise(400)}}]
        reply = await post(server, "/v1/chat/completions", {"messages": [{"role": "user", "content": content}]})
        assert reply.status_code == 200, reply.text
        assert about(reply)["model"] == "eyes"


async def test_an_estimate_alone_refuses_no_prompt(tmp_path: Path) -> None:
    async with wire(loaded(tmp_path, tiny_config(context=1024))) as server:
        # written as JSON in ASCII these are 6 bytes each, and few tokens
        body = json.dumps(asked("a" * 20 + " \u00e4" * 0 + "\u2028" * 750 + "Hello", max_tokens=4)).encode()
        assert len(body) / 4 > 1024
        async with server.client() as client:
            counted = await client.post("/tokenize", json={"content": "\u2028" * 750})
        reply = await post(server, "/v1/chat/completions", body)
        assert reply.status_code == (200 if len(counted.json()["tokens"]) < 900 else 400)
        if reply.status_code == 400:
            assert "the context of 'tiny'" in reply.json()["error"]["message"]


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens", "n_predict"])
async def test_a_limit_of_no_tokens_is_a_limit(tmp_path: Path, limit: str) -> None:
    async with far(tmp_path, OK) as (server, upstream):
        await post(server, "/v1/completions", {"model": "far", "prompt": "Hello", limit: 0})
        await post(server, "/v1/completions", {"model": "far", "prompt": "Hello"})
    sent = [json.loads(body) for body in upstream.bodies]
    assert {name: sent[0][name] for name in sent[0] if name in LIMITS} == {limit: 0}
    assert sent[-1]["max_tokens"] > 0


async def test_a_workflow_may_be_what_no_name_stands_for(tmp_path: Path) -> None:
    config = tiny_config() | {"router": {"aliases": {"auto": "workflow:react"}}}
    async with wire(loaded(tmp_path, config)) as server:
        reply = await post(server, "/v1/chat/completions", {"messages": asked("What is 48 * 52?")["messages"]})
        assert (reply.status_code, reply.json()["model"]) == (200, "workflow:react")


async def test_models_are_listed_though_no_workflow_can_run(tmp_path: Path) -> None:
    async with far(tmp_path, OK) as (server, _), server.client() as client:
        threads_file().mkdir(parents=True)
        listed = await client.get("/v1/models")
        assert listed.status_code == 200
        assert {"auto", "far", "workflow:react"} <= {one["id"] for one in listed.json()["data"]}
        assert (await client.get("/v1/models/far")).status_code == 200
        refused = await server.chat("Hello", model="workflow:react")
        assert refused.status_code == 503
        assert refused.json()["error"]["message"]
        # the next request tries again: what it fails at now is the model
        threads_file().rmdir()
        assert "far" in (await server.chat("Hello", model="workflow:react")).json()["error"]["message"]


# ---- rows, and what is asked for again


async def test_a_request_that_the_server_ends_was_not_ok(tmp_path: Path) -> None:
    record = Record()
    fleet, engine = fake_fleet(tmp_path, ["general"], record, plans={"general": "mute"})
    async with fleet, Face(fleet, record) as face:
        app = face.over(make_app(fleet, EventLog(), "token"))
        body = [{"type": "http.request", "body": json.dumps(asked("Hello")).encode()}]

        async def receive() -> Any:
            return body.pop() if body else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            pass

        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
        asking = asyncio.create_task(app(scope, receive, send))
        await engine.until_noted("general", "requests")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert fleet.members["general"].uses.total == 0
        face.usage.flush()
        assert last_rows(face.usage.file, 1)[0].outcome == "cancelled"


async def test_who_joins_a_request_has_waited_no_longer_than_since_then(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general"], record, plans={"general": "loads"})
    async with wire(fleet.loaded, fleet, record) as server:
        await identity(server)
        first = asyncio.create_task(server.chat("Hello"))
        await record.state("general", "starting")
        second = await server.chat("Hello")
        await first
        assert about(second)["cache"] == "shared"
        server.face.usage.flush()
        rows = last_rows(server.face.usage.file, 2)
    assert all((row.queue_s or 0) + (row.swap_s or 0) <= row.total_s for row in rows)


async def test_names_follow_the_configuration_at_once(tmp_path: Path) -> None:
    config = tiny_config()
    config["models"]["other"] = dict(config["models"]["tiny"])
    async with wire(loaded(tmp_path, config | {"roles": {"general": "tiny", "code": "other"}})) as server:
        # the fleet has taken another configuration, and waits for the requests of a model that left
        async with server.fleet.lease("code"):
            applying = asyncio.create_task(server.fleet.apply(loaded(tmp_path, tiny_config())))
            await asyncio.sleep(0)
            for name in ("other", "code", "auto"):
                reply = await server.chat("Write a Python function that adds two numbers.", model=name, temperature=0)
                assert reply.status_code == (200 if name == "auto" else 404)
        await applying


async def test_a_model_that_does_not_run_has_no_identity_of_another_configuration(tmp_path: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general"], record)
    async with wire(fleet.loaded, fleet, record) as server:
        before = await identity(server)
        changed, _ = fake_fleet(tmp_path, {"general": {"context": 1024}}, record)
        await fleet.apply(changed.loaded)
        assert before.digest() != (await identity(server)).digest()


async def test_an_alias_of_nothing_leaves_the_list_whole(tmp_path: Path) -> None:
    config = tiny_config() | {"router": {"aliases": {"best": "workflow:nothing", "gpt": "nobody"}}}
    async with wire(loaded(tmp_path, config)) as server, server.client() as client:
        listed = await client.get("/v1/models")
        assert listed.status_code == 200
        assert "tiny" in {one["id"] for one in listed.json()["data"]}
