"""What a run's graph streams, in LangGraph's modes, for clients that read those."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_config
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Interrupt

from benchai.events import Delta, Event

#: LangGraph's own; "events" beside them are LangChain's.
MODES = ("values", "updates", "messages", "custom", "tasks", "checkpoints", "debug")
EVENTS = "events"
INTERRUPTS = "__interrupt__"


@dataclass(frozen=True, kw_only=True)
class Part(Event):
    """A piece of a graph's stream: its mode, the nested run that it comes from, and the data as LangGraph gives it."""

    type = "part"
    mode: str
    namespace: tuple[str, ...] = ()
    data: Any


@dataclass(frozen=True)
class Streaming:
    """How a run's graph is run, and what of it is streamed.

    Attributes:
        modes: Of ``MODES``, and "events".
        subgraphs: Whether nested runs stream, too.
        interrupt_before: Nodes before which the run stops, or "*".
        interrupt_after: Nodes after which it stops, or "*".
        configurable: Values for the nodes, under ``config["configurable"]``.
        metadata: What its checkpoints and events are marked with.
        tags: What its events are marked with.
        recursion_limit: Steps of the graph; default: by the budget of the run.
        run_id: Of the first of its events; default: a new one.
    """

    modes: Collection[str] = ()
    subgraphs: bool = False
    interrupt_before: Any = None
    interrupt_after: Any = None
    configurable: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    recursion_limit: int | None = None
    run_id: UUID | None = None

    def config(self) -> dict[str, Any]:
        """What of it belongs into LangGraph's configuration, its steps apart."""
        found: dict[str, Any] = {"metadata": dict(self.metadata)} if self.metadata else {}
        return (
            found | ({"tags": list(self.tags)} if self.tags else {}) | ({"run_id": self.run_id} if self.run_id else {})
        )


async def run_graph(
    graph: CompiledStateGraph[Any, Any, Any, Any],
    value: Any,
    config: RunnableConfig,
    streaming: Streaming,
    tell: Callable[[Part], None],
    **settings: Any,
) -> dict[str, Any]:
    """Run a graph and tell what it streams; returns what ``ainvoke`` would: its state, with ``__interrupt__``."""
    state: dict[str, Any] = {}
    interrupts: list[Interrupt] = []
    streamed = Streamed(tell)
    wanted = {*streaming.modes} - {EVENTS}
    modes = sorted(wanted | {"values", "updates"})
    more = {"interrupt_before": streaming.interrupt_before, "interrupt_after": streaming.interrupt_after, **settings}
    async with aclosing(_parts(graph, value, config, streaming, modes, more)) as parts:
        async for part in parts:
            # what a nested run ends with is the state of its node alone
            if not part.namespace and part.mode == "values":
                state = part.data
            elif not part.namespace and part.mode == "updates" and isinstance(part.data, Mapping):
                interrupts += part.data.get(INTERRUPTS) or ()
            if (part.mode in wanted or part.mode == EVENTS) and (streaming.subgraphs or not part.namespace):
                streamed.take(part)
    return {**state, INTERRUPTS: interrupts} if interrupts else state


async def _parts(
    graph: CompiledStateGraph[Any, Any, Any, Any],
    value: Any,
    config: RunnableConfig,
    streaming: Streaming,
    modes: list[str],
    settings: dict[str, Any],
) -> AsyncGenerator[Part, None]:
    if EVENTS not in streaming.modes:
        stream = graph.astream(value, config, stream_mode=modes, subgraphs=True, **settings)  # type: ignore[arg-type]
        async with aclosing(stream) as chunks:  # type: ignore[type-var]
            async for namespace, mode, data in chunks:
                yield Part(mode=str(mode), namespace=tuple(namespace), data=data)
        return
    found = graph.astream_events(value, config, version="v2", stream_mode=modes, subgraphs=True, **settings)
    root = None
    async with aclosing(found) as events:  # type: ignore[type-var]
        async for event in events:
            root = root or event["run_id"]
            if event["event"] == "on_chain_stream" and event["run_id"] == root:
                chunk: Any = event["data"]["chunk"]
                yield Part(mode=chunk[1], namespace=chunk[0], data=chunk[2])
            else:
                yield Part(mode=EVENTS, data=event)


class Streamed:
    """Hands parts on; a message whose pieces were streamed before is not handed on a second time."""

    def __init__(self, tell: Callable[[Part], None]) -> None:
        self._tell = tell

    def take(self, part: Part) -> None:
        """Hand one part on."""
        if part.mode == "messages":
            message, metadata = part.data
            if isinstance(message, AIMessage) and not isinstance(message, AIMessageChunk) and _in_pieces(message):
                part = Part(mode=part.mode, namespace=part.namespace, data=(_rest(message), metadata))
        self._tell(part)


def _in_pieces(message: AIMessage) -> bool:
    """Whether the text of a message was streamed: all replies of our models are."""
    return str(message.id or "").startswith("reply-")


def _rest(message: AIMessage) -> AIMessageChunk:
    """What the pieces of a reply did not say: its calls, its usage, and that it is whole."""
    calls = [
        tool_call_chunk(name=call["name"], args=_dumped(call["args"]), id=call["id"], index=place)
        for place, call in enumerate(message.tool_calls)
    ]
    return AIMessageChunk(
        content="",
        id=message.id,
        tool_call_chunks=calls,
        usage_metadata=message.usage_metadata,
        response_metadata=message.response_metadata,
        chunk_position="last",
    )


def _dumped(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def piece_of(delta: Delta) -> Part | None:
    """A piece of a reply as LangGraph's mode "messages" has it, of the node that asks.

    None for one without text, and outside of a graph.
    """
    if not delta.text:
        return None
    try:
        metadata = dict(get_config().get("metadata") or {})
    except RuntimeError:
        return None
    namespace = str(metadata.get("langgraph_checkpoint_ns", ""))
    inside = tuple(namespace.split("|")[:-1]) if namespace else ()
    return Part(mode="messages", namespace=inside, data=(AIMessageChunk(content=delta.text, id=delta.id), metadata))
