"""Role-typed callers: a role's name in, a streamed reply of the model that serves it out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any

import httpx
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from benchai.agents import faults
from benchai.agents.images import has_image
from benchai.agents.messages import normalise_reply
from benchai.errors import EndpointLost, Unavailable, UsageError
from benchai.events import Delta, Emit, Notice
from benchai.runtime.endpoints import Endpoint, Endpoints
from benchai.runtime.http import local_client

CONNECT_SECONDS = 10.0
RETRIES = 3
# a run rather waits so many seconds for a model that restarts than fails
PATIENCE = 10.0
#: Where a reply's metadata name the model of benchai.yaml that gave it.
MODEL = "benchai_model"


class Agents:
    """Callers by role: ``agents.role("code")`` never knows ports."""

    def __init__(self, endpoints: Endpoints, emit: Emit) -> None:
        self._endpoints = endpoints
        self._emit = emit

    def role(self, name: str) -> RoleAgent:
        """The caller of a role."""
        return RoleAgent(name, self._endpoints, self._emit)


class RoleAgent:
    """Calls the model of one role; each call holds a lease for as long as it streams."""

    def __init__(self, name: str, endpoints: Endpoints, emit: Emit) -> None:
        self.name = name
        self._endpoints = endpoints
        self._emit = emit

    async def call(
        self, messages: Sequence[AnyMessage], tools: Sequence[dict[str, Any]] = (), max_tokens: int | None = None
    ) -> AIMessage:
        """One reply to a conversation.

        Args:
            messages: The conversation, the system prompt first.
            tools: OpenAI function schemas that the model may call.
            max_tokens: Tokens of the reply at most, below the endpoint's own limit.

        Raises:
            UsageError: the conversation holds an image, the model reads text alone.
            ContextExceeded: the conversation is longer than the model's context.
            EndpointError: the endpoint refused or broke off the call, or answered nothing.
        """
        for again in range(RETRIES):
            try:
                return await self._attempt(messages, tools, max_tokens)
            except EndpointLost as lost:
                if again:
                    raise
                # its model died a moment ago: the next lease starts it again
                self._emit(Notice(text=f"{lost.message}; calling again"))
            except Unavailable as busy:
                if busy.retry_after > PATIENCE:
                    raise
                self._emit(Notice(text=f"{busy.message}; calling again in {busy.retry_after:.0f} s"))
                await asyncio.sleep(busy.retry_after)
        return await self._attempt(messages, tools, max_tokens)

    async def _attempt(
        self, messages: Sequence[AnyMessage], tools: Sequence[dict[str, Any]], max_tokens: int | None
    ) -> AIMessage:
        pieces: list[AIMessageChunk] = []
        async with self._endpoints.lease(self.name) as endpoint:
            if endpoint.vision is False and any(has_image(message) for message in messages):
                raise no_vision(endpoint)
            limit = min(max_tokens or endpoint.max_tokens, endpoint.max_tokens)
            whole = asyncio.timeout(endpoint.total_timeout)
            try:
                async with whole:
                    await self._stream(endpoint, messages, tools, limit, pieces)
            except faults.CALL_ERRORS as error:
                if whole.expired():
                    raise faults.too_long(endpoint) from error
                if faults.is_timeout(error):
                    endpoint.suspect()
                raise faults.explain(error, endpoint, begun=bool(pieces)) from error
        return self._whole(pieces, endpoint, limit)

    async def _stream(
        self,
        endpoint: Endpoint,
        messages: Sequence[AnyMessage],
        tools: Sequence[dict[str, Any]],
        limit: int,
        pieces: list[AIMessageChunk],
    ) -> None:
        """Fill ``pieces`` with the reply; what has come is there when it breaks off."""
        async with _http_client(endpoint) as client:
            model = chat_model(endpoint, client, limit)
            source = model.bind_tools(list(tools)) if tools else model
            async for chunk in source.astream(list(messages)):
                assert isinstance(chunk, AIMessageChunk)
                endpoint.progress()
                if chunk.text:
                    self._emit(Delta(role=self.name, text=str(chunk.text)))
                pieces.append(chunk)

    def _whole(self, pieces: list[AIMessageChunk], endpoint: Endpoint, limit: int) -> AIMessage:
        whole = add_ai_message_chunks(pieces[0], *pieces[1:])
        reply = normalise_reply(whole)
        reason = whole.response_metadata.get("finish_reason")
        if not reason:
            raise faults.broken(ConnectionError("the stream ended in the middle of the reply"), endpoint)
        if not reply.content and not reply.tool_calls:
            raise faults.cut_before_answer(endpoint, limit) if reason == "length" else faults.nothing(endpoint)
        if reason == "length":
            self._emit(Notice(text=f"the reply of {endpoint.model!r} was cut at {limit} tokens (max_tokens)"))
        if reply.usage_metadata is None:
            self._emit(Notice(text=f"{endpoint.model!r} does not tell the tokens it used: they are not counted"))
        # a fallback may have answered
        reply.response_metadata[MODEL] = endpoint.model
        return reply


def no_vision(endpoint: Endpoint) -> UsageError:
    """The error for an image that was given to a model that reads text alone."""
    hint = f"give the role vision a model with mmproj, or set models.{endpoint.model}.mmproj"
    return UsageError(f"the model {endpoint.model!r} of the role {endpoint.role!r} sees no images", hint=hint)


def _http_client(endpoint: Endpoint) -> httpx.AsyncClient:
    # a read time-out is an idle time-out: it starts anew with each piece that arrives
    timeout = httpx.Timeout(endpoint.idle_timeout, connect=CONNECT_SECONDS)
    return httpx.AsyncClient(timeout=timeout) if endpoint.placement == "remote" else local_client(timeout=timeout)


@cache
def _unused_client() -> httpx.Client:
    # LangChain would make a synchronous client for every call, which takes longer than a small model's reply
    return httpx.Client(trust_env=False, verify=False)  # noqa: S501 - nothing is sent by it


def chat_model(endpoint: Endpoint, client: httpx.AsyncClient, max_tokens: int) -> ChatOpenAI:
    """A LangChain model on an endpoint; retries are the caller's business."""
    return ChatOpenAI(
        base_url=endpoint.base_url,
        model=endpoint.served_name,
        api_key=SecretStr(endpoint.api_key or "none"),
        # LangChain would take both from the environment, for local models too
        organization="",
        openai_proxy="",
        http_async_client=client,
        http_client=_unused_client(),
        timeout=client.timeout,
        max_retries=0,
        stream_usage=True,
        stream_chunk_timeout=endpoint.idle_timeout,
        temperature=endpoint.temperature,
        top_p=endpoint.top_p,
        # goes out as max_completion_tokens, which llama-server reads as max_tokens
        max_tokens=max_tokens,
    )
