"""Running the tools that a model calls: permission, approval, once and only once, and what the model sees of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from langchain_core.messages import AIMessage, AnyMessage, ToolCall, ToolMessage
from langgraph.config import get_config
from langgraph.types import interrupt

from benchai import events
from benchai.agents.messages import arguments_of
from benchai.agents.role import N_CTX
from benchai.errors import Refused, ToolError
from benchai.graphs.approvals import Approval, Decision, decisions_of
from benchai.graphs.loops import find_loop, with_hint
from benchai.tools.permissions import Permissions
from benchai.tools.results import present
from benchai.tools.tool import RESULTS, Tool, ToolResult

if TYPE_CHECKING:
    from benchai.graphs.context import RunContext

# of the context, a result may have this share; characters of a result where the context is not known
RESULT_SHARE = 0.25
CHARS_PER_TOKEN = 3
RESULT_CHARS = 24_000
SHORTEST_RESULT = 1_000
# of what a tool returned, no more is looked at
MOST_CHARS = 4_000_000


class Journal(Protocol):
    """Remembers which calls with side effects have begun and how they ended, beyond the death of the process."""

    async def known(self, key: str) -> ToolResult | None:
        """What is known of a call that began before."""
        ...

    async def begin(self, key: str) -> ToolResult | None:
        """Note that a call begins; what is known of it when it began before."""
        ...

    async def end(self, key: str, result: ToolResult) -> None:
        """Note how it ended."""
        ...


@dataclass(frozen=True)
class Acting:
    """How the tools of a run are run."""

    permissions: Permissions = field(default_factory=Permissions)
    journal: Journal | None = None

    async def act(self, context: RunContext, reply: AIMessage, messages: Sequence[AnyMessage]) -> list[ToolMessage]:
        """One result for each call of a reply, in its order."""
        calls = [(call, arguments_of(reply, call)) for call in reply.tool_calls]
        limit = _result_chars(reply.response_metadata.get(N_CTX), len(calls))
        denied, asked = self._rule(context, calls)
        decisions = self._ask(asked, context)
        results = await asyncio.gather(
            *(
                self._one(context, call, arguments, denied.get(str(call["id"])), decisions.get(str(call["id"])), limit)
                for call, arguments in calls
            )
        )
        return _with_hint(list(results), [*messages, reply], context)

    def _rule(
        self, context: RunContext, calls: Sequence[tuple[ToolCall, dict[str, Any] | str]]
    ) -> tuple[dict[str, str], list[Approval]]:
        """The calls that are denied, with the reasons, and those that the user is asked about."""
        denied, asked = {}, []
        for call, arguments in calls:
            tool, valid = _valid(context, call["name"], arguments)
            if tool is None:
                continue
            ruling = self.permissions.decide(tool, valid, context.tool_context.workspace)
            if ruling.decision == "deny":
                denied[str(call["id"])] = ruling.reason
            elif ruling.decision == "ask":
                asked.append(Approval(str(call["id"]), "tool", tool.name, valid, ruling.reason))
        return denied, asked

    def _ask(self, asked: list[Approval], context: RunContext) -> dict[str, Decision]:
        """The user's decisions; the run stops here until they are there."""
        if not asked:
            return {}
        answer = interrupt({"requests": [one.as_json() for one in asked]})
        decisions = decisions_of(answer, asked)
        for call_id, decision in decisions.items():
            context.emit(events.ApprovalGiven(id=call_id, decision=decision.kind, message=decision.message))
        return decisions

    async def _one(
        self,
        context: RunContext,
        call: ToolCall,
        arguments: dict[str, Any] | str,
        denied: str | None,
        decision: Decision | None,
        limit: int,
    ) -> ToolMessage:
        step, call_id, name = context.ledger.steps, str(call["id"]), call["name"]
        if decision is not None and decision.kind == "edit":
            arguments = dict(decision.arguments)
            denied = self._forbidden(context, name, arguments)
        context.emit(events.ToolCall(step=step, id=call_id, name=name, arguments=arguments))
        result = await self._known(context, call_id, name, decision) or _without_running(name, denied, decision)
        if result is None:
            result = _plain(await self._run(context, call_id, name, arguments))
        text = _presented(context, call_id, name, arguments, result, limit)
        # the journal of an earlier run does not know
        error = None if result.ok else result.error or ToolError.__name__
        context.emit(events.Observation(step=step, id=call_id, name=name, ok=result.ok, text=text, error=error))
        return ToolMessage(text, tool_call_id=call_id, name=name, status="success" if result.ok else "error")

    def objection(self, context: RunContext, name: str, arguments: Mapping[str, Any]) -> str | None:
        """Why a tool can't be called with arguments that the user wrote: its schema, or a rule that stands above."""
        try:
            context.tools.get(name).validate(arguments)
        except ToolError as error:
            return error.message
        return self._forbidden(context, name, arguments)

    def _forbidden(self, context: RunContext, name: str, arguments: Mapping[str, Any]) -> str | None:
        tool, valid = _valid(context, name, arguments)
        if tool is None:
            return None
        ruling = self.permissions.decide(tool, valid, context.tool_context.workspace)
        return ruling.reason if ruling.decision == "deny" else None

    async def _known(
        self, context: RunContext, call_id: str, name: str, decision: Decision | None
    ) -> ToolResult | None:
        """What became of a call before its run was interrupted: no later decision can undo that."""
        if decision is None or self.journal is None:
            return None
        return await self.journal.known(_key(call_id))

    async def _run(self, context: RunContext, call_id: str, name: str, arguments: dict[str, Any] | str) -> ToolResult:
        """Run a tool; one with side effects not again when it began before the run was interrupted."""
        tool, _ = _valid(context, name, arguments)
        if self.journal is None or tool is None or tool.permission == "read":
            return await context.tools.invoke(name, arguments, context.tool_context)
        known = await self.journal.begin(_key(call_id))
        if known is not None:
            return known
        result = _plain(await context.tools.invoke(name, arguments, context.tool_context))
        await self.journal.end(_key(call_id), result)
        return result


