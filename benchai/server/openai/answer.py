"""An engine's answer to a request, from the lease to the last byte."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from types import TracebackType

import aiohttp

from benchai.runtime.endpoints import Endpoint
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.responses import Response
from benchai.server.openai.context_check import check_context
from benchai.server.openai.images import check_sight
from benchai.server.openai.job import Job
from benchai.server.openai.upstream import Upstream, body_of, lost, refused

#: Bytes of a request's body for each token of its prompt, about.
TOKEN_BYTES = 4


@dataclass(frozen=True)
class Head:
    """What is known of an answer before its first byte; times in seconds, ``brief`` as in ``Job``."""

    endpoint: Endpoint
    queue: float
    swap: float
    brief: bool = False

    def since(self, began: float) -> Head:
        """The same for a request that began later, seconds of ``time.monotonic``."""
        most = time.monotonic() - began
        return replace(self, queue=min(self.queue, most), swap=min(self.swap, most))


class Answer:
    """The bytes of an answer with status 200, as they come."""

    def __init__(self, head: Head, response: Response) -> None:
        self.head = head
        self._pieces = aiter(response)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next piece.

        Raises:
            ReplyBroken: the engine broke off, or gave no sign for too long.
        """
        endpoint = self.head.endpoint
        try:
            piece = await anext(self._pieces)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise lost(error, endpoint, begun=True) from error
        endpoint.progress()
        return piece


class answered:  # noqa: N801 - a context, written as a function would be called
    """Leases a model of the job's target and asks it; leaving early aborts its work.

    A class, because a generator's context takes three times as long.

    Args:
        fleet: Whose models are leased.
        upstream: Sends the request.
        job: What is asked.
        loading: Whether the wait is for a model to be ready, not for a place.

    Raises:
        ContextExceeded: the prompt is too long.
        EndpointLost, EndpointNotReady: the engine can be asked again.
        BenchAIError: the engine refused the request, or there is none.
    """

    def __init__(self, fleet: Fleet, upstream: Upstream, job: Job, loading: bool) -> None:
        self._upstream, self._job, self._loading = upstream, job, loading
        about = None if job.images else job.size // TOKEN_BYTES
        self._lease = fleet.lease_one_of(job.target.role, job.target.models, prompt_tokens=about)

    async def __aenter__(self) -> Answer:
        began = time.monotonic()
        endpoint = await self._lease.__aenter__()
        try:
            return await self._ask(endpoint, time.monotonic() - began)
        except BaseException as error:
            await self._lease.__aexit__(type(error), error, error.__traceback__)
            raise

    async def _ask(self, endpoint: Endpoint, waited: float) -> Answer:
        upstream, job, loading = self._upstream, self._job, self._loading
        job.brief = upstream.is_brief(job, endpoint)
        head = Head(endpoint, 0.0 if loading else waited, waited if loading else 0.0, job.brief)
        check_sight(endpoint, job)
        await check_context(upstream, endpoint, job)
        self._asking = upstream.post(endpoint, job.path, job.body_for(endpoint))
        response = await self._asking.__aenter__()
        if response.status != 200:
            try:
                said, again = await body_of(response, endpoint), response.headers.get("retry-after")
            finally:
                await self._asking.__aexit__(None, None, None)
            raise refused(response.status, said, endpoint, again)
        return Answer(head, response)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._asking.__aexit__(kind, error, trace)
        finally:
            await self._lease.__aexit__(kind, error, trace)
