"""A model that answers from a list: what the callers in ``benchai.agents`` are given in place of an endpoint."""

from __future__ import annotations

import json
from typing import Any

from langchain_core.messages import AIMessage, ToolCall
from langchain_core.messages.ai import UsageMetadata

from benchai.agents.messages import BLANKS, UNREADABLE, blanks_around
from benchai.agents.role import Request
from benchai.events import Compacted, Event, Repair


def said(text: str, *, cut: bool = False, used: int = 100) -> AIMessage:
    """A reply in words, as the caller of a role makes it; ``cut`` after ``used`` tokens."""
    metadata: dict[str, Any] = {"finish_reason": "length" if cut else "stop"}
    if any(blanks := blanks_around(text)):
        metadata[BLANKS] = list(blanks)
    usage = UsageMetadata(input_tokens=10, output_tokens=used, total_tokens=used + 10)
    return AIMessage(text.strip(), response_metadata=metadata, usage_metadata=usage)


def called(*wanted: tuple[str, dict[str, Any] | str], text: str = "", cut: bool = False) -> AIMessage:
    """A reply that calls tools; arguments that are no JSON object are text."""
    tool_calls, unreadable = [], {}
    for place, (name, arguments) in enumerate(wanted):
        call_id = f"id{place}"
        readable = isinstance(arguments, dict)
        if not readable:
            unreadable[call_id] = arguments
        tool_calls.append(ToolCall(name=name, args=arguments if readable else {}, id=call_id, type="tool_call"))
    more = {UNREADABLE: unreadable} if unreadable else {}
    reply = said(text, cut=cut)
    return reply.model_copy(update={"tool_calls": tool_calls, "additional_kwargs": more})


class Listed:
    """Answers each request with the next reply of a list, or raises it; keeps the requests and the events."""

    def __init__(self, *replies: AIMessage | Exception) -> None:
        self.left = list(replies)
        self.requests: list[Request] = []
        self.events: list[Event] = []

    async def __call__(self, request: Request) -> AIMessage:
        self.requests.append(request)
        reply = self.left.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def emit(self, event: Event) -> None:
        self.events.append(event)

    @property
    def rungs(self) -> list[str]:
        return [event.rung for event in self.events if isinstance(event, Repair)]

    @property
    def compacted(self) -> list[str]:
        return [event.done for event in self.events if isinstance(event, Compacted)]

    def asked(self, place: int) -> str:
        """The last message of a request."""
        return str(self.requests[place].messages[-1].text)


def as_json(**values: Any) -> AIMessage:
    """A reply that is a JSON object."""
    return said(json.dumps(values))
