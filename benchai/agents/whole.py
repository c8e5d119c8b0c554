"""Replies that are whole: an empty one is asked for again, one that was cut goes on."""

from __future__ import annotations

import re
from dataclasses import replace

from langchain_core.messages import AIMessage

from benchai.agents.markup import find_calls
from benchai.agents.messages import BLANKS, aside, text_of
from benchai.agents.role import N_CTX, Answer, Request
from benchai.errors import BenchAIError, EmptyReply, EndpointError, UnreadableCall
from benchai.events import Emit, Repair

EMPTY = "Your last reply was empty. Answer now, in words."
EMPTY_TOOLS = "Your last reply was empty. Call a tool, or answer in words."
NO_TOOLS = "There are no tools here. Answer in words."
GO_ON = "Your reply was cut off. Go on exactly where it ended, and repeat nothing."
MORE_ROOM = 2
FIRST_ROOM = 1024
CONTINUATIONS = 4
# a reply that ends in the same piece so often is no text any more
REPEATS = 8
_TAIL = 2_000
_REPEATED = re.compile(rf"(.{{1,120}}?)\1{{{REPEATS - 1},}}\Z", re.DOTALL)


async def whole_reply(answer: Answer, request: Request, emit: Emit) -> AIMessage:
    """One reply that holds something of use, and is not cut in the middle of its text.

    A call that was cut is left as it is where there are tools: the ladder asks for it again.

    Raises:
        EmptyReply: the model answered nothing twice, or calls tools where there are none.
        UnreadableCall: there are tools, and the server could not read the call of one.
        EndpointError: the endpoint refused or broke off the call.
        BudgetSpent: a limit of the run is reached.
    """
    reply = await _of_use(answer, request, emit)
    if reply.tool_calls or not was_cut(reply) or (may_call(request) and _written_calls(reply, request)):
        return reply
    return await _continued(answer, request, reply, emit)


def may_call(request: Request) -> bool:
    """Whether the model may call a tool."""
    return bool(request.tools) and request.tool_choice != "none"


async def _of_use(answer: Answer, request: Request, emit: Emit) -> AIMessage:
    """A reply that is not empty and calls no tool where it may not; asked for again once."""
    try:
        reply = await answer(request)
    except EmptyReply as fault:
        emit(Repair(rung="empty", detail=fault.message))
        again, asked = with_more_room(request, None), EMPTY_TOOLS if may_call(request) else EMPTY
    except UnreadableCall as fault:
        if may_call(request):
            raise
        emit(Repair(rung="no_tools", detail=fault.message))
        again, asked = request, NO_TOOLS
    else:
        if not _calls_in_vain(reply, request):
            return reply
        emit(Repair(rung="no_tools", detail="the model called a tool where it may not"))
        if reply.tool_calls and text_of(reply):
            return _without_calls(reply)
        again, asked = request, NO_TOOLS
    # the ladder mends a call that the server could not read; nothing mends a second empty reply
    mendable = (UnreadableCall,) if may_call(request) else ()
    reply = await answer(replace(again, messages=[*request.messages, aside(asked)], mendable=mendable))
    if _calls_in_vain(reply, request) and not text_of(reply):
        raise EmptyReply("the model calls tools where there are none", hint="try again, or another model")
    # a text that shows a call twice shows it on purpose
    return reply if may_call(request) else _without_calls(reply)


def _calls_in_vain(reply: AIMessage, request: Request) -> bool:
    """Whether a reply calls a tool, natively or in its text, though it may not."""
    return not may_call(request) and bool(reply.tool_calls or _written_calls(reply, request))


def _written_calls(reply: AIMessage, request: Request) -> bool:
    """Whether a reply's text holds calls of tools."""
    names = [tool["function"]["name"] for tool in request.tools]
    found = find_calls(text_of(reply), names)
    return found is not None and bool(found.calls)


def _without_calls(reply: AIMessage) -> AIMessage:
    return reply.model_copy(update={"tool_calls": [], "additional_kwargs": {}}) if reply.tool_calls else reply


def was_cut(reply: AIMessage) -> bool:
    """Whether a reply ended because its tokens were used up."""
    return reply.response_metadata.get("finish_reason") == "length"


def with_more_room(request: Request, reply: AIMessage | None) -> Request:
    """The request with a larger limit for the reply than the one that cut it."""
    usage = reply.usage_metadata if reply is not None else None
    used = usage["output_tokens"] if usage is not None else None
    limit = max(used or request.max_tokens or FIRST_ROOM, 16) * MORE_ROOM
    n_ctx = reply.response_metadata.get(N_CTX) if reply is not None else None
    return replace(request, max_tokens=min(limit, n_ctx // 2) if n_ctx else limit, exceed=True)


async def _continued(answer: Answer, request: Request, reply: AIMessage, emit: Emit) -> AIMessage:
    """A reply whose text was cut, with what the model adds to it.

    An endpoint that fails meanwhile costs the rest of the text, not what is there; a budget that ends is raised.
    """
    text = exact_text(reply)
    for _ in range(CONTINUATIONS):
        if (kept := without_repeats(text)) is not None:
            emit(Repair(rung="repetition", detail="the reply repeats itself without end; its repeats are cut"))
            return reply.model_copy(update={"content": kept})
        emit(Repair(rung="cut", detail="the reply was cut; the model goes on with it"))
        messages = [*request.messages, AIMessage(text), aside(GO_ON)]
        more = replace(request, messages=messages, mendable=(EndpointError, TimeoutError))
        try:
            rest = await answer(more)
        except (EndpointError, TimeoutError) as error:
            reason = error.message if isinstance(error, BenchAIError) else str(error)
            emit(Repair(rung="cut", detail=f"it can't go on ({reason}): the reply stays cut"))
            break
        text = joined(text, exact_text(rest))
        if not was_cut(rest):
            break
    return reply.model_copy(update={"content": text.strip()})


def exact_text(reply: AIMessage) -> str:
    """The text of a reply with the blanks around it, which part the words where it was cut."""
    before, after = reply.response_metadata.get(BLANKS, ("", ""))
    return f"{before}{reply.text}{after}"


def joined(text: str, rest: str) -> str:
    """Two parts of a text, without what the second repeats of the first's end."""
    for length in range(min(len(text), len(rest), 200), 7, -1):
        if text.endswith(rest[:length]):
            return text + rest[length:]
    return text + rest


def without_repeats(text: str) -> str | None:
    """The text up to a piece that its end repeats over and over, that piece included once; None if it does not."""
    found = _REPEATED.search(text[-_TAIL:].rstrip())
    if found is None or not found.group(1).strip():
        return None
    end = len(text.rstrip()) - len(text[-_TAIL:].rstrip()) + found.start()
    piece = found.group(1)
    while text[:end].endswith(piece):
        end -= len(piece)
    return (text[:end] + piece).strip()
