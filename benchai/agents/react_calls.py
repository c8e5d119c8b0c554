"""Calls that a model wrote in the words of ReAct: `Action:` and `Action Input:`."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

from benchai.agents.python_calls import read_python
from benchai.agents.repair import read_value
from benchai.agents.text_calls import NAME, Calls, Found, TextCall, bare_name, behind, plain_json

_MAX_ACTIONS: Final = 16
_ACTION = re.compile(rf"^[ \t*]*Action[ *]*:[ \t*]*(?P<name>{NAME})?", re.MULTILINE)
_INPUT = re.compile(r"[`* \t]*\n[ \t*]*Action[ _]?Input[ *]*:[ \t*]*(?:```\w*\s*)?", re.IGNORECASE)
_END_OF_INPUT = re.compile(r"^[ \t]*(?:Observation|Thought|Final Answer|Action)[ *]*:", re.MULTILINE)


def read_action(body: str, known: frozenset[str]) -> Found | None:
    """`Action: name` with `Action Input: ...`, `Action: name({...})`, or `Action:` with JSON (ReAct, Command-R)."""
    for head in islice(_ACTION.finditer(body), _MAX_ACTIONS):
        if body.count("```", 0, head.start()) % 2:
            continue
        called = _action_calls(body, head, known)
        if called:
            return Found(called, body[: head.start()])
    return None


def _action_calls(body: str, head: re.Match[str], known: frozenset[str]) -> Calls:
    position = head.end()
    if not head["name"]:
        position = behind(re.compile(r"\s*(?:```\w*\s*)?"), body, position)
        end = _END_OF_INPUT.search(body, position)
        return plain_json(body[position : end.start() if end else None].strip().removesuffix("```").strip(), known)
    name = bare_name(head["name"], known)
    if name not in known:
        return []
    if body[position : position + 1] == "(":
        found = read_python(body, head.start("name"), known)
        return found[0] if found else []
    given = _INPUT.match(body, position)
    return _action_input(body, given.end(), name) if given else []


def _action_input(body: str, position: int, name: str) -> Calls:
    stop = _END_OF_INPUT.search(body, position)
    end = stop.start() if stop else len(body)
    if body[position : position + 1] == "{":
        piece = read_value(body, position, end)
        if piece and isinstance(piece.value, dict):
            return [TextCall(name, piece.value, piece.cut)]
    return [TextCall(name, body[position:end].strip().removesuffix("```").strip())]
