"""Conditions on what an item of the store holds, as SQL whose keys and values are bound and never part of the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from benchai.errors import UsageError
from benchai.server.agent.bodies import shown
from benchai.server.agent.database import as_json

#: A piece of SQL over the column ``value``, and what is bound to its question marks.
Condition = tuple[str, tuple[Any, ...]]

MAX_CONDITIONS = 64
_KEY = re.compile(r"[\w.:@/ -]{1,128}")
_INT64 = range(-(2**63), 2**63)
_TYPE = "json_type(value, ?)"
_FOUND = "json_extract(value, ?)"
_ORDER = {
    "$gt": (f"{_TYPE} IN ('integer', 'real') AND {_FOUND} > ?", f"{_TYPE} = 'text' AND {_FOUND} > ?"),
    "$gte": (f"{_TYPE} IN ('integer', 'real') AND {_FOUND} >= ?", f"{_TYPE} = 'text' AND {_FOUND} >= ?"),
    "$lt": (f"{_TYPE} IN ('integer', 'real') AND {_FOUND} < ?", f"{_TYPE} = 'text' AND {_FOUND} < ?"),
    "$lte": (f"{_TYPE} IN ('integer', 'real') AND {_FOUND} <= ?", f"{_TYPE} = 'text' AND {_FOUND} <= ?"),
}
OPERATORS = ("$eq", "$ne", *_ORDER)


def conditions(wanted: Mapping[str, Any]) -> list[Condition]:
    """What an item must meet, all of it.

    A value is compared for equality; an object of operators ($eq, $ne, $gt, $gte, $lt, $lte) by these, numbers with
    numbers and text with text; any other object is looked into. None is met by null and by what is not there, lists
    are equal in whole.

    Raises:
        UsageError: a key is not written with letters, digits, "_", "-", ".", ":", "@", "/" and blanks, an operator
            is unknown or its value cannot be compared, or there are more than 64 conditions.
    """
    found = list(_of(wanted, "$"))
    if len(found) > MAX_CONDITIONS:
        raise UsageError(f"the filter has {len(found)} conditions", hint=f"name at most {MAX_CONDITIONS}")
    return found


def _of(wanted: Mapping[str, Any], above: str) -> Iterator[Condition]:
    for key, value in wanted.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            hint = "write it with letters, digits, '_', '-', '.', ':', '@', '/' and blanks, at most 128"
            raise UsageError(f"the filter's key {shown(key)} cannot be searched for", hint=hint)
        yield from _at(f'{above}."{key}"', value)


def _at(path: str, value: Any) -> Iterator[Condition]:
    if not isinstance(value, Mapping):
        yield _equal(path, value)
    elif any(str(key).startswith("$") for key in value):
        for operator, operand in value.items():
            yield _compared(path, operator, operand)
    else:
        yield f"{_TYPE} = 'object'", (path,)
        yield from _of(value, path)


def _compared(path: str, operator: str, operand: Any) -> Condition:
    if operator == "$eq":
        return _equal(path, operand)
    if operator == "$ne":
        condition, bound = _equal(path, operand)
        return f"NOT coalesce(({condition}), 0)", bound
    if operator not in _ORDER:
        raise UsageError(f"the operator {shown(operator)} is unknown", hint=f"operators: {', '.join(OPERATORS)}")
    if isinstance(operand, bool) or not isinstance(operand, int | float | str):
        raise UsageError(f"{operator} cannot compare with {shown(operand)}", hint="give it a number or a text")
    return _ORDER[operator][isinstance(operand, str)], (path, path, _bound(operand))


def _equal(path: str, value: Any) -> Condition:
    if value is None:
        return f"coalesce({_TYPE}, 'null') = 'null'", (path,)
    if isinstance(value, bool):
        return f"{_TYPE} = ?", (path, "true" if value else "false")
    if isinstance(value, int | float):
        return f"{_TYPE} IN ('integer', 'real') AND {_FOUND} = ?", (path, path, _bound(value))
    if isinstance(value, str):
        return f"{_TYPE} = 'text' AND {_FOUND} = ?", (path, path, _bound(value))
    # SQLite gives back an array or an object as it is kept
    kind = "object" if isinstance(value, Mapping) else "array"
    return f"{_TYPE} = ? AND {_FOUND} = ?", (path, kind, path, _written(value))


def _bound(value: float | str) -> float | str:
    """A value that SQLite takes."""
    if isinstance(value, str) and "\0" in value:
        raise UsageError(f"the filter's value {shown(value)} holds a zero byte, where SQLite ends a text")
    try:
        if isinstance(value, str):
            value.encode()
        return float(value) if isinstance(value, int) and value not in _INT64 else value
    except (UnicodeEncodeError, OverflowError) as error:
        raise UsageError(f"the filter's value {shown(value)} cannot be compared: {error}") from None


def _written(value: Any) -> str:
    try:
        return as_json(value)
    except (TypeError, RecursionError) as error:
        raise UsageError(f"the filter's value {shown(value)} cannot be compared: {error}") from None
