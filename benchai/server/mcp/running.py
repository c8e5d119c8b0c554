"""A run that a client has called for: followed with progress, and told of as a result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from mcp_types import CallToolResult, TextContent
from pydantic_core import to_jsonable_python

from benchai.agents.messages import clean
from benchai.bench import Bench
from benchai.events import Event, Result
from benchai.graphs.approvals import Approval
from benchai.graphs.registry import Workflow
from benchai.graphs.rows import GONE
from benchai.runtime.usage.row import CANCELLED, OK, UsageRow, new_id
from benchai.server.mcp.asking import asked_on
from benchai.server.mcp.calls import Context
from benchai.server.mcp.progress import Progress, with_beats

#: Characters of a name in a row.
LONGEST = 200


@dataclass
class Going:
    """A run under way.

    Attributes:
        thread: Its thread, as the client knows it.
        inner: Its thread among the checkpoints.
        workflow: The name of what runs.
        events: What happens in it.
        result: Its end; None until then.
        asked: What it awaits approval of, once it has ended so.
        failure: What ended it before its time.
        began: Seconds since the epoch.
    """

    thread: str
    inner: str
    workflow: str
    events: AsyncGenerator[Event, None]
    result: Result | None = None
    asked: list[Approval] = field(default_factory=list)
    failure: BaseException | None = None
    began: float = field(default_factory=time.time)

    async def follow(self, bench: Bench, context: Context) -> None:
        """Go with it to its end, and tell the client on the way.

        Raises:
            BenchAIError: it could not begin.
        """
        progress = Progress(context)
        try:
            async with aclosing(with_beats(self.events)) as events:
                async for event in events:
                    if isinstance(event, Result):
                        self.result = event
                        continue
                    await progress.tell(event)
        except BaseException as error:
            self.failure = error
            # an error is raised after the result, which says what it was
            if self.result is None or not isinstance(error, Exception):
                raise
        if self.result is not None and self.result.stop_reason == "awaiting_approval":
            self.asked = await asked_on(bench, self.workflow, self.inner)


async def outcome(bench: Bench, workflow: Workflow, going: Going) -> CallToolResult:
    """The result of a call: the answer as text, and with how the run ended as data."""
    result = going.result
    assert result is not None
    structured = await _fields(bench, workflow, going.inner)
    structured |= {"output": result.output, "stop_reason": result.stop_reason, "thread_id": going.thread}
    if going.asked:
        structured["awaiting"] = [one.as_json() for one in going.asked]
    return CallToolResult(
        content=[TextContent(text=str(clean(_words(result, going))))],
        structured_content=clean(to_jsonable_python(structured, inf_nan_mode="null", fallback=str)),
        is_error=result.stop_reason == "error",
    )


async def _fields(bench: Bench, workflow: Workflow, inner: str) -> dict[str, Any]:
    """What of the run's state belongs to the workflow's output."""
    wanted = set(workflow.output.model_fields) - {"output"}
    if not wanted:
        return {}
    state = await bench.graph(workflow.name).aget_state({"configurable": {"thread_id": inner}})
    return {name: state.values[name] for name in wanted if name in state.values}


def _words(result: Result, going: Going) -> str:
    if result.stop_reason == "completed":
        return result.output
    if result.stop_reason == "error":
        hint = getattr(going.failure, "hint", None)
        return f"{result.error or 'the run failed'}{f'; {hint}' if hint else ''}"
    if result.stop_reason == "awaiting_approval":
        names = ", ".join(one.subject for one in going.asked if one.kind == "tool") or "what it asks"
        why = f"the run awaits a decision on {names}, on the thread {going.thread}"
    else:
        why = f"the run ended before its answer: {result.stop_reason}"
    return f"{result.output}\n\n({why})" if result.output else why


def row_of(going: Going, owner: str) -> UsageRow:
    """The usage row of a run that has ended."""
    usage, failure = going.result.usage if going.result else None, going.failure
    cancelled = isinstance(failure, asyncio.CancelledError)
    return UsageRow(
        id=new_id(),
        time=going.began,
        key=owner or None,
        session=going.thread,
        asked=f"workflow:{going.workflow}"[:LONGEST],
        workflow=going.workflow[:LONGEST],
        tokens_in=(usage and usage.prompt_tokens) or None,
        tokens_out=(usage and usage.completion_tokens) or None,
        total_s=max(time.time() - going.began, 0.0),
        outcome=OK if failure is None else CANCELLED if cancelled else type(failure).__name__,
        status=200 if failure is None else GONE if cancelled else getattr(failure, "status", 500),
    )
