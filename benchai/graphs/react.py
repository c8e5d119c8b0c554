"""ReAct: thought, action, observation, until the model answers."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime

from benchai import events
from benchai.agents.images import has_image, without_images
from benchai.agents.messages import arguments_of, close_open_calls, text_of
from benchai.agents.prompts import prompt
from benchai.graphs.context import RunContext
from benchai.graphs.registry import Workflow

ROLE = "general"
VISION = "vision"


class ReactState(TypedDict):
    """The conversation, the user's task first."""

    messages: Annotated[list[AnyMessage], add_messages]


async def think(state: ReactState, runtime: Runtime[RunContext]) -> ReactState:
    """Ask the model for its next thought: a tool call, or the answer."""
    context = runtime.context
    role, messages = who_answers(state["messages"])
    conversation = [SystemMessage(prompt("react")), *close_open_calls(messages)]
    reply = await context.call(role, conversation, context.tools.schemas())
    step = context.ledger.steps
    if reply.tool_calls and text_of(reply):
        context.emit(events.Thought(step=step, text=text_of(reply)))
    return {"messages": [reply]}


def who_answers(messages: list[AnyMessage]) -> tuple[str, list[AnyMessage]]:
    """The role that goes on with a conversation, and the conversation as that role can read it.

    A question with an image is the vision model's; earlier images are no more than mentioned to a text model.
    """
    question = next((message for message in reversed(messages) if isinstance(message, HumanMessage)), None)
    if question is not None and has_image(question):
        return VISION, messages
    return ROLE, [without_images(message) for message in messages]


async def act(state: ReactState, runtime: Runtime[RunContext]) -> ReactState:
    """Run the tools that the last reply calls."""
    last = state["messages"][-1]
    assert isinstance(last, AIMessage)
    calls = [(call, arguments_of(last, call)) for call in last.tool_calls]
    results = await asyncio.gather(*(_observe(call, arguments, runtime.context) for call, arguments in calls))
    return {"messages": list(results)}


async def _observe(call: ToolCall, arguments: dict[str, Any] | str, context: RunContext) -> ToolMessage:
    step, call_id, name = context.ledger.steps, str(call["id"]), call["name"]
    context.emit(events.ToolCall(step=step, id=call_id, name=name, arguments=arguments))
    result = await context.tools.invoke(name, arguments, context.tool_context)
    context.emit(events.Observation(step=step, id=call_id, name=name, ok=result.ok, text=result.text))
    return ToolMessage(result.text, tool_call_id=call_id, name=name, status="success" if result.ok else "error")


def _next(state: ReactState) -> Literal["act", "__end__"]:
    last = state["messages"][-1]
    return "act" if isinstance(last, AIMessage) and last.tool_calls else "__end__"


def build() -> StateGraph[ReactState, RunContext, ReactState, ReactState]:
    """The graph: think, and act for as long as the model calls tools."""
    graph = StateGraph(ReactState, context_schema=RunContext)
    graph.add_node("think", think)
    graph.add_node("act", act)
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", _next)
    graph.add_edge("act", "think")
    return graph


WORKFLOW = Workflow(
    name="react",
    description="Reason, call tools and answer (thought, action, observation)",
    build=build,
    roles=(ROLE,),
)
