"""Repairs of a conversation so that an engine's template accepts it: pure functions on messages."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from langchain_core.messages import AIMessage, AnyMessage, ToolCall, ToolMessage

INTERRUPTED = "Error: the call was interrupted, there is no result"


def normalise_reply(reply: AIMessage) -> AIMessage:
    """A reply whose tool calls all have a unique id, those with unreadable arguments included.

    LangChain sorts calls whose arguments are no JSON into ``invalid_tool_calls``, which no edge looks at:
    they become calls without arguments, so that validation tells the model what is missing.
    """
    calls: list[ToolCall] = list(reply.tool_calls)
    for broken in reply.invalid_tool_calls:
        calls.append(ToolCall(name=broken["name"] or "", args={}, id=broken["id"], type="tool_call"))
    unique: list[ToolCall] = []
    for call in calls:
        seen = {one["id"] for one in unique}
        fresh = call["id"] if call["id"] and call["id"] not in seen else f"call_{uuid.uuid4().hex[:12]}"
        unique.append(ToolCall(name=call["name"], args=call["args"], id=fresh, type="tool_call"))
    return AIMessage(
        content=text_of(reply),
        tool_calls=unique,
        id=reply.id,
        usage_metadata=reply.usage_metadata,
        response_metadata=reply.response_metadata,
    )


def text_of(message: AnyMessage) -> str:
    """The text of a message, without blanks around it."""
    return str(message.text).strip()


def close_open_calls(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The messages with a result for every tool call: an interrupted run leaves calls without one."""
    closed: list[AnyMessage] = []
    waiting: dict[str, ToolCall] = {}
    for message in messages:
        if not isinstance(message, ToolMessage):
            closed += _interrupted(waiting)
            waiting = {}
        if isinstance(message, AIMessage):
            waiting = {str(call["id"]): call for call in message.tool_calls}
        elif isinstance(message, ToolMessage):
            waiting.pop(message.tool_call_id, None)
        closed.append(message)
    return closed + _interrupted(waiting)


def _interrupted(calls: dict[str, ToolCall]) -> list[AnyMessage]:
    return [ToolMessage(INTERRUPTED, tool_call_id=call_id, name=call["name"]) for call_id, call in calls.items()]
