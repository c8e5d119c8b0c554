"""The task of a run, as nodes see it, and lists as models are shown them."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AnyMessage

from benchai.agents.messages import MEMORY, is_question, last_question

EARLIER_TURNS = 6
EARLIER_CHARS = 600


def task_of(messages: Sequence[AnyMessage]) -> str:
    """What the user asked last; with what was said before it on the thread, shortened."""
    place = last_question(messages)
    task = str(messages[place].text) if messages else ""
    earlier = [message for message in messages[:place] if str(message.text).strip() and message.type != "tool"]
    if not earlier:
        return task
    lines = [_line(message) for message in earlier[-EARLIER_TURNS:]]
    return f"{task}\n\nSaid before:\n" + "\n".join(lines)


def numbered(lines: Sequence[str]) -> str:
    """Lines with their numbers."""
    return "\n".join(f"{place}. {line}" for place, line in enumerate(lines, 1))


def _line(message: AnyMessage) -> str:
    text = " ".join(str(message.text).split())
    shortened = text if len(text) <= EARLIER_CHARS else text[:EARLIER_CHARS] + " ..."
    who = "user" if is_question(message) else "memory" if message.name == MEMORY else "agent"
    return f"{who}: {shortened}"
