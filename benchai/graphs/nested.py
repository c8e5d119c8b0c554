"""A workflow inside a node of another: its state is checkpointed with the run's, its questions reach the same user."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from langgraph.graph.state import CompiledStateGraph

from benchai.graphs.context import RunContext
from benchai.graphs.registry import Workflow


def module_of(name: str) -> str:
    """The module of a built-in workflow."""
    return f"benchai.graphs.{name.replace('-', '_')}"


def workflow_of(name: str) -> Workflow:
    """A built-in workflow."""
    workflow: Workflow = importlib.import_module(module_of(name)).WORKFLOW
    return workflow


@cache
def _compiled(name: str) -> CompiledStateGraph[Any, Any, Any, Any]:
    # without a checkpointer of its own it uses that of the run
    compiled: CompiledStateGraph[Any, Any, Any, Any] = (
        importlib.import_module(module_of(name)).build().compile(name=name)
    )
    return compiled


async def run_nested(name: str, state: dict[str, Any], context: RunContext) -> dict[str, Any]:
    """The last state of a built-in workflow, run within the node that calls this; it spends the same budget."""
    ended: dict[str, Any] = await _compiled(name).ainvoke({**workflow_of(name).reset, **state}, context=context)
    return ended
