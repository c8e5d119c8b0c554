"""The OpenAI wire as pure ASGI: parse, route, look into the cache, lease, pass the bytes, write a row.

Everything that an engine answers goes through here; all other paths go on to the application.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from benchai.errors import BenchAIError, EndpointError, EndpointLost, EndpointNotReady, ReplyBroken
from benchai.runtime.endpoints import Endpoint
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.router.cache.collector import Collector
from benchai.runtime.router.cache.tally import Tally
from benchai.runtime.usage.row import OK, new_id
from benchai.server.openai.answer import Head, answered
from benchai.server.openai.body import read_json
from benchai.server.openai.choices import one_usage
from benchai.server.openai.decide import Decider
from benchai.server.openai.ending import Ending
from benchai.server.openai.errors import failure
from benchai.server.openai.exchange import JSON, SSE, ClientGone, Exchange, Pulse, Receive, Scope, Send
from benchai.server.openai.forward import Batch, as_object, failed, last_events, pass_stream, whole, with_field
from benchai.server.openai.images import admit, shows
from benchai.server.openai.job import Job
from benchai.server.openai.replies import NO_CACHE_HEADER, Replies, give, wants_usage
from benchai.server.openai.schema import BODIES, check
from benchai.server.openai.upstream import Upstream, refused, was_silent
from benchai.server.openai.workflows import Runner, answer_by_workflow

#: Paths that engines answer.
PATHS = {f"/v1{path}": path for path in BODIES} | {"/tokenize": "/tokenize"}
#: An engine that broke off before its client saw anything is asked again so often.
RETRIES = 3
#: Seconds that a client is made to wait for a model that says when to come again; longer ones it is told.
PATIENCE = 2.0
#: Bytes of a stream that become one object, and the choices in it.
LARGEST, CHOICES = 64 * 1024 * 1024, 100_000
#: Bytes at the end of a stream in which an error is looked for.
SAID = 4_096
#: A stream whose last event holds the whole.
RESPONSES = "/responses"
#: Paths whose streams are chunks, with a reason for their end.
CHUNKED = ("/chat/completions", "/completions")
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Parts:
    """What the wire stands on; ``finished`` is told of each request at its end."""

    fleet: Fleet
    upstream: Upstream
    decider: Decider
    replies: Replies
    workflows: Runner
    finished: Callable[[Job], None]


class Wire:
    """ASGI application: engines' paths are served here, others by ``app``."""

    def __init__(self, app: App, parts: Parts) -> None:
        self._app = app
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        path = PATHS.get(scope.get("path", ""))
        if path is None or scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        state = scope.get("state") or {}
        exchange = Exchange(scope, receive, send)
        given = str(state.get("request_id", ""))
        # what a client chose, another one may choose, too
        own = given if exchange.header(b"x-request-id") is None else new_id()
        job = Job(own, path, {}, key=str(state.get("key", "")), request_id=given)
        try:
            await self._answer(exchange, job)
        except ClientGone:
            # or it was sent away while it was still sending
            job.status, job.outcome = state.get("refused", (499, "cancelled"))
        except BenchAIError as error:
            await self._fail(exchange, job, error)
        except BaseException as error:
            # the server ends, or a defect of ours: no request of those went well
            ended = isinstance(error, asyncio.CancelledError)
            job.outcome, job.status = ("cancelled", 499) if ended else (type(error).__name__, 500)
            raise
        finally:
            job.measured.total = time.monotonic() - job.measured.began
            self._parts.upstream.pace.ended(job.id, well=job.outcome == OK)
            self._parts.finished(job)

    async def _answer(self, exchange: Exchange, job: Job) -> None:
        body = await exchange.read()
        job.data, job.size = read_json(body), len(body)
        check(job.data, job.path)
        pictures = shows(body)
        if not pictures and (kept := self._find(exchange, job)) is not None:
            await give(exchange, job, kept)
            return
        with exchange.watched():
            pulse = Pulse(exchange, self._parts.decider.loaded.config.router.keep_alive) if job.stream else None
            try:
                await self._answer_in_time(exchange, job, pulse, pictures)
            finally:
                if pulse is not None:
                    await pulse.stop()

    def _find(self, exchange: Exchange, job: Job) -> bytes | None:
        """Decide who answers, and look for a kept reply to the very same request."""
        self._parts.decider.decide(job, exchange.header(b"x-benchai-role"))
        return self._parts.replies.find(job, exchange.header(NO_CACHE_HEADER))

    async def _answer_in_time(self, exchange: Exchange, job: Job, pulse: Pulse | None, pictures: bool) -> None:
        """What may take long, while the client is watched and told that somebody is there."""
        kept = None
        if pictures:
            await admit(job)
            kept = self._find(exchange, job)
        if kept is None:
            kept = await self._parts.replies.find_similar(job)
        if kept is not None:
            await give(exchange, job, kept)
        elif job.target.workflow:
            await answer_by_workflow(self._parts.workflows, exchange, job, pulse)
        else:
            await self._ask(exchange, job, pulse)

    async def _ask(self, exchange: Exchange, job: Job, pulse: Pulse | None) -> None:
        """Ask an engine; again when it broke off and the client has seen nothing of its reply."""
        for number in range(1, RETRIES + 1):
            try:
                async with self._source(job) as (head, pieces):
                    job.endpoint, job.queue, job.swap = head.endpoint, job.queue + head.queue, job.swap + head.swap
                    job.brief = head.brief
                    if pulse is None:
                        await self._pass_whole(pieces, exchange, job)
                    else:
                        await self._pass_stream(pieces, exchange, job, pulse)
                self._parts.decider.answered(job)
                if job.endpoint is not None:
                    self._parts.upstream.pace.note(job.endpoint, job.measured)
                return
            except (EndpointLost, ReplyBroken, EndpointNotReady) as error:
                if number == RETRIES or (job.stream and job.measured.first is not None):
                    raise
                if was_silent(error) and number > 1:
                    raise
                if isinstance(error, EndpointNotReady):
                    if error.retry_after > PATIENCE:
                        raise
                    await asyncio.sleep(error.retry_after)

    @asynccontextmanager
    async def _source(self, job: Job) -> AsyncIterator[tuple[Head, AsyncIterator[bytes]]]:
        """The answer to a request, which may be that to an identical one."""
        parts = self._parts
        loading = parts.decider.loading(job.target)
        if job.cache_key is None:
            async with answered(parts.fleet, parts.upstream, job, loading) as answer:
                yield answer.head, aiter(answer)
            return
        async with parts.replies.join(job, lambda: answered(parts.fleet, parts.upstream, job, loading)) as shared:
            head = await shared.head()
            if not shared.leader:
                # it came when the other one had waited already
                head = head.since(job.measured.began)
            job.cache = "none" if shared.leader else "shared"
            yield head, aiter(shared)

    async def _pass_stream(self, pieces: AsyncIterator[bytes], exchange: Exchange, job: Job, pulse: Pulse) -> None:
        if not exchange.started:
            await exchange.start(200, [*SSE, *job.headers()])
        collector = Collector() if job.cache_key is not None else None
        ending = Ending(LARGEST) if job.path == RESPONSES else None
        reader = ending or collector

        batch = Batch(reader.feed) if reader is not None else None
        tally = tally_for(job)
        if tally is not None:
            pieces = one_usage(pieces, tally, wanted=wants_usage(job))

        def taken(piece: bytes) -> None:
            job.measured.piece()
            if batch is not None:
                batch.take(piece)

        tail = await pass_stream(pieces, exchange, pulse, job.field(), taken)
        if batch is not None:
            batch.end()
        events = last_events(tail) if ending is None else [ending.event]
        for event in events if tally is None else [*events, {"usage": tally.usage}]:
            job.measured.count(event)
        if failed(events):
            # the client has read it
            job.outcome, job.status = EndpointError.__name__, EndpointError.status
        elif job.path in CHUNKED and not whole(tail, events):
            raise broken_off(job.endpoint, "the stream ended in the middle of the reply")
        await exchange.end()
        if collector is not None:
            self._parts.replies.keep(job, collector.reply())

    async def _pass_whole(self, pieces: AsyncIterator[bytes], exchange: Exchange, job: Job) -> None:
        """A reply that is no stream; where it was asked for as one, what its events add up to."""
        assert job.endpoint is not None
        reader = None
        parts: list[bytes] = []
        if job.assembled:
            reader = Ending(LARGEST) if job.path == RESPONSES else Collector(LARGEST, CHOICES, tally_for(job))
        take = parts.append if reader is None else reader.feed
        tail = b""
        async for piece in pieces:
            job.measured.piece()
            take(piece)
            if reader is not None:
                tail = (tail + piece)[-SAID:]
        reply = None if reader is None else assembled(reader, job.endpoint, tail)
        job.reply = body = b"".join(parts) if reply is None else orjson.dumps(reply)
        field, headers = job.told()
        try:
            await exchange.reply(200, [JSON, *headers], with_field(body, field))
        finally:
            # the client does not wait for this
            reply = as_object(body) if reply is None else reply
            job.measured.count(reply)
            self._parts.replies.keep(job, reply)

    async def _fail(self, exchange: Exchange, job: Job, error: BenchAIError) -> None:
        """Answer with an error, or end a stream that has begun with one."""
        status, headers, body = failure(error)
        job.outcome, job.status = type(error).__name__, status
        if not exchange.started:
            await exchange.reply(status, [*headers, *job.headers()], body)
            return
        separator = b"" if exchange.whole_events else b"\n\n"
        await exchange.end(separator + b"data: " + body + b"\n\n")


