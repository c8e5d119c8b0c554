"""Tool calls that a model wrote into its text instead of calling natively: pure functions on the text.

Explicit tags are calls even of tools that nobody knows, so that the model can be told which tools exist. Plain JSON
and prose are calls only of known tools, and only where nothing else explains them: an answer that shows JSON must
stay an answer. What stands in backticks or in a fence amid prose is quoted, not called. Sources of the
forms: the chat templates of the models named.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from benchai.agents.python_calls import python_calls, read_python
from benchai.agents.react_calls import read_action
from benchai.agents.repair import MAX_CHARS, without_thoughts
from benchai.agents.text_calls import (
    EDGE,
    GLUE,
    MAX_CALLS,
    NAME,
    SPECIAL,
    TAG,
    Calls,
    Found,
    Reading,
    TextCall,
    bare_name,
    behind,
    plain_json,
    read_json,
    value_at,
)

__all__ = ["MAX_CALLS", "Found", "TextCall", "find_calls"]

_OPEN = (
    rf"<{TAG}>|<[|｜]/?(?:tool[▁_ ]calls?(?:[▁_ ](?:start|begin|section[▁_]begin))?|python_tag|START_ACTION"
    rf"|action_start|tool[▁_]calls[▁_](?:section[▁_])?begin)[|｜]>|\[(?:TOOL_CALLS?|TOOL_REQUEST)\]|functools(?=\[\s*\{{)"
    r"|(?:<\|start\|>assistant)?(?:<\|channel\|>)?(?:commentary|analysis)? ?to="
    rf"(?=functions\.{NAME}[^{{\n]{{0,80}}<\|message)"
    rf"|(?=<(?:function=|invoke name=|function name=))"
)
_STOP = r"</?tool_response>|<[|｜]tool[▁_](?:response|output)|\[TOOL_RESULTS\]|<function_results?>|^Observation:"
_NEXT = re.compile(
    rf"(?P<open>{_OPEN}|```{TAG}[ \t]*\n)|(?P<fence>```|^~~~)|(?P<code>``[^\n]*?``|`[^`\n]*`)|(?P<stop>{_STOP})",
    re.IGNORECASE | re.MULTILINE,
)
_CLOSED = re.compile(r"(?:</\w+>|<[|｜][^<>|｜\n]*end[|｜]>|\[(?:/|END_)\w+\])\s*\Z", re.IGNORECASE)
_NAMED = re.compile(
    rf"(?:functions?<[|｜]tool[▁_]sep[|｜]>)?(?P<name>{NAME})(?::\d{{1,4}})?"
    rf"(?:\[CALL_ID\][\w-]{{1,64}}|\[ARGS\]|{SPECIAL}|\bjson\b|```(?:json)?|\s)*+(?=\{{)"
)
_XML = re.compile(rf"<(?P<tag>function|invoke)(?:=|\s+name=)\"?(?P<name>{NAME})\"?\s*>\s*")
_XML_ARGUMENT = re.compile(r"\s*<parameter(?:=|\s+name=)\"?(?P<key>[^\s<>\"]{1,128})\"?[^<>\n]{0,80}>")
_ARG_PAIR = re.compile(
    r"\s*<arg_key>\s*(?P<key>[^<>\n]{1,128}?)\s*</arg_key>\s*<arg_value>(?P<value>.*?)(?:</arg_value>|\Z)", re.DOTALL
)
_ARG_NAME = re.compile(rf"(?P<name>{NAME})\s*(?=<arg_key>|</tool_call>)")
_TAIL = re.compile(r"</?[\w|]{0,40}\s*\Z|</[\w|]{1,40}>\s*\Z")
_FENCE = re.compile(r"```(?P<label>[\w+-]*)[ \t]*\n?(?P<body>.*?)(?:\n?```|\Z)", re.DOTALL)


def find_calls(text: str, names: Collection[str]) -> Found | None:
    """The calls that the text holds; None when it is an answer. `names` are the tools that exist."""
    if len(text) > MAX_CHARS:
        return None
    body = without_thoughts(text)
    known = frozenset(names)
    found = _tagged(body, known) or _plain(body, known)
    return replace(found, before=_TAIL.sub("", re.sub(SPECIAL, "", found.before)).strip()) if found else None


def _tagged(text: str, known: frozenset[str]) -> Found | None:
    """Calls in explicit tags, read from left to right so that code inside arguments is not taken for quoting."""
    calls: Calls = []
    outside: list[str] = []
    position = kept = tries = 0
    while (mark := _NEXT.search(text, position)) and not mark["stop"] and tries < MAX_CALLS > len(calls):
        position = max(mark.end(), mark.start() + 1)
        if mark["fence"]:
            position = _behind_fence(text, mark)
        elif mark["open"] is not None:
            tries += 1
            more, end = _sequence(text, mark.end(), known)
            if more:
                outside.append(text[kept : mark.start()])
                calls, position, kept = calls + more, end, end
    outside.append(text[kept : mark.start() if mark and mark["stop"] else None])
    return Found(calls[:MAX_CALLS], "".join(outside)) if calls else None


def _behind_fence(text: str, mark: re.Match[str]) -> int:
    end = text.find(mark["fence"], mark.end())
    return end + 3 if end >= 0 else len(text)


def _sequence(text: str, position: int, known: frozenset[str]) -> tuple[Calls, int]:
    """The calls that follow each other from `position`, and the place behind the last one."""
    calls: Calls = []
    while len(calls) < MAX_CALLS:
        start = behind(GLUE, text, position)
        closed = bool(calls) and _CLOSED.search(text[position:start]) is not None
        found = _item(text, start, known, closed=closed)
        if found is None:
            return calls, start if calls else position
        calls, position = calls + found[0], found[1]
    return calls, position


def _item(text: str, start: int, known: frozenset[str], *, closed: bool) -> Reading:
    """The call at `start`; where the last tag is `closed`, only one of a known tool, whose tag was forgotten."""
    for read in (_read_xml, read_json) if closed else (_read_xml, read_json, _read_named, _read_pairs, read_python):
        found = read(text, start, known)
        if found and (not closed or all(call.name in known for call in found[0])):
            return found
    return None


def _read_named(text: str, start: int, known: frozenset[str]) -> Reading:
    """The name, then its arguments as JSON: Mistral, DeepSeek, Kimi, gpt-oss, Functionary."""
    name = _NAMED.match(text, start)
    if not name:
        return None
    value, end, cut = value_at(text, name.end())
    called = bare_name(name["name"], known)
    if isinstance(value, dict):
        return [TextCall(called, value, cut)], end
    edge = EDGE.search(text, name.end())
    end = edge.start() if edge else len(text)
    return [TextCall(called, text[name.end() : end].strip(), cut=edge is None)], end


def _read_xml(text: str, start: int, known: frozenset[str]) -> Reading:
    """`<function=name>` with `<parameter=key>` children or a JSON object: Qwen3-Coder, Llama 3.1, MiniMax."""
    head = _XML.match(text, start)
    if not head:
        return None
    name, position = bare_name(head["name"], known), head.end()
    if text[position : position + 1] == "{":
        value, end, cut = value_at(text, position)
        return ([TextCall(name, value, cut)], end) if isinstance(value, dict) else _read_raw(text, position, name)
    arguments, position, closed = _xml_arguments(text, position)
    done = re.compile(rf"\s*</(?:{head['tag']}|{TAG})>").match(text, position)
    return [TextCall(name, arguments, cut=not (done and closed))], done.end() if done else position


def _read_raw(text: str, start: int, name: str) -> Reading:
    edge = EDGE.search(text, start)
    end = edge.start() if edge else len(text)
    return [TextCall(name, text[start:end].strip(), cut=edge is None)], end


def _xml_arguments(text: str, start: int) -> tuple[str | dict[str, Any], int, bool]:
    """The `<parameter>` children as text, the place behind them, and whether the last one is closed."""
    found: dict[str, Any] = {}
    position = start
    while (head := _XML_ARGUMENT.match(text, position)) and len(found) < MAX_CALLS:
        close = text.find("</parameter>", head.end())
        until = re.compile(r"\n<parameter[= ]" if close >= 0 else r"\n?<parameter[= ]|</(?:function|invoke)>|\Z")
        early = until.search(text, head.end(), close if close >= 0 else len(text))
        end = early.start() if early else close
        position = end if early else close + len("</parameter>")
        if head["key"] in found:
            return text[start:position].strip(), position, True
        found[head["key"]] = text[head.end() : end].removeprefix("\n").removesuffix("\n")
        if early and end == len(text):
            return found, position, False
    return found, position, True


def _read_pairs(text: str, start: int, known: frozenset[str]) -> Reading:
    """`name<arg_key>key</arg_key><arg_value>value</arg_value>`: GLM."""
    name = _ARG_NAME.match(text, start)
    if not name:
        return None
    found: dict[str, Any] = {}
    position = name.end()
    while (pair := _ARG_PAIR.match(text, position)) and pair["key"] not in found and len(found) < MAX_CALLS:
        found[pair["key"]] = pair["value"].removeprefix("\n").removesuffix("\n")
        position = pair.end()
    rest = text[position : position + 40].lstrip()
    return [TextCall(bare_name(name["name"], known), found, cut=not rest.startswith("</tool_call>"))], position


def _plain(text: str, known: frozenset[str]) -> Found | None:
    """Calls of known tools without tags: the whole text, fences, or the words of ReAct."""
    body = text.strip()
    return _whole(body, known) or read_action(body, known) or _fenced(body, known)


def _whole(body: str, known: frozenset[str], *, python: bool = False) -> Found | None:
    calls = plain_json(body, known) or _plain_named(body, known)
    if not calls and (python or (body.startswith("[") and body.endswith("]"))):
        calls = [one for one in python_calls(body, known) if not isinstance(one.arguments, str)]
        calls = calls if all(one.name in known for one in calls) else []
    return Found(calls, "") if calls else None


def _plain_named(body: str, known: frozenset[str]) -> Calls:
    start = 3 if body.startswith(">>>") else 0
    name = _NAMED.match(body, start)
    if not name or bare_name(name["name"], known) not in known:
        return []
    calls, end = _sequence(body, start, known)
    whole = behind(GLUE, body, end) == len(body) and all(one.name in known for one in calls)
    return calls if whole else []


def _fenced(body: str, known: frozenset[str]) -> Found | None:
    """Calls in fences that end the text; every fence must be one, else they are an answer's examples."""
    calls: Calls = []
    outside: list[str] = []
    kept = 0
    for fence in _FENCE.finditer(body):
        label = fence["label"].lower()
        inner = _whole(fence["body"].strip(), known, python=label == "tool_code")
        if inner is None and len(fence[0]) == len(body):
            inner = _known_only(_tagged(fence["body"], known), known)
        if inner is None or label not in ("", "json", "tool_code", "tool_call", "tool_calls", "tool", "action"):
            return None
        outside.append(body[kept : fence.start()])
        calls, kept = calls + inner.calls, fence.end()
    return Found(calls, "".join(outside)) if calls and not body[kept:].strip() else None


def _known_only(found: Found | None, known: frozenset[str]) -> Found | None:
    return found if found and all(call.name in known for call in found.calls) else None
