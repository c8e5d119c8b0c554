"""Router: the workflow that fits the task, chosen by its intent and complexity."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime

from benchai import events
from benchai.agents.images import has_image
from benchai.agents.messages import last_question
from benchai.events import StopReason
from benchai.graphs.context import RunContext
from benchai.graphs.nested import run_nested, workflow_of
from benchai.graphs.registry import Workflow
from benchai.runtime.router.route import route, workflow
from benchai.runtime.router.tables import tables

FALLBACK = "react"


class RouterState(TypedDict, total=False):
    """``chosen`` is the workflow that works on the task, ``role`` whose model reasons where that is react."""

    messages: Annotated[list[AnyMessage], add_messages]
    chosen: str
    role: str
    stop_reason: StopReason | None


async def choose(state: RouterState, runtime: Runtime[RunContext]) -> RouterState:
    """Choose the workflow."""
    context = runtime.context
    question = state["messages"][last_question(state["messages"])]
    text = str(question.text)
    found = route(text, image=has_image(question), known=tables(context.routing))
    chosen = workflow(found, text)
    missing = [role for role in workflow_of(chosen).roles if not context.served(role)]
    detail = f"{chosen}: {found.reason}"
    if missing:
        chosen, detail = FALLBACK, f"{FALLBACK}, because {chosen} needs the role {missing[0]}, which no model serves"
    context.emit(events.Step(node="choose", detail=detail))
    return {"chosen": chosen, "role": found.role if context.served(found.role) else "general"}


async def work(state: RouterState, runtime: Runtime[RunContext]) -> RouterState:
    """Run the chosen workflow on the conversation."""
    chosen = state["chosen"]
    messages = state["messages"]
    inputs: dict[str, Any] = workflow_of(chosen).defaults() | {"messages": messages}
    if chosen == FALLBACK:
        inputs["role"] = state["role"]
    ended = await run_nested(chosen, inputs, runtime.context)
    return {"messages": ended["messages"][len(messages) :], "stop_reason": ended.get("stop_reason")}


def build() -> StateGraph[RouterState, RunContext, RouterState, RouterState]:
    """The graph: choose, then work."""
    graph = StateGraph(RouterState, context_schema=RunContext)
    graph.add_node("choose", choose)
    graph.add_node("work", work)
    graph.add_edge(START, "choose")
    graph.add_edge("choose", "work")
    return graph


WORKFLOW = Workflow(
    name="router",
    description="Choose the workflow that fits the task and run it; what 'benchai run TASK' does",
    build=build,
    roles=("general",),
    steps=60,
    reset={"stop_reason": None, "chosen": "", "role": "general"},
    # it may have chosen the one whose answer is a diff
    exact=True,
)
