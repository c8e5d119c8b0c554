"""The OpenAI wire on real engines: routing, replies, streams, caches, workflows, and what is told of each request."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import closing
from hashlib import sha256
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw

from benchai.config.models import default_config
from benchai.runtime.usage.read import last_rows
from benchai.runtime.usage.row import UsageRow
from tests.integration.helpers import loaded, tiny_config
from tests.integration.wire_helpers import Server, about, asked, wire

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
SUM = "What is 48 * 52?"
VISION = default_config().models["tiny-vision"].model_dump(exclude_none=True, exclude_defaults=True) | {"threads": 1}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """The bundled model, at temperature 0 where a request does not say otherwise."""
    async with wire(loaded(tmp_path, tiny_config(context=2048, slots=4))) as found:
        yield found


def events(text: str) -> list[dict[str, object]]:
    """The events of a stream, without its end mark."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


async def test_a_reply_tells_who_gave_it_and_why(server: Server) -> None:
    reply = await server.chat("Write a Python function that adds two numbers.")
    assert reply.status_code == 200
    told = about(reply)
    assert (told["role"], told["model"], told["cache"]) == ("general", "tiny", "none")
    assert "code" in told["reason"]
    assert told["session"]
    assert reply.headers["x-benchai-model"] == "tiny"
    assert reply.headers["x-request-id"] == told["id"]
    assert reply.json()["object"] == "chat.completion"
    assert reply.json()["usage"]["completion_tokens"] > 0


async def test_a_whole_reply_is_what_the_engine_would_have_sent(server: Server) -> None:
    body = {"temperature": 0, "seed": 1, "max_tokens": 12}
    ours = (await server.chat("Hello", **body)).json()
    async with server.fleet.lease("general") as endpoint, server.client() as client:
        direct = (await client.post(f"{endpoint.base_url}/chat/completions", json=asked("Hello", **body))).json()
    for reply in (ours, direct):
        for name in ("id", "created", "timings", "benchai", "usage"):
            reply.pop(name, None)
    assert ours == direct


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", asked("Hello", n=2, logprobs=True)),
        ("/completions", {"prompt": "One two"}),
        ("/completions", {"prompt": ["One two", "Hello"], "logprobs": 1}),
        ("/completions", {"prompt": "One two", "n": 2}),
        ("/responses", {"input": "Hello", "max_output_tokens": 8}),
    ],
    ids=["several", "completion", "prompts", "completions", "response"],
)
async def test_other_whole_replies_are_what_the_engine_would_have_sent(
    server: Server, path: str, body: dict[str, Any]
) -> None:
    sent = {"temperature": 0, "seed": 1, "max_tokens": 8, **body, "model": "tiny"}
    async with server.fleet.lease("general") as endpoint, server.client() as client:
        ours = (await client.post(f"/v1{path}", json=sent)).json()
        direct = (await client.post(f"{endpoint.base_url}{path}", json=sent)).json()
        alone = [await usage_of(client, endpoint.base_url + path, one) for one in apart(sent)]
    assert about_of(ours)["model"] == "tiny"
    row = row_of_last(server)
    if len(alone) > 1:
        # the engine tells the tokens of the first choice
        assert direct.pop("usage")["total_tokens"] == alone[0]["total_tokens"]
        prompts = alone if isinstance(sent.get("prompt"), list) else alone[:1]
        told = ours.pop("usage")
        assert told["completion_tokens"] == sum(one["completion_tokens"] for one in alone) == row.tokens_out
        assert told["prompt_tokens"] == sum(one["prompt_tokens"] for one in prompts) == row.tokens_in
        assert told["total_tokens"] == told["prompt_tokens"] + told["completion_tokens"]
    assert without_marks(ours) == without_marks(direct)
    assert row.tokens_out


def apart(sent: dict[str, Any]) -> list[dict[str, Any]]:
    """A request as one for each choice."""
    prompts = sent["prompt"] if isinstance(sent.get("prompt"), list) else [None]
    alone = [sent if prompt is None else sent | {"prompt": prompt} for prompt in prompts]
    return [one | {"n": 1} for one in alone for _ in range(sent.get("n", 1))]