def tally_for(job: Job) -> Tally | None:
    """What counts the tokens of a stream; None where its server does: llama-server counts each choice for itself."""
    assert job.endpoint is not None
    own = job.endpoint.placement != "remote"
    return Tally(job.each) if own and job.choices > 1 and job.path in CHUNKED else None


def assembled(reader: Collector | Ending, endpoint: Endpoint, tail: bytes) -> dict[str, Any]:
    """The whole reply that a stream added up to.

    Engines are asked for streams even where the client wants one object: an engine looks whether its client is still
    there only between the pieces of a stream, and the pieces show that it works.

    Args:
        reader: What read it.
        endpoint: Where it came from.
        tail: Its last bytes.

    Raises:
        ReplyBroken: the stream did not come to its end, or holds what cannot be put together.
        BenchAIError: it ended with an error of the engine.
    """
    reply = reader.whole()
    if reply is None:
        for event in last_events(tail):
            said = event.get("error")
            if isinstance(said, dict):
                # in the engine's own words, as if it had said so before it began
                code = said.get("code")
                raise refused(code if isinstance(code, int) else 500, orjson.dumps(event), endpoint)
        why = reader.gave_up or "the stream ended in the middle of the reply"
        raise broken_off(endpoint, why)
    return reply


def broken_off(endpoint: Endpoint | None, why: str) -> ReplyBroken:
    """The error for a reply that is not whole."""
    return ReplyBroken(f"the model {endpoint.model if endpoint else ''!r} broke off: {why}")
