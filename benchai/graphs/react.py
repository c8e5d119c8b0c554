"""ReAct: thought, action, observation, until the model answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, SystemMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from langgraph.types import Command

from benchai import events
from benchai.agents.context import Compaction, Context
from benchai.agents.images import has_image, without_images
from benchai.agents.messages import aside, close_open_calls, is_question, text_of
from benchai.agents.prompts import prompt
from benchai.errors import EndpointError
from benchai.events import StopReason
from benchai.graphs.context import RunContext
from benchai.graphs.guards import BudgetSpent
from benchai.graphs.loops import find_loop
from benchai.graphs.registry import Workflow

ROLE = "general"
VISION = "vision"
WRAP_UP = "There is no time for more. Answer now with what you have, without tools."
LOOPED = "You repeat yourself. Answer now with what you have, without tools."


class ReactState(TypedDict, total=False):
    """The conversation, the user's task first.

    ``role`` is whose model thinks, ``compaction`` what of the conversation is shortened for it, ``stop_reason`` what
    ended the run before the model was done.
    """

    messages: Annotated[list[AnyMessage], add_messages]
    role: str
    compaction: dict[str, Any]
    stop_reason: StopReason | None


async def think(state: ReactState, runtime: Runtime[RunContext]) -> Command[Literal["act", "__end__"]]:
    """Ask the model for its next thought: a tool call, or the answer."""
    update = await _thought(state, runtime.context)
    # a conditional edge would read the whole state anew, and cost a tenth of the step
    last = (update["messages"] or state["messages"])[-1]
    if isinstance(last, AIMessage) and last.tool_calls and update.get("stop_reason") is None:
        return Command(update=update, goto="act")
    return Command(update=update, goto="__end__")


async def _thought(state: ReactState, context: RunContext) -> ReactState:
    role, messages = who_answers(state["messages"], state.get("role") or ROLE)
    conversation = [SystemMessage(prompt("react")), *close_open_calls(messages)]
    window = context.window(role, Compaction(**state.get("compaction", {})))
    reason, why = must_wrap_up(state["messages"], context)
    if reason is not None:
        return await wrap_up(context, role, conversation, window, reason, why)
    reply = await context.call(role, conversation, context.tools.schemas(), window=window)
    if reply.tool_calls and text_of(reply):
        context.emit(events.Thought(step=context.ledger.steps, text=text_of(reply)))
    low = context.ledger.low() if reply.tool_calls else None
    if low is not None and low[0] == "budget_steps":
        # the results of these calls would be of no use: nobody could look at them
        ended = await wrap_up(context, role, conversation, window, *low)
        return ended | {"messages": [reply, *ended["messages"]]}
    return {"messages": [reply], "compaction": asdict(window.state)}


def who_answers(messages: list[AnyMessage], role: str = ROLE) -> tuple[str, list[AnyMessage]]:
    """The role that goes on with a conversation, and the conversation as that role can read it.

    A question with an image is the vision model's; earlier images are no more than mentioned to a text model.
    """
    question = next((message for message in reversed(messages) if is_question(message)), None)
    if question is not None and has_image(question):
        return VISION, messages
    return role, [without_images(message) for message in messages]


def must_wrap_up(messages: list[AnyMessage], context: RunContext) -> tuple[StopReason | None, str]:
    """Why the model has to answer now, if it has to."""
    polling = [name for name in context.tools.names() if context.tools.get(name).polling]
    loop = find_loop(messages, polling)
    if loop is not None and loop.hopeless:
        return "loop", f"the model repeats itself ({loop.kind})"
    low = context.ledger.low()
    # who asked a moment ago has no results that a last call could use
    return low if low is not None and not is_question(messages[-1]) else (None, "")


async def wrap_up(
    context: RunContext, role: str, conversation: list[AnyMessage], window: Context, reason: StopReason, why: str
) -> ReactState:
    """Ask for an answer with what is there; the run ends with ``reason`` whatever comes."""
    context.emit(events.BudgetLow(reason=reason, detail=f"{why}; asking for an answer now"))
    asked = [*conversation, aside(LOOPED if reason == "loop" else WRAP_UP)]
    text = ""
    try:
        reply = await context.call(
            role, asked, context.tools.schemas(), window=window, tool_choice="none", wrap_up=True
        )
        text = text_of(reply)
    except (EndpointError, BudgetSpent) as error:
        context.emit(events.Notice(text=f"there is no answer: {error}"))
    messages: list[AnyMessage] = [AIMessage(text)] if text else []
    return {"messages": messages, "stop_reason": reason, "compaction": asdict(window.state)}


async def act(state: ReactState, runtime: Runtime[RunContext]) -> ReactState:
    """Run the tools that the last reply calls."""
    last = state["messages"][-1]
    assert isinstance(last, AIMessage)
    return {"messages": list(await runtime.context.act(last, state["messages"][:-1]))}


def build() -> StateGraph[ReactState, RunContext, ReactState, ReactState]:
    """The graph: think, and act for as long as the model calls tools."""
    graph = StateGraph(ReactState, context_schema=RunContext)
    graph.add_node("think", think, destinations=("act", END))
    graph.add_node("act", act)
    graph.add_edge(START, "think")
    graph.add_edge("act", "think")
    return graph


WORKFLOW = Workflow(
    name="react",
    description="Reason, call tools and answer (thought, action, observation)",
    build=build,
    roles=(ROLE,),
    reset={"stop_reason": None},
)
