"""The bench of a server: opened when the first workflow is asked for, because its libraries take a second to load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Self

from benchai.config import LoadedConfig
from benchai.events import Event
from benchai.runtime.background import in_background
from benchai.runtime.fleet.fleet import Fleet

if TYPE_CHECKING:
    from benchai.bench import Bench


class Workshop:
    """Runs workflows on the server's own fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._stop = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._bench: asyncio.Future[Bench] | None = None
        self._described: tuple[LoadedConfig, dict[str, str]] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._keeper is not None:
            await asyncio.wait([self._keeper])

    async def bench(self) -> Bench:
        """The bench.

        Raises:
            BenchAIError: why it cannot be opened; the next call tries again.
        """
        if self._bench is None or (self._bench.done() and self._bench.exception() is not None):
            self._bench = asyncio.get_running_loop().create_future()
            self._keeper = asyncio.create_task(self._keep(self._bench))
        return await asyncio.shield(self._bench)

    async def descriptions(self) -> dict[str, str]:
        """Workflow -> what it does; needs no bench, whose threads and servers of tools may be out of order."""
        loaded = self._fleet.loaded
        if self._described is None or self._described[0] is not loaded:
            self._described = loaded, await in_background(_describe, loaded)
        return self._described[1]

    async def stream(self, workflow: str, task: str, *, images: Sequence[bytes] = ()) -> AsyncGenerator[Event, None]:
        """See ``Bench.stream``."""
        bench = await self.bench()
        async with aclosing(bench.stream(workflow, task, images=images)) as events:
            async for event in events:
                yield event

    async def _keep(self, opened: asyncio.Future[Bench]) -> None:
        """Hold it open: in one task, as its context managers want to be left where they were entered."""
        try:
            bench_module = await in_background(_load)
            async with bench_module.open(self._fleet.loaded, endpoints=self._fleet) as bench:
                opened.set_result(bench)
                await self._stop.wait()
        except Exception as error:
            if not opened.done():
                opened.set_exception(error)


def _describe(loaded: LoadedConfig) -> dict[str, str]:
    from benchai.graphs.loader import load_workflows

    return {one.name: one.description for one in load_workflows(loaded).all()}


def _load() -> type[Bench]:
    from benchai.bench import Bench

    return Bench
