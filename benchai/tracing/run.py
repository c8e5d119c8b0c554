"""The trace of one run: its events in, finished spans out.

One span for the run (``invoke_workflow``), one for each node that told its step (``invoke_agent``, or just the node's
name where it called neither a model nor a tool), ``chat`` for a request to a model, ``execute_tool`` for a tool, and
``load_model`` for a model's start. What else happens is an event of the span around it. What people, models and tools
wrote is left out unless ``content`` is set.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchai import events
from benchai.errors import BenchAIError, ToolError
from benchai.tracing import names
from benchai.tracing.models import Models
from benchai.tracing.place import OUTSIDE, Place
from benchai.tracing.spans import Kind, Span, Value, new_trace

# a run that ended so did what it was to do, as far as it could
FINE: tuple[events.StopReason, ...] = ("completed", "awaiting_approval")
NANO = 1_000_000_000
Attributes = dict[str, Value]


@dataclass(eq=False)
class _Open:
    """A span under way: the node at work in it, when something last happened in it, whether it called anything."""

    span: Span
    around: _Open | None = None
    place: Place = OUTSIDE
    last: int = 0
    called: bool = False

    def touch(self, moment: int, called: bool = False) -> None:
        self.last = max(self.last, moment)
        self.called |= called
        if self.around is not None:
            self.around.touch(moment, called)


@dataclass(eq=False)
class RunTrace:
    """Follows one run; each finished span goes to ``finish``, inner spans before outer ones."""

    finish: Callable[[Span], None]
    models: Models
    task: str = ""
    content: bool = False
    _root: _Open | None = None
    _thread: str = ""
    _agents: dict[tuple[str, ...], _Open] = field(default_factory=dict)
    _tools: dict[tuple[tuple[str, ...], str], _Open] = field(default_factory=dict)
    _prompt_tokens: int = 0
    _completion_tokens: int = 0
    _steps: int = 0

    def take(self, event: events.Event, place: Place = OUTSIDE) -> None:
        """Take the next event, and the node in which it happened."""
        now = _nanoseconds(event.time)
        if isinstance(event, events.RunStarted):
            self._root = self._begun(event, now)
        if self._root is None:
            return
        # a model's process belongs to nobody, whoever's call has started it
        around = self._root if isinstance(event, events.ModelReady) else self._around(place)
        match event:
            case events.Step():
                self._node(event, place, now)
            case events.ModelCall():
                self._chat(event, around, now)
            case events.ToolCall():
                self._tool(event, around, place, now)
            case events.Observation():
                self._observed(event, place, now)
            case events.ModelReady():
                self._loaded(event, around, now)
            case events.Answer() if self.content:
                self._root.span.attributes[names.OUTPUT_MESSAGES] = _messages("assistant", event.text)
            case _:
                self._moment(event, around, now)

    def end(self, reason: events.StopReason, error: BaseException | None = None) -> None:
        """The run has ended; what is still open ends with it."""
        if self._root is None:
            return
        now = max(time.time_ns(), self._root.last)
        for tool in self._tools.values():
            _fail(tool.span, "cancelled", "cancelled")
            self._close(tool.span, now)
        self._tools.clear()
        for key in sorted(self._agents, key=len, reverse=True):
            self._close_node(key)
        self._ended(self._root.span, reason, error)
        self._close(self._root.span, now)
        self._root = None

    def _begun(self, event: events.RunStarted, now: int) -> _Open:
        self._thread = event.thread_id
        attributes: Attributes = {
            names.OPERATION: "invoke_workflow",
            names.AGENT: event.workflow,
            names.WORKFLOW: event.workflow,
            names.CONVERSATION: event.thread_id,
            names.RUN: event.run_id,
        }
        if self.content and self.task:
            attributes[names.INPUT_MESSAGES] = _messages("user", self.task)
        return _Open(Span(f"invoke_workflow {event.workflow}", new_trace(), now, attributes=attributes), last=now)

    def _ended(self, root: Span, reason: events.StopReason, error: BaseException | None) -> None:
        root.attributes |= {
            names.STOP_REASON: reason,
            names.STEPS: self._steps,
            names.INPUT_TOKENS: self._prompt_tokens,
            names.OUTPUT_TOKENS: self._completion_tokens,
        }
        if reason in FINE:
            return
        known = error is not None and not isinstance(error, asyncio.CancelledError)
        words = error.message if isinstance(error, BenchAIError) else str(error)
        # an error's text may quote what a model or a server wrote
        _fail(
            root, type(error).__name__ if known else reason, f"{reason}: {words}" if known and self.content else reason
        )

    def _around(self, place: Place) -> _Open:
        """The innermost open span around a place."""
        assert self._root is not None
        for count in range(len(place.nodes), 0, -1):
            if (found := self._agents.get(place.nodes[:count])) is not None:
                return found
        return self._root

    def _node(self, event: events.Step, place: Place, now: int) -> None:
        """A node begins: those of earlier steps beside it are over; after a question one goes on, and is no new one."""
        beside = [key for key in self._agents if key[: len(place.nodes) - 1] == place.nodes[:-1]]
        for key in sorted(beside, key=len, reverse=True):
            owner = self._agents.get(key[: len(place.nodes)])
            if owner is not None and owner.place.step < place.step:
                self._close_node(key)
        around = self._around(place)
        if around.place == place and around.span.attributes.get(names.NODE) == event.node:
            return
        if place.nodes in self._agents:
            self._close_node(place.nodes)
            around = self._around(place)
        if not place.nodes:
            around.span.add("benchai.step", now, {names.NODE: event.node})
            return
        detail: Attributes = {names.DETAIL: event.detail} if self.content and event.detail else {}
        span = self._inside(around, event.node, now, {names.NODE: event.node} | detail)
        self._agents[place.nodes] = _Open(span, around, place, now)
        around.touch(now)

    def _close_node(self, key: tuple[str, ...]) -> None:
        node = self._agents.pop(key)
        if node.called:
            name = node.span.name
            node.span.name = f"invoke_agent {name}"
            node.span.attributes |= {names.OPERATION: "invoke_agent", names.AGENT: name}
        self._close(node.span, node.last)

    def _chat(self, event: events.ModelCall, around: _Open, now: int) -> None:
        # a call that is made again is one step of the run
        self._steps += event.then != "called_again"
        self._prompt_tokens += event.prompt_tokens
        self._completion_tokens += event.completion_tokens
        asked = self.models.name(self.models.asked(event.role, event.model))
        start = now - _nanoseconds(event.seconds)
        span = self._inside(around, f"chat {asked}", start, self.models.attributes(event.model))
        span.kind = Kind.CLIENT
        span.attributes |= {
            names.OPERATION: "chat",
            names.REQUEST_MODEL: asked,
            names.ROLE: event.role,
            names.MODEL: event.model,
            names.STEP: event.step,
        }
        if event.error is None:
            span.attributes |= self._answered(event)
        else:
            span.attributes[names.THEN] = event.then or ""
            _fail(span, event.error, event.detail if self.content and event.detail else event.error)
        around.touch(now, called=True)
        self._close(span, now)

    def _answered(self, event: events.ModelCall) -> Attributes:
        """What is known of a call that has a reply."""
        reason: Attributes = {names.FINISH_REASONS: [event.finish_reason]} if event.finish_reason else {}
        return reason | {
            names.RESPONSE_MODEL: self.models.name(event.model),
            names.INPUT_TOKENS: event.prompt_tokens,
            names.OUTPUT_TOKENS: event.completion_tokens,
            names.CACHED_TOKENS: event.cached_tokens,
        }

    def _tool(self, event: events.ToolCall, around: _Open, place: Place, now: int) -> None:
        span = self._inside(around, f"execute_tool {event.name}", now, {names.STEP: event.step})
        span.attributes |= {
            names.OPERATION: "execute_tool",
            names.TOOL: event.name,
            names.TOOL_CALL: event.id,
            names.TOOL_TYPE: "function",
        }
        if self.content:
            given = event.arguments
            span.attributes[names.TOOL_ARGUMENTS] = given if isinstance(given, str) else _json(given)
        around.touch(now, called=True)
        self._tools[place.nodes, event.id] = _Open(span, around)

    def _observed(self, event: events.Observation, place: Place, now: int) -> None:
        tool = self._tools.pop((place.nodes, event.id), None)
        if tool is None:
            return
        if self.content:
            tool.span.attributes[names.TOOL_RESULT] = event.text
        if not event.ok:
            kind = event.error or ToolError.__name__
            _fail(tool.span, kind, event.text if self.content else "the tool failed")
        tool.touch(now)
        self._close(tool.span, now)

    def _loaded(self, event: events.ModelReady, around: _Open, now: int) -> None:
        start = now - _nanoseconds(event.seconds)
        span = self._inside(around, f"load_model {event.model}", start, {names.MODEL: event.model})
        around.touch(now)
        self._close(span, now)

    def _moment(self, event: events.Event, around: _Open, now: int) -> None:
        """Note an event at the span around it, without what somebody wrote."""
        if isinstance(event, events.Delta | events.Thought | events.Answer | events.RunStarted | events.Result):
            return
        plain, written = _told(event)
        if plain is None or not (plain or self.content):
            return
        told = plain | ({names.DETAIL: written} if self.content and written else {})
        around.touch(now)
        around.span.add(f"benchai.{event.type}", now, told)

    def _inside(self, around: _Open, name: str, start: int, attributes: Attributes) -> Span:
        """A span within another one, which it does not begin before."""
        outer = around.span
        attributes = {**attributes, names.CONVERSATION: self._thread}
        return Span(name, outer.trace, max(start, outer.start), outer.id, attributes=attributes)

    def _close(self, span: Span, now: int) -> None:
        span.end = max(now, span.start)
        self.finish(span)


def _told(event: events.Event) -> tuple[Attributes | None, str]:
    """What an event's moment has, and what of it was written by somebody; None: it is none of a trace."""
    match event:
        case events.Repair():
            return {"benchai.rung": event.rung}, event.detail
        case events.Compacted():
            return {"benchai.tokens.before": event.before, "benchai.tokens.after": event.after}, event.done
        case events.BudgetLow():
            return {names.STOP_REASON: event.reason}, event.detail
        case events.ApprovalRequested():
            tool: Attributes = {names.TOOL: event.subject} if event.kind == "tool" else {}
            return tool | {"benchai.approval.id": event.id, "benchai.approval.kind": event.kind}, event.reason
        case events.ApprovalGiven():
            return {"benchai.approval.id": event.id, "benchai.approval.decision": event.decision}, event.message
        case events.ModelStopped():
            code: Attributes = {} if event.exit_code is None else {"process.exit.code": event.exit_code}
            return {names.MODEL: event.model} | code, ""
        case events.Notice():
            return {}, event.text
    return None, ""


def _fail(span: Span, kind: str, words: str) -> None:
    span.attributes[names.ERROR] = kind
    span.error = words


def _messages(role: str, text: str) -> str:
    return _json([{"role": role, "parts": [{"type": "text", "content": text}]}])


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * NANO)
