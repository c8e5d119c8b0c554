"""One question to the agent and what follows it, up to the final answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from scripts.tiny_model.conversation import Conversation, Schema
from scripts.tiny_model.split import Draw
from scripts.tiny_model.tools import InventedTool


@dataclass
class Turn:
    """The messages of a question, the tools it needs, and those that must be missing for its answer."""

    needed: list[Schema] = field(default_factory=list)
    forbidden: set[str] = field(default_factory=set)
    near: InventedTool | None = None
    talk: Conversation = field(default_factory=lambda: Conversation(""))


Maker = Callable[[Draw], Turn]


def answered(question: str, answer: str) -> Turn:
    """A question that is answered at once."""
    turn = Turn()
    turn.talk.user(question)
    turn.talk.reply(answer)
    return turn


def failure(error: str) -> str:
    """The answer to a tool result that begins with "Error: ": its first sentence."""
    first = error.removeprefix("Error: ").split("\n")[0].split(". ")[0].rstrip(".")
    return f"That did not work: {first}."
