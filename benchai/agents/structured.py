"""Replies of a form: a pydantic model in, its schema as the engine's grammar, a validated instance out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from langchain_core.messages import AIMessage
from pydantic import BaseModel, ValidationError

from benchai.agents.messages import arguments_of, aside, text_of
from benchai.agents.repair import coerce, read_object
from benchai.agents.role import Answer, Request
from benchai.agents.whole import was_cut, with_more_room
from benchai.errors import BadStructure, EmptyReply, UnreadableCall
from benchai.events import Emit, Repair
from benchai.tools.schema import compact_schema
from benchai.tools.tool import shorten

T = TypeVar("T", bound=BaseModel)
COMPLAINT = "That can't be used: {complaint}. Answer again, with JSON of the form that was asked for and nothing else."


async def structured(
    answer: Answer,
    request: Request,
    form: type[T],
    emit: Emit,
    check: Callable[[T], str | None] = lambda _: None,
) -> T:
    """A reply as an instance of ``form``, after one complaint at most.

    Args:
        answer: Makes the calls.
        request: The conversation; its ``schema`` is set here.
        form: What the reply must be.
        emit: Takes the events.
        check: Says what is wrong with an instance that is valid by its schema, or None.

    Raises:
        BadStructure: the second reply is wrong, too.
        EndpointError: the endpoint refused or broke off the call.
        BudgetSpent: a limit of the run is reached.
    """
    schema = compact_schema(form.model_json_schema())
    asked = replace(request, schema=schema, tools=())
    reply = await _reply(answer, asked, emit)
    value, complaint = _read(reply, form, schema, check, emit)
    if value is not None:
        return value
    emit(Repair(rung="structure", detail=complaint))
    messages = [*request.messages, AIMessage(_shown(reply)), aside(COMPLAINT.format(complaint=complaint))]
    again = with_more_room(asked, reply) if was_cut(reply) else asked
    reply = await _reply(answer, replace(again, messages=messages, mendable=()), emit)
    value, complaint = _read(reply, form, schema, check, emit)
    if value is None:
        raise BadStructure(
            f"the model does not answer as {form.__name__}: {complaint}", hint="try again, or another model"
        )
    return value


async def _reply(answer: Answer, request: Request, emit: Emit) -> AIMessage:
    """One reply; an empty one, or a call that the server could not read, is a reply of a wrong form."""
    try:
        return await answer(request)
    except (EmptyReply, UnreadableCall) as fault:
        if request.mendable:
            emit(Repair(rung="empty" if isinstance(fault, EmptyReply) else "structure", detail=fault.message))
        return AIMessage("")


def _shown(reply: AIMessage) -> str:
    """What the model sees of its wrong reply."""
    return text_of(reply)[:2_000] or "(nothing)"


def _read(
    reply: AIMessage, form: type[T], schema: dict[str, Any], check: Callable[[T], str | None], emit: Emit
) -> tuple[T | None, str]:
    """The instance, or what is wrong."""
    raw = text_of(reply)
    for call in reply.tool_calls if not raw else ():
        arguments = arguments_of(reply, call)
        if isinstance(arguments, dict):
            return _validated(arguments, form, schema, check)
        raw = arguments
    read = read_object(raw)
    if read is None:
        return None, f"{shorten(raw)} is no JSON object"
    if read.cut:
        return None, "it is cut off: be shorter"
    if read.mended:
        emit(Repair(rung="json", detail=f"mended the JSON of a reply as {form.__name__}"))
    return _validated(read.value, form, schema, check)


def _validated(
    values: dict[str, Any], form: type[T], schema: dict[str, Any], check: Callable[[T], str | None]
) -> tuple[T | None, str]:
    try:
        value = form.model_validate(coerce(values, schema))
    except ValidationError as error:
        return None, "; ".join(_complaint(item) for item in error.errors(include_url=False)[:5])
    complaint = check(value)
    return (value, "") if complaint is None else (None, complaint)


def _complaint(item: Any) -> str:
    name = ".".join(str(part) for part in item["loc"]) or "it"
    if item["type"] == "missing":
        return f"{name!r} is missing"
    return f"{name} = {shorten(item['input'])} is wrong: {item['msg'][:1].lower()}{item['msg'][1:]}"
