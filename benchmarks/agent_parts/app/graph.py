"""The graphs that both servers run: LangGraph alone, no model."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

#: Nobody waits for it: the run is killed, and cancelled, before.
HELD_SECONDS = 600


class State(TypedDict, total=False):
    """A conversation."""

    messages: Annotated[list[AnyMessage], add_messages]


async def reply(state: State) -> dict[str, Any]:
    return {"messages": [AIMessage(f"reply {len(state['messages'])}")]}


async def hold(state: State) -> dict[str, Any]:
    get_stream_writer()({"begun": len(state["messages"])})
    await asyncio.sleep(HELD_SECONDS)
    return {}


def of(*nodes: Any) -> StateGraph[Any, Any, Any, Any]:
    """Nodes one after the other."""
    graph = StateGraph(State)
    before = START
    for node in nodes:
        graph.add_node(node.__name__, node)
        graph.add_edge(before, node.__name__)
        before = node.__name__
    graph.add_edge(before, END)
    return graph


instant = of(reply).compile()
held = of(reply, hold).compile()