async def usage_of(client: httpx.AsyncClient, url: str, sent: dict[str, Any]) -> dict[str, Any]:
    usage: dict[str, Any] = (await client.post(url, json=sent)).json()["usage"]
    return usage


async def test_a_stream_of_several_choices_tells_the_tokens_of_all_in_its_last_chunk(server: Server) -> None:
    several = {"model": "tiny", "n": 2, "temperature": 0, "max_tokens": 7, "ignore_eos": True}
    ways = [
        ("/chat/completions", {"messages": asked(SUM)["messages"]}, 14),
        ("/completions", {"prompt": ["One two", "Hello, you"]}, 28),
    ]
    async with server.client() as client:
        for (path, body, tokens), wanted in product(ways, (True, False)):
            options = {"stream": True, "stream_options": {"include_usage": wanted}}
            reply = await client.post(f"/v1{path}", json=several | body | options)
            row = row_of_last(server)
            whole = (await client.post(f"/v1{path}", json=several | body)).json()["usage"]
            assert whole["completion_tokens"] == tokens
            assert (row.tokens_in, row.tokens_out) == (whole["prompt_tokens"], tokens)
            found: list[Any] = events(reply.text)
            assert found[0]["benchai"]["model"] == "tiny"
            assert {one["index"] for event in found for one in event["choices"]} == set(range(tokens // 7))
            told = [event for event in found if "usage" in event]
            assert [(one["choices"], one["usage"]["completion_tokens"]) for one in told] == [([], tokens)] * wanted
            assert reply.text.endswith("data: [DONE]\n\n")


def about_of(reply: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = reply["benchai"]
    return found


def without_marks(value: Any) -> Any:
    """A reply without what is another one each time."""
    marks = {"id", "created", "created_at", "completed_at", "timings", "benchai", "cached_tokens"}
    # what the engine computes beside other requests differs in the last digits
    marks |= {"logprob", "top_logprobs"}
    if isinstance(value, dict):
        return {name: without_marks(one) for name, one in value.items() if name not in marks}
    return [without_marks(one) for one in value] if isinstance(value, list) else value


def row_of_last(server: Server) -> UsageRow:
    server.face.usage.flush()
    return last_rows(server.face.usage.file, 1)[0]


async def test_fields_that_few_ask_for(server: Server) -> None:
    logprobs = (await server.chat("Hello", logprobs=True, top_logprobs=2)).json()["choices"][0]["logprobs"]
    assert "".join(one["token"] for one in logprobs["content"]).startswith("Hello")
    several = (await server.chat("Hello", n=2)).json()["choices"]
    assert [one["index"] for one in several] == [0, 1]
    cut = (await server.chat("Hello", max_tokens=1)).json()["choices"][0]
    assert cut["finish_reason"] == "length"
    stopped = (await server.chat("Hello", stop=["How"])).json()["choices"][0]
    assert "How" not in stopped["message"]["content"]


async def test_a_stream_is_passed_on_with_our_field_in_its_first_event(server: Server) -> None:
    reply = await server.chat(SUM, stream=True, stream_options={"include_usage": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    found = events(reply.text)
    assert found[0]["benchai"]["model"] == "tiny"  # type: ignore[index]
    assert not any("benchai" in event for event in found[1:])
    assert found[-1]["usage"]
    assert reply.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("name", "role"), [("auto", "general"), ("general", "general"), ("tiny", "general"), ("gpt-4o", "general")]
)
async def test_names_that_answer(tmp_path: Path, name: str, role: str) -> None:
    config = tiny_config() | {"router": {"aliases": {"gpt-4o": "tiny"}}}
    async with wire(loaded(tmp_path, config)) as server:
        reply = await server.chat("Hello", model=name)
        assert about(reply)["role"] == role


async def test_what_is_refused(server: Server) -> None:
    unknown = await server.chat("Hello", model="tine")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert "tiny" in unknown.json()["error"]["message"]
    async with server.client() as client:
        missing = await client.post("/v1/chat/completions", json={"model": "auto"})
        assert missing.status_code == 400
        assert "'messages'" in missing.json()["error"]["message"]
        broken = await client.post("/v1/chat/completions", content=b'{"model": "auto", ')
        assert broken.status_code == 400
        assert "line 1" in broken.json()["error"]["message"]
        workflow = await client.post("/v1/chat/completions", json=asked("Hi", model="workflow:raect"))
        assert workflow.status_code == 404
        assert "react" in workflow.json()["error"]["message"]


async def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(server: Server) -> None:
    for stream in (False, True):
        reply = await server.chat("word " * 3000, stream=stream, model="tiny")
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (400, "context_length_exceeded")
        assert "2,048" in error["message"]
        assert "benchai" not in reply.json()


async def test_a_header_names_the_role(tmp_path: Path) -> None:
    config = tiny_config() | {"roles": {"general": "tiny", "code": "tiny"}}
    async with wire(loaded(tmp_path, config)) as server, server.client(headers={"X-BenchAI-Role": "code"}) as client:
        reply = await client.post("/v1/chat/completions", json=asked("Hello"))
        assert about(reply)["role"] == "code"
        wrong = await client.post("/v1/chat/completions", json=asked("Hello"), headers={"X-BenchAI-Role": "coda"})
        assert wrong.status_code == 404


async def test_the_same_request_again_needs_no_model(server: Server) -> None:
    first = await server.chat(SUM)
    await server.chat("Hello")
    kept = await server.chat(SUM)
    # identities are taken beside the first requests
    states = [about(one)["cache"] for one in (first, kept, await server.chat(SUM))]
    assert states[-1] == "exact"
    again = await server.chat(SUM)
    assert again.json()["choices"] == first.json()["choices"]
    assert again.json()["id"] != first.json()["id"]
    streamed = await server.chat(SUM, stream=True)
    assert events(streamed.text)[0]["object"] == "chat.completion.chunk"
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events(streamed.text))  # type: ignore[index]
    assert text == first.json()["choices"][0]["message"]["content"]
    async with server.client(headers={"X-BenchAI-No-Cache": "1"}) as client:
        fresh = await client.post("/v1/chat/completions", json=asked(SUM))
        assert about(fresh)["cache"] == "none"
    assert about(await server.chat(SUM, temperature=0.5))["cache"] == "none"


async def test_a_conversation_keeps_its_cached_context(server: Server) -> None:
    messages = [{"role": "user", "content": f"Repeat after me: {' '.join(map(str, range(200)))}"}]
    async with server.client() as client:
        first = (await client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 8})).json()
        messages += [first["choices"][0]["message"], {"role": "user", "content": "Thank you."}]
        second = (await client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 8})).json()
    used = first["usage"]["prompt_tokens"]
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0.9 * used
    assert second["benchai"]["session"] == first["benchai"]["session"]


