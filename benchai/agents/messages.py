"""Repairs of a conversation so that an engine's template accepts it: pure functions on messages."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolCall, ToolMessage

UNREADABLE = "unreadable_arguments"
INTERRUPTED = "Error: the call was interrupted, there is no result"


def normalise_reply(reply: AIMessage) -> AIMessage:
    """A reply whose tool calls all have a unique id, those with unreadable arguments included.

    LangChain sorts calls whose arguments are no JSON object into ``invalid_tool_calls``, which no edge looks
    at: they become calls whose arguments are the text as it came (see ``arguments_of``).
    """
    unique: list[ToolCall] = []
    unreadable: dict[str, str] = dict(reply.additional_kwargs.get(UNREADABLE, {}))
    for call in [*reply.tool_calls, *reply.invalid_tool_calls]:
        seen = {one["id"] for one in unique}
        call_id = call["id"] if call["id"] and call["id"] not in seen else f"call_{uuid.uuid4().hex[:12]}"
        readable = isinstance(call["args"], dict)
        if not readable:
            unreadable[call_id] = clean(call["args"] or "")
        args = clean(call["args"]) if readable else {}
        unique.append(ToolCall(name=clean(call["name"] or ""), args=args, id=call_id, type="tool_call"))
    return AIMessage(
        content=text_of(reply),
        tool_calls=unique,
        additional_kwargs={UNREADABLE: unreadable} if unreadable else {},
        id=reply.id,
        usage_metadata=reply.usage_metadata,
        response_metadata=reply.response_metadata,
    )


def text_of(message: AnyMessage) -> str:
    """The text of a message, without blanks around it."""
    return str(clean(str(message.text))).strip()


def arguments_of(message: AIMessage, call: ToolCall) -> dict[str, Any] | str:
    """The arguments of a call; the text as it came where it is no JSON object."""
    unreadable: dict[str, str] = message.additional_kwargs.get(UNREADABLE, {})
    return unreadable.get(str(call["id"]), call["args"])


def clean(value: Any) -> Any:
    """A JSON value without lone surrogates, which no file and no terminal takes."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list) else value


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
