"""What a bench owns: made from the configuration, opened in turn, closed in reverse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchai.agents.model import Models
from benchai.agents.role import Agents
from benchai.bench.runs import Runs
from benchai.config import LoadedConfig
from benchai.errors import ConfigError
from benchai.events import Emit
from benchai.graphs.checkpoints import ThreadStore, open_threads
from benchai.graphs.further_tools import further_tools
from benchai.graphs.loader import load_workflows
from benchai.graphs.memories import Memories
from benchai.graphs.registry import WorkflowRegistry
from benchai.graphs.remembering import Remembering
from benchai.runtime.attached import attached
from benchai.runtime.background import in_background
from benchai.runtime.endpoints import Endpoints
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.usage.log import UsageLog
from benchai.tools.permissions import Permissions
from benchai.tools.selection import select_tools
from benchai.tracing.tracer import Tracer, tracing

if TYPE_CHECKING:
    from langgraph.store.base import BaseStore

    from benchai.memory.extract import Extractor


class Parts:
    """What a bench owns, and what it was given in place of its own.

    Attributes:
        loaded: The configuration.
        workspace: The folder that file tools see.
        registry: The workflows.
        threads: Conversations, with their checkpoints.
        tracer: Follows runs into traces.
        runs: The runs under way.
        endpoints: Where the models answer.
        fleet: The same, where it is a fleet of our own to start and stop; else None.
        models: Connections to them.
        memories: Opens the memory.
        remembering: What runs recall, and what is kept of them.
        tools: What agents call.
        permissions: Which calls of tools are asked for.
        store: What graphs without a store of their own get as theirs.
        usage: Takes a row for each call of a model; None where none is kept.
        problems: What each run is told is missing.
    """

    def __init__(
        self,
        loaded: LoadedConfig,
        workspace: Path,
        registry: WorkflowRegistry,
        threads: ThreadStore,
        tracer: Tracer,
        endpoints: Endpoints | None = None,
        memories: Memories | None = None,
        store: BaseStore | None = None,
    ) -> None:
        self.loaded = loaded
        self.workspace = workspace
        self.registry = registry
        self.threads = threads
        self.tracer = tracer
        self.runs = Runs(tracer)
        self.models = Models()
        self.endpoints, self.fleet = (endpoints, None) if endpoints is not None else self._choose_fleet()
        self.memories = memories or Memories(loaded, self.endpoints)
        self.remembering = Remembering(self.memories, self._learner(), loaded)
        self.tools = select_tools(loaded.config.tools)
        self.permissions = Permissions.from_config(loaded.config.tools)
        self.store = store
        self.usage: UsageLog | None = None
        self.problems: list[str] = []

    def agents(self, emit: Emit) -> Agents:
        """Callers by role, whose events ``emit`` takes."""
        return Agents(self.endpoints, emit, self.models)

    def is_served(self, role: str) -> bool:
        """Whether a model serves a role."""
        try:
            self.loaded.model_for(role)
        except ConfigError:
            return False
        return True

    def model_of(self, role: str) -> str:
        """The model that serves a role; the role itself where none does."""
        return self.loaded.model_for(role)[0] if self.is_served(role) else role

    def _choose_fleet(self) -> tuple[Endpoints, Fleet | None]:
        """The fleet of a running server that serves the same models, or one of our own."""
        served = attached(self.loaded, self.runs.broadcast)
        if served is not None:
            return served, None
        fleet = Fleet(self.loaded, self.runs.broadcast)
        return fleet, fleet

    def _learner(self) -> Callable[[], Extractor] | None:
        """What takes facts from runs; None where nothing is learned by itself."""
        if self.loaded.config.memory.learn != "after_run":
            return None

        def extractor() -> Extractor:
            from benchai.graphs.learning import ROLE, asks
            from benchai.memory.extract import Extractor

            return Extractor(asks(self.agents(self.runs.broadcast)), self.model_of(ROLE))

        return extractor


@asynccontextmanager
async def opened(
    loaded: LoadedConfig,
    workspace: Path,
    *,
    trace: Path | str | None,
    endpoints: Endpoints | None,
    usage: bool,
    memories: Memories | None,
    store: BaseStore | None,
) -> AsyncIterator[Parts]:
    """The parts of a bench, open; see ``Bench.open`` for the settings and the errors."""
    registry = load_workflows(loaded)
    async with tracing(trace) as tracer, open_threads(loaded.config.threads) as threads:
        parts = Parts(loaded, workspace, registry, threads, tracer, endpoints, memories, store)
        async with _open(parts, usage=usage, own_memory=memories is None):
            try:
                yield parts
            finally:
                await parts.runs.end()
                await parts.remembering.kept()


@asynccontextmanager
async def _open(parts: Parts, *, usage: bool, own_memory: bool) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        if usage and parts.loaded.config.usage.enabled:
            await stack.enter_async_context(_with_usage(parts))
        for tool in await stack.enter_async_context(further_tools(parts.loaded, parts.workspace, parts.problems)):
            parts.tools.add(tool)
        await stack.enter_async_context(parts.models)
        if parts.fleet is not None:
            await stack.enter_async_context(parts.fleet)
        if own_memory:
            # closed before its models: what is still being embedded asks them
            await stack.enter_async_context(parts.memories)
        yield


@asynccontextmanager
async def _with_usage(parts: Parts) -> AsyncIterator[None]:
    """Keep the usage rows of this bench's calls; a server attached to hands out leases, and sees no calls."""
    parts.usage = UsageLog(parts.loaded.config.usage, emit=parts.runs.broadcast)
    try:
        yield
    finally:
        await in_background(parts.usage.close)
