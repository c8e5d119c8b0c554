"""The runs under way on a bench: what happens to the fleet is told to all of them, and they end together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from benchai.events import Emit, Event, ModelState, StopReason
from benchai.graphs.running import Done, Run
from benchai.tracing.tracer import Tracer

#: Output and stop reason.
Ended = tuple[str, StopReason]


class Runs:
    """The runs under way.

    Attributes:
        under_way: The runs, the oldest first.
    """

    def __init__(self, tracer: Tracer) -> None:
        self.under_way: list[Run] = []
        self._tracer = tracer

    @asynccontextmanager
    async def working(self, run: Run, work: Coroutine[Any, Any, Ended]) -> AsyncIterator[asyncio.Task[Ended]]:
        """Work on a run in a task of its own, which ends when the context closes; ``Done`` is the last event."""
        self.under_way.append(run)
        task = run.working = asyncio.create_task(work)
        task.add_done_callback(lambda _: run.events.put_nowait(Done()))
        try:
            yield task
        finally:
            self.under_way.remove(run)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def emitter(self, run: Run) -> Emit:
        """Takes the events of a run, for its trace too where there is one."""
        return self._tracer.follow(run.run_id, run.emit)

    def broadcast(self, event: Event) -> None:
        """What happens to the fleet concerns every run; of the states of processes it is told less often."""
        if isinstance(event, ModelState):
            return
        for run in self.under_way:
            self.emitter(run)(event)

    def drain(self) -> None:
        """Stop all runs at their next step boundary, each with a checkpoint to go on from."""
        for run in self.under_way:
            run.control.request_drain()

    async def end(self) -> None:
        """Cancel the runs whose streams were left early, while their thread can still be noted."""
        left = [run.working for run in self.under_way if run.working is not None]
        for working in left:
            working.cancel()
        await asyncio.gather(*left, return_exceptions=True)
