"""Where in a run's graphs something happens, as LangGraph knows it: exact for nodes that run at the same time."""

from __future__ import annotations

from dataclasses import dataclass

from langgraph.config import get_config

SEPARATOR = "|"


@dataclass(frozen=True)
class Place:
    """A node at work.

    Attributes:
        nodes: The nodes at work from the outermost graph's to the innermost's, each with an id of its own.
        step: The step of the innermost graph; nodes of one step run at the same time.
    """

    nodes: tuple[str, ...] = ()
    step: int = 0


OUTSIDE = Place()


def here() -> Place:
    """The node that calls this, be it from a task that the node has started."""
    try:
        metadata = get_config().get("metadata", {})
    except RuntimeError:
        return OUTSIDE
    nodes = str(metadata.get("langgraph_checkpoint_ns") or "")
    return Place(tuple(nodes.split(SEPARATOR)), int(metadata.get("langgraph_step", 0))) if nodes else OUTSIDE
