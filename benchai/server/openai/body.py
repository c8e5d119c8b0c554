"""Strict reading of JSON bodies: what is wrong is told with its place, and no body takes long to refuse."""

from __future__ import annotations

from itertools import chain
from typing import Any

import orjson

from benchai.errors import UsageError

#: Levels of objects and lists within each other; the schemas of tools use about 20.
MAX_DEPTH = 100
#: Braces and brackets, and commas, of a body. No model's context takes as many; to read more would hold up all others.
MAX_CONTAINERS = 100_000
MAX_COMMAS = 1_000_000


def read_json(body: bytes) -> dict[str, Any]:
    """Read a request's body; of a key that stands twice the last one counts.

    Raises:
        UsageError: it is empty, no UTF-8, no JSON (NaN is none), no object, nested too deeply, or of too many parts.
    """
    containers = body.count(b"{") + body.count(b"[")
    _check_size(body, containers)
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _problem(body, error) from None
    if not isinstance(data, dict):
        raise UsageError(f"the body must be a JSON object, it is {_kind(data)}")
    # brackets in strings count here, too: few of all kinds is a quick proof
    if containers > MAX_DEPTH and _deeper(data, MAX_DEPTH):
        raise _too_deep()
    return data


def _check_size(body: bytes, containers: int) -> None:
    if containers > MAX_CONTAINERS:
        raise _too_many(f"{containers:,} braces and brackets", MAX_CONTAINERS)
    if len(body) > MAX_COMMAS and (commas := body.count(b",")) > MAX_COMMAS:
        raise _too_many(f"{commas:,} commas", MAX_COMMAS)


def _too_many(found: str, most: int) -> UsageError:
    return UsageError(f"the body has {found}, at most {most:,} are read", hint="send fewer messages or values")


def _too_deep() -> UsageError:
    return UsageError(f"the body is nested more than {MAX_DEPTH} levels deep", hint="flatten it")


def _deeper(data: Any, depth: int) -> bool:
    """Whether objects and lists stand more than ``depth`` deep; level by level, without recursion."""
    level = [data]
    while level:
        if depth == 0:
            return True
        depth -= 1
        inside = chain.from_iterable(one.values() if type(one) is dict else one for one in level)
        level = [one for one in inside if type(one) is dict or type(one) is list]
    return False


def _problem(body: bytes, error: orjson.JSONDecodeError) -> UsageError:
    if not body.strip():
        return UsageError("the body is empty", hint="send a JSON object")
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        line = body.count(b"\n", 0, wrong.start) + 1
        where = f"byte {wrong.start}, line {line}"
        return UsageError(f"the body is not UTF-8 at {where}: {wrong.reason}", hint="encode it as UTF-8")
    if "limit" in error.msg:
        return _too_deep()
    message = f"the body is no JSON at line {error.lineno}, column {error.colno}: {error.msg}"
    return UsageError(message, hint="NaN and Infinity are no JSON" if "JSON value" in error.msg else None)


def _kind(data: Any) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(data), "null")
