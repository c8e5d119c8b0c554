"""The graphs that the script of calls runs: LangGraph alone, nothing of BenchAI."""

from __future__ import annotations

import asyncio
import operator
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_store, get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from langgraph.types import interrupt

TICK_SECONDS = 0.05
#: A slow node takes a minute if nobody ends it before.
TICKS = 1200
WORDS = "one two three"


class State(TypedDict, total=False):
    """What the graphs share."""

    messages: Annotated[list[AnyMessage], add_messages]
    topic: str
    steps: Annotated[list[str], operator.add]
    answer: str


async def plan(state: State) -> dict[str, Any]:
    get_stream_writer()({"at": "plan"})
    return {"steps": ["plan"]}


async def work(state: State) -> dict[str, Any]:
    topic = state.get("topic", "")
    if topic == "boom":
        raise ValueError("boom!")
    if topic == "slow":
        for number in range(TICKS):
            get_stream_writer()({"tick": number})
            await asyncio.sleep(TICK_SECONDS)
    if topic == "pause":
        await asyncio.sleep(10 * TICK_SECONDS)
    if topic == "ask":
        return {"steps": ["work"], "answer": f"got {interrupt({'question': 'go on?'})}"}
    if topic == "twice":
        first, second = interrupt("first?"), interrupt("second?")
        return {"steps": ["work"], "answer": f"got {first} and {second}"}
    return {"steps": ["work"], "answer": "done"}


def of(state: type[Any], *nodes: Any, **settings: Any) -> StateGraph[Any, Any, Any, Any]:
    """Nodes one after the other; tuples of a name and what it runs."""
    graph = StateGraph(state, **settings)
    before = START
    for name, node in nodes:
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return graph


agent = of(State, ("plan", plan), ("work", work)).compile()
nested = of(State, ("child", agent), ("after", plan)).compile()


async def speak(state: State) -> dict[str, Any]:
    model = GenericFakeChatModel(messages=iter([AIMessage(WORDS)]))
    return {"messages": [await model.ainvoke(state.get("messages") or "?")]}


chat = of(State, ("speak", speak)).compile()


async def left(state: State) -> dict[str, Any]:
    return {"steps": [f"left {interrupt('left?')}"]}


async def right(state: State) -> dict[str, Any]:
    return {"steps": [f"right {interrupt('right?')}"]}


def both() -> StateGraph[Any, Any, Any, Any]:
    """Two nodes that ask at the same time."""
    graph = StateGraph(State)
    for name, node in (("left", left), ("right", right)):
        graph.add_node(name, node)
        graph.add_edge(START, name)
        graph.add_edge(name, END)
    return graph


pair = both().compile()


async def remember(state: State) -> dict[str, Any]:
    store = get_store()
    await store.aput(("kept", "notes"), state.get("topic", "none"), {"text": "a note", "size": len(state)})
    found = await store.asearch(("kept",))
    return {"answer": ", ".join(sorted(one.key for one in found))}


keeper = of(State, ("remember", remember)).compile()


@dataclass
class Tone:
    """What runs of ``toned`` may be given."""

    tone: str = "plain"


async def answer(state: State, config: RunnableConfig, runtime: Runtime[Tone]) -> dict[str, Any]:
    tone = runtime.context.tone if runtime.context else "none"
    return {"answer": f"{tone}, {config.get('configurable', {}).get('colour', 'no colour')}"}


toned = of(State, ("answer", answer), context_schema=Tone).compile()
