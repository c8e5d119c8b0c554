"""Bench: the one object that a CLI command, an HTTP request and a user's script open to run workflows."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.errors import GraphRecursionError

from benchai.agents.images import data_url, read_image, with_images
from benchai.agents.messages import text_of
from benchai.agents.role import MODEL, Agents
from benchai.config import LoadedConfig, load_config, paths
from benchai.errors import BenchAIError, ConfigError, UsageError, did_you_mean
from benchai.events import Answer, Event, ModelState, Notice, Result, RunStarted, StopReason
from benchai.graphs.checkpoints import ThreadStore, open_threads
from benchai.graphs.context import RunContext
from benchai.graphs.guards import Budget, BudgetSpent, Ledger
from benchai.graphs.loader import load_workflows
from benchai.graphs.registry import Workflow, WorkflowRegistry
from benchai.runtime.attached import AttachedFleet
from benchai.runtime.background import in_background
from benchai.runtime.endpoints import Endpoints
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.serving import models_of, running_server
from benchai.tools.registry import ToolRegistry, builtin_tools
from benchai.tools.tool import ToolContext

MAX_TASK_BYTES = 1024 * 1024
MAX_THREAD_ID = 200
# LangGraph's own steps: each call of a model is a few of them
GRAPH_STEPS_PER_STEP = 10


class Bench:
    """Runs workflows on a fleet; open one with ``async with Bench.open() as bench``."""

    def __init__(self, loaded: LoadedConfig, registry: WorkflowRegistry, threads: ThreadStore, workspace: Path) -> None:
        self.loaded = loaded
        self.registry = registry
        self.threads = threads
        self._runs: list[_Run] = []
        self._endpoints, self._fleet = self._choose_fleet()
        self._tools = select_tools(loaded)
        self._tool_context = ToolContext(workspace=workspace)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        config: LoadedConfig | Path | str | None = None,
        *,
        workspace: Path | str | None = None,
        roles: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Self]:
        """Open a bench; leaving stops every model it started.

        Args:
            config: A loaded configuration, the path of a benchai.yaml, or None for the search order.
            workspace: The folder that file tools see; default: the current one.
            roles: Other models for some roles.

        Raises:
            ConfigError: the configuration is wrong.
            UsageError: the workspace is no folder.
        """
        loaded = config if isinstance(config, LoadedConfig) else load_config(Path(config) if config else None)
        loaded = loaded.with_roles(roles or {})
        folder = check_workspace(Path(workspace) if workspace else Path.cwd())
        registry = load_workflows(loaded)
        async with open_threads(paths.threads_file()) as threads:
            bench = cls(loaded, registry, threads, folder)
            async with bench._fleet or nullcontext():
                try:
                    yield bench
                finally:
                    await bench._end_runs()

    def _choose_fleet(self) -> tuple[Endpoints, Fleet | None]:
        """The fleet of a running server that serves the same models, or one of our own."""
        server = running_server()
        if server is not None and server.models == models_of(self.loaded):
            return AttachedFleet(server, self.loaded, self._broadcast), None
        fleet = Fleet(self.loaded, self._broadcast)
        return fleet, fleet

    def workflows(self) -> list[Workflow]:
        """All workflows, by name."""
        return self.registry.all()

    async def run(
        self,
        workflow: str,
        task: str,
        *,
        images: Sequence[Path | str | bytes] = (),
        thread_id: str | None = None,
        budget: Budget | None = None,
        ledger: Ledger | None = None,
    ) -> Result:
        """Run a workflow to its end; see ``stream``."""
        result: Result | None = None
        stream = self.stream(workflow, task, images=images, thread_id=thread_id, budget=budget, ledger=ledger)
        async with aclosing(stream) as events:
            async for event in events:
                result = event if isinstance(event, Result) else result
        assert result is not None
        return result

    async def stream(
        self,
        workflow: str,
        task: str,
        *,
        images: Sequence[Path | str | bytes] = (),
        thread_id: str | None = None,
        budget: Budget | None = None,
        ledger: Ledger | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Run a workflow and yield its events, the last one a ``Result``.

        Closing the generator (``contextlib.aclosing``) or leaving the bench cancels the run.

        Args:
            workflow: Name of the workflow.
            task: The task, in words; at most 1 MiB.
            images: Image files, or encoded images, that belong to the task; the role vision looks at them.
            thread_id: Goes on with this thread, or begins one of this name; default: a new one.
            budget: What the run may spend; default: the configuration's.
            ledger: Where the run counts what it spends, in place of ``budget``; the caller may look at it.

        Raises:
            UsageError: no such workflow, an empty or oversized task, an image that is none, or a thread in use.
            ConfigError: no model serves one of the workflow's roles.
            BenchAIError: what ended the run with ``stop_reason`` "error", after its ``Result``.
        """
        chosen = self.registry.get(workflow)
        check_task(task)
        check_thread_id(thread_id)
        for role in (*chosen.roles, *(("vision",) if images else ())):
            self.loaded.model_for(role)
        question = with_images(task, [await in_background(_read, image) for image in images])
        run = _Run(
            chosen, task, question, thread_id or str(uuid.uuid4()), ledger or Ledger(budget or self.default_budget())
        )
        self._runs.append(run)
        working = run.working = asyncio.create_task(self._work(run))
        working.add_done_callback(lambda _: run.emit(_Done()))
        try:
            while not isinstance(event := await run.events.get(), _Done):
                yield event
            yield await _result(run, working)
            if (error := working.exception()) is not None:
                raise error
        finally:
            self._runs.remove(run)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    def default_budget(self) -> Budget:
        """The budget of the configuration."""
        budgets = self.loaded.config.budgets
        return Budget(budgets.steps, budgets.tokens, budgets.seconds)

    async def _work(self, run: _Run) -> tuple[str, StopReason]:
        """Output and stop reason of one run, on a thread that nobody else runs on."""
        with self.threads.lock(run.thread_id):
            await self.threads.begin(run.thread_id, run.workflow.name, run.task)
            run.emit(RunStarted(workflow=run.workflow.name, thread_id=run.thread_id, run_id=str(uuid.uuid4())))
            reason: StopReason = "error"
            try:
                output, reason = await self._within_budget(run)
                return output, reason
            except asyncio.CancelledError:
                reason = "cancelled"
                raise
            finally:
                await asyncio.shield(self.threads.end(run.thread_id, reason))

    async def _within_budget(self, run: _Run) -> tuple[str, StopReason]:
        timeout = asyncio.timeout(run.ledger.seconds_left)
        try:
            async with timeout:
                messages = await self._invoke(run)
        except BudgetSpent as spent:
            run.emit(Notice(text=str(spent)))
            return "", spent.reason
        except GraphRecursionError as error:
            run.emit(Notice(text=str(error)))
            return "", "loop"
        except TimeoutError:
            if not timeout.expired():
                raise
            run.emit(Notice(text=f"stopped after {run.ledger.budget.seconds:g} s (budgets.seconds)"))
            return "", "budget_time"
        last = last_reply(messages)
        output = text_of(last) if last else ""
        run.emit(Answer(text=output, model=last.response_metadata.get(MODEL) if last else None))
        return output, "completed"

    async def _invoke(self, run: _Run) -> list[AnyMessage]:
        graph = run.workflow.build().compile(checkpointer=self.threads.saver, name=run.workflow.name)
        context = RunContext(
            agents=Agents(self._endpoints, run.emit),
            tools=self._tools,
            tool_context=self._tool_context,
            ledger=run.ledger,
            emit=run.emit,
        )
        limit = GRAPH_STEPS_PER_STEP * (run.ledger.budget.steps + 1)
        state = await graph.ainvoke(
            {"messages": [run.question]},
            {"configurable": {"thread_id": run.thread_id}, "recursion_limit": limit},
            context=context,
            durability="sync",
        )
        messages: list[AnyMessage] = state["messages"]
        return messages

    async def _end_runs(self) -> None:
        """Cancel the runs whose streams were left early, while their thread can still be noted."""
        left = [run.working for run in self._runs if run.working is not None]
        for working in left:
            working.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _broadcast(self, event: Event) -> None:
        """What happens to the fleet concerns every run; of the states of processes it is told less often."""
        if isinstance(event, ModelState):
            return
        for run in self._runs:
            run.emit(event)


