"""A conversation with the replies that the model is to give."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
Schema = dict[str, Any]


@dataclass
class Conversation:
    """Messages as the OpenAI wire has them; every message of the assistant is a reply to learn or to test."""

    task: str
    messages: list[Message] = field(default_factory=list)
    tools: list[Schema] = field(default_factory=list)

    def system(self, text: str) -> None:
        """Begin with a system prompt; an empty one is left out."""
        if text:
            self.messages.insert(0, {"role": "system", "content": text})

    def user(self, text: str) -> None:
        """The user says something."""
        self.messages.append({"role": "user", "content": text})

    def reply(self, text: str) -> None:
        """The assistant answers in words."""
        self.messages.append({"role": "assistant", "content": text})

    def call(self, thought: str, name: str, arguments: dict[str, Any], result: str) -> None:
        """The assistant says why, calls one tool, and gets its result."""
        number = f"call_{len(self.messages)}"
        function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
        call = {"id": number, "type": "function", "function": function}
        self.messages.append({"role": "assistant", "content": thought, "tool_calls": [call]})
        self.messages.append({"role": "tool", "tool_call_id": number, "content": result})