async def test_a_workflow_is_a_model(server: Server) -> None:
    whole = (await server.chat(SUM, model="workflow:react")).json()
    message = whole["choices"][0]["message"]
    assert "2496" in message["content"]
    assert "calculator" in message["reasoning_content"]
    assert whole["benchai"]["stop_reason"] == "completed"
    streamed = await server.chat(SUM, model="workflow:react", stream=True)
    deltas = [event["choices"][0]["delta"] for event in events(streamed.text)]  # type: ignore[index]
    assert "calculator" in "".join(one.get("reasoning_content", "") for one in deltas)
    assert "2496" in "".join(one.get("content", "") for one in deltas)
    assert streamed.text.endswith("data: [DONE]\n\n")


async def test_other_paths_of_the_engine(server: Server) -> None:
    async with server.client() as client:
        plain = await client.post("/v1/completions", json={"prompt": "Hello", "max_tokens": 4})
        assert plain.json()["object"] == "text_completion"
        response = await client.post("/v1/responses", json={"input": "Hello", "max_output_tokens": 8})
        assert response.json()["object"] == "response"
        tokens = await client.post("/tokenize", json={"content": "Hello"})
        assert tokens.json()["tokens"]
        none = await client.post("/v1/embeddings", json={"input": "Hello"})
        assert none.status_code == 404
        assert "embed" in none.json()["error"]["message"]


