"""The chat template (Qwen2.5's form of tools and tool calls) and its rendering, equal to the server's."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from scripts.tiny_model.conversation import Message, Schema

SOURCE = Path(__file__).with_name("chat_template.jinja")


def to_json(value: Any) -> str:
    """JSON as the server's template engine writes it: one line, no escapes of letters."""
    return json.dumps(value, ensure_ascii=False)


@lru_cache(maxsize=1)
def template() -> jinja2.Template:
    """The compiled template."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = to_json
    return environment.from_string(SOURCE.read_text(encoding="utf-8"))


def with_parsed_arguments(message: Message) -> Message:
    """The message with the arguments of its calls as objects, as the server hands them to the template."""
    if "tool_calls" not in message:
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def render(messages: list[Message], tools: list[Schema], generation_prompt: bool = False) -> str:
    """The text that the model reads."""
    parsed = [with_parsed_arguments(message) for message in messages]
    return template().render(messages=parsed, tools=tools or None, add_generation_prompt=generation_prompt)
