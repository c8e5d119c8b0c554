"""Requests to engines, and what their failures mean."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from benchai.agents.faults import is_overflow
from benchai.errors import (
    BenchAIError,
    ContextExceeded,
    EndpointError,
    EndpointLost,
    EndpointNotReady,
    ReplyBroken,
    UsageError,
)
from benchai.runtime.connections import Connections
from benchai.runtime.endpoints import Endpoint

LONGEST = 500
#: What an engine says when it is at fault, and not the request.
OWN_FAILURE = re.compile(r"comput|decod|memory|alloc|slot|internal|failed to parse (?:input|tool call)", re.IGNORECASE)
TIMEOUTS = (aiohttp.ServerTimeoutError, TimeoutError)


class Upstream:
    """Sends requests to the engines of a fleet and to remote endpoints; close it when no request is under way."""

    def __init__(self) -> None:
        self._connections = Connections()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connections.close()

    @asynccontextmanager
    async def post(self, endpoint: Endpoint, path: str, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response whose body is still to be read; leaving early closes the connection, which aborts the work.

        Args:
            endpoint: Where the model answers; its ``base_url`` ends in /v1.
            path: Below the base URL, with its slash; of /tokenize, beside it.
            body: JSON.

        Raises:
            EndpointLost: no connection came about, or it ended before an answer.
            ReplyBroken: nothing came for the endpoint's ``idle_timeout``.
        """
        asking = self._connections.post(
            url_of(endpoint, path),
            body,
            api_key=endpoint.api_key,
            remote=endpoint.placement == "remote",
            total=endpoint.total_timeout,
            idle=endpoint.idle_timeout,
        )
        async with AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(asking)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise lost(error, endpoint, begun=False) from error
            yield response


async def body_of(response: aiohttp.ClientResponse, endpoint: Endpoint) -> bytes:
    """The whole body of a response.

    Raises:
        ReplyBroken: it broke off, or nothing came for the endpoint's ``idle_timeout``.
    """
    try:
        return await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise lost(error, endpoint, begun=True) from error


def url_of(endpoint: Endpoint, path: str) -> str:
    """The address of a path."""
    return (endpoint.base_url.removesuffix("/v1") if path == "/tokenize" else endpoint.base_url) + path


def lost(error: Exception, endpoint: Endpoint, *, begun: bool) -> EndpointError:
    """The error for a request that broke off; the model is looked at now."""
    silent = isinstance(error, TIMEOUTS) and not isinstance(error, aiohttp.ConnectionTimeoutError)
    endpoint.suspect(silent)
    if silent:
        message = f"the model {endpoint.model!r} gave no sign for {endpoint.idle_timeout:g} s"
        return ReplyBroken(message, hint="router.timeouts sets the limit")
    reason = str(error) or type(error).__name__
    if begun:
        return ReplyBroken(f"the model {endpoint.model!r} broke off: {reason}")
    return EndpointLost(f"the model {endpoint.model!r} cannot be reached: {reason}")


def refused(status: int, body: bytes, endpoint: Endpoint) -> BenchAIError:
    """The error for an answer other than 200, in the words of the server that gave it."""
    said = _error_in(body)
    words = str(said.get("message") or f"HTTP {status}")[:LONGEST]
    if is_overflow(said):
        return ContextExceeded(
            f"the prompt is too long for the model {endpoint.model!r}: {words}",
            n_prompt_tokens=said.get("n_prompt_tokens"),
            n_ctx=said.get("n_ctx", endpoint.n_ctx),
        )
    # llama-server answers 500 to what its template, its schema converter or its parser of messages cannot read
    unread = status == 500 and not OWN_FAILURE.search(words)
    if unread or status in (400, 404, 415, 422, 501):
        return UsageError(f"the model {endpoint.model!r} refused the request: {words}")
    if status in (429, 503):
        return EndpointNotReady(f"the model {endpoint.model!r} is not ready: {words}")
    return EndpointError(f"the model {endpoint.model!r} failed: {words}")


def _error_in(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {"message": body[:200].decode(errors="replace")}
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, dict) else {"message": str(error or found)[:200]}
