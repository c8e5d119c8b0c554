"""Bench: the one object that a CLI command, an HTTP request and a user's script open to run workflows."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from langchain_core.messages import BaseMessage

from benchai.agents.images import data_url, read_image, with_images
from benchai.agents.model import Models
from benchai.agents.role import Agents
from benchai.config import LoadedConfig, load_config
from benchai.errors import ConfigError, UsageError
from benchai.events import Emit, Event, ModelState, Notice, Result, RunStarted, StopReason
from benchai.graphs.acting import Acting
from benchai.graphs.building import has_store
from benchai.graphs.checkpoints import ThreadStore, open_threads
from benchai.graphs.checks import check_task, check_thread_id, check_workspace
from benchai.graphs.context import RunContext
from benchai.graphs.execution import Approver, Beginning, Execution, Graph
from benchai.graphs.further_tools import further_tools
from benchai.graphs.guards import Budget, Ledger
from benchai.graphs.loader import load_workflows
from benchai.graphs.memories import Memories
from benchai.graphs.registry import Workflow, WorkflowRegistry
from benchai.graphs.remembering import Remembering
from benchai.graphs.rows import Rows
from benchai.graphs.running import Done, Run, result_of, spent_before
from benchai.graphs.stores import current
from benchai.graphs.streaming import Streaming
from benchai.runtime.attached import attached
from benchai.runtime.background import in_background
from benchai.runtime.endpoints import Endpoints
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.usage.log import UsageLog
from benchai.tools.permissions import Permissions
from benchai.tools.registry import ToolRegistry
from benchai.tools.selection import select_tools
from benchai.tools.tool import ToolContext
from benchai.tracing.tracer import Tracer, tracing

if TYPE_CHECKING:
    from langgraph.store.base import BaseStore

    from benchai.memory.extract import Extractor


class Bench:
    """Runs workflows on a fleet; open one with ``async with Bench.open() as bench``."""

    def __init__(
        self,
        loaded: LoadedConfig,
        registry: WorkflowRegistry,
        threads: ThreadStore,
        workspace: Path,
        tools: ToolRegistry | None = None,
        tracer: Tracer | None = None,
        endpoints: Endpoints | None = None,
        memories: Memories | None = None,
        store: BaseStore | None = None,
    ) -> None:
        self._store = store
        self.loaded = loaded
        self.registry = registry
        self.threads = threads
        self.workspace = workspace
        self._runs: list[Run] = []
        self._graphs: dict[str, Graph] = {}
        self._problems: list[str] = []
        self._models = Models()
        self._usage: UsageLog | None = None
        self._tracer = tracer or Tracer()
        self._endpoints, self._fleet = (endpoints, None) if endpoints is not None else self._choose_fleet()
        self._memories = memories or Memories(loaded, self._endpoints)
        self._remembering = Remembering(self._memories, self._learns(), loaded)
        self._tools = tools if tools is not None else select_tools(loaded.config.tools)
        self._permissions = Permissions.from_config(loaded.config.tools)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        config: LoadedConfig | Path | str | None = None,
        *,
        workspace: Path | str | None = None,
        roles: Mapping[str, str] | None = None,
        trace: Path | str | None = None,
        endpoints: Endpoints | None = None,
        usage: bool = True,
        memories: Memories | None = None,
        store: BaseStore | None = None,
    ) -> AsyncIterator[Self]:
        """Open a bench; leaving stops every model it started.

        Args:
            config: A loaded configuration, the path of a benchai.yaml, or None for the search order.
            workspace: The folder that file tools see; default: the current one.
            roles: Other models for some roles.
            trace: Runs append their spans to this file, as OTLP JSON lines; OTEL_EXPORTER_OTLP_ENDPOINT sends them
                to a collector, too.
            endpoints: Where the models answer; default: a running server's fleet, or one of its own.
            usage: Whether each call of a model leaves a usage row, unless ``usage.enabled`` is false.
            memories: Opens the memory; default: a running server's, or that of the configuration.
            store: What graphs without a store of their own get as theirs; default: none.

        Raises:
            ConfigError: the configuration is wrong.
            UsageError: the workspace is no folder, or the file of the trace can't be written.
        """
        loaded = config if isinstance(config, LoadedConfig) else load_config(Path(config) if config else None)
        loaded = loaded.with_roles(roles or {})
        folder = check_workspace(Path(workspace) if workspace else Path.cwd())
        registry = load_workflows(loaded)
        async with AsyncExitStack() as stack:
            tracer = await stack.enter_async_context(tracing(trace))
            threads = await stack.enter_async_context(open_threads(loaded.config.threads))
            given: dict[str, Any] = {"endpoints": endpoints, "memories": memories, "store": store}
            bench = cls(loaded, registry, threads, folder, tracer=tracer, **given)
            if usage and loaded.config.usage.enabled:
                await stack.enter_async_context(bench._with_usage())
            for tool in await stack.enter_async_context(further_tools(loaded, folder, bench._problems)):
                bench._tools.add(tool)
            await stack.enter_async_context(bench._models)
            if bench._fleet is not None:
                await stack.enter_async_context(bench._fleet)
            if memories is None:
                # closed before its models: what is still being embedded asks them
                await stack.enter_async_context(bench._memories)
            try:
                yield bench
            finally:
                await bench._end_runs()
                await bench.kept()

    @asynccontextmanager
    async def _with_usage(self) -> AsyncIterator[None]:
        """Keep the usage rows of this bench's calls; a server attached to hands out leases, and sees no calls."""
        self._usage = UsageLog(self.loaded.config.usage, emit=self._broadcast)
        try:
            yield
        finally:
            await in_background(self._usage.close)

    def _choose_fleet(self) -> tuple[Endpoints, Fleet | None]:
        """The fleet of a running server that serves the same models, or one of our own."""
        served = attached(self.loaded, self._broadcast)
        if served is not None:
            return served, None
        fleet = Fleet(self.loaded, self._broadcast)
        return fleet, fleet

    def workflows(self) -> list[Workflow]:
        """All workflows, by name."""
        return self.registry.all()

    async def run(self, workflow: str, task: str, **settings: Any) -> Result:
        """Run a workflow to its end; see ``stream`` for the settings and the errors."""
        return await _last(self.stream(workflow, task, **settings))

    async def resume(self, thread_id: str, decisions: Any = None, **settings: Any) -> Result:
        """Go on with a thread to its end; see ``stream_resumed`` for the settings and the errors."""
        return await _last(self.stream_resumed(thread_id, decisions, **settings))

    async def stream(
        self,
        workflow: str,
        task: str,
        *,
        images: Sequence[Path | str | bytes] = (),
        inputs: Mapping[str, Any] | None = None,
        thread_id: str | None = None,
        checkpoint: str | None = None,
        budget: Budget | None = None,
        ledger: Ledger | None = None,
        approver: Approver | None = None,
        approve_plan: bool = False,
        user: str | None = None,
        said: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Run a workflow and yield its events, the last one a ``Result``.

        Closing the generator (``contextlib.aclosing``) or leaving the bench cancels the run.

        Args:
            workflow: Name of the workflow.
            task: The task, in words; at most 1 MiB.
            images: Image files, or encoded images, that belong to the task; the role vision looks at them.
            inputs: What the workflow takes beside the task; see its input schema.
            thread_id: Goes on with this thread, or begins one of this name; default: a new one.
            checkpoint: Branches off at this checkpoint of the thread instead of its end.
            budget: What the run may spend; default: the configuration's.
            ledger: Where the run counts what it spends, in place of ``budget``; the caller may look at it.
            approver: Decides on what the permissions ask for, given the questions; None, or an approver that
                returns None, ends the run with ``stop_reason`` "awaiting_approval".
            approve_plan: Whether a plan is put to the approver before work begins.
            user: Whose memory it recalls from and is kept in; default: that of the local user.
            said: What of the task is new, where the task repeats what was said before: this is what the memory is
                asked for and keeps; default: all of it.

        Raises:
            UsageError: no such workflow, an empty or oversized task, an unknown input or checkpoint, an image that
                is none, or a thread in use.
            ConfigError: no model serves one of the workflow's roles.
            BenchAIError: what ended the run with ``stop_reason`` "error", after its ``Result``.
        """
        chosen = self.registry.get(workflow)
        check_task(task)
        check_thread_id(thread_id)
        self._check_roles(chosen, bool(images))
        question = with_images(task, [await in_background(_read, image) for image in images])
        state = chosen.start(question, inputs or {})
        beginning = Beginning(state, checkpoint=checkpoint)
        run = Run(
            workflow=chosen,
            task=task,
            beginning=beginning,
            thread_id=thread_id or str(uuid.uuid4()),
            ledger=ledger or Ledger(budget or self.default_budget(chosen)),
            approver=approver,
            approve_plan=approve_plan,
            user=user,
            said=said,
        )
        if checkpoint is not None:
            await self.threads.check_checkpoint(run.thread_id, checkpoint)
        if (remembered := await self._remembering.recalled(run)) is not None:
            state["messages"].insert(0, remembered)
        async with aclosing(self._events(run)) as events:
            async for event in events:
                yield event

    async def stream_resumed(
        self,
        thread_id: str,
        decisions: Any = None,
        *,
        checkpoint: str | None = None,
        budget: Budget | None = None,
        ledger: Ledger | None = None,
        approver: Approver | None = None,
        approve_plan: bool = False,
        user: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Go on with a thread that was interrupted or awaits a decision, and yield the events.

        Nodes that had finished do not run again, tools with side effects neither. What the interrupted run had
        spent counts.

        Args:
            thread_id: The thread.
            decisions: "approve", "reject", or what ``graphs.approvals.decisions_of`` takes; None where the thread
                awaits none, or an approver decides.
            checkpoint: Branches off at this checkpoint of the thread instead of its end.
            budget, ledger, approver, approve_plan, user: As in ``stream``.

        Raises:
            UnknownThread: there is none of that id.
            UsageError: there is nothing to go on with, a decision does not fit or was taken before, the checkpoint
                is unknown, or the thread is in use.
            BenchAIError: what ended the run with ``stop_reason`` "error", after its ``Result``.
        """
        thread = await self.threads.get(thread_id)
        chosen = self.registry.get(thread.workflow)
        self._check_roles(chosen, False)
        if checkpoint is not None:
            await self.threads.check_checkpoint(thread_id, checkpoint)
        counted = ledger or Ledger(budget or self.default_budget(chosen))
        spent_before(counted, await self.threads.events(thread_id))
        run = Run(
            workflow=chosen,
            task=thread.title,
            beginning=Beginning(None, decisions, checkpoint),
            thread_id=thread_id,
            ledger=counted,
            approver=approver,
            approve_plan=approve_plan,
            user=user,
        )
        async with aclosing(self._events(run)) as events:
            async for event in events:
                yield event

    async def stream_graph(
        self,
        workflow: str,
        beginning: Beginning,
        *,
        task: str,
        thread_id: str,
        run_id: str,
        streaming: Streaming,
        ledger: Ledger | None = None,
        user: str | None = None,
        context: Mapping[str, Any] | None = None,
        store: BaseStore | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Run a workflow's graph for a client that knows it: its stream's parts come among the events.

        Args:
            workflow: Name of the workflow.
            beginning: The graph's input (see ``graphs.starting``), or how the thread goes on.
            task: What its input asks for, in words.
            thread_id: The thread.
            run_id: Id of the run; its checkpoints bear what ``streaming.metadata`` says.
            streaming: What is streamed, as ``Part`` events.
            ledger, user: As in ``stream``.
            context: For a user's graph, the fields of its own context.
            store: What its nodes get where the bench was opened with a ``graphs.stores.RunStore``.

        Raises:
            UsageError, ConfigError, BenchAIError: as in ``stream``.
        """
        chosen = self.registry.get(workflow)
        self._check_roles(chosen, False)
        counted = ledger or Ledger(self.default_budget(chosen))
        run = Run(chosen, task, beginning, thread_id, counted, run_id=run_id, user=user, streaming=streaming)
        run.given, run.store = context or {}, store
        messages: list[Any] = (beginning.inputs or {}).get("messages") or []
        # a graph that keeps messages of another kind would not know what to do with ours
        recalls = bool(messages) and isinstance(messages[0], BaseMessage)
        if recalls and (remembered := await self._remembering.recalled(run)) is not None:
            assert beginning.inputs is not None
            beginning.inputs["messages"] = [remembered, *messages]
        async with aclosing(self._events(run)) as events:
            async for event in events:
                yield event

    def default_budget(self, workflow: Workflow | None = None) -> Budget:
        """The budget of the configuration, for a workflow."""
        budgets = self.loaded.config.budgets
        steps = budgets.steps or (workflow.steps if workflow else Workflow.steps)
        return Budget(steps, budgets.tokens, budgets.seconds)

    async def kept(self) -> None:
        """Wait until the memory holds what the runs so far have said."""
        await self._remembering.kept()

    def drain(self) -> None:
        """Stop all runs at their next step boundary, each with a checkpoint to go on from."""
        for run in self._runs:
            run.control.request_drain()

    def _check_roles(self, workflow: Workflow, images: bool) -> None:
        for role in (*workflow.roles, *(("vision",) if images else ())):
            self.loaded.model_for(role)

    async def _events(self, run: Run) -> AsyncGenerator[Event, None]:
        """The events of a run until its result; an error is raised after it."""
        self._runs.append(run)
        working = run.working = asyncio.create_task(self._work(run))
        working.add_done_callback(lambda _: run.events.put_nowait(Done()))
        try:
            while not isinstance(event := await run.events.get(), Done):
                yield event
            yield await result_of(run, working)
            if (error := working.exception()) is not None:
                raise error
        finally:
            self._runs.remove(run)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _work(self, run: Run) -> tuple[str, StopReason]:
        """Output and stop reason of one run, on a thread that nobody else runs on."""
        current.set(run.store)
        async with self.threads.lock(run.thread_id):
            await self.threads.begin(run.thread_id, run.workflow.name, run.task)
            self._tracer.begin(run.run_id, run.task, self.loaded)
            self._emitter(run)(RunStarted(workflow=run.workflow.name, thread_id=run.thread_id, run_id=run.run_id))
            for problem in (*self._problems, *self._tracer.problems()):
                run.emit(Notice(text=problem))
            reason: StopReason = "error"
            try:
                async with run.keeping_events(self.threads):
                    output, reason = await self._execution(run).run(run.beginning)
                    for problem in self._tracer.problems():
                        run.emit(Notice(text=problem))
                    run.end(output, reason)
                self._remembering.keep(run, output, reason)
                return output, reason
            except asyncio.CancelledError:
                reason = "cancelled"
                raise
            finally:
                self._tracer.end(run.run_id, reason, sys.exception())
                await asyncio.shield(self.threads.end(run.thread_id, reason))

    def _emitter(self, run: Run) -> Emit:
        """Takes the events of a run, for its trace too where there is one."""
        return self._tracer.follow(run.run_id, run.emit)

    def _execution(self, run: Run) -> Execution:
        emit = self._emitter(run)
        rows = Rows(self._usage, run.workflow.name, run.thread_id) if self._usage is not None else None
        context = RunContext(
            agents=Agents(self._endpoints, emit, self._models),
            tools=self._tools,
            tool_context=ToolContext(self.workspace, self.threads.results(run.thread_id), self._remembering.of(run)),
            ledger=run.ledger,
            emit=emit,
            acting=Acting(self._permissions, self.threads.journal(run.thread_id)),
            approve_plan=run.approve_plan,
            workflow=run.workflow.name,
            served=self._is_served,
            model_of=self._model_of,
            routing=self.loaded.config.routing,
            fit_together=self._endpoints.fit_together,
            record=rows.take if rows is not None else None,
            given=run.given,
        )
        return Execution(
            run.workflow,
            self.graph(run.workflow.name),
            context,
            run.thread_id,
            run.approver,
            run.control,
            run.streaming or Streaming(),
            run.events.put_nowait if run.streaming else None,
        )

    def _learns(self) -> Callable[[], Extractor] | None:
        """What takes facts from runs; None where nothing is learned by itself."""
        if self.loaded.config.memory.learn != "after_run":
            return None

        def extractor() -> Extractor:
            from benchai.graphs.learning import ROLE, asks
            from benchai.memory.extract import Extractor

            agents = Agents(self._endpoints, self._broadcast, self._models)
            return Extractor(asks(agents), self._model_of(ROLE))

        return extractor

    def _is_served(self, role: str) -> bool:
        """Whether a model serves a role."""
        try:
            self.loaded.model_for(role)
        except ConfigError:
            return False
        return True

    def _model_of(self, role: str) -> str:
        """The model that serves a role; the role itself where none does."""
        return self.loaded.model_for(role)[0] if self._is_served(role) else role

    def graph(self, name: str) -> Graph:
        """The compiled graph of a workflow, kept: compiling takes longer than a small step.

        Raises:
            UnknownWorkflow: there is none of that name.
            ConfigError: it cannot be made.
        """
        if name not in self._graphs:
            graph = self.registry.get(name).build()
            settings: dict[str, Any] = {"checkpointer": self.threads.saver, "name": name}
            if self._store is not None and not has_store(graph):
                settings["store"] = self._store
            self._graphs[name] = graph.compile(**settings)
        return self._graphs[name]

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
            self._emitter(run)(event)


async def _last(stream: AsyncGenerator[Event, None]) -> Result:
    result: Result | None = None
    async with aclosing(stream) as events:
        async for event in events:
            result = event if isinstance(event, Result) else result
    if result is None:
        raise UsageError("the run has no result")
    return result


def _read(image: Path | str | bytes) -> str:
    return data_url(image) if isinstance(image, bytes) else read_image(Path(image))
