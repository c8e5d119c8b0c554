"""Loops: a model that does the same again and again. Pure functions on the messages of a run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolCall, ToolMessage

from benchai.agents.messages import arguments_of, last_question, text_of

SAME = 3
ALTERNATING = 6
SAME_TEXT = 5
NEWS = 2
HINTS = {
    "call": "This is the same call with the same result for the third time. "
    "Do not repeat it: answer, or do another thing.",
    "error": "The same error came three times. Do not try this again: answer, or do another thing.",
    "alternation": "You go back and forth between two calls. Their results do not change: answer, or do another thing.",
    "text": "You say the same again and again. Answer, or do another thing.",
}


@dataclass(frozen=True)
class Loop:
    """A loop: its kind, and how often the model went on with it after it could be seen."""

    kind: str
    excess: int

    @property
    def hint(self) -> str:
        """What the model is told."""
        return HINTS[self.kind]

    @property
    def hopeless(self) -> bool:
        """Whether the model went on though it was told."""
        return self.excess >= (2 if self.kind == "alternation" else 1)


@dataclass(frozen=True)
class Pair:
    """A call and its result, comparable."""

    name: str
    arguments: dict[str, Any] | str
    result: str
    ok: bool
    thought: str


def pairs_of(messages: Sequence[AnyMessage]) -> list[Pair]:
    """The calls of the current run with their results, in order."""
    found = []
    # ids may come again in a later reply: a result belongs to the last one before it
    waiting: dict[str, tuple[AIMessage, ToolCall]] = {}
    for message in messages[last_question(messages) :]:
        if isinstance(message, AIMessage):
            waiting = {str(call["id"]): (message, call) for call in message.tool_calls}
        elif isinstance(message, ToolMessage) and message.tool_call_id in waiting:
            found.append(_pair(*waiting.pop(message.tool_call_id), message))
    return found


def _pair(reply: AIMessage, call: ToolCall, result: ToolMessage) -> Pair:
    words = without_hint(str(result.text))
    return Pair(call["name"], arguments_of(reply, call), words, result.status != "error", text_of(reply))


def find_loop(messages: Sequence[AnyMessage], polling: Collection[str] = ()) -> Loop | None:
    """The loop that the end of a run is in, or None.

    Args:
        messages: The conversation; only what follows the user's last message counts.
        polling: Tools that are meant to be called again with the same arguments.
    """
    pairs = pairs_of(messages)
    if not pairs or pairs[-1].name in polling:
        return None
    calls = [(pair.name, pair.arguments, pair.result) for pair in pairs]
    if (same := _run_length(calls)) >= SAME:
        return Loop("call", same - SAME)
    errors = [(pair.result if not pair.ok else f"\0{place}") for place, pair in enumerate(pairs)]
    if (same := _run_length(errors)) >= SAME:
        return Loop("error", same - SAME)
    if (same := _alternation(calls)) >= ALTERNATING:
        return Loop("alternation", same - ALTERNATING)
    thoughts = [pair.thought or f"\0{place}" for place, pair in enumerate(pairs)]
    # the same words beside calls that find new things are a habit, no loop
    news = len({pair.result for pair in pairs[-SAME_TEXT:]}) > NEWS
    if (same := _run_length(thoughts)) >= SAME_TEXT and not news:
        return Loop("text", same - SAME_TEXT)
    return None


def with_hint(result: str, hint: str) -> str:
    """A result with what the model is told about it."""
    return f"{result}\n[{hint}]"


def without_hint(result: str) -> str:
    """The result alone."""
    for hint in HINTS.values():
        result = result.removesuffix(f"\n[{hint}]")
    return result


def _run_length(values: Sequence[object]) -> int:
    """How many values at the end are equal."""
    count = 0
    while count < len(values) and values[-1 - count] == values[-1]:
        count += 1
    return count


def _alternation(values: Sequence[object]) -> int:
    """How many values at the end alternate between two."""
    if len(values) < 2 or values[-1] == values[-2]:
        return 0
    count = 0
    while count < len(values) and values[-1 - count] == values[-1 - count % 2]:
        count += 1
    return count
