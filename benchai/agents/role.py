"""Role-typed callers: a role's name in, a streamed reply of the model that serves it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import openai
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from benchai.agents.messages import normalise_reply
from benchai.errors import ContextExceeded, EndpointError, EndpointLost
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
        try:
            return await self._attempt(messages, tools)
        except EndpointLost as lost:
            # its model died a moment ago: the next lease starts it again
            self._emit(Notice(text=f"{lost.message}; calling again"))
            return await self._attempt(messages, tools)

    async def _attempt(self, messages: Sequence[AnyMessage], tools: Sequence[dict[str, Any]]) -> AIMessage:
        pieces: list[AIMessageChunk] = []
        async with self._endpoints.lease(self.name) as endpoint:
            try:
                reply = await self._stream(endpoint, messages, tools, pieces)
            except openai.APIStatusError as error:
                raise _refused(error, endpoint) from error
            except (openai.APITimeoutError, httpx.ReadTimeout, TimeoutError) as error:
                raise _broken(error, endpoint) from error
            except openai.APIConnectionError as error:
                raise (_broken if pieces else _lost)(error, endpoint) from error
            except (openai.APIError, httpx.HTTPError) as error:
                raise _broken(error, endpoint) from error
            except ValueError as error:
                # LangChain's, for a stream without a single chunk
                raise _nothing(endpoint) from error
        self._note_cut(reply, endpoint)
        return reply

    async def _stream(
        self,
        endpoint: Endpoint,
        messages: Sequence[AnyMessage],
        tools: Sequence[dict[str, Any]],
        pieces: list[AIMessageChunk],
    ) -> AIMessage:
        """The whole reply; its pieces are left in ``pieces``, also when it breaks off."""
        async with _http_client(endpoint) as client:
            model = chat_model(endpoint, client)
            source = model.bind_tools(list(tools)) if tools else model
            async for chunk in source.astream(list(messages)):
                assert isinstance(chunk, AIMessageChunk)
                if chunk.text:
                    self._emit(Delta(role=self.name, text=str(chunk.text)))
                pieces.append(chunk)
        whole = add_ai_message_chunks(pieces[0], *pieces[1:])
        if not whole.response_metadata.get("finish_reason"):
            raise _broken(ConnectionError("the stream ended in the middle of the reply"), endpoint)
        reply = normalise_reply(whole)
        if not reply.content and not reply.tool_calls:
            raise _nothing(endpoint)
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


def _nothing(endpoint: Endpoint) -> EndpointError:
    return EndpointError(f"the model {endpoint.model!r} answered nothing", hint="try again, or another model")


def _broken(error: BaseException, endpoint: Endpoint) -> EndpointError:
    return EndpointError(
        f"the model {endpoint.model!r} broke off: {type(error).__name__}: {error}".rstrip(": "),
        hint=f"no token for {endpoint.idle_timeout:g} s ends a call; router.timeouts sets the limit",
    )


def _lost(error: openai.APIConnectionError, endpoint: Endpoint) -> EndpointError:
    """The connection could not be made, or was closed before the reply began."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    message = f"the model {endpoint.model!r} at {endpoint.base_url} cannot be reached: {cause}"
    if endpoint.placement == "remote":
        return EndpointError(message, hint="check that the server runs, and its address in benchai.yaml")
    return EndpointLost(message, hint="see its log; 'benchai doctor' says where")


def _refused(error: openai.APIStatusError, endpoint: Endpoint) -> EndpointError:
    body = error.body if isinstance(error.body, dict) else {}
    if body.get("type") in OVERFLOW or body.get("code") in OVERFLOW:
        return _overflow(body, endpoint)
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
