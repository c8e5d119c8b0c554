"""Models on endpoints: LangChain's ChatOpenAI makes the request, ``wire`` sends it.

The request goes past layers that cost more than a small model's step: the SDK's client, which transforms every earlier
message on each call, and LangChain's objects for each piece of a stream.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx
from langchain_core.messages import AIMessageChunk, AnyMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from pydantic import SecretStr

from benchai.agents.wire import Wire
from benchai.runtime.background import in_background
from benchai.runtime.endpoints import Endpoint
from benchai.runtime.http import local_client

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

Chunk = Mapping[str, Any]


@cache
def _unused_clients() -> dict[str, Any]:
    # LangChain would make clients for every model, which takes longer than a small model's reply
    return {"http_client": httpx.Client(trust_env=False, verify=False), "http_async_client": local_client()}  # noqa: S501 - nothing is sent by them


@cache
def _chat_openai() -> type[ChatOpenAI]:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI


async def imported() -> None:
    """Import LangChain's class, if it is not yet: that takes a second, in a thread, while a model may be loading."""
    if not _chat_openai.cache_info().currsize:
        await in_background(_chat_openai)


def chat_model(endpoint: Endpoint) -> ChatOpenAI:
    """A LangChain model that makes the requests for an endpoint."""
    return _chat_openai()(
        base_url=endpoint.base_url,
        model=endpoint.served_name,
        api_key=SecretStr("none"),
        # LangChain would take both from the environment
        organization="",
        openai_proxy="",
        # it would explain on stderr that a proxy variable is set
        http_socket_options=(),
        stream_usage=True,
        temperature=endpoint.temperature,
        top_p=endpoint.top_p,
        **_unused_clients(),
    )


class Models:
    """Models by endpoint, made when they are first called; closing closes their connections."""

    def __init__(self) -> None:
        self._models: dict[tuple[object, ...], ChatOpenAI] = {}
        self._wire = Wire()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._wire.close()

    def on(self, endpoint: Endpoint) -> ChatOpenAI:
        """The model on an endpoint."""
        key = (endpoint.base_url, endpoint.served_name, endpoint.temperature, endpoint.top_p)
        if key not in self._models:
            self._models[key] = chat_model(endpoint)
        return self._models[key]

    async def stream(
        self, endpoint: Endpoint, messages: Sequence[AnyMessage], settings: Mapping[str, Any]
    ) -> AsyncGenerator[Chunk, None]:
        """The pieces of a reply as the server sends them.

        Args:
            endpoint: Where the model answers.
            messages: The conversation.
            settings: Further keys of the request's body.

        Raises:
            ServerError: the server refused the call, or ended it with an error.
            aiohttp.ClientError: the connection did not come about, or broke off.
            TimeoutError: no piece came for the endpoint's ``idle_timeout``.
            ValueError: what came is no JSON.
        """
        body = self.on(endpoint)._get_request_payload(list(messages), **settings)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        remote = endpoint.placement == "remote"
        # a server's keep-alive is no piece of a reply
        async with asyncio.timeout(endpoint.idle_timeout) as idle:
            found = self._wire.stream(endpoint.base_url, body, api_key=endpoint.api_key, remote=remote)
            async with aclosing(found):
                async for chunk in found:
                    idle.reschedule(_soon(endpoint))
                    if isinstance(chunk, Mapping):
                        yield chunk


def _soon(endpoint: Endpoint) -> float:
    return asyncio.get_running_loop().time() + endpoint.idle_timeout


@dataclass
class Gathered:
    """A reply as it comes in, piece by piece; ``first`` is the moment of the first, by ``time.monotonic``."""

    text: list[str] = field(default_factory=list)
    calls: dict[int, ToolCallChunk] = field(default_factory=dict)
    finish_reason: str | None = None
    usage: UsageMetadata | None = None
    begun: bool = False
    first: float = 0.0
    id: str = field(default_factory=lambda: f"reply-{uuid.uuid4()}")

    def add(self, chunk: Chunk) -> str:
        """Take one piece; returns the text in it."""
        if not self.begun:
            self.begun, self.first = True, time.monotonic()
        if chunk.get("usage"):
            self.usage = usage_of(chunk["usage"])
        text = ""
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            text += delta.get("content") or ""
            for call in delta.get("tool_calls") or ():
                self._add_call(call)
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        if text:
            self.text.append(text)
        return text

    def _add_call(self, call: Mapping[str, Any]) -> None:
        index = call.get("index")
        place = index if isinstance(index, int) else len(self.calls)
        function = call.get("function") or {}
        known = self.calls.get(place) or tool_call_chunk(name=None, args="", id=None, index=place)
        known["id"] = known["id"] or call.get("id")
        known["name"] = (known["name"] or "") + (function.get("name") or "")
        known["args"] = (known["args"] or "") + (function.get("arguments") or "")
        self.calls[place] = known

    def whole(self) -> AIMessageChunk:
        """The reply so far as LangChain's message."""
        return AIMessageChunk(
            content="".join(self.text),
            tool_call_chunks=[self.calls[place] for place in sorted(self.calls)],
            usage_metadata=self.usage,
            response_metadata={"finish_reason": self.finish_reason} if self.finish_reason else {},
            id=self.id,
        )


def usage_of(usage: Mapping[str, Any]) -> UsageMetadata:
    """The tokens of a reply as LangChain names them."""
    prompt, completion = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    return UsageMetadata(
        input_tokens=prompt,
        output_tokens=completion,
        total_tokens=int(usage.get("total_tokens") or prompt + completion),
        input_token_details=InputTokenDetails(cache_read=cached),
    )
