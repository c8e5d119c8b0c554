"""How one run goes through a bench: recalled, worked on, noted with its thread, remembered."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Iterable

from langchain_core.messages import BaseMessage

from benchai.bench.parts import Parts
from benchai.bench.runs import Ended
from benchai.events import Event, Notice, RunStarted, StopReason
from benchai.graphs.acting import Acting
from benchai.graphs.context import RunContext
from benchai.graphs.execution import Execution, Graph
from benchai.graphs.rows import Rows
from benchai.graphs.running import Done, Run, result_of
from benchai.graphs.stores import current
from benchai.graphs.streaming import Streaming
from benchai.tools.tool import ToolContext


class Runner:
    """Takes a run from its beginning to its result.

    Args:
        parts: What the bench owns.
        graph: Compiled graphs, by workflow.
    """

    def __init__(self, parts: Parts, graph: Callable[[str], Graph]) -> None:
        self._parts = parts
        self._graph = graph

    async def stream(self, run: Run) -> AsyncGenerator[Event, None]:
        """The events of a run until its result; an error is raised after it."""
        await self._recall(run)
        async with self._parts.runs.working(run, self._work(run)) as working:
            while not isinstance(event := await run.events.get(), Done):
                yield event
            yield await result_of(run, working)
            if (error := working.exception()) is not None:
                raise error

    async def _recall(self, run: Run) -> None:
        """Put what the memory holds on a new task before it."""
        inputs = run.beginning.inputs or {}
        messages = inputs.get("messages") or []
        # a graph that keeps messages of another kind would not know what to do with ours
        recalls = bool(messages) and isinstance(messages[0], BaseMessage)
        if recalls and (remembered := await self._parts.remembering.recalled(run)) is not None:
            inputs["messages"] = [remembered, *messages]

    async def _work(self, run: Run) -> Ended:
        """Output and stop reason of a run, on a thread that nobody else runs on."""
        current.set(run.store)
        threads = self._parts.threads
        async with threads.lock(run.thread_id):
            await self._begin(run)
            reason: StopReason = "error"
            try:
                async with run.keeping_events(threads):
                    output, reason = await self._execution(run).run(run.beginning)
                    _tell(run, self._parts.tracer.problems())
                    run.end(output, reason)
                self._parts.remembering.keep(run, output, reason)
                return output, reason
            except asyncio.CancelledError:
                reason = "cancelled"
                raise
            finally:
                self._parts.tracer.end(run.run_id, reason, sys.exception())
                await asyncio.shield(threads.end(run.thread_id, reason))

    async def _begin(self, run: Run) -> None:
        """Note that the run is on its thread, and tell it so, with what is amiss."""
        parts = self._parts
        await parts.threads.begin(run.thread_id, run.workflow.name, run.task)
        parts.tracer.begin(run.run_id, run.task, parts.loaded)
        started = RunStarted(workflow=run.workflow.name, thread_id=run.thread_id, run_id=run.run_id)
        parts.runs.emitter(run)(started)
        _tell(run, (*parts.problems, *parts.tracer.problems()))

    def _execution(self, run: Run) -> Execution:
        context = self._context(run)
        return Execution(
            run.workflow,
            self._graph(run.workflow.name),
            context,
            run.thread_id,
            run.approver,
            run.control,
            run.streaming or Streaming(),
            run.events.put_nowait if run.streaming else None,
        )

    def _context(self, run: Run) -> RunContext:
        """What the nodes of a run are given."""
        parts, thread = self._parts, run.thread_id
        emit = parts.runs.emitter(run)
        rows = Rows(parts.usage, run.workflow.name, thread) if parts.usage is not None else None
        return RunContext(
            agents=parts.agents(emit),
            tools=parts.tools,
            tool_context=ToolContext(parts.workspace, parts.threads.results(thread), parts.remembering.of(run)),
            ledger=run.ledger,
            emit=emit,
            acting=Acting(parts.permissions, parts.threads.journal(thread)),
            approve_plan=run.approve_plan,
            workflow=run.workflow.name,
            served=parts.is_served,
            model_of=parts.model_of,
            routing=parts.loaded.config.routing,
            fit_together=parts.endpoints.fit_together,
            record=rows.take if rows is not None else None,
            given=run.given,
        )


def _tell(run: Run, problems: Iterable[str]) -> None:
    for problem in problems:
        run.emit(Notice(text=problem))
