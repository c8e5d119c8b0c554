"""Calls inside a text: what the readers of all forms share, and the calls that are JSON.

A reader of one call gives its `TextCall`s and the place behind them, or None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from benchai.agents.repair import read_value


@dataclass(frozen=True)
class TextCall:
    """One call: its tool, its arguments (text where they are no object), and whether the text ended within it.

    The name is empty where the text ended before it.
    """

    name: str
    arguments: str | dict[str, Any]
    cut: bool = False


@dataclass(frozen=True)
class Found:
    """The calls in a text, in order; `before` is the text outside of them, without thoughts and made-up results."""

    calls: list[TextCall]
    before: str


Calls = list[TextCall]
Reading = tuple[Calls, int] | None

MAX_CALLS: Final = 64
"""Most calls that are read from one text, and most tags that are tried."""

_NAME_KEYS: Final = ("name", "tool_name", "tool", "function_name", "function", "action")
_ARGUMENT_KEYS: Final = (
    *("arguments", "parameters", "args", "params", "kwargs", "input"),
    *("tool_input", "tool_args", "action_input", "function_args"),
)
_EXTRA_KEYS: Final = frozenset({"id", "type", "tool_call_id", "call_id", "index", "thought", "thoughts", "reasoning"})
_HOLDERS: Final = ("tool_calls", "tool_call", "function_call", "function")

NAME = r"[A-Za-z_][\w.\-/]{0,127}"
TAG = r"(?:tool_?calls?|function_?calls?|tools|tool_request|tool_use)"
SPECIAL = r"<[|｜][^<>|｜\n]{1,40}[|｜]>"
GLUE = re.compile(
    rf"(?:\s++|[,;]|```(?!\w)|</?{TAG}>|</(?:function|invoke)>|{SPECIAL}|\[/?(?:TOOL_CALLS?|TOOL_REQUEST|END_TOOL_REQUEST)\])*+",
    re.IGNORECASE,
)
_SURPLUS = re.compile(r"\s*[}\]]{1,3}(?=\s*(?:</|<[|｜]|\[/|\[END|```|\Z))")
EDGE = re.compile(rf"(?P<close></(?:{TAG}|function)>|{SPECIAL}|\[(?:END_|/)TOOL_\w+\])|<{TAG}>|\[TOOL_CALLS\]", re.I)
_SALVAGE = re.compile(rf"""["']?(?:name|tool_name)["']?\s*:\s*["'](?P<name>{NAME})["']""")
_SALVAGE_ARGUMENTS = re.compile(r"""["'](?:arguments|parameters)["']\s*:\s*""")


def behind(pattern: re.Pattern[str], text: str, position: int) -> int:
    """The place behind the pattern at `position`; `position` where it does not match."""
    found = pattern.match(text, position)
    return found.end() if found else position


def read_json(text: str, start: int, known: frozenset[str]) -> Reading:
    """`{"name": ..., "arguments": {...}}`, or a list of such: Hermes, Qwen, Mistral, Granite, Phi, Command-R."""
    if text[start : start + 1] not in ("{", "["):
        return None
    value, end, cut = value_at(text, start)
    calls = [one for item in _items(value) if (one := _call_of(item, known, explicit=True))]
    if calls:
        return [*calls[:-1], replace(calls[-1], cut=cut)], end
    if value is None:
        return _salvage(text, start)
    nameless = cut and isinstance(value, dict) and end == len(text)
    return ([TextCall("", text[start:end], cut=True)], end) if nameless else None


def plain_json(body: str, known: frozenset[str]) -> Calls:
    """The calls when the body is JSON calls from end to end."""
    calls: Calls = []
    position = 0
    while position < len(body) and len(calls) < MAX_CALLS:
        piece = read_value(body, position) if body[position] in "{[" else None
        found = [_call_of(item, known, explicit=False) for item in _items(piece.value)] if piece else []
        good = [one for one in found if one]
        if not piece or not good or len(good) != len(found):
            return []
        calls += [*good[:-1], replace(good[-1], cut=piece.cut)]
        position = behind(GLUE, body, behind(_SURPLUS, body, piece.end))
    return calls


