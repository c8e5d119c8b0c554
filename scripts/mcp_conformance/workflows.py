"""Workflows with the names that the conformance scenarios call; none of them asks a model."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import BaseModel, ConfigDict, create_model

from benchai.events import Step
from benchai.graphs.context import RunContext
from benchai.graphs.declared import workflow


class Nothing(BaseModel):
    """Called without arguments."""

    task: str = "-"


class Message(Nothing):
    """Called with a message."""

    message: str = ""


#: The scenario looks for a definition of this name.
Address = create_model("address", street=(str, ""), city=(str, ""))


class Person(Nothing):
    model_config = ConfigDict(extra="forbid")

    name: str = ""
    address: Address | None = None  # type: ignore[valid-type]


def _graph(node: Any, state: Any = MessagesState) -> StateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(state, context_schema=RunContext)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph


@workflow("test_simple_text", description="Says a sentence.", input=Nothing)
def simple_text() -> StateGraph[Any, Any, Any, Any]:
    async def node(state: Any) -> Any:
        return {"messages": [AIMessage("This is a simple text response for testing.")]}

    return _graph(node)


@workflow("test_error_handling", description="Fails.", input=Nothing)
def error_handling() -> StateGraph[Any, Any, Any, Any]:
    async def node(state: Any) -> Any:
        raise ValueError("This tool intentionally returns an error for testing")

    return _graph(node)


@workflow("test_tool_with_progress", description="Tells its steps.", input=Nothing)
def progress() -> StateGraph[Any, Any, Any, Any]:
    async def node(state: Any, runtime: Runtime[RunContext]) -> Any:
        for part in ("first", "second", "third"):
            runtime.context.emit(Step(node=part))
        return {"messages": [AIMessage("done")]}

    return _graph(node)


class Asking(MessagesState):
    message: str


@workflow("test_elicitation", description="Asks its user.", input=Message)
def elicitation() -> StateGraph[Any, Any, Any, Any]:
    async def node(state: Any) -> Any:
        return {"messages": [AIMessage(f"User response: {interrupt(state['message'])}")]}

    return _graph(node, Asking)


class Knowing(MessagesState):
    name: str
    address: Any


@workflow("json_schema_2020_12_tool", description="Tool with JSON Schema 2020-12 features", input=Person)
def json_schema() -> StateGraph[Any, Any, Any, Any]:
    async def node(state: Any) -> Any:
        return {"messages": [AIMessage(f"{state['name']}: {state['address']}")]}

    return _graph(node, Knowing)
