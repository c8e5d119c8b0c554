"""What the checkpoints of a thread tell: which nodes ran, one step after the other. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AnyMessage, ToolMessage
from langgraph.checkpoint.base import CheckpointTuple

SHOWN_CHARS = 80
# the channels by which LangGraph notes what runs next: an edge to a node, and what was sent to one
_EDGE = "branch:to:"
_SENT = "__pregel_tasks"


@dataclass(frozen=True)
class Point:
    """A checkpoint of a thread.

    Attributes:
        checkpoint_id: Its id, for ``--from``.
        created: When it was made, as ISO 8601.
        step: Which of the graph's steps it was made after; -1 is the input.
        source: "input", "loop" (a step), "fork" or "update".
        messages: How many messages the conversation had.
        last: What was last said.
        parent: The checkpoint before it.
        namespace: The node whose nested run it belongs to, "" for the run itself.
        above: For a nested run, the checkpoint of the graph around it, at which its node began.
        nodes: The nodes that ran to make it.
        next: The nodes that were to run next.
        tools: The tools that ran to make it.
    """

    checkpoint_id: str
    created: str
    step: int
    source: str
    messages: int
    last: str
    parent: str | None = None
    namespace: str = ""
    above: str | None = None
    nodes: tuple[str, ...] = ()
    next: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()


def points_of(found: Iterable[CheckpointTuple]) -> list[Point]:
    """The checkpoints of a thread, nested runs included, the oldest first."""
    ordered = sorted(found, key=lambda one: str(one.checkpoint["id"]))
    known = {(_namespace(one), str(one.checkpoint["id"])): one for one in ordered}
    return [_point(one, known.get((_namespace(one), _parent(one) or ""))) for one in ordered]


def _point(found: CheckpointTuple, before: CheckpointTuple | None) -> Point:
    metadata: Mapping[str, Any] = found.metadata or {}
    messages = _messages(found)
    source = str(metadata.get("source", ""))
    namespace = _namespace(found)
    around = metadata.get("parents", {}).get(namespace.rpartition("|")[0]) if namespace else None
    grown = messages[len(_messages(before)) :] if before is not None else []
    return Point(
        checkpoint_id=str(found.checkpoint["id"]),
        created=str(found.checkpoint["ts"]),
        step=int(metadata.get("step", 0)),
        source=source,
        messages=len(messages),
        last=shown(messages[-1]) if messages else "",
        parent=_parent(found),
        namespace=namespace,
        above=str(around) if around else None,
        nodes=_ran(before, found) if source == "loop" and before is not None else (),
        next=_next(found),
        tools=tuple(str(message.name) for message in grown if isinstance(message, ToolMessage)),
    )


def shown(message: AnyMessage) -> str:
    """A message on one line: its text, or the calls that it makes."""
    calls = [f"{call['name']}({call['args']})" for call in getattr(message, "tool_calls", [])]
    text = " ".join(" ".join([str(message.text), *calls]).split())
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 3]}..."


def _ran(before: CheckpointTuple, after: CheckpointTuple) -> tuple[str, ...]:
    """The nodes that ran between two checkpoints; one that something was sent to as often as it was."""
    old, new = before.checkpoint["versions_seen"], after.checkpoint["versions_seen"]
    pulled = [name for name, seen in new.items() if not name.startswith("__") and seen != old.get(name, {})]
    return (*pulled, *_sent(before))


def _next(found: CheckpointTuple) -> tuple[str, ...]:
    channels = found.checkpoint["channel_values"]
    return (*(name.removeprefix(_EDGE) for name in channels if name.startswith(_EDGE)), *_sent(found))


def _sent(found: CheckpointTuple) -> Sequence[str]:
    return [str(send.node) for send in found.checkpoint["channel_values"].get(_SENT, ())]


def _messages(found: CheckpointTuple) -> list[AnyMessage]:
    messages = found.checkpoint["channel_values"].get("messages")
    return list(messages) if isinstance(messages, list) else []


def _namespace(found: CheckpointTuple) -> str:
    return str(found.config["configurable"].get("checkpoint_ns", ""))


def _parent(found: CheckpointTuple) -> str | None:
    return str(found.parent_config["configurable"]["checkpoint_id"]) if found.parent_config else None