def value_at(text: str, start: int) -> tuple[Any, int, bool]:
    """The JSON value at `start`, its end, and whether it was cut off."""
    edge = EDGE.search(text, start)
    piece = read_value(text, start, edge.start() if edge else None)
    if piece is None:
        return None, start, False
    closed = edge is not None and edge["close"] is not None
    return piece.value, behind(_SURPLUS, text, piece.end), piece.torn if closed else piece.cut


def _salvage(text: str, start: int) -> Reading:
    """The name of a call whose JSON nobody can read, with its arguments as they came."""
    edge = EDGE.search(text, start)
    body = text[start : edge.start() if edge else None]
    name = _SALVAGE.search(body, 0, 2000)
    if not name or not body.lstrip("[ \n").startswith("{"):
        return None
    arguments = _SALVAGE_ARGUMENTS.search(body)
    raw = body[arguments.end() if arguments else 0 :].strip()
    return [TextCall(name["name"], raw, cut=edge is None)], start + len(body)


def _items(value: Any) -> Iterator[Any]:
    """The objects that may be calls: of a list, or of what holds `tool_calls`."""
    if isinstance(value, list):
        for item in value:
            yield from _items(item) if isinstance(item, dict) else ()
        return
    if not isinstance(value, dict):
        return
    holder = next((key for key in _HOLDERS if isinstance(value.get(key), list | dict)), None)
    if holder and set(value) - {holder} <= _EXTRA_KEYS:
        yield from _items(value[holder])
    else:
        yield value


def _call_of(value: dict[str, Any], known: frozenset[str], *, explicit: bool) -> TextCall | None:
    key = next((one for one in _NAME_KEYS if isinstance(value.get(one), str)), None)
    if key is None:
        return _call_by_key(value, known) if explicit else None
    name = bare_name(value[key].strip(), known)
    rest = {one: item for one, item in value.items() if one != key and one not in _EXTRA_KEYS}
    held = next((one for one in _ARGUMENT_KEYS if one in rest), None)
    if not name or (not explicit and (name not in known or held is None or len(rest) > 1)):
        return None
    if _is_schema(rest) or (held and _is_schema(rest[held])):
        return None
    return TextCall(name, rest if held is None else _held(rest, held))


def _held(rest: dict[str, Any], key: str) -> str | dict[str, Any]:
    """The arguments that stand below `key`; what stands beside them belongs to them, so that nothing is dropped."""
    inner = rest.pop(key)
    if isinstance(inner, dict) and not rest.keys() & inner.keys():
        return {**inner, **rest}
    if rest or (key == "input" and isinstance(inner, str) and not inner.lstrip().startswith("{")):
        return {key: inner, **rest}
    return {} if inner is None else inner if isinstance(inner, str) else json.dumps(inner)


def _call_by_key(value: dict[str, Any], known: frozenset[str]) -> TextCall | None:
    """`{"search": {"query": "x"}}`."""
    [(key, inner)] = value.items() if len(value) == 1 else [("", None)]
    name = bare_name(key, known)
    return TextCall(name, inner) if name in known and isinstance(inner, dict) else None


def _is_schema(value: Any) -> bool:
    """Whether this describes a tool and does not call it."""
    if not isinstance(value, dict):
        return False
    inner = value.get("properties")
    return isinstance(inner, dict) and (value.get("type") == "object" or "required" in value)


def bare_name(name: str, known: frozenset[str]) -> str:
    """The name without `functions.` before it or `:0` behind it, where that is what the tool is called."""
    if name in known or len(name) > 128:
        return name if name in known else ""
    short = re.sub(r"^(?:functions?|tools?|default_api|multi_tool_use)[.:/]|:\d+$", "", name)
    short = re.sub(r":\d+$", "", short)
    return short if short in known else name
