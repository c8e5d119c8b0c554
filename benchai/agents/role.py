"""Role-typed callers: a role's name in, a streamed reply of the model that serves it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import openai
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from benchai.agents.messages import normalise_reply
from benchai.errors import ContextExceeded, EndpointError
from benchai.events import Delta, Emit, Notice
from benchai.runtime.endpoints import Endpoint, Endpoints

CONNECT_SECONDS = 10.0
# llama-server's type; the code of OpenAI and of most servers that follow it
OVERFLOW = ("exceed_context_size_error", "context_length_exceeded")


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

    async def call(self, messages: Sequence[AnyMessage], tools: Sequence[dict[str, Any]] = ()) -> AIMessage:
        """One reply to a conversation; ``tools`` are OpenAI function schemas that it may call.

        Raises:
            ContextExceeded: the conversation is longer than the model's context.
            EndpointError: the endpoint refused or broke off the call, or answered nothing.
        """
        async with self._endpoints.lease(self.name) as endpoint:
            try:
                reply = await self._stream(endpoint, messages, tools)
            except openai.APIError as error:
                raise _explain(error, endpoint) from error
            except (httpx.HTTPError, TimeoutError) as error:
                raise _broken(error, endpoint) from error
        self._note_cut(reply, endpoint)
        return reply

    async def _stream(
        self, endpoint: Endpoint, messages: Sequence[AnyMessage], tools: Sequence[dict[str, Any]]
    ) -> AIMessage:
        whole: AIMessageChunk | None = None
        async with _http_client(endpoint) as client:
            model = chat_model(endpoint, client)
            source = model.bind_tools(list(tools)) if tools else model
            async for chunk in source.astream(list(messages)):
                assert isinstance(chunk, AIMessageChunk)
                if chunk.text:
                    self._emit(Delta(role=self.name, text=str(chunk.text)))
                whole = chunk if whole is None else whole + chunk
        reply = normalise_reply(whole or AIMessage(""))
        if not reply.content and not reply.tool_calls:
            raise EndpointError(f"the model {endpoint.model!r} answered nothing", hint="try again, or another model")
        return reply

    def _note_cut(self, reply: AIMessage, endpoint: Endpoint) -> None:
        if reply.response_metadata.get("finish_reason") == "length":
            self._emit(
                Notice(text=f"the reply of {endpoint.model!r} was cut at {endpoint.max_tokens} tokens (max_tokens)")
            )


def _http_client(endpoint: Endpoint) -> httpx.AsyncClient:
    # a read time-out is an idle time-out: it starts anew with each piece that arrives
    timeout = httpx.Timeout(endpoint.idle_timeout, connect=CONNECT_SECONDS)
    return httpx.AsyncClient(timeout=timeout, trust_env=endpoint.placement == "remote")


def chat_model(endpoint: Endpoint, client: httpx.AsyncClient) -> ChatOpenAI:
    """A LangChain model on an endpoint; retries are the caller's business."""
    return ChatOpenAI(
        base_url=endpoint.base_url,
        model=endpoint.served_name,
        api_key=SecretStr(endpoint.api_key or "none"),
        http_async_client=client,
        timeout=client.timeout,
        max_retries=0,
        stream_usage=True,
        stream_chunk_timeout=endpoint.idle_timeout,
        temperature=endpoint.temperature,
        top_p=endpoint.top_p,
        # goes out as max_completion_tokens, which llama-server reads as max_tokens
        max_tokens=endpoint.max_tokens,
    )


def _broken(error: Exception, endpoint: Endpoint) -> EndpointError:
    return EndpointError(
        f"the model {endpoint.model!r} broke off: {type(error).__name__}: {error}".rstrip(": "),
        hint=f"no token for {endpoint.idle_timeout:g} s ends a call; router.timeouts sets the limit",
    )


def _explain(error: openai.APIError, endpoint: Endpoint) -> EndpointError:
    body = error.body if isinstance(error.body, dict) else {}
    if body.get("type") in OVERFLOW or body.get("code") in OVERFLOW:
        return _overflow(body, endpoint)
    if isinstance(error, openai.APIConnectionError):
        return EndpointError(f"the model {endpoint.model!r} at {endpoint.base_url} cannot be reached: {error}")
    if isinstance(error, openai.AuthenticationError):
        hint = f"check the key that models.{endpoint.model}.api_key_env names"
        return EndpointError(f"{endpoint.base_url} refused the key of {endpoint.model!r}", hint=hint)
    return EndpointError(f"the model {endpoint.model!r} refused the call: {error.message}")


def _overflow(body: dict[str, Any], endpoint: Endpoint) -> ContextExceeded:
    needed = body.get("n_prompt_tokens")
    n_ctx = body.get("n_ctx", endpoint.n_ctx)
    figures = f"{needed} tokens, the context has {n_ctx}" if needed else str(body.get("message", ""))
    return ContextExceeded(
        f"the prompt is too long for the model {endpoint.model!r}: {figures}",
        n_prompt_tokens=needed,
        n_ctx=n_ctx,
        hint=f"raise models.{endpoint.model}.context, or shorten the task",
    )
