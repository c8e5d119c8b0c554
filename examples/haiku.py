"""A custom workflow: one node, one role. In benchai.yaml: ``workflows: {haiku: ./haiku.py:build}``."""

from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage, SystemMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime

from benchai.graphs.context import RunContext


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


async def write(state: State, runtime: Runtime[RunContext]) -> dict[str, Any]:
    prompt = SystemMessage("Answer every task with a haiku.")
    return {"messages": [await runtime.context.call("general", [prompt, *state["messages"]])]}


def build() -> StateGraph[State, RunContext, State, State]:
    """Answer in seventeen syllables."""
    graph = StateGraph(State, context_schema=RunContext)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    return graph
