"""The prompts that a measurement sends: the user's own, or a standard mix."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchai.errors import UsageError

MOST_PROMPTS = 200
_CODE = """def merge(left, right):
    result = []
    while left and right:
        result.append((left if left[0] <= right[0] else right).pop(0))
    return result + left + right
"""
_NOTES = "The fleet starts a server, watches it, and starts it again when it ends. " * 12
STANDARD = (
    "What is 17 + 25?",
    "List the steps to find out why a program is slow.",
    f"Explain this function, and say what is slow in it:\n\n{_CODE}",
    f"Sum up in two sentences:\n\n{_NOTES}",
)
"""Short and long prompts, prose and code: what the seed's request types ask for ("Current Performance Metrics")."""


@dataclass(frozen=True)
class Prompts:
    """Prompts, each a list of OpenAI messages, and where they came from."""

    source: str
    messages: tuple[list[dict[str, Any]], ...]


def standard_mix() -> Prompts:
    """The prompts for who has none."""
    return Prompts("standard mix", tuple([{"role": "user", "content": text}] for text in STANDARD))


def read_prompts(file: Path | None) -> Prompts:
    """Prompts from a file, or the standard mix without one.

    A ``.jsonl`` file has one prompt a line: a string, a list of messages, or an object with ``messages`` or
    ``prompt``. Any other file is text, with an empty line between two prompts.

    Raises:
        UsageError: the file cannot be read, holds no prompt, or a line is none of these.
    """
    if file is None:
        return standard_mix()
    try:
        # with or without the mark that Windows puts in front
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the prompts {str(file)!r} cannot be read: {error}", hint="give a text file in UTF-8"
        ) from error
    read = _lines(text, file) if file.suffix.lower() in (".jsonl", ".ndjson") else _paragraphs(text)
    if not read:
        raise UsageError(f"the prompts {str(file)!r} hold none", hint="put an empty line between two prompts")
    source = str(file) if len(read) <= MOST_PROMPTS else f"{file}, the first {MOST_PROMPTS} of {len(read)}"
    return Prompts(source, tuple(read[:MOST_PROMPTS]))


def _paragraphs(text: str) -> list[list[dict[str, Any]]]:
    parts = text.replace("\r\n", "\n").split("\n\n")
    return [[{"role": "user", "content": part.strip()}] for part in parts if part.strip()]


def _lines(text: str, file: Path) -> list[list[dict[str, Any]]]:
    return [_messages(line, f"{file}:{number}") for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _messages(line: str, where: str) -> list[dict[str, Any]]:
    hint = 'write "text", [{"role": "user", "content": "text"}] or {"messages": [...]}'
    try:
        data = json.loads(line)
        json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: no JSON that could be sent: {error}", hint=hint) from error
    if isinstance(data, dict):
        data = data.get("messages", data.get("prompt"))
    if isinstance(data, str) and data.strip():
        return [{"role": "user", "content": data}]
    if not isinstance(data, list) or not data or not all(_is_message(one) for one in data):
        raise UsageError(f"{where}: {line[:80]!r} is no prompt", hint=hint)
    return data


def _is_message(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("role"), str) and "content" in one
