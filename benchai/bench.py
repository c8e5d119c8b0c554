"""Bench: the one object that a CLI command, an HTTP request and a user's script open to run workflows."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.errors import GraphRecursionError

from benchai.agents.messages import text_of
from benchai.agents.role import Agents
from benchai.config import LoadedConfig, load_config, paths
from benchai.errors import BenchAIError, ConfigError, UsageError, did_you_mean
from benchai.events import Answer, Event, Notice, Result, RunStarted, StopReason
from benchai.graphs.checkpoints import ThreadStore, open_threads
from benchai.graphs.context import RunContext
from benchai.graphs.guards import Budget, BudgetSpent, Ledger
from benchai.graphs.loader import load_workflows
from benchai.graphs.registry import Workflow, WorkflowRegistry
from benchai.runtime.fleet.fleet import Fleet
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
        self._listeners: list[asyncio.Queue[Event]] = []
        self._fleet = Fleet(loaded, self._emit)
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
            async with bench._fleet:
                yield bench

    def workflows(self) -> list[Workflow]:
        """All workflows, by name."""
        return self.registry.all()

    async def run(
        self, workflow: str, task: str, *, thread_id: str | None = None, budget: Budget | None = None
    ) -> Result:
        """Run a workflow to its end; see ``stream``."""
        result: Result | None = None
        async for event in self.stream(workflow, task, thread_id=thread_id, budget=budget):
            if isinstance(event, Result):
                result = event
        assert result is not None
        return result

    async def stream(
        self, workflow: str, task: str, *, thread_id: str | None = None, budget: Budget | None = None
    ) -> AsyncIterator[Event]:
        """Run a workflow and yield its events, the last one a ``Result``.

        Leaving the iteration early cancels the run. A run on a ``thread_id`` that exists goes on with it.

        Raises:
            UsageError: no such workflow, an empty or oversized task, or a thread that is in use.
            ConfigError: no model serves one of the workflow's roles.
            BenchAIError: what ended the run with ``stop_reason`` "error", after its ``Result``.
        """
        chosen = self.registry.get(workflow)
        check_task(task)
        check_thread_id(thread_id)
        for role in chosen.roles:
            self.loaded.model_for(role)
        thread_id = thread_id or str(uuid.uuid4())
        ledger = Ledger(budget or self.default_budget())
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self._listeners.append(queue)
        run = asyncio.create_task(self._run(chosen, task, thread_id, ledger))
        run.add_done_callback(lambda _: queue.put_nowait(_Done()))
        try:
            while not isinstance(event := await queue.get(), _Done):
                yield event
            yield await self._finish(run, chosen, thread_id, ledger)
            if (error := run.exception()) is not None:
                raise error
        finally:
            self._listeners.remove(queue)
            await _cancel(run)

    def default_budget(self) -> Budget:
        """The budget of the configuration."""
        budgets = self.loaded.config.budgets
        return Budget(budgets.steps, budgets.tokens, budgets.seconds)

    async def _run(self, workflow: Workflow, task: str, thread_id: str, ledger: Ledger) -> tuple[str, StopReason]:
        """Output and stop reason of one run on a thread that nobody else runs on."""
        with self.threads.lock(thread_id):
            await self.threads.begin(thread_id, workflow.name, task)
            self._emit(RunStarted(workflow=workflow.name, thread_id=thread_id, run_id=str(uuid.uuid4())))
            reason: StopReason = "error"
            try:
                output, reason = await self._within_budget(workflow, task, thread_id, ledger)
                return output, reason
            except asyncio.CancelledError:
                reason = "cancelled"
                raise
            finally:
                await asyncio.shield(self.threads.end(thread_id, reason))

    async def _within_budget(
        self, workflow: Workflow, task: str, thread_id: str, ledger: Ledger
    ) -> tuple[str, StopReason]:
        timeout = asyncio.timeout(ledger.seconds_left)
        try:
            async with timeout:
                output = await self._invoke(workflow, task, thread_id, ledger)
        except BudgetSpent as spent:
            self._emit(Notice(text=str(spent)))
            return "", spent.reason
        except GraphRecursionError as error:
            self._emit(Notice(text=str(error)))
            return "", "loop"
        except TimeoutError:
            if not timeout.expired():
                raise
            self._emit(Notice(text=f"stopped after {ledger.budget.seconds:g} s (budgets.seconds)"))
            return "", "budget_time"
        self._emit(Answer(text=output))
        return output, "completed"

    async def _invoke(self, workflow: Workflow, task: str, thread_id: str, ledger: Ledger) -> str:
        graph = workflow.build().compile(checkpointer=self.threads.saver, name=workflow.name)
        context = RunContext(
            agents=Agents(self._fleet, self._emit),
            tools=self._tools,
            tool_context=self._tool_context,
            ledger=ledger,
            emit=self._emit,
        )
        state = await graph.ainvoke(
            {"messages": [HumanMessage(task)]},
            {
                "configurable": {"thread_id": thread_id},
                "recursion_limit": GRAPH_STEPS_PER_STEP * ledger.budget.steps + GRAPH_STEPS_PER_STEP,
            },
            context=context,
            durability="sync",
        )
        return last_text(state["messages"])

    async def _finish(
        self, run: asyncio.Task[tuple[str, StopReason]], workflow: Workflow, thread_id: str, ledger: Ledger
    ) -> Result:
        """The last event of a run that has ended, however it did."""
        output, error = "", None
        reason: StopReason = "error"
        try:
            output, reason = await run
        except BenchAIError as known:
            error = known.message
        except Exception as unknown:  # the stream raises it after the result
            error = f"{type(unknown).__name__}: {unknown}"
        return Result(
            output=output,
            stop_reason=reason,
            steps=ledger.steps,
            usage=ledger.usage(),
            thread_id=thread_id,
            workflow=workflow.name,
            error=error,
        )

    def _emit(self, event: Event) -> None:
        for queue in self._listeners:
            queue.put_nowait(event)


class _Done(Event):
    """Wakes the stream when the run is over."""

    type = "done"


async def _cancel(run: asyncio.Task[tuple[str, StopReason]]) -> None:
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


def last_text(messages: list[AnyMessage]) -> str:
    """The text of the last reply."""
    replies = [message for message in messages if isinstance(message, AIMessage)]
    return text_of(replies[-1]) if replies else ""


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
