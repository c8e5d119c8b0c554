"""A run under way: its events as they are handed out and kept, and its result."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from langgraph.runtime import RunControl

from benchai.errors import BenchAIError, Refused
from benchai.events import ApprovalRequested, Delta, Event, ModelCall, Result, RunStarted, StopReason
from benchai.graphs.checkpoints import KEEP_EVENT, ThreadStore
from benchai.graphs.execution import Approver, Beginning
from benchai.graphs.guards import Ledger
from benchai.graphs.registry import Workflow

# an event is kept at the next checkpoint, or so many seconds later
LATEST = 1.0


class Done(Event):
    """Wakes the stream when the run is over."""

    type = "done"


@dataclass(eq=False)
class Run:
    """One run under way, and the events it has not handed out yet."""

    workflow: Workflow
    task: str
    beginning: Beginning
    thread_id: str
    ledger: Ledger
    approver: Approver | None = None
    approve_plan: bool = False
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    control: RunControl = field(default_factory=RunControl)
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    working: asyncio.Task[tuple[str, StopReason]] | None = None
    _unkept: list[Event] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _row: Callable[[Event], tuple[str, str, str]] | None = None

    def emit(self, event: Event) -> None:
        """Hand an event out; all but pieces of text are kept with the thread, too."""
        self.events.put_nowait(event)
        if not isinstance(event, Delta):
            self._unkept.append(event)
            self._more.set()

    @asynccontextmanager
    async def keeping_events(self, threads: ThreadStore) -> AsyncIterator[None]:
        """Write events to the thread as they come, while the context is open; the last ones when it closes.

        A run that could not begin leaves the thread as it was.
        """
        keeping = asyncio.create_task(self._keep(threads))
        self._row = threads.event_row(self.thread_id, self.run_id, resumed=self.beginning.inputs is None)
        threads.saver.riders.append(self)
        try:
            yield
        except Refused:
            self._unkept.clear()
            await asyncio.shield(threads.take_back(self.thread_id))
            raise
        finally:
            threads.saver.riders.remove(self)
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await asyncio.shield(self._write(threads))

    async def _keep(self, threads: ThreadStore) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            # most go with the next checkpoint, in its transaction
            await asyncio.sleep(LATEST)
            await asyncio.shield(self._write(threads))

    def write(self, cursor: sqlite3.Cursor) -> int:
        """Write the events that wait in the transaction of a checkpoint."""
        waiting = list(self._unkept)
        if waiting and self._row is not None:
            cursor.executemany(KEEP_EVENT, [self._row(event) for event in waiting])
            return len(waiting)
        return 0

    def written(self, count: int) -> None:
        """So many events are kept."""
        del self._unkept[:count]

    async def _write(self, threads: ThreadStore) -> None:
        found, self._unkept = self._unkept, []
        if found:
            await threads.keep_events(self.thread_id, self.run_id, found, resumed=self.beginning.inputs is None)


async def result_of(run: Run, working: asyncio.Task[tuple[str, StopReason]]) -> Result:
    """The last event of a run that has ended, however it did."""
    output, error = "", None
    reason: StopReason = "error"
    try:
        output, reason = await working
    except BenchAIError as known:
        error = known.message
    except Exception as unknown:  # the stream raises it after the result
        error = f"{type(unknown).__name__}: {unknown}"
    return Result(
        output=output,
        stop_reason=reason,
        steps=run.ledger.steps,
        usage=run.ledger.usage(),
        thread_id=run.thread_id,
        workflow=run.workflow.name,
        error=error,
    )


def spent_before(ledger: Ledger, events: Sequence[Mapping[str, Any]]) -> None:
    """Count what the thread's last task has spent, in all the runs that worked on it: calls, tokens, seconds."""
    begins = [place for place, event in enumerate(events) if _begins_a_task(event)]
    task = events[begins[-1] :] if begins else events
    for event in task:
        if event["type"] == ModelCall.type:
            ledger.steps = max(ledger.steps, int(event["step"]))
            ledger.prompt_tokens += int(event["prompt_tokens"])
            ledger.completion_tokens += int(event["completion_tokens"])
    ledger.began -= sum(_seconds_between(event, after) for event, after in pairwise(task))


def _begins_a_task(event: Mapping[str, Any]) -> bool:
    return bool(event["type"] == RunStarted.type and not event.get("resumed"))


def _seconds_between(event: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """Seconds of work between two events: what passed between two runs, or while the user decided, is none."""
    if event["type"] == ApprovalRequested.type or after["type"] == RunStarted.type:
        return 0.0
    return max(float(after["time"]) - float(event["time"]), 0.0)
