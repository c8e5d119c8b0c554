"""Ask held-out questions about pictures over /v1/chat/completions and compare the answers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from scripts.tiny_vision.paint import data_url
from scripts.tiny_vision.questions import Question


@dataclass
class Score:
    """How many answers of a task were right, the seconds that they took, and the wrong ones."""

    task: str
    right: int = 0
    total: int = 0
    seconds: float = 0.0
    faults: list[dict[str, Any]] = field(default_factory=list)


def ask(client: httpx.Client, question: Question, picture: str) -> str:
    """The model's answer at temperature 0; a tool call in its place is shown as such."""
    talk = question.conversation(picture)
    body: dict[str, Any] = {"messages": talk.messages[:-1], "temperature": 0, "max_tokens": 64}
    if talk.tools:
        body["tools"] = talk.tools
    response = client.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    message = response.json()["choices"][0]["message"]
    calls = message.get("tool_calls")
    return f"tool calls {calls!r}" if calls else str(message.get("content") or "").strip()


def score(client: httpx.Client, task: str, questions: list[Question]) -> Score:
    """Ask all questions of one task, each about its own picture."""
    result = Score(task)
    for question in questions:
        picture = data_url(question.scene) if question.scene else ""
        began = time.monotonic()
        answer = ask(client, question, picture)
        result.seconds += time.monotonic() - began
        result.total += 1
        if answer == question.answer:
            result.right += 1
        else:
            result.faults.append({"asked": question.text, "wanted": question.answer, "got": answer})
    return result
