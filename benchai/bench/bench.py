"""Bench as its users see it: open one, run workflows, go on with threads."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from langchain_core.messages import HumanMessage

from benchai.agents.images import data_url, read_image, with_images
from benchai.bench.parts import Parts, opened
from benchai.bench.runner import Runner
from benchai.config import LoadedConfig, load_config
from benchai.errors import UsageError
from benchai.events import Event, Result
from benchai.graphs.building import has_store
from benchai.graphs.checks import check_task, check_thread_id, check_workspace
from benchai.graphs.execution import Approver, Beginning, Graph
from benchai.graphs.guards import Budget, Ledger
from benchai.graphs.memories import Memories
from benchai.graphs.registry import Workflow
from benchai.graphs.running import Run, spent_before
from benchai.graphs.streaming import Streaming
from benchai.runtime.background import in_background
from benchai.runtime.endpoints import Endpoints

if TYPE_CHECKING:
    from langgraph.store.base import BaseStore


class Bench:
    """Runs workflows on a fleet; open one with ``async with Bench.open() as bench``.

    Attributes:
        loaded: The configuration.
        registry: The workflows.
        threads: Conversations, with their checkpoints.
        workspace: The folder that file tools see.
    """

    def __init__(self, parts: Parts) -> None:
        self.loaded = parts.loaded
        self.registry = parts.registry
        self.threads = parts.threads
        self.workspace = parts.workspace
        self._parts = parts
        self._runner = Runner(parts, self.graph)
        self._graphs: dict[str, Graph] = {}

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
        async with opened(
            loaded, folder, trace=trace, endpoints=endpoints, usage=usage, memories=memories, store=store
        ) as parts:
            yield cls(parts)

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
        state = chosen.start(await _question(task, images), inputs or {})
        beginning = Beginning(state, checkpoint=checkpoint)
        counted = ledger or Ledger(budget or self.default_budget(chosen))
        thread = thread_id or str(uuid.uuid4())
        run = Run(chosen, task, beginning, thread, counted, approver, approve_plan, user=user, said=said)
        await self._check_branch(thread, checkpoint)
        async with aclosing(self._runner.stream(run)) as events:
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
        self._check_roles(chosen)
        await self._check_branch(thread_id, checkpoint)
        counted = ledger or Ledger(budget or self.default_budget(chosen))
        spent_before(counted, await self.threads.events(thread_id))
        beginning = Beginning(None, decisions, checkpoint)
        run = Run(chosen, thread.title, beginning, thread_id, counted, approver, approve_plan, user=user)
        async with aclosing(self._runner.stream(run)) as events:
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
        self._check_roles(chosen)
        counted = ledger or Ledger(self.default_budget(chosen))
        run = Run(chosen, task, beginning, thread_id, counted, run_id=run_id, user=user, streaming=streaming)
        run.given, run.store = context or {}, store
        async with aclosing(self._runner.stream(run)) as events:
            async for event in events:
                yield event

    def graph(self, name: str) -> Graph:
        """The compiled graph of a workflow, kept: compiling takes longer than a small step.

        Raises:
            UnknownWorkflow: there is none of that name.
            ConfigError: it cannot be made.
        """
        if name not in self._graphs:
            graph = self.registry.get(name).build()
            settings: dict[str, Any] = {"checkpointer": self.threads.saver, "name": name}
            if self._parts.store is not None and not has_store(graph):
                settings["store"] = self._parts.store
            self._graphs[name] = graph.compile(**settings)
        return self._graphs[name]

    def default_budget(self, workflow: Workflow | None = None) -> Budget:
        """The budget of the configuration, for a workflow."""
        budgets = self.loaded.config.budgets
        steps = budgets.steps or (workflow.steps if workflow else Workflow.steps)
        return Budget(steps, budgets.tokens, budgets.seconds)

    async def kept(self) -> None:
        """Wait until the memory holds what the runs so far have said."""
        await self._parts.remembering.kept()

    def drain(self) -> None:
        """Stop all runs at their next step boundary, each with a checkpoint to go on from."""
        self._parts.runs.drain()

    def _check_roles(self, workflow: Workflow, images: bool = False) -> None:
        for role in (*workflow.roles, *(("vision",) if images else ())):
            self.loaded.model_for(role)

    async def _check_branch(self, thread_id: str, checkpoint: str | None) -> None:
        if checkpoint is not None:
            await self.threads.check_checkpoint(thread_id, checkpoint)


async def _question(task: str, images: Sequence[Path | str | bytes]) -> HumanMessage:
    return with_images(task, [await in_background(_read, image) for image in images])


def _read(image: Path | str | bytes) -> str:
    return data_url(image) if isinstance(image, bytes) else read_image(Path(image))


async def _last(stream: AsyncGenerator[Event, None]) -> Result:
    result: Result | None = None
    async with aclosing(stream) as events:
        async for event in events:
            result = event if isinstance(event, Result) else result
    if result is None:
        raise UsageError("the run has no result")
    return result