def _key(call_id: str) -> str:
    """A call, in the step of the graph that makes it: servers give the same id to later calls, too."""
    try:
        step = str(get_config()["configurable"].get("checkpoint_ns", ""))
    except RuntimeError:
        step = ""
    return f"{step}/{call_id}"


def _encodable(text: str) -> str:
    """A text without lone surrogates, which neither the journal nor a request takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _plain(result: ToolResult) -> ToolResult:
    """A result whose text is one, of a size that can be worked on, whatever the tool gave."""
    text: object = result.text
    if isinstance(text, bytes | bytearray):
        text = text[: MOST_CHARS + 1].decode("utf-8", "replace")
    words = _encodable(text if isinstance(text, str) else str(text))
    if len(words) > MOST_CHARS:
        words = f"{words[:MOST_CHARS]}\n[... cut: the result has {len(words):,} characters ...]"
    return result if words is result.text else replace(result, text=words)


def _valid(context: RunContext, name: str, arguments: Mapping[str, Any] | str) -> tuple[Tool | None, dict[str, Any]]:
    """The tool and its arguments as it would get them; None where invoking it will only tell a complaint."""
    try:
        tool = context.tools.get(name)
        return tool, tool.validate(arguments).model_dump(exclude_unset=True)
    except ToolError:
        return None, {}


def _without_running(name: str, denied: str | None, decision: Decision | None) -> ToolResult | None:
    """The result of a call that is not run."""
    if denied is not None:
        return _refused(f"{name} is not allowed: {denied}")
    if decision is None or decision.kind in ("approve", "edit"):
        return None
    if decision.kind == "respond":
        return ToolResult(ok=True, text=decision.message)
    reason = f": {decision.message}" if decision.message else ""
    return _refused(f"the user refused this call{reason}")


def _refused(why: str) -> ToolResult:
    return ToolResult(ok=False, text=f"Error: {why}", error=Refused.__name__)


def _result_chars(n_ctx: int | None, calls: int) -> int:
    """Characters that each result may have."""
    if not n_ctx:
        return RESULT_CHARS
    return max(int(n_ctx * RESULT_SHARE * CHARS_PER_TOKEN / max(calls, 1)), SHORTEST_RESULT)


def _digest(call_id: str) -> str:
    return sha256(_key(call_id).encode()).hexdigest()[:8]


def _presented(
    context: RunContext, call_id: str, name: str, arguments: dict[str, Any] | str, result: ToolResult, limit: int
) -> str:
    tool = context.tools.get(name) if name in context.tools.names() else None
    source = name
    if isinstance(arguments, dict) and (where := arguments.get("url") or arguments.get("path")):
        source = f"{name} {where}"
    return present(
        result.text,
        source=source,
        # a page that was too long came from others wherever it is kept
        trusted=(tool is None or tool.trusted) and not source.startswith(f"read_file {RESULTS}"),
        limit_chars=limit,
        spill=lambda text: context.tool_context.spill(f"{call_id}_{_digest(call_id)}", text),
    )


def _with_hint(results: list[ToolMessage], messages: list[AnyMessage], context: RunContext) -> list[ToolMessage]:
    """The results, with a word to the model when they show that it is in a loop."""
    polling = [name for name in context.tools.names() if context.tools.get(name).polling]
    loop = find_loop([*messages, *results], polling)
    if loop is None or not results or loop.excess:
        return results
    context.emit(events.Notice(text=f"the model repeats itself ({loop.kind}): it is told so"))
    last = results[-1]
    return [*results[:-1], last.model_copy(update={"content": with_hint(str(last.text), loop.hint)})]
