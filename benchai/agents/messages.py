"""Repairs of a conversation so that an engine's template accepts it: pure functions on messages."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, HumanMessage, ToolCall, ToolMessage

UNREADABLE = "unreadable_arguments"
ASIDE = "benchai_aside"
#: Who speaks where the memory does, and what it says first.
MEMORY = "memory"
RECALLED = "From earlier conversations; it may be out of date:"
INTERRUPTED = "Error: the call was interrupted, there is no result"
#: Where a reply's metadata keep the blanks around its text, (before, after): a text that was cut goes on behind them.
BLANKS = "benchai_blanks"


def new_id() -> str:
    """An id for a tool call that no other call has; of 9 letters and digits, as Mistral's templates want it."""
    return uuid.uuid4().hex[:9]


def with_own_ids(reply: AIMessage) -> AIMessage:
    """A reply of ``normalise_reply`` whose calls have ids that no other call of its thread has.

    Servers number the calls of each reply anew, but what a thread remembers of a call, it remembers by its id: a
    second call of the same id would get the first one's result, and not run.
    """
    if not reply.tool_calls:
        return reply
    own = {str(call["id"]): new_id() for call in reply.tool_calls}
    unreadable = reply.additional_kwargs.get(UNREADABLE, {})
    more = {UNREADABLE: {own[call_id]: text for call_id, text in unreadable.items()}} if unreadable else {}
    update = {
        "tool_calls": [{**call, "id": own[str(call["id"])]} for call in reply.tool_calls],
        "additional_kwargs": reply.additional_kwargs | more,
    }
    return reply.model_copy(update=update)


def blanks_around(text: str) -> tuple[str, str]:
    """The blanks before a text and after it."""
    bare = text.strip()
    return (text[: text.index(bare)], text[text.index(bare) + len(bare) :]) if bare else ("", "")


def normalise_reply(reply: AIMessage) -> AIMessage:
    """A reply whose tool calls all have a unique id, those with unreadable arguments included.

    LangChain sorts calls whose arguments are no JSON object into ``invalid_tool_calls``, which no edge looks
    at: they become calls whose arguments are the text as it came (see ``arguments_of``).
    """
    unique: list[ToolCall] = []
    unreadable: dict[str, str] = dict(reply.additional_kwargs.get(UNREADABLE, {}))
    broken = _broken_arguments(reply)
    for place, call in enumerate([*reply.tool_calls, *reply.invalid_tool_calls]):
        seen = {one["id"] for one in unique}
        call_id = call["id"] if call["id"] and call["id"] not in seen else new_id()
        raw = broken.get(place)
        readable = isinstance(call["args"], dict) and raw is None
        if not readable:
            unreadable[call_id] = clean(raw if raw is not None else call["args"] or "")
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


def _broken_arguments(reply: AIMessage) -> dict[int, str]:
    """The arguments of calls that are no JSON as they came, by the call's place.

    LangChain closes the braces of what a stream left open: a call that was cut off would look whole.
    """
    if not isinstance(reply, AIMessageChunk) or len(reply.tool_call_chunks) != len(reply.tool_calls):
        return {}
    found = {}
    for place, (chunk, call) in enumerate(zip(reply.tool_call_chunks, reply.tool_calls, strict=True)):
        raw = chunk["args"] or ""
        if chunk["id"] == call["id"] and raw.strip() and not _is_json(raw):
            found[place] = raw
    return found


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def aside(text: str) -> HumanMessage:
    """What the framework says to a model in the user's place; no question of the user's."""
    return HumanMessage(text, additional_kwargs={ASIDE: True})


def recalled(text: str) -> HumanMessage:
    """What the memory holds on a task, as a message before it."""
    return HumanMessage(f"{RECALLED}\n{text}", name=MEMORY, additional_kwargs={ASIDE: True})


def is_question(message: AnyMessage) -> bool:
    """Whether the user said it."""
    return isinstance(message, HumanMessage) and not message.additional_kwargs.get(ASIDE)


def last_question(messages: Sequence[AnyMessage]) -> int:
    """Where the user spoke last; 0 when nowhere."""
    return max((place for place, message in enumerate(messages) if is_question(message)), default=0)


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
