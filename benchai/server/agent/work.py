"""The work of one run: begin it or go on with it, log what its graph streams, and say how it ended."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langgraph.types import Send, StateSnapshot

from benchai.errors import BenchAIError
from benchai.events import Notice, Result
from benchai.graphs.execution import Beginning, Graph
from benchai.graphs.guards import Ledger
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

#: What a run is whose budget of time is spent; the other limits leave an answer behind.
TIMES_OUT = "budget_time"


class Work:
    """One run; ``inner`` is the id of its thread among the checkpoints."""

    def __init__(self, row: Row, inner: str, log: EventLog, database: AgentDatabase) -> None:
        self.run_id, self.owner, self.graph_id = str(row["run_id"]), str(row["owner"]), str(row["graph_id"])
        self.body = RunBody.model_validate(from_json(row["request"]))
        self.outcome = Outcome()
        self._row, self._inner, self._log, self._db = row, inner, log, database
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
                await self._stream(bench, self._beginning(bench, graph, going_on=begun is not None))
        except Exception as error:
            self._failed(error)
        finally:
            # whoever cancels it wants to know what the thread is at
            if graph is not None:
                self._look(await graph.aget_state(self._config()))

    async def _begun(self, graph: Graph) -> StateSnapshot | None:
        """The thread as an earlier attempt left it; None when that had not begun."""
        state = await graph.aget_state(self._config())
        return state if (state.metadata or {}).get("run_id") == self.run_id else None

    def _config(self) -> Any:
        return {"configurable": {"thread_id": self._inner}}

    def _beginning(self, bench: Bench, graph: Graph, going_on: bool) -> tuple[Beginning, str]:
        body = self.body
        if going_on:
            return Beginning(), ""
        if body.command is not None:
            resume = body.command.resume
            return Beginning(decisions=resume, checkpoint=body.begins_at, command=_command(body.command)), ""
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
            async for event in events:
                self._take(event)

    def _streaming(self) -> Streaming:
        body = self.body
        return Streaming(
            modes=graph_modes(body.stream_mode),
            subgraphs=body.stream_subgraphs,
            interrupt_before=body.interrupt_before,
            interrupt_after=body.interrupt_after,
            configurable={**body.config.own, "graph_id": self.graph_id, "run_id": self.run_id},
            metadata={**from_json(self._row["metadata"]), "run_id": self.run_id, "run_attempt": self._attempt},
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
        if isinstance(error, BenchAIError):
            message = f"{error.message}; {error.hint}" if error.hint else error.message
        self._fail("error", type(error).__name__, message)

    def _fail(self, reason: str, kind: str, message: str) -> None:
        self.outcome.fail(kind, message, reason)
        self._log.append(self.run_id, "error", json_bytes(self.outcome.error))

    async def roll_back(self, bench: Bench, base: str | None) -> Outcome:
        """Have the thread be what it was before the run; returns what that is."""
        await bench.threads.roll_back(self._inner, base)
        self.outcome = Outcome()
        self._look(await bench.graph(self.graph_id).aget_state(self._config()))
        return self.outcome

    def _look(self, state: StateSnapshot) -> None:
        """Note what the thread is at."""
        outcome = self.outcome
        outcome.state, outcome.open = json_bytes(state.values), bool(state.next)
        outcome.interrupts = {
            task.id: [{"id": one.id, "value": one.value} for one in task.interrupts]
            for task in state.tasks
            if task.interrupts
        }
        if outcome.result is None:
            asked = [one for found in outcome.interrupts.values() for one in found]
            outcome.result = json_bytes({**state.values, **({INTERRUPTS: asked} if asked else {})})


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