class _Done(Event):
    """Wakes the stream when the run is over."""

    type = "done"


@dataclass(eq=False)
class _Run:
    """One run under way, and the events it has not handed out yet."""

    workflow: Workflow
    task: str
    question: HumanMessage
    thread_id: str
    ledger: Ledger
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    working: asyncio.Task[tuple[str, StopReason]] | None = None

    def emit(self, event: Event) -> None:
        self.events.put_nowait(event)


async def _result(run: _Run, working: asyncio.Task[tuple[str, StopReason]]) -> Result:
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


def _read(image: Path | str | bytes) -> str:
    return data_url(image) if isinstance(image, bytes) else read_image(Path(image))


def last_reply(messages: list[AnyMessage]) -> AIMessage | None:
    """The last message that a model wrote."""
    return next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)


def select_tools(loaded: LoadedConfig) -> ToolRegistry:
    """The tools that the configuration enables, in its order.

    Raises:
        ConfigError: it names one that is not there.
    """
    every = builtin_tools()
    enabled = loaded.config.tools.enabled
    for name in enabled or []:
        if name not in every.names():
            raise ConfigError(f"tools.enabled: there is no tool {name!r}", hint=did_you_mean(name, every.names()))
    return every if enabled is None else ToolRegistry(every.get(name) for name in enabled)


def check_task(task: str) -> None:
    """Refuse a task that no model can be given.

    Raises:
        UsageError: it is empty, or larger than 1 MiB.
    """
    if not task.strip():
        raise UsageError("the task is empty", hint='say what to do, for example: benchai run react "What is 12 * 7?"')
    try:
        size = len(task.encode())
    except UnicodeEncodeError as error:
        raise UsageError(f"the task is no text at character {error.start}", hint="decode it as UTF-8") from error
    if size > MAX_TASK_BYTES:
        hint = "put the text into a file of the workspace and name the file in the task"
        raise UsageError(f"the task has {size:,} bytes, at most {MAX_TASK_BYTES:,} are taken", hint=hint)


def check_thread_id(thread_id: str | None) -> None:
    """Refuse an id that could not be typed again.

    Raises:
        UsageError: it is empty, longer than 200 characters, or not printable.
    """
    if thread_id is not None and not (0 < len(thread_id) <= MAX_THREAD_ID and thread_id.isprintable()):
        hint = f"1 to {MAX_THREAD_ID} printable characters, for example --thread notes"
        raise UsageError(f"the thread id {thread_id[:80]!r} cannot be used", hint=hint)


def check_workspace(folder: Path) -> Path:
    """The resolved workspace.

    Raises:
        UsageError: it is not there, or no folder.
    """
    if paths.is_file(folder):
        raise UsageError(f"the workspace {str(folder)!r} is no folder", hint="name the folder that the file lies in")
    if not paths.is_dir(folder):
        raise UsageError(f"the workspace {str(folder)!r} is not there", hint="make the folder, or name another")
    return folder.resolve()