async def test_what_there_is_to_ask(server: Server) -> None:
    async with server.client() as client:
        names = {one["id"]: one["benchai"]["kind"] for one in (await client.get("/v1/models")).json()["data"]}
        assert names["auto"] == "auto"
        assert (names["general"], names["tiny"], names["workflow:react"]) == ("role", "model", "workflow")
        one = await client.get("/v1/models/workflow:react")
        assert one.json()["id"] == "workflow:react"
        assert (await client.get("/v1/models/tine")).status_code == 404
        waiting = await client.get("/ready")
        assert (waiting.status_code, waiting.json()["models"]) == (503, {"tiny": "stopped"})
        await server.chat("Hello")
        assert (await client.get("/ready")).status_code == 200


async def test_each_request_leaves_a_row_and_counts(server: Server) -> None:
    reply = await server.chat("Hello")
    await server.chat("Hello", model="nobody")
    async with server.client() as client:
        given = await client.post("/v1/feedback", json={"id": about(reply)["id"], "value": "up"})
        assert given.status_code == 200
        text = (await client.get("/metrics")).text
    assert 'benchai_requests_total{model="tiny",outcome="ok",path="/chat/completions",role="general"} 1.0' in text
    assert 'outcome="UnknownModel"' in text
    server.face.usage.flush()
    rows = last_rows(server.face.usage.file, 2)
    ok = next(row for row in rows if row.outcome == "ok")
    assert (ok.model, ok.role, ok.feedback, ok.status) == ("tiny", "general", 1.0, 200)
    assert ok.tokens_out
    assert ok.first_token_s is not None
    assert ok.request is None, "contents only if the user opts in"


async def test_a_kept_reply_counts_for_its_model(server: Server) -> None:
    while about(await server.chat("Hello", temperature=0))["cache"] == "none":
        # identities are taken beside the first requests
        pass
    async with server.client() as client:
        counted = (await client.get("/metrics")).text
    hit = [line for line in counted.splitlines() if line.startswith("benchai_tokens_total")]
    assert hit
    assert all('model="tiny"' in line for line in hit)
    assert 'model=""' not in "".join(line for line in counted.splitlines() if 'outcome="ok"' in line)


async def test_feedback_goes_to_the_request_that_is_meant(server: Server) -> None:
    async def chat(name: str) -> str:
        async with server.client(headers={"X-Request-Id": name}) as client:
            reply = await client.post("/v1/chat/completions", json=asked("Hello", max_tokens=4))
        assert reply.headers["x-request-id"] == name
        assert reply.headers["x-benchai-id"] == about(reply)["id"] != name
        return str(about(reply)["id"])

    once, twice = await chat("once"), [await chat("twice"), await chat("twice")]
    async with server.client() as client:

        async def feedback(id: str) -> httpx.Response:
            return await client.post("/v1/feedback", json={"id": id, "value": "up"})

        assert (await feedback("once")).status_code == 200
        refused = await feedback("twice")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "request_ambiguous")
        assert all(id in refused.json()["error"]["message"] for id in twice)
        assert (await feedback(twice[0])).status_code == 200
    server.face.usage.flush()
    rated = {row.id: row.feedback for row in last_rows(server.face.usage.file, 3)}
    assert rated == {once: 1.0, twice[0]: 1.0, twice[1]: None}


def picture(size: tuple[int, int] = (224, 224), colour: str = "red") -> str:
    """A data URL: a circle on white."""
    drawn = Image.new("RGB", size, "white")
    ImageDraw.Draw(drawn).ellipse((60, 60, 160, 160), fill=colour)
    png = BytesIO()
    drawn.save(png, "PNG")
    return f"data:image/png;base64,{b64encode(png.getvalue()).decode()}"


def seen(url: str) -> dict[str, Any]:
    content = [{"type": "text", "text": "What is in the picture?"}, {"type": "image_url", "image_url": {"url": url}}]
    return {"messages": [{"role": "user", "content": content}]}


async def test_images_go_to_the_role_that_sees(tmp_path: Path) -> None:
    config = tiny_config()
    config["models"]["eyes"] = VISION
    config["roles"]["vision"] = "eyes"
    async with wire(loaded(tmp_path, config)) as server, server.client() as client:
        reply = await client.post("/v1/chat/completions", json=seen(picture()))
        assert about(reply)["model"] == "eyes"
        assert "red" in reply.json()["choices"][0]["message"]["content"]
        blind = await client.post("/v1/chat/completions", json=seen(picture()) | {"model": "tiny"})
        assert blind.status_code == 400
        assert "sees no images" in blind.json()["error"]["message"]


