"""What `benchai serve` shows on its port: the wire over the operators' application, and what both stand on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

import orjson
from fastapi import FastAPI
from starlette.routing import Route

from benchai.config import LoadedConfig
from benchai.config.cache import CacheConfig
from benchai.events import Emit, Event, Notice
from benchai.graphs.memories import Memories
from benchai.runtime.background import in_background
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.router.cache.exact import ExactCache
from benchai.runtime.router.cache.overview import file as cache_file
from benchai.runtime.router.rules import Rules
from benchai.runtime.router.tables import tables
from benchai.runtime.usage.log import UsageLog
from benchai.runtime.usage.row import UsageRow, new_id
from benchai.server.agent.app import agent_router
from benchai.server.agent.endpoint import AgentEndpoint
from benchai.server.feedback import feedback_router
from benchai.server.mcp import PATH as MCP_PATH
from benchai.server.mcp import House, McpDoor
from benchai.server.metrics import Metrics
from benchai.server.openai.catalog import catalog_router
from benchai.server.openai.decide import Decider
from benchai.server.openai.describe import describe
from benchai.server.openai.embedder import ROLE, FleetEmbedder
from benchai.server.openai.job import Job
from benchai.server.openai.names import Names
from benchai.server.openai.replies import Replies
from benchai.server.openai.upstream import Upstream
from benchai.server.openai.wire import Parts, Wire
from benchai.server.workshop import Workshop

if TYPE_CHECKING:
    from benchai.runtime.router.cache.similar import SimilarCache

#: Characters of a name in a row.
LONGEST = 200


class Face:
    """Open it while the fleet runs: ``async with Face(fleet, emit) as face``."""

    def __init__(self, fleet: Fleet, emit: Emit) -> None:
        self.fleet = fleet
        self.metrics = Metrics(fleet)
        self.decider = Decider(fleet, Names(fleet.loaded), Rules(tables(fleet.loaded.config.routing)))
        self._emit = emit
        self._stack = AsyncExitStack()
        self.replies: Replies | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            config = self.fleet.loaded.config
            self.upstream = await stack.enter_async_context(Upstream())
            self.memories = await stack.enter_async_context(Memories(self.fleet.loaded, self.fleet, owner=True))
            self.workshop = await stack.enter_async_context(Workshop(self.fleet, self.memories))
            self.usage = UsageLog(config.usage, emit=self._emit)
            stack.push_async_callback(in_background, self.usage.close)
            house = House(self.workshop.bench, self.memories, self.usage.append)
            self.mcp = await stack.enter_async_context(McpDoor(house))
            agent = AgentEndpoint(self.workshop, lambda: self.fleet.loaded, self.usage.append)
            self.agent = await stack.enter_async_context(agent)
            self.exact = self._cache(config.cache)
            stack.push_async_callback(in_background, self.exact.close)
            self._stack = stack.pop_all()
        self.usage.begin(self._core())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def over(self, app: FastAPI) -> Wire:
        """The wire; other paths are ``app``'s, which gets the routes that need no speed."""
        workflows = self.workshop.descriptions
        app.include_router(catalog_router(self.fleet, lambda: self.decider.names, workflows, self.metrics))
        app.include_router(feedback_router(self.usage))
        app.include_router(agent_router(self.agent.service))
        # no router: its paths below would be redirected to
        app.routes.append(Route(MCP_PATH, self.mcp))
        describe(app)
        replies = self.replies = self._replies()
        return Wire(app, Parts(self.fleet, self.upstream, self.decider, replies, self.workshop, self._finished))

    def observe(self, event: Event) -> None:
        """Take what happens to the fleet."""
        self.usage.observe(event)

    def prepare(self, loaded: LoadedConfig) -> Callable[[], None]:
        """Make all that another configuration needs; nothing has changed yet.

        Returns what goes on with it, to be called once the fleet has taken it; that does not fail.

        Raises:
            ConfigError: no model serves a role that it needs.
        """
        cache, similar = loaded.config.cache, self._similar(loaded)
        router, agent = Rules(tables(loaded.config.routing)), self.agent.prepare(loaded)

        def take() -> None:
            self.decider.router = router
            self.exact.apply(size=cache.size, max_age=cache.max_age)
            if self.replies is not None:
                self.replies.apply(similar, enabled=_keeps(cache))
            self.workshop.apply()
            agent()
            self.usage.apply(loaded.config.usage)
            self.usage.begin(self._core())

        return take

    def _replies(self) -> Replies:
        loaded = self.fleet.loaded
        return Replies(self.fleet, self.exact, self._similar(loaded), enabled=_keeps(loaded.config.cache))

    def _similar(self, loaded: LoadedConfig) -> SimilarCache | None:
        """The cache of similar requests; None where it is off."""
        config = loaded.config.cache.similar
        if not config.enabled:
            return None
        # it needs numpy
        from benchai.runtime.router.cache.similar import SimilarCache

        model, _ = loaded.model_for(ROLE)
        embedder = FleetEmbedder(self.fleet, self.upstream)
        return SimilarCache(self.exact, embedder, config, model=model, report=self._report)

    def _report(self, text: str) -> None:
        # it comes from the thread that writes, too
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._emit, Notice(text=text))

    def _core(self) -> dict[str, str]:
        config = self.fleet.loaded.config
        return {role: model for role, model in config.role_map().items() if role in config.fleet.core}

    def _cache(self, config: CacheConfig) -> ExactCache:
        return ExactCache(cache_file(), size=config.size, max_age=config.max_age, report=self._report)

    def _finished(self, job: Job) -> None:
        self.metrics.take(job)
        self.usage.append(row_of(job, self.usage.keeps_contents))


def _keeps(config: CacheConfig) -> bool:
    return config.exact or config.similar.enabled


def row_of(job: Job, contents: bool) -> UsageRow:
    """The usage row of a request that has ended; what was asked only where the user opted in."""
    measured, asked = job.measured, job.data.get("model")
    # what a client sends may be megabytes
    return UsageRow(
        id=job.id or new_id(),
        request_id=job.request_id if job.request_id != job.id else None,
        time=job.began,
        key=job.key or None,
        session=job.session or None,
        asked=asked[:LONGEST] if isinstance(asked, str) else None,
        role=job.endpoint.role if job.endpoint else job.target.role or None,
        model=job.model or None,
        workflow=job.target.workflow[:LONGEST] or None,
        score=job.route.complexity if job.route else None,
        reason=job.reason,
        tokens_in=measured.prompt_tokens or None,
        tokens_out=measured.completion_tokens or None,
        tokens_cached=measured.cached_tokens if measured.prompt_tokens else None,
        queue_s=job.queue,
        swap_s=job.swap,
        first_token_s=measured.first,
        total_s=measured.total,
        tokens_per_s=measured.tokens_per_second,
        cache=job.cache,
        outcome=job.outcome,
        status=job.status,
        request=orjson.dumps(job.data).decode() if contents else None,
        reply=job.reply.decode(errors="replace") if contents and job.reply else None,
    )
