"""The ladder: from what a small model wrote to tool calls that are valid, or an answer.

Rungs, from the cheapest: the native call as it came; a call written as text; the arguments mended and fitted to the
tool's schema; one re-ask in which the engine's grammar forces the form (choose the action, then fill its arguments);
at last the complaint goes to the model as the call's result. Every rung that is used leaves a ``Repair`` event.
Nothing here runs a tool.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage, ToolCall

from benchai.agents.markup import find_calls
from benchai.agents.messages import UNREADABLE, arguments_of, aside, new_id, text_of
from benchai.agents.repair import coerce, read_object
from benchai.agents.role import Answer, Request
from benchai.agents.whole import may_call, was_cut, whole_reply, with_more_room
from benchai.errors import BadStructure, EmptyReply, ToolError, UnreadableCall
from benchai.events import Emit, Repair
from benchai.tools.registry import ToolRegistry
from benchai.tools.tool import Tool

CHOOSE = "That tool call could not be read. Choose what to do next, as JSON: call one of the tools, or answer."
FILL = "{complaint}. Give the arguments of {name} as JSON."
ANSWER = "answer"
# the calls of a reply that ended within them
CUT = "cut_calls"


@dataclass(frozen=True)
class Checked:
    """One call after the cheap rungs: its valid arguments, or what is wrong with it."""

    call: ToolCall
    arguments: dict[str, Any] | str
    complaint: str | None = None
    cut: bool = False


async def next_action(answer: Answer, request: Request, tools: ToolRegistry, emit: Emit) -> AIMessage:
    """The model's next reply: an answer, or tool calls.

    Calls whose arguments could not be made valid keep them as they came: invoking the tool with them tells the
    model its complaint and runs nothing.

    Raises:
        EmptyReply: the model answered nothing twice.
        EndpointError: the endpoint refused or broke off the call.
        BudgetSpent: a limit of the run is reached.
    """
    if not may_call(request):
        return await whole_reply(answer, request, emit)
    try:
        checked = await _checked(answer, request, tools, emit)
        if any(one.cut for one in checked.calls):
            emit(Repair(rung="cut", detail="the call was cut off; asking again with more room"))
            checked = await _checked(answer, with_more_room(request, checked.message), tools, emit)
    except UnreadableCall as fault:
        emit(Repair(rung="grammar", detail=fault.message))
        return await _constrained(answer, request, tools, emit)
    return await _refilled(answer, request, checked, tools, emit)


@dataclass(frozen=True)
class _Reply:
    message: AIMessage
    calls: tuple[Checked, ...]

    def built(self) -> AIMessage:
        """The message with the arguments that were found; unreadable ones stay as they came."""
        unreadable = {str(one.call["id"]): one.arguments for one in self.calls if isinstance(one.arguments, str)}
        calls = [one.call | {"args": {} if isinstance(one.arguments, str) else one.arguments} for one in self.calls]
        kept = {key: value for key, value in self.message.additional_kwargs.items() if key not in (UNREADABLE, CUT)}
        update = {
            "tool_calls": calls,
            "additional_kwargs": kept | ({UNREADABLE: unreadable} if unreadable else {}),
        }
        return self.message.model_copy(update=update)


def from_markup(reply: AIMessage, tools: ToolRegistry, emit: Emit) -> AIMessage:
    """The reply with the calls that it holds as text made native ones."""
    if reply.tool_calls:
        return reply
    found = find_calls(text_of(reply), tools.names())
    if found is None or not found.calls:
        return reply
    emit(Repair(rung="markup", detail=f"read {', '.join(call.name for call in found.calls)} from the reply's text"))
    calls: list[ToolCall] = []
    unreadable: dict[str, str] = {}
    cut: list[str] = []
    for call in found.calls:
        call_id = new_id()
        readable = isinstance(call.arguments, dict) and not call.cut
        if not readable:
            unreadable[call_id] = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
        if call.cut:
            cut.append(call_id)
        arguments = call.arguments if isinstance(call.arguments, dict) and readable else {}
        calls.append(ToolCall(name=call.name, args=arguments, id=call_id, type="tool_call"))
    more = reply.additional_kwargs | ({UNREADABLE: unreadable} if unreadable else {}) | ({CUT: cut} if cut else {})
    return reply.model_copy(update={"content": found.before.strip(), "tool_calls": calls, "additional_kwargs": more})


async def _checked(answer: Answer, request: Request, tools: ToolRegistry, emit: Emit) -> _Reply:
    """One reply, and its calls after the cheap rungs."""
    reply = from_markup(await whole_reply(answer, request, emit), tools, emit)
    cut = reply.additional_kwargs.get(CUT, ())
    found = []
    for call in reply.tool_calls:
        arguments = arguments_of(reply, call)
        # the reply ended before the arguments began
        bare = was_cut(reply) and call is reply.tool_calls[-1] and not arguments
        found.append(_check_call(call, arguments, bare or call["id"] in cut, tools, emit))
    return _Reply(reply, tuple(found))


def _check_call(call: ToolCall, arguments: dict[str, Any] | str, cut: bool, tools: ToolRegistry, emit: Emit) -> Checked:
    """The cheap rungs for one call: its tool's name, its arguments' syntax, their fit to the schema."""
    name = known_name(call["name"], tools.names())
    if name is None:
        return Checked(call, arguments)
    if name != call["name"]:
        emit(Repair(rung="name", detail=f"{call['name']!r} is taken for {name!r}"))
        call = ToolCall(name=name, args=call["args"], id=call["id"], type="tool_call")
    tool = tools.get(name)
    values, torn = _values(arguments)
    # what was written of a call that is cut off may be half a file: it never runs
    cut = cut or torn
    if values is None or cut:
        return Checked(call, arguments, f"the arguments of {name} are no JSON object" + " (cut off)" * cut, cut)
    for candidate in (values, coerce(values, tool.parameters())):
        complaint = complaint_of(tool, candidate)
        if complaint is None:
            if candidate != arguments:
                emit(Repair(rung="json", detail=f"mended the arguments of {name}"))
            return Checked(call, candidate)
    return Checked(call, values, complaint_of(tool, values))


def _values(arguments: dict[str, Any] | str) -> tuple[dict[str, Any] | None, bool]:
    if isinstance(arguments, dict):
        return arguments, False
    if not arguments.strip():
        return {}, False
    read = read_object(arguments)
    return (read.value, read.cut) if read is not None else (None, False)


def known_name(name: str, names: Sequence[str]) -> str | None:
    """The tool that is meant: the name itself, or the only one that is equal but for case, prefix and separators."""
    if name in names:
        return name
    plain = _plain(name.rpartition(".")[2])
    alike = [one for one in names if _plain(one) == plain]
    return alike[0] if len(alike) == 1 else None


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "").replace("_", "").replace(" ", "")


def complaint_of(tool: Tool, arguments: dict[str, Any]) -> str | None:
    """What is wrong with arguments, or None."""
    try:
        tool.validate(arguments)
    except ToolError as error:
        return error.message
    return None


async def _refilled(answer: Answer, request: Request, reply: _Reply, tools: ToolRegistry, emit: Emit) -> AIMessage:
    """The reply, after one re-ask for the first call that is still wrong."""
    wrong = next((one for one in reply.calls if one.complaint is not None), None)
    if wrong is None:
        return reply.built()
    emit(Repair(rung="grammar", detail=wrong.complaint or ""))
    try:
        arguments = await _fill(answer, request, tools.get(wrong.call["name"]), wrong.complaint or "")
    except (BadStructure, EmptyReply, UnreadableCall):
        return reply.built()
    calls = tuple(replace(one, arguments=arguments, complaint=None) if one is wrong else one for one in reply.calls)
    return _Reply(reply.message, calls).built()


async def _fill(answer: Answer, request: Request, tool: Tool, complaint: str) -> dict[str, Any]:
    """Valid arguments for a tool, forced by the engine's grammar.

    Raises:
        BadStructure: they are wrong even so.
    """
    asked = aside(FILL.format(complaint=complaint[:1].upper() + complaint[1:], name=tool.name))
    # the tools stay in the prompt, so that the engine's cache of it holds
    constrained = replace(
        request, messages=[*request.messages, asked], schema=tool.parameters(), tool_choice="none", exceed=True
    )
    reply = await answer(constrained)
    read = read_object(text_of(reply))
    values = coerce(read.value, tool.parameters()) if read is not None and not read.cut else None
    if values is None or complaint_of(tool, values) is not None:
        raise BadStructure(f"the arguments of {tool.name} are wrong: {text_of(reply)[:200]!r}")
    return values


async def _constrained(answer: Answer, request: Request, tools: ToolRegistry, emit: Emit) -> AIMessage:
    """Choose the action, then fill its arguments, or answer: each by grammar."""
    names = [tool["function"]["name"] for tool in request.tools]
    schema = {
        "type": "object",
        "properties": {"action": {"type": "string", "enum": [*names, ANSWER]}},
        "required": ["action"],
    }
    asked = [*request.messages, aside(CHOOSE)]
    reply = await answer(replace(request, messages=asked, schema=schema, tool_choice="none", mendable=()))
    read = read_object(text_of(reply))
    action = read.value.get("action") if read is not None else None
    if action not in names:
        return await whole_reply(answer, replace(request, tool_choice="none"), emit)
    tool = tools.get(str(action))
    try:
        arguments = await _fill(answer, request, tool, f"you chose {tool.name}")
    except (BadStructure, EmptyReply, UnreadableCall) as error:
        return reply.model_copy(update={"content": "", **_one_call(tool.name, {}, error.message)})
    return reply.model_copy(update={"content": "", **_one_call(tool.name, arguments)})


def _one_call(name: str, arguments: dict[str, Any], unreadable: str = "") -> dict[str, Any]:
    call_id = new_id()
    call = ToolCall(name=name, args=arguments, id=call_id, type="tool_call")
    return {"tool_calls": [call], "additional_kwargs": {UNREADABLE: {call_id: unreadable}} if unreadable else {}}