async def test_a_picture_of_long_ago_does_not_need_eyes(server: Server) -> None:
    talk: list[dict[str, Any]] = seen(picture())["messages"]
    for text in ("Thank you.", "How are you?", "Tell me more.", "Hello"):
        talk += [{"role": "assistant", "content": "A red circle."}, {"role": "user", "content": text}]
    async with server.client() as client:
        reply = await client.post("/v1/chat/completions", json={"messages": talk, "max_tokens": 8})
    assert about(reply)["model"] == "tiny"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("data:image/png;base64,AAAA", "no image"),
        ("data:image/png,red", "base64"),
        ("file:///etc/passwd", "data URL"),
        ("http://127.0.0.1:1/cat.png", "cannot be fetched"),
        ("http://169.254.169.254/latest/meta-data", "cannot be fetched"),
        (picture((9000, 9000)), "pixels"),
    ],
    ids=["damaged", "plain", "file", "loopback", "metadata", "bomb"],
)
async def test_pictures_that_are_refused(server: Server, url: str, told: str) -> None:
    async with server.client() as client:
        reply = await client.post("/v1/chat/completions", json=seen(url))
    assert reply.status_code == 400
    assert told in reply.json()["error"]["message"]


async def test_limits_of_the_engine_are_passed_on_as_they_are(server: Server) -> None:
    reply = await server.chat("Hello", response_format={"type": "json_schema", "json_schema": {"schema": {"type": 7}}})
    assert reply.status_code == 400
    assert httpx.codes.is_client_error(reply.status_code)


async def test_what_means_the_same_is_compared_before_it_is_given(tmp_path: Path) -> None:
    config = tiny_config(context=2048)
    config["models"]["vectors"] = {**config["models"]["tiny"], "embedding": True, "pooling": "mean", "context": 512}
    config["roles"]["embed"] = "vectors"
    config["cache"] = {"similar": {"enabled": True, "threshold": 0.01}}
    async with wire(loaded(tmp_path, config)) as server:
        while about(await server.chat("What is the capital of France?", model="tiny"))["cache"] == "none":
            # identities are taken beside the first requests
            pass
        await server.replies.settled()
        await asyncio.to_thread(server.face.exact.flush)
        again = await server.chat("Please, what is the capital of France?", model="tiny")
        assert about(again)["cache"] == "none", "nothing is given before shadow runs have shown that hits are right"
        assert server.replies.similar is not None
        await server.replies.settled()
        assert server.replies.similar.estimate.runs == 1
        other = await server.chat("Please, what is the capital of Spain?", model="tiny")
        assert about(other)["cache"] == "none"
        assert server.replies.similar.estimate.runs == 1, "another name is another question"


async def test_contents_are_kept_only_where_the_user_wants_them(tmp_path: Path) -> None:
    async with wire(loaded(tmp_path, tiny_config() | {"usage": {"contents": True}})) as server:
        await server.chat("Hello")
        server.face.usage.flush()
        with closing(sqlite3.connect(server.face.usage.file)) as opened:
            [(request, reply)] = opened.execute("SELECT request, reply FROM contents").fetchall()
    assert "Hello" in request
    assert json.loads(reply)["choices"]


async def test_no_reply_goes_from_one_key_to_another(tmp_path: Path) -> None:
    keys = [{"name": name, "sha256": sha256(name.encode()).hexdigest()} for name in ("ann", "bob")]
    async with wire(loaded(tmp_path, tiny_config() | {"server": {"keys": keys}})) as server:

        async def state(key: str) -> str:
            async with server.client(headers={"Authorization": f"Bearer {key}"}) as client:
                return str(about(await client.post("/v1/chat/completions", json=asked(SUM)))["cache"])

        while await state("ann") == "none":
            # identities are taken beside the first requests
            pass
        assert await state("bob") == "none"
        assert await state("bob") == "exact"
