"""Calls that a model wrote into its text as Python. Nothing is evaluated."""

from __future__ import annotations

import ast
import math
import re
import warnings
from typing import Any, Final

from benchai.agents.text_calls import EDGE, NAME, Calls, Reading, TextCall, bare_name

_MAX_PYTHON: Final = 20_000
_PYTHON = re.compile(rf"(?:print\(\s*)?(?P<name>{NAME}?)(?:\.call)?\(")
_SPECIALS = re.compile(r"""(?:"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|[^"'()\[\]{}])++|[()\[\]{}"']""", re.DOTALL)


def read_python(text: str, start: int, known: frozenset[str]) -> Reading:
    """`name(key="value")` or a list of such: Llama, LFM2, Gemma."""
    listed = text[start : start + 1] == "["
    if not _PYTHON.match(text, start + listed):
        return None
    end = _balanced(text, start if listed else text.find("(", start))
    if end is None:
        return _torn_python(text, start + listed, known)
    calls = python_calls(text[start:end], known)
    return (calls, end) if calls else None


def _torn_python(text: str, start: int, known: frozenset[str]) -> Reading:
    head = _PYTHON.match(text, start)
    name = bare_name(head["name"], known) if head else ""
    edge = EDGE.search(text, start)
    end = edge.start() if edge else len(text)
    return ([TextCall(name, text[start:end].strip(), cut=True)], end) if name in known else None


def _balanced(text: str, start: int) -> int | None:
    """The place behind the bracket that closes the one at `start`; None when there is none nearby."""
    depth = 0
    for token in _SPECIALS.finditer(text, start, start + _MAX_PYTHON + 1):
        char = token[0] if len(token[0]) == 1 else ""
        if char in ('"', "'") and char:
            return None
        depth += 1 if char and char in "([{" else -1 if char and char in ")]}" else 0
        if depth == 0:
            return token.end()
        if depth > 50:
            return None
    return None


def python_calls(source: str, known: frozenset[str]) -> Calls:
    """The calls that Python source consists of; none when it is anything else. Nothing is evaluated."""
    if len(source) > _MAX_PYTHON:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source.strip(), mode="eval").body
        nodes = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
        return [_python_call(_unprinted(node), known) for node in nodes]
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return []


def _unprinted(node: ast.expr) -> ast.expr:
    printed = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    return node.args[0] if printed and isinstance(node, ast.Call) and len(node.args) == 1 else node


def _python_call(node: ast.expr, known: frozenset[str]) -> TextCall:
    if not isinstance(node, ast.Call):
        raise ValueError("no call")
    name = bare_name(ast.unparse(node.func).removesuffix(".call"), known)
    if not re.fullmatch(NAME, name):
        raise ValueError(name)
    if node.args and not node.keywords and len(node.args) == 1 and isinstance(node.args[0], ast.Dict):
        value = _literal(node.args[0])
        return TextCall(name, value)
    if node.args:
        return TextCall(name, ", ".join(ast.unparse(one) for one in node.args))
    if any(keyword.arg is None for keyword in node.keywords):
        raise ValueError("**")
    return TextCall(name, {str(keyword.arg): _literal(keyword.value) for keyword in node.keywords})


def _literal(node: ast.expr) -> Any:
    """The JSON value of a literal; raises ValueError for anything else."""
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        keys = [_literal(key) if key else None for key in node.keys]
        if not all(isinstance(key, str) for key in keys):
            raise ValueError("a key that is no text")
        return {str(key): _literal(item) for key, item in zip(keys, node.values, strict=True)}
    if isinstance(node, ast.Name) and node.id in ("true", "false", "null"):
        return {"true": True, "false": False}.get(node.id)
    value = ast.literal_eval(node)
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError("no JSON value")
