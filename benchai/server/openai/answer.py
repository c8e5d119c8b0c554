"""An engine's answer to a request, from the lease to the last byte."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

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
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces.

        Raises:
            ReplyBroken: the engine broke off, or gave no sign for too long.
        """
        endpoint = self.head.endpoint
        try:
            async for piece in self._response:
                endpoint.progress()
                yield piece
        except (aiohttp.ClientError, TimeoutError) as error:
            raise lost(error, endpoint, begun=True) from error


@asynccontextmanager
async def answered(fleet: Fleet, upstream: Upstream, job: Job, loading: bool) -> AsyncIterator[Answer]:
    """Lease a model of the job's target and ask it; leaving early aborts its work.

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
    began = time.monotonic()
    about = None if job.images else job.size // TOKEN_BYTES
    async with fleet.lease_one_of(job.target.role, job.target.models, prompt_tokens=about) as endpoint:
        waited = time.monotonic() - began
        job.brief = upstream.is_brief(job, endpoint)
        head = Head(endpoint, 0.0 if loading else waited, waited if loading else 0.0, job.brief)
        check_sight(endpoint, job)
        await check_context(upstream, endpoint, job)
        async with upstream.post(endpoint, job.path, job.body_for(endpoint)) as response:
            if response.status != 200:
                said, again = await body_of(response, endpoint), response.headers.get("retry-after")
                raise refused(response.status, said, endpoint, again)
            yield Answer(head, response)
