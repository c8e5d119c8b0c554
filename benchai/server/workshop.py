"""The benches of a server: opened when a workflow is asked for, because their libraries take a second to load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from benchai.config import LoadedConfig
from benchai.errors import Unavailable
from benchai.events import Event
from benchai.runtime.background import in_background
from benchai.runtime.fleet.fleet import Fleet

if TYPE_CHECKING:
    from langgraph.store.base import BaseStore

    from benchai.bench import Bench
    from benchai.graphs.memories import Memories

RETRY_SECONDS = 5.0


class _Kept:
    """A bench on one configuration, held open until it is let go and nobody uses it any more."""

    def __init__(self, fleet: Fleet, memories: Memories | None) -> None:
        self._memories = memories
        self.loaded = fleet.loaded
        self.opened: asyncio.Future[Bench] = asyncio.get_running_loop().create_future()
        self.users = 0
        self._fleet = fleet
        self._old = False
        self._unused = asyncio.Event()
        self.keeper = asyncio.create_task(self._keep())
        # however the task ends, cancelled before it began too: nobody waits for ever
        self.keeper.add_done_callback(self._ended)

    @property
    def useful(self) -> bool:
        """Whether a run can have it, now or once it is open."""
        return not self._old and not self.keeper.done()

    def let_go(self, *, at_once: bool = False) -> None:
        """Close it when its last run has ended."""
        self._old = True
        if at_once or not self.users:
            self._unused.set()

    @asynccontextmanager
    async def used(self) -> AsyncIterator[Bench]:
        """The bench, which stays open meanwhile."""
        self.users += 1
        try:
            yield await asyncio.shield(self.opened)
        finally:
            self.users -= 1
            if self._old:
                self.let_go()

    async def _keep(self) -> None:
        """Hold it open: in one task, as its context managers want to be left where they were entered."""
        try:
            open_bench, store = await in_background(_load)
            # the request that a workflow answers has a row, with the tokens of all its calls
            given: Any = {"usage": False, "memories": self._memories, "store": store}
            async with open_bench(self.loaded, endpoints=self._fleet, **given) as bench:
                self.opened.set_result(bench)
                await self._unused.wait()
        except Exception as error:
            if not self.opened.done():
                self.opened.set_exception(error)

    def _ended(self, _: asyncio.Task[None]) -> None:
        if not self.opened.done():
            self.opened.set_exception(Unavailable("the server ends", retry_after=RETRY_SECONDS))
        # it may be that nobody asks any more
        self.opened.exception()


class Workshop:
    """Runs workflows on the server's own fleet, with the configuration that the fleet has when a run begins."""

    def __init__(self, fleet: Fleet, memories: Memories | None = None) -> None:
        self._fleet = fleet
        self._memories = memories
        self._kept: _Kept | None = None
        self._open: set[_Kept] = set()
        self._describing = asyncio.Lock()
        self._described: tuple[LoadedConfig, dict[str, str]] | None = None
        #: Threads on which an answer is being taken, or a run goes on with one.
        self.answering: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for kept in self._open:
            kept.let_go(at_once=True)
        if self._open:
            await asyncio.wait([kept.keeper for kept in self._open])

    @asynccontextmanager
    async def bench(self) -> AsyncIterator[Bench]:
        """The bench of the present configuration, open for as long as the context is.

        Raises:
            BenchAIError: why it cannot be opened; the next call tries again.
        """
        async with self._present().used() as bench:
            yield bench

    def apply(self) -> None:
        """The fleet has taken another configuration: close what is open on the old one once its runs have ended."""
        if self._kept is not None and self._kept.loaded is not self._fleet.loaded:
            self._kept.let_go()
            self._kept = None

    async def descriptions(self) -> dict[str, str]:
        """Workflow -> what it does; needs no bench, whose threads and servers of tools may be out of order."""
        loaded = self._fleet.loaded
        async with self._describing:
            if self._described is None or self._described[0] is not loaded:
                self._described = loaded, await in_background(_describe, loaded)
            return self._described[1]

    async def stream(
        self,
        workflow: str,
        task: str,
        *,
        images: Sequence[bytes] = (),
        thread_id: str | None = None,
        approve_plan: bool = False,
        user: str | None = None,
        said: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """See ``Bench.stream``."""
        async with self.bench() as bench:
            settings: Any = {"thread_id": thread_id, "approve_plan": approve_plan, "user": user, "said": said}
            running = bench.stream(workflow, task, images=images, **settings)
            async with aclosing(running) as events:
                async for event in events:
                    yield event

    def _present(self) -> _Kept:
        # the fleet takes another one before it has ended what left
        self.apply()
        if self._kept is None or not self._kept.useful:
            kept = self._kept = _Kept(self._fleet, self._memories)
            self._open.add(kept)
            kept.keeper.add_done_callback(lambda _: self._open.discard(kept))
        return self._kept


def _describe(loaded: LoadedConfig) -> dict[str, str]:
    from benchai.graphs.loader import load_workflows

    return {one.name: one.description for one in load_workflows(loaded).all()}


def _load() -> tuple[Callable[..., AbstractAsyncContextManager[Bench]], BaseStore]:
    """What opens a bench, and the store that its graphs get."""
    from benchai.bench import Bench
    from benchai.graphs.stores import RunStore

    return Bench.open, RunStore()
