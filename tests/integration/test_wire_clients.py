"""Clients of OpenAI's API, unmodified, on the wire of a server: the official package, LangChain, litellm, curl."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, BadRequestError, NotFoundError
from pydantic import SecretStr

from tests.integration.helpers import loaded, tiny_config
from tests.integration.wire_helpers import Server, asked, wire

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
SUM = "What is 48 * 52?"
CALCULATOR: Any = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Evaluate an arithmetic expression exactly. Use it for every calculation.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string", "description": "For example (12 + 3) * 4"}},
            "required": ["expression"],
        },
    },
}
ANSWER = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]},
    },
}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    config = tiny_config(context=2048, slots=2)
    config["models"]["vectors"] = {**config["models"]["tiny"], "embedding": True, "pooling": "mean", "context": 512}
    config["roles"]["embed"] = "vectors"
    async with wire(loaded(tmp_path, config)) as found:
        yield found


@pytest.fixture
async def openai(server: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


async def test_the_official_package_chats(openai: AsyncOpenAI) -> None:
    reply = await openai.chat.completions.create(
        model="auto", messages=user("Hello"), max_tokens=16, seed=3, stop=["?"]
    )
    assert reply.choices[0].message.content
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.model_extra is not None
    assert reply.model_extra["benchai"]["model"] == "tiny"
    assert "tiny" in [model.id async for model in openai.models.list()]
    with pytest.raises(NotFoundError, match="did you mean 'tiny'"):
        await openai.chat.completions.create(model="tine", messages=user("Hello"))
    with pytest.raises(BadRequestError, match="2,048") as long:
        await openai.chat.completions.create(model="tiny", messages=user("word " * 3000))
    assert long.value.code == "context_length_exceeded"


async def test_the_official_package_streams_a_tool_call(openai: AsyncOpenAI) -> None:
    arguments, usage = "", None
    stream = await openai.chat.completions.create(
        model="auto", messages=user(SUM), tools=[CALCULATOR], stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or []:
                assert call.index == 0
                assert call.function is not None
                arguments += call.function.arguments or ""
    assert json.loads(arguments) == {"expression": "48 * 52"}
    assert usage is not None
    assert usage.completion_tokens > 0


async def test_the_official_package_gets_what_a_schema_says(openai: AsyncOpenAI) -> None:
    # a model that was not trained for it may put many blanks between the parts, as a grammar allows
    form: Any = ANSWER
    reply = await openai.chat.completions.create(model="auto", messages=user(SUM), response_format=form, max_tokens=120)
    assert isinstance(json.loads(reply.choices[0].message.content or "")["sum"], int)


async def test_the_official_package_on_the_other_paths(openai: AsyncOpenAI) -> None:
    response = await openai.responses.create(model="auto", input="Hello", max_output_tokens=16)
    assert response.output_text
    events = [event.type async for event in await openai.responses.create(model="auto", input="Hello", stream=True)]
    assert (events[0], events[-1]) == ("response.created", "response.completed")
    completion = await openai.completions.create(model="auto", prompt="Hello", max_tokens=4)
    assert completion.choices[0].finish_reason == "length"
    embedded = await openai.embeddings.create(model="embed", input=["one", "two"])
    assert [one.index for one in embedded.data] == [0, 1]
    assert len(embedded.data[0].embedding) > 16


async def test_langchain(server: Server) -> None:
    model = ChatOpenAI(base_url=f"{server.url}/v1", api_key=SecretStr("none"), model="auto", max_retries=0)
    reply = await model.bind_tools([CALCULATOR]).ainvoke(SUM)
    assert [(call["name"], call["args"]) for call in reply.tool_calls] == [("calculator", {"expression": "48 * 52"})]
    pieces = [str(piece.content) async for piece in model.astream("Hello")]
    assert len([piece for piece in pieces if piece]) > 1
    model.root_client.close()
    await model.root_async_client.close()


async def test_litellm(server: Server) -> None:
    litellm = pytest.importorskip("litellm")
    reply = await litellm.acompletion(
        model="openai/auto", api_base=f"{server.url}/v1", api_key="none", messages=user("Hello")
    )
    assert reply.choices[0].message.content


async def test_curl(server: Server) -> None:
    for stream in (False, True):
        curl = await asyncio.create_subprocess_exec(
            "curl", "-sS", "-N", f"{server.url}/v1/chat/completions", "-d", json.dumps(asked("Hello", stream=stream)),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await curl.communicate()
        assert (curl.returncode, err) == (0, b"")
        assert b"[DONE]" in out if stream else json.loads(out)["choices"]
