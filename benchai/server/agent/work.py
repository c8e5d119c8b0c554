"""The work of one run: begin it or go on with it, log what its graph streams, and say how it ended."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from langgraph.checkpoint.serde.types import RESUME
from langgraph.types import Send, StateSnapshot

from benchai.errors import BenchAIError, Refused
from benchai.events import Notice, Result
from benchai.graphs.execution import Beginning, Graph
from benchai.graphs.guards import Ledger
from benchai.graphs.rollback import Base
from benchai.graphs.starting import started
from benchai.graphs.streaming import INTERRUPTS, Part, Streaming
from benchai.server.agent.database import AgentDatabase, Row, from_json
from benchai.server.agent.items import ItemStore
from benchai.server.agent.log import EventLog
from benchai.server.agent.outcome import Outcome
from benchai.server.agent.parts import Wording, graph_modes
from benchai.server.agent.requests import CommandBody, RunBody
from benchai.server.agent.shapes import json_bytes

if TYPE_CHECKING:
    from benchai.bench import Bench

#: Events after which others get their turn.
TOGETHER = 100
#: LangGraph's name for who writes what a command says.
NULL_TASK = "00000000-0000-0000-0000-000000000000"
#: What a run is whose budget of time is spent; the other limits leave an answer behind.
TIMES_OUT = "budget_time"


class Work:
    """One run on its thread."""

    def __init__(self, row: Row, thread: Row, log: EventLog, database: AgentDatabase) -> None:
        inner = str(thread["inner_id"])
        self.run_id, self.owner, self.graph_id = str(row["run_id"]), str(row["owner"]), str(row["graph_id"])
        self.body = RunBody.model_validate(from_json(row["request"]))
        self.outcome = Outcome()
        self._row, self._inner, self._log, self._db = row, inner, log, database
        self._marks = from_json(thread["metadata"])
        self._attempt = int(row["attempt"])
        self._wording = Wording(self.body.stream_mode, inner, str(row["thread_id"]))
        self._said = ""

    async def run(self, bench: Bench) -> None:
        """Work until the graph ends, asks or fails; ``outcome`` then says how."""
        self._log.append(self.run_id, "metadata", json_bytes({"run_id": self.run_id, "attempt": self._attempt}))
        graph: Graph | None = None
        try:
            graph = bench.graph(self.graph_id)
            begun = await self._begun(graph) if self._attempt > 1 else None
            if begun is None or (begun.next and not begun.interrupts):
                commanded = self._attempt > 1 and await self._was_commanded(bench)
                await self._stream(bench, self._beginning(bench, graph, begun is not None, commanded))
        except Exception as error:
            self._failed(error)
        finally:
            # whoever cancels it wants to know what the thread is at
            if graph is not None:
                await look(bench, self.graph_id, self._inner, self.outcome)

    async def _begun(self, graph: Graph) -> StateSnapshot | None:
        """The thread as an earlier attempt left it; None when that had not begun."""
        state = await graph.aget_state(self._config())
        return state if (state.metadata or {}).get("run_id") == self.run_id else None

    def _config(self) -> Any:
        return {"configurable": {"thread_id": self._inner}}

    async def _was_commanded(self, bench: Bench) -> bool:
        """Whether an earlier attempt gave the graph its command: LangGraph keeps it with the checkpoint before."""
        found = await bench.threads.saver.aget_tuple(self._config())
        writes = found.pending_writes if found is not None else None
        return any(task == NULL_TASK and channel != RESUME for task, channel, _ in writes or ())

    def _beginning(self, bench: Bench, graph: Graph, going_on: bool, commanded: bool) -> tuple[Beginning, str]:
        body = self.body
        if going_on:
            return Beginning(), ""
        if body.command is not None:
            resume = body.command.resume
            command = {} if commanded else _command(body.command)
            return Beginning(decisions=resume, checkpoint=body.begins_at, command=command), ""
        if body.input is None:
            return Beginning(checkpoint=body.begins_at), ""
        state, task = started(bench.registry.get(self.graph_id), graph, body.input)
        return Beginning(state, checkpoint=body.begins_at), task

    async def _stream(self, bench: Bench, begins: tuple[Beginning, str]) -> None:
        beginning, task = begins
        budget = self.body.config.budget.over(bench.default_budget(bench.registry.get(self.graph_id)))
        running = bench.stream_graph(
            self.graph_id,
            beginning,
            task=task,
            thread_id=self._inner,
            run_id=self.run_id,
            streaming=self._streaming(),
            ledger=Ledger(budget),
            user=self.owner or None,
            context=self.body.context,
            store=ItemStore(self._db, self.owner),
        )
        async with aclosing(running) as events:
            number = 0
            async for event in events:
                self._take(event)
                number += 1
                if number % TOGETHER == 0:
                    # a node that tells much without a pause must not keep others waiting
                    await asyncio.sleep(0)

    def _streaming(self) -> Streaming:
        body = self.body
        return Streaming(
            modes=graph_modes(body.stream_mode),
            subgraphs=body.stream_subgraphs,
            interrupt_before=body.interrupt_before,
            interrupt_after=body.interrupt_after,
            configurable={**body.config.own, "graph_id": self.graph_id, "run_id": self.run_id},
            metadata={
                **self._marks,
                **from_json(self._row["metadata"]),
                "run_id": self.run_id,
                "run_attempt": self._attempt,
            },
            tags=body.config.tags,
            recursion_limit=body.config.recursion_limit,
            run_id=UUID(self.run_id),
        )

    def _take(self, event: Any) -> None:
        if isinstance(event, Part):
            if event.mode == "values" and not event.namespace:
                self.outcome.result = json_bytes(event.data)
            for name, data in self._wording.events(event):
                self._log.append(self.run_id, name, json_bytes(data))
        elif isinstance(event, Notice):
            self._said = event.text
        elif isinstance(event, Result):
            self._ended(event)

    def _ended(self, result: Result) -> None:
        outcome = self.outcome
        outcome.reason, outcome.usage = result.stop_reason, result.usage
        if result.stop_reason == TIMES_OUT:
            self._fail(TIMES_OUT, "TimeoutError", self._said)
            outcome.status = "timeout"
        elif result.stop_reason == "loop" and self.body.config.recursion_limit is not None:
            self._fail("loop", "GraphRecursionError", self._said)
        elif result.stop_reason == "cancelled":
            outcome.status = "interrupted"

    def _failed(self, error: Exception) -> None:
        message = str(error)
        if isinstance(error, Refused):
            # nothing has run; its hint speaks of the command line
            message, self.outcome.refused = error.message, True
        elif isinstance(error, BenchAIError):
            message = f"{error.message}; {error.hint}" if error.hint else error.message
        self._fail("error", type(error).__name__, message.replace(self._inner, str(self._row["thread_id"])))

    def _fail(self, reason: str, kind: str, message: str) -> None:
        self.outcome.fail(kind, message, reason)
        self._log.append(self.run_id, "error", json_bytes(self.outcome.error))


async def undo(bench: Bench, row: Row, inner: str, *, whole: bool) -> None:
    """Undo a run that was cancelled; unless ``whole``, a decision alone whose step has not ended.

    Such a decision is awaited again.
    """
    base, threads = Base.from_json(row["base"]), bench.threads
    if not whole:
        command = RunBody.model_validate(from_json(row["request"])).command
        decided = command is not None and command.resume is not None
        if not decided or (await threads.base_of(inner)).root != base.root:
            return
    await threads.roll_back(inner, base)


async def look(bench: Bench, graph_id: str, inner: str, outcome: Outcome) -> None:
    """Note what a thread is at."""
    state = await bench.graph(graph_id).aget_state({"configurable": {"thread_id": inner}})
    outcome.state, outcome.open = json_bytes(state.values), bool(state.next)
    outcome.interrupts = {
        task.id: [{"id": one.id, "value": one.value} for one in task.interrupts]
        for task in state.tasks
        if task.interrupts
    }
    asked = [{**one, "response_schema": None} for found in outcome.interrupts.values() for one in found]
    if asked or outcome.result is None:
        # of several questions at a time the last values hold the last alone
        values = orjson.loads(outcome.result) if outcome.result is not None else state.values
        outcome.result = json_bytes({**values, **({INTERRUPTS: asked} if asked else {})})


def _command(body: CommandBody) -> dict[str, Any]:
    """What of a command goes to the graph beside decisions."""
    found: dict[str, Any] = {}
    if body.update is not None:
        update = body.update
        found["update"] = [tuple(one) for one in update] if isinstance(update, list) else update
    if body.goto is not None:
        goto = body.goto if isinstance(body.goto, list) else [body.goto]
        found["goto"] = [one if isinstance(one, str) else Send(one.node, one.input) for one in goto]
    return found
