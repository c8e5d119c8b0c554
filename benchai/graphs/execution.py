"""One run of a workflow on a thread: begin or go on, ask the user, end with a reason."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.types import RESUME
from langgraph.errors import GraphDrained, GraphRecursionError
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import RunControl
from langgraph.types import Command, StateSnapshot

from benchai.agents.messages import clean, last_question, text_of
from benchai.agents.role import MODEL
from benchai.errors import Refused, UsageError
from benchai.events import Answer, ApprovalRequested, Notice, StopReason
from benchai.graphs.approvals import Approval, Question, by_id, decisions_of, every, pending
from benchai.graphs.context import RunContext
from benchai.graphs.guards import BudgetSpent
from benchai.graphs.registry import Workflow
from benchai.graphs.streaming import Part, Streaming, run_graph

# LangGraph's own steps: each call of a model is a few of them
GRAPH_STEPS_PER_STEP = 10
# an approver whose answers do not fit is asked again so often
MOST_ANSWERS = 3
# LangGraph's ids of interrupts
INTERRUPT = re.compile(r"[0-9a-f]{32}")
Approver = Callable[[list[Approval]], Awaitable[Any]]
Graph = CompiledStateGraph[Any, RunContext, Any, Any]


@dataclass(frozen=True)
class Beginning:
    """Where a run begins.

    Attributes:
        inputs: The state of a new task; None goes on with what the thread was at.
        decisions: The user's decisions on what the thread waits for.
        checkpoint: Begin at this checkpoint instead of the thread's last.
        command: What LangGraph's ``Command`` takes beside decisions: ``update`` of the state, ``goto``.
    """

    inputs: dict[str, Any] | None = None
    decisions: Any = None
    checkpoint: str | None = None
    command: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Execution:
    """Runs a compiled graph to its end, to a question to the user, or to a limit; ``tell`` takes what it streams."""

    workflow: Workflow
    graph: Graph
    context: RunContext
    thread_id: str
    approver: Approver | None = None
    control: RunControl = field(default_factory=RunControl)
    streaming: Streaming = field(default_factory=Streaming)
    tell: Callable[[Part], None] | None = None
    _timeout: asyncio.Timeout | None = None

    async def run(self, beginning: Beginning) -> tuple[str, StopReason]:
        """Output and stop reason.

        Raises:
            Refused: there is nothing to go on with, or a decision does not fit.
            BenchAIError: what a node raised.
        """
        timeout = self._timeout = asyncio.timeout(self.context.ledger.seconds_left)
        try:
            async with timeout:
                return await self._invoke(beginning)
        except BudgetSpent as spent:
            return await self._cut_short(spent.reason, str(spent))
        except GraphRecursionError as error:
            return await self._cut_short("loop", str(error))
        except GraphDrained:
            return await self._cut_short("cancelled", "stopped between two steps; benchai run --resume goes on")
        except TimeoutError:
            if not timeout.expired():
                raise
            seconds = self.context.ledger.budget.seconds
            return await self._cut_short("budget_time", f"stopped after {seconds:g} s (budgets.seconds)")

    async def _invoke(self, beginning: Beginning) -> tuple[str, StopReason]:
        value: Any = beginning.inputs
        if beginning.inputs is None:
            value = await self._going_on(beginning)
        # a branch asks anew what its checkpoint asked: that is when it takes its decisions
        given = beginning.decisions if value is None else None
        config = self._config(beginning.checkpoint)
        while True:
            state = await self._until_asked(value, config)
            questions = pending(state.get("__interrupt__", ()))
            if not questions:
                return self._ended(state)
            answers = self._answers(given, questions) if given is not None else await self._ask(questions)
            if answers is None:
                return self.workflow.written(state), "awaiting_approval"
            value, config, given = Command(resume=answers), self._config(None), None

    async def _until_asked(self, value: Any, config: RunnableConfig) -> dict[str, Any]:
        """The state at the graph's end, or at its next question.

        Raises:
            Refused: a node does not take the decision that it is given; it can be given another.
        """
        levels = await self._levels() if isinstance(value, Command) else []
        try:
            state = await self._run_graph(value, config)
        except UsageError as error:
            if not levels or levels != await self._levels():
                raise
            await self._forget_answers(levels)
            raise Refused(error.message, hint=error.hint) from error
        return state

    async def _run_graph(self, value: Any, config: RunnableConfig) -> dict[str, Any]:
        settings: dict[str, Any] = {"context": self.context, "durability": "sync", "control": self.control}
        if self.tell is not None:
            return await run_graph(self.graph, value, config, self.streaming, self.tell, **settings)
        state: dict[str, Any] = await self.graph.ainvoke(value, config, **settings)
        return state

    async def _levels(self) -> list[RunnableConfig]:
        """The last checkpoints of the run and of those nested in what it is at."""
        return _configs(await self.graph.aget_state(self._config(None), subgraphs=True))

    async def _forget_answers(self, levels: list[RunnableConfig]) -> None:
        """Drop the answers that LangGraph has kept with a step that failed: it would give them to the node again."""
        saver = self.graph.checkpointer
        assert isinstance(saver, BaseCheckpointSaver)
        for level in levels:
            found = await saver.aget_tuple(level)
            writes = found.pending_writes if found is not None else None
            for task in {task for task, channel, _ in writes or () if channel == RESUME}:
                await saver.aput_writes(level, [(RESUME, [])], task)

    def _config(self, checkpoint: str | None) -> RunnableConfig:
        limit = self.streaming.recursion_limit or GRAPH_STEPS_PER_STEP * (self.context.ledger.budget.steps + 1)
        own = {"thread_id": self.thread_id} | ({"checkpoint_id": checkpoint} if checkpoint else {})
        config: RunnableConfig = {"configurable": {**self.streaming.configurable, **own}, "recursion_limit": limit}
        return {**config, **self.streaming.config()}  # type: ignore[typeddict-item]

    async def _going_on(self, beginning: Beginning) -> Any:
        """What LangGraph is given to go on with the thread: decisions, or nothing."""
        state = await self.graph.aget_state(self._config(beginning.checkpoint))
        questions = pending(state.interrupts)
        if beginning.command:
            return self._commanded(beginning, questions)
        if not state.next:
            hint = "give it a new task with --thread, or begin at one of its checkpoints with --from"
            what = "awaits no decision" if beginning.decisions is not None else "has nothing to go on with"
            raise Refused(f"the thread {self.thread_id!r} is at its end: it {what}", hint=hint)
        if beginning.decisions is not None and not questions:
            hint = "a decision takes effect once; 'benchai threads show' tells what became of it"
            raise Refused(f"the thread {self.thread_id!r} awaits no decision", hint=hint)
        given = None
        if questions and beginning.decisions is not None:
            given = self._answers(beginning.decisions, questions)
        if not questions or beginning.checkpoint is not None:
            return None
        answers = given or await self._ask(questions)
        if answers is None:
            hint = "decide with --decide approve, or reject; --yes approves everything"
            raise Refused(f"the thread {self.thread_id!r} awaits a decision", hint=hint)
        return Command(resume=answers)

    def _commanded(self, beginning: Beginning, questions: list[Question]) -> Command[Any]:
        """What a caller who knows the graph wants of it, with the decisions that it awaits, if any."""
        if beginning.decisions is not None and not questions:
            raise Refused(f"the thread {self.thread_id!r} awaits no decision", hint="leave 'resume' out")
        answers = self._answers(beginning.decisions, questions) if beginning.decisions is not None else None
        return Command(resume=answers, **beginning.command)

    async def _ask(self, questions: list[Question]) -> dict[str, Any] | None:
        """Answers by interrupt; None when nobody is there to decide. The run's time stands still meanwhile.

        Raises:
            Refused: the answers did not fit, time and again.
        """
        for one in every(questions):
            self.context.emit(ApprovalRequested(**one.as_json()))
        if self.approver is None:
            return None
        with self._clock_stopped():
            for attempt in range(1, MOST_ANSWERS + 1):
                given = await self.approver(every(questions))
                try:
                    return None if given is None else self._answers(given, questions)
                except Refused as error:
                    if attempt == MOST_ANSWERS:
                        raise
                    self.context.emit(Notice(text=error.message))
        return None

    @contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        began, ledger = time.monotonic(), self.context.ledger
        assert self._timeout is not None
        self._timeout.reschedule(None)
        try:
            yield
        finally:
            ledger.began += time.monotonic() - began
            self._timeout.reschedule(asyncio.get_running_loop().time() + ledger.seconds_left)

    def _answers(self, given: Any, questions: list[Question]) -> dict[str, Any]:
        """Decisions by the interrupt they answer, each checked; ``given`` may be such a mapping itself.

        Raises:
            Refused: they do not fit the questions.
        """
        if isinstance(given, Mapping) and given and given.keys() <= {one.interrupt for one in questions}:
            each = (self._answers(given[one.interrupt], [one]) for one in questions if one.interrupt in given)
            return {key: answer for found in each for key, answer in found.items()}
        if isinstance(given, Mapping) and given and all(INTERRUPT.fullmatch(str(key)) for key in given):
            waits = ", ".join(one.interrupt for one in questions)
            raise Refused(f"no decision on {', '.join(map(str, given))} is awaited", hint=f"one on {waits} is")
        asked = every(questions)
        try:
            given = by_id(given, asked) if asked else given
            decisions = decisions_of(given, asked) if asked else {}
        except UsageError as error:
            raise Refused(error.message, hint=error.hint) from error
        for one in asked:
            decision = decisions[one.id]
            if one.kind == "tool" and decision.kind == "edit":
                complaint = self.context.acting.objection(self.context, one.subject, decision.arguments)
                if complaint is not None:
                    raise Refused(f"{one.subject} can't be called like that: {complaint}")
        return {question.interrupt: question.answer(given) for question in questions}

    def _ended(self, state: Mapping[str, Any]) -> tuple[str, StopReason]:
        last = last_reply(state.get("messages", []))
        output = "" if last is None else str(clean(str(last.text))) if self.workflow.exact else text_of(last)
        reason: StopReason = state.get("stop_reason") or "completed"
        if reason == "completed" or output:
            self.context.emit(Answer(text=output, model=last.response_metadata.get(MODEL) if last else None))
        return output, reason

    async def _cut_short(self, reason: StopReason, why: str) -> tuple[str, StopReason]:
        """The best text that the run had when it ended before its answer."""
        self.context.emit(Notice(text=why))
        state = await self.graph.aget_state(self._config(None))
        return self.workflow.written(state.values), reason


def _configs(state: StateSnapshot) -> list[RunnableConfig]:
    inner = [task.state for task in state.tasks if isinstance(task.state, StateSnapshot)]
    return [state.config, *(config for one in inner for config in _configs(one))]


def last_reply(messages: list[AnyMessage]) -> AIMessage | None:
    """The answer to the last question: the last message of a model that calls no tools."""
    answers = (message for message in reversed(messages[last_question(messages) :]) if isinstance(message, AIMessage))
    return next((message for message in answers if not message.tool_calls), None)
