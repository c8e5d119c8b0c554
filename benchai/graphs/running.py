"""A run under way: its events as they are handed out and kept, and its result."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from langgraph.runtime import RunControl
from langgraph.store.base import BaseStore

from benchai.errors import BenchAIError, Refused
from benchai.events import ApprovalRequested, Delta, Event, ModelCall, Result, RunStarted, StopReason, ToolCall
from benchai.graphs.checkpoints import ThreadStore
from benchai.graphs.execution import Approver, Beginning
from benchai.graphs.guards import Ledger
from benchai.graphs.registry import Workflow
from benchai.graphs.streaming import Part, Streaming, piece_of

# an event is kept at the next checkpoint, or so many seconds later
LATEST = 1.0
# characters of what a run is remembered to have done
LONGEST_STEP = 300


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
    result: Result | None = None
    did: list[str] = field(default_factory=list)
    user: str | None = None
    said: str | None = None
    streaming: Streaming | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    store: BaseStore | None = None
    _blanks: dict[str, tuple[bool, str]] = field(default_factory=dict)
    _unkept: list[Event] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _row: Callable[[Event], tuple[str, str, str]] | None = None

    def emit(self, event: Event) -> None:
        """Hand an event out; all but pieces of text are kept with the thread, too, up to the result."""
        self.events.put_nowait(event)
        if isinstance(event, ToolCall):
            self.did.append(f"{event.name} {json.dumps(event.arguments, ensure_ascii=False)}"[:LONGEST_STEP])
        if isinstance(event, Delta) and self.streaming is not None:
            self._piece(event, self.streaming)
        if not isinstance(event, Delta | Part) and self.result is None:
            self._unkept.append(event)
            self._more.set()

    def _piece(self, delta: Delta, streaming: Streaming) -> None:
        part = piece_of(self._trimmed(delta)) if "messages" in streaming.modes else None
        if part is not None and (streaming.subgraphs or not part.namespace):
            self.events.put_nowait(part)

    def _trimmed(self, delta: Delta) -> Delta:
        """A piece without the blanks around its message, which the message is without, too."""
        known, blanks = self._blanks.get(delta.id or "", (False, ""))
        text = blanks + delta.text if known else delta.text.lstrip()
        said = text.rstrip()
        self._blanks[delta.id or ""] = known or bool(said), text[len(said) :]
        return replace(delta, text=said)

    def end(self, output: str, reason: StopReason, error: BaseException | None = None) -> Result:
        """The run has ended: its result is kept as its last event, and handed out once the thread is free."""
        self.result = Result(
            output=output,
            stop_reason=reason,
            steps=self.ledger.steps,
            usage=self.ledger.usage(),
            thread_id=self.thread_id,
            workflow=self.workflow.name,
            error=_words(error),
        )
        self._unkept.append(self.result)
        return self.result

    @asynccontextmanager
    async def keeping_events(self, threads: ThreadStore) -> AsyncIterator[None]:
        """Write events to the thread as they come, while the context is open; the last ones when it closes.

        An error, or a cancellation, that leaves the context ends the run. One that could not begin leaves the thread
        as it was.
        """
        keeping = asyncio.create_task(self._keep(threads))
        self._row = threads.event_row(self.thread_id, self.run_id, resumed=self.beginning.inputs is None)
        threads.riders.append(self)
        try:
            yield
        except Refused:
            self._unkept.clear()
            await asyncio.shield(threads.take_back(self.thread_id))
            raise
        except BaseException as error:
            self.end("", "cancelled" if isinstance(error, asyncio.CancelledError) else "error", error)
            raise
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await asyncio.shield(self._keep_last(threads))

    async def _keep(self, threads: ThreadStore) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            # most go with the next checkpoint, in its transaction
            await asyncio.sleep(LATEST)
            if self._unkept:
                await asyncio.shield(threads.flush())

    async def _keep_last(self, threads: ThreadStore) -> None:
        try:
            if self._unkept:
                await threads.flush()
        finally:
            threads.riders.remove(self)

    def rows(self) -> list[tuple[str, str, str]]:
        """The events that wait to be kept."""
        return [self._row(event) for event in self._unkept] if self._row is not None else []

    def written(self, count: int) -> None:
        """So many events are kept."""
        del self._unkept[:count]


async def result_of(run: Run, working: asyncio.Task[tuple[str, StopReason]]) -> Result:
    """The last event of a run that has ended, however it did."""
    try:
        output, reason = await working
    except Exception as error:  # the stream raises it after the result
        kept = run.result
        return kept if kept is not None and kept.stop_reason == "error" else run.end("", "error", error)
    return run.result or run.end(output, reason)


def _words(error: BaseException | None) -> str | None:
    if error is None or isinstance(error, asyncio.CancelledError):
        return None
    return error.message if isinstance(error, BenchAIError) else f"{type(error).__name__}: {error}"


def spent_before(ledger: Ledger, events: Sequence[Mapping[str, Any]]) -> None:
    """Count what the thread's last task has spent, in all the runs that worked on it: calls, tokens, seconds."""
    begins = [place for place, event in enumerate(events) if _begins_a_task(event)]
    task = events[begins[-1] :] if begins else events
    for event in task:
        if event["type"] == ModelCall.type:
            ledger.steps = max(ledger.steps, int(event["step"]))
            ledger.prompt_tokens += int(event["prompt_tokens"])
            ledger.completion_tokens += int(event["completion_tokens"])
    # a call that was made again is told when that happens, with the time at which it had failed
    timely = (event for event in task if event.get("then") != "called_again")
    ledger.began -= sum(_seconds_between(event, after) for event, after in pairwise(timely))


def _begins_a_task(event: Mapping[str, Any]) -> bool:
    return bool(event["type"] == RunStarted.type and not event.get("resumed"))


def _seconds_between(event: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """Seconds of work between two events: what passed between two runs, or while the user decided, is none."""
    if event["type"] == ApprovalRequested.type or after["type"] == RunStarted.type:
        return 0.0
    return max(float(after["time"]) - float(event["time"]), 0.0)
