"""Tools of the MCP server: each workflow is one, and the memory has two."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolRequestParams, CallToolResult, InputRequiredResult, TextContent, Tool
from pydantic import ValidationError

from benchai.agents.messages import clean
from benchai.bench import Bench
from benchai.errors import BenchAIError, UnknownThread, UsageError
from benchai.graphs.checkpoints import Thread
from benchai.graphs.registry import Workflow, WorkflowRegistry
from benchai.server.mcp.asking import answers, approver, asked_next, can_ask
from benchai.server.mcp.calls import Context, owner_of
from benchai.server.mcp.catalog import MEMORY_TOOLS, named, workflow_tool
from benchai.server.mcp.house import House, inner_id
from benchai.server.mcp.recall import find
from benchai.server.mcp.running import Going, outcome, row_of


class Tools:
    """What a client may call."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._known: tuple[WorkflowRegistry, dict[str, Tool]] | None = None

    async def listed(self) -> list[Tool]:
        """All tools, by name.

        Raises:
            BenchAIError: the workflows can't be loaded.
        """
        async with self._house.bench() as bench:
            if self._known is None or self._known[0] is not bench.registry:
                self._known = bench.registry, self._described(bench)
            return list(self._known[1].values())

    def schema(self, name: str) -> dict[str, Any] | None:
        """The arguments of a tool, as far as they were listed: making schemas takes longer than a small run."""
        tool = self._known[1].get(name) if self._known is not None else None
        return tool.input_schema if tool is not None else None

    def _described(self, bench: Bench) -> dict[str, Tool]:
        found = {name: workflow_tool(name, one) for name, one in named(bench.registry.all()).items()}
        return (MEMORY_TOOLS if self._house.memories.enabled else {}) | found

    async def call(self, context: Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        """The result of a call; what went wrong in it is a result, too, for a model to read.

        Raises:
            MCPError: there is no such tool.
        """
        arguments = params.arguments or {}
        try:
            if params.name in MEMORY_TOOLS and self._house.memories.enabled:
                return await find(self._house.memories, params.name, arguments, owner_of(context))
            async with self._house.bench() as bench:
                workflow = named(bench.registry.all()).get(params.name)
                if workflow is None:
                    raise MCPError(INVALID_PARAMS, f"there is no tool {params.name[:100]!r}; 'tools/list' names them")
                return await self._run(bench, workflow, context, params)
        except BenchAIError as error:
            return failed(error)

    async def _run(
        self, bench: Bench, workflow: Workflow, context: Context, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        owner = owner_of(context)
        if params.request_state is None:
            going = _begun(bench, workflow, params.arguments or {}, context, owner)
        else:
            going = await _gone_on(bench, workflow, params, context, owner)
        try:
            await going.follow(bench, context)
        finally:
            if self._house.record is not None:
                self._house.record(row_of(going, owner))
        if going.asked and can_ask(context) and not context.session.can_send_request:
            return asked_next(going.asked, going.thread)
        return await outcome(bench, workflow, going)


def failed(error: BenchAIError) -> CallToolResult:
    """What a model reads of a call that could not be done."""
    text = f"{error.message}; {error.hint}" if error.hint else error.message
    return CallToolResult(content=[TextContent(text=str(clean(text)))], is_error=True)


def _begun(bench: Bench, workflow: Workflow, arguments: Mapping[str, Any], context: Context, owner: str) -> Going:
    """A new run, on a thread of its own."""
    task = _task(workflow, arguments)
    thread = str(uuid.uuid4())
    inner = inner_id(thread, owner)
    events = bench.stream(
        workflow.name,
        task,
        inputs={name: value for name, value in arguments.items() if name != "task"},
        thread_id=inner,
        approver=approver(bench, workflow.name, inner, context),
        user=owner or None,
    )
    return Going(thread, inner, workflow.name, events)


async def _gone_on(
    bench: Bench, workflow: Workflow, params: CallToolRequestParams, context: Context, owner: str
) -> Going:
    """The run of an earlier call, with the decisions that it asked for.

    Raises:
        UsageError: its state names no thread of this workflow, or the client dismissed a question.
    """
    thread = params.request_state or ""
    inner = inner_id(thread, owner)
    kept = await _thread(bench, inner)
    if kept is None or kept.workflow != workflow.name:
        raise UsageError(f"{thread[:100]!r} is no thread of {workflow.name!r}")
    decisions = answers(params.input_responses)
    if decisions is None:
        raise UsageError(
            f"nothing was decided: the thread {thread!r} still awaits a decision", hint="call again with one"
        )
    events = bench.stream_resumed(
        inner, decisions, approver=approver(bench, workflow.name, inner, context), user=owner or None
    )
    return Going(thread, inner, workflow.name, events)


async def _thread(bench: Bench, inner: str) -> Thread | None:
    try:
        return await bench.threads.get(inner)
    except UnknownThread:
        # its hint names the nearest, which may be another key's
        return None


def _task(workflow: Workflow, arguments: Mapping[str, Any]) -> str:
    """The task among the arguments; all of them, as JSON, where a workflow knows no task.

    Raises:
        UsageError: an argument is unknown, missing or wrong.
    """
    try:
        given = workflow.input.model_validate(dict(arguments))
    except ValidationError as error:
        raise UsageError(f"{workflow.name}: {'; '.join(_complaints(error))}") from error
    return str(getattr(given, "task", None) or arguments.get("task", json.dumps(dict(arguments))))


def _complaints(error: ValidationError) -> Sequence[str]:
    found = error.errors(include_url=False, include_input=False)
    return [f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}" for one in found[:5]]
