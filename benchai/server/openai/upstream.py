"""Requests to engines, and what their failures mean."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
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
from benchai.runtime.responses import Response
from benchai.server.openai.job import ASSEMBLED, Job
from benchai.server.openai.pace import Pace

LONGEST = 500
#: Seconds after which a client is told to come again at most.
MOST_SECONDS = 3600.0
#: What an engine says when it is at fault, and not the request.
OWN_FAILURE = re.compile(r"comput|decod|memory|alloc|slot|internal|failed to parse (?:input|tool call)", re.IGNORECASE)
TIMEOUTS = (aiohttp.ServerTimeoutError, TimeoutError)


class Upstream:
    """Sends requests to the engines of a fleet and to remote endpoints; close it when no request is under way."""

    def __init__(self) -> None:
        self.pace = Pace()
        self._connections = Connections()

    def is_brief(self, job: Job, endpoint: Endpoint) -> bool:
        """Whether a reply is over before its engine would find that nobody waits for it; see ``Pace``."""
        # llama-server counts the tokens of all choices in streams alone
        if endpoint.placement == "remote" or job.stream or job.choices > 1 or job.path not in ASSEMBLED:
            return False
        brief = self.pace.brief(endpoint, job.tokens_for(endpoint))
        if brief and not job.measured.total:
            # for others who asked the same it goes on when the first one has left, who told of its end
            self.pace.begun(job.id, endpoint.model)
        return brief

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connections.close()

    def post(self, endpoint: Endpoint, path: str, body: bytes) -> Asking:
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
        return Asking(asking, endpoint)


class Asking:
    """A request under way, as a context: its value is the response."""

    def __init__(self, asking: AbstractAsyncContextManager[Response], endpoint: Endpoint) -> None:
        self._asking, self._endpoint = asking, endpoint

    async def __aenter__(self) -> Response:
        try:
            return await self._asking.__aenter__()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise lost(error, self._endpoint, begun=False) from error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._asking.__aexit__(kind, error, trace)


async def body_of(response: Response, endpoint: Endpoint) -> bytes:
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
    silent = _is_silence(error)
    endpoint.suspect(silent)
    if silent:
        over = f"gave no sign for {endpoint.idle_timeout:g} s"
        if not isinstance(error, aiohttp.ServerTimeoutError):
            over = f"took longer than {endpoint.total_timeout:g} s"
        return ReplyBroken(f"the model {endpoint.model!r} {over}", hint="router.timeouts sets the limit")
    if begun:
        return ReplyBroken(f"the model {endpoint.model!r} broke off: {_words(error)}")
    return EndpointLost(f"the model {endpoint.model!r} cannot be reached: {_words(error)}")


def was_silent(error: BaseException) -> bool:
    """Whether an error of ``lost`` is about a model that took too long: to ask again takes as long again."""
    return error.__cause__ is not None and _is_silence(error.__cause__)


def _is_silence(error: BaseException) -> bool:
    return isinstance(error, TIMEOUTS) and not isinstance(error, aiohttp.ConnectionTimeoutError)


def _words(error: Exception) -> str:
    """What went wrong with a connection, without the address that it led to: clients read it."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or "no connection came about"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no connection came about in time"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed before an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection was closed in the middle of the answer"
    return type(error).__name__


def refused(status: int, body: bytes, endpoint: Endpoint, retry_after: str | None = None) -> BenchAIError:
    """The error for an answer other than 200, in the words of the server that gave it.

    Args:
        status: HTTP status.
        body: What it said.
        endpoint: Who.
        retry_after: The header that says when to come again, or None.
    """
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
        message = f"the model {endpoint.model!r} is not ready: {words}"
        return EndpointNotReady(message, retry_after=_seconds(retry_after))
    return EndpointError(f"the model {endpoint.model!r} failed: {words}")


def _seconds(retry_after: str | None) -> float:
    """Seconds of a Retry-After; one second where it names a date, or is not there."""
    try:
        return min(max(float(retry_after or 1), 0.0), MOST_SECONDS)
    except ValueError:
        return 1.0


def _error_in(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {"message": body[:200].decode(errors="replace")}
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, dict) else {"message": str(error or found)[:200]}
