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
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    closed: list[AnyMessage] = []
    for message in messages:
        closed.append(message)
        if isinstance(message, AIMessage):
            missing = [call for call in message.tool_calls if call["id"] not in answered]
            closed += [ToolMessage(INTERRUPTED, tool_call_id=str(call["id"]), name=call["name"]) for call in missing]
    return closed
