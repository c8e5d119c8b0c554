"""What a run's graph streams, as the events of the agent wire."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from langchain_core.messages import AIMessageChunk, BaseMessage, BaseMessageChunk

from benchai.graphs.streaming import EVENTS, Part

#: The mode that LangGraph's graphs know for one of the wire.
GRAPH_MODES = {"messages": "messages", "messages-tuple": "messages"}
_INNER = ("debug", "checkpoints", "tasks")
_HIDDEN = ("__",)


def graph_modes(modes: Collection[str]) -> set[str]:
    """What a graph is asked for so that a client gets its modes; its values always, as they are the run's result."""
    return {GRAPH_MODES.get(mode, mode) for mode in modes} | {"values"}


class Wording:
    """Turns the parts of one run into events.

    Args:
        modes: Of the wire, as the client asked for them.
        inner, outer: The thread's id among the checkpoints, and on the wire.
    """

    def __init__(self, modes: Collection[str], inner: str, outer: str) -> None:
        self._modes = modes
        self._inner, self._outer = inner, outer
        self._messages: dict[str, BaseMessage] = {}

    def events(self, part: Part) -> Iterator[tuple[str, Any]]:
        """Name and data of each event."""
        if part.mode == "messages":
            yield from self._message(part)
        elif part.mode == EVENTS and EVENTS in self._modes:
            yield EVENTS, {**part.data, "metadata": self._marks(part.data.get("metadata") or {})}
        elif part.mode in self._modes:
            data = self._renamed(part.data) if part.mode in _INNER else part.data
            yield _named(part.mode, part), data

    def _marks(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """What a client may know of where something comes from."""
        told = {key: value for key, value in metadata.items() if not key.startswith(_HIDDEN)}
        return {**told, "thread_id": self._outer} if told.get("thread_id") == self._inner else told

    def _message(self, part: Part) -> Iterator[tuple[str, Any]]:
        message, metadata = part.data
        told = self._marks(metadata)
        if "messages-tuple" in self._modes:
            yield _named("messages", part), [message, told]
        if "messages" in self._modes:
            yield from self._grown(part, message, told)

    def _grown(self, part: Part, message: BaseMessage, metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """A message as far as it has come, piece by piece."""
        known = self._messages.get(str(message.id))
        if known is None:
            yield _named("messages/metadata", part), {message.id: {"metadata": metadata}}
        if isinstance(message, BaseMessageChunk):
            grown = known + message if isinstance(known, AIMessageChunk) else message
            self._messages[str(message.id)] = grown
            whole = isinstance(message, AIMessageChunk) and message.chunk_position == "last"
            yield _named("messages/complete" if whole else "messages/partial", part), [_as_message(grown)]
        else:
            self._messages[str(message.id)] = message
            yield _named("messages/complete", part), [message]

    def _renamed(self, value: Any) -> Any:
        """Without LangGraph's own keys, and with the thread's id as the wire has it."""
        if isinstance(value, Mapping):
            kept = {k: v for k, v in value.items() if not (isinstance(k, str) and k.startswith(_HIDDEN))}
            renamed = {k: self._renamed(v) for k, v in kept.items() if k != "values"}
            if renamed.get("thread_id") == self._inner:
                renamed["thread_id"] = self._outer
            return {**kept, **renamed}
        if isinstance(value, list | tuple) and not isinstance(value, str):
            return [self._renamed(one) for one in value]
        return value


def _as_message(message: Any) -> Any:
    """A chunk in the shape of the message that it grows into."""
    if not isinstance(message, AIMessageChunk):
        return message
    return {**message.model_dump(exclude={"tool_call_chunks", "chunk_position"}), "type": "ai"}


def _named(mode: str, part: Part) -> str:
    return "|".join((mode, *part.namespace))
