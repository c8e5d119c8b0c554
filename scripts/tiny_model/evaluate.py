"""Play held-out conversations over /v1/chat/completions and compare every reply with the expected one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from scripts.tiny_model.conversation import Conversation, Message


@dataclass
class Score:
    """How many conversations of a task were right in every reply, and the first wrong reply of the others."""

    task: str
    right: int = 0
    total: int = 0
    faults: list[dict[str, Any]] = field(default_factory=list)


def ask(client: httpx.Client, conversation: Conversation, upto: int) -> Message:
    """The model's reply to the first `upto` messages, through the server's template and tool-call parser."""
    body: dict[str, Any] = {"messages": conversation.messages[:upto], "temperature": 0, "max_tokens": 400}
    if conversation.tools:
        body["tools"] = conversation.tools
    response = client.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    message: Message = response.json()["choices"][0]["message"]
    return message


def comparable(message: Message) -> tuple[str, list[tuple[str, Any]]]:
    """What must be equal: the text, and name and arguments of every call."""
    calls = []
    for call in message.get("tool_calls") or []:
        function = call["function"]
        try:
            arguments = json.loads(function["arguments"])
        except json.JSONDecodeError:
            arguments = function["arguments"]
        calls.append((function["name"], arguments))
    return (message.get("content") or "").strip(), calls


def play(client: httpx.Client, conversation: Conversation) -> dict[str, Any] | None:
    """The first reply that differs from the expected one, or None when all are right."""
    for place, expected in enumerate(conversation.messages):
        if expected["role"] != "assistant":
            continue
        wanted, got = comparable(expected), comparable(ask(client, conversation, place))
        if wanted != got:
            return {"after": conversation.messages[place - 1]["content"], "wanted": wanted, "got": got}
    return None


def score(client: httpx.Client, task: str, conversations: list[Conversation]) -> Score:
    """Play all conversations of one task."""
    result = Score(task)
    for conversation in conversations:
        fault = play(client, conversation)
        result.total += 1
        if fault is None:
            result.right += 1
        else:
            result.faults.append(fault)
    return result
