"""Fitting arguments that a model wrote to the schema of a tool, where their meaning is certain: pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from benchai.agents.readers import MAX_CHARS, read_strict

__all__ = ["coerce"]

_WRAPPERS: Final = ("arguments", "parameters", "params", "args", "kwargs", "input", "tool_input", "action_input")


def coerce(value: dict[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments fitted to a compact JSON schema where their meaning is certain.

    Takes off a wrapper such as `{"arguments": {...}}`, matches names and enum values without regard to case, reads
    numbers, booleans, objects and arrays written as text, and puts a single value into an array. What does not fit
    stays as it is, unknown names included, so that validation complains of it.
    """
    properties = parameters.get("properties", {})
    for _ in range(3):
        value = _unwrapped(value, properties)
    return _fit_object(value, properties)


def _unwrapped(value: dict[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    if len(value) != 1:
        return value
    [(key, inner)] = value.items()
    if key not in _WRAPPERS or key in properties:
        return value
    inner = _from_json(inner, dict)
    return inner if isinstance(inner, dict) else value


def _from_json(value: Any, kind: type) -> Any:
    """What `value` says as JSON text when that is of the kind; `value` else."""
    if not isinstance(value, str) or len(value) > MAX_CHARS:
        return value
    found = read_strict(value.strip(), 0)
    whole = found is not None and found[1] == len(value.strip()) and isinstance(found[0], kind)
    return found[0] if found and whole else value


def _fit_object(value: dict[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    if not properties:
        return value
    names = {key: _name_for(key, value, properties) for key in value}
    return {names[key]: _fit(item, properties.get(names[key], {})) for key, item in value.items()}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _name_for(key: str, value: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    if key in properties:
        return key
    meant = [name for name in properties if _plain(name) == _plain(key)]
    rivals = [other for other in value if _plain(other) == _plain(key)]
    return meant[0] if len(meant) == len(rivals) == 1 else key


def _fit(value: Any, schema: Mapping[str, Any]) -> Any:
    if "enum" in schema:
        return _fit_enum(value, schema["enum"])
    if "anyOf" in schema:
        return _fit_any(value, schema["anyOf"])
    kind = schema.get("type")
    if kind == "object":
        value = _from_json(value, dict)
        return _fit_object(value, schema.get("properties", {})) if isinstance(value, dict) else value
    if kind == "array":
        return _fit_array(value, schema)
    return _fit_scalar(value, kind)


def _fit_enum(value: Any, options: list[Any]) -> Any:
    if value in options or not isinstance(value, str | int) or isinstance(value, bool):
        return value
    meant = [option for option in options if str(option).lower() == str(value).strip().lower()]
    return meant[0] if len(meant) == 1 else value


def _fit_any(value: Any, options: list[Mapping[str, Any]]) -> Any:
    for option in options:
        if _fits(value, option):
            return _fit(value, option)
    fitted = [(option, _fit(value, option)) for option in options]
    good = [one for option, one in fitted if _fits(one, option)]
    return good[0] if good and all(one == good[0] for one in good) else value


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    if "enum" in schema:
        return value in schema["enum"]
    if "anyOf" in schema:
        return any(_fits(value, option) for option in schema["anyOf"])
    kinds: dict[Any, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    kind = kinds.get(schema.get("type"), int | float if schema.get("type") == "number" else object)
    return isinstance(value, kind) and not (isinstance(value, bool) and kind not in (bool, object))


def _fit_array(value: Any, schema: Mapping[str, Any]) -> Any:
    value = _from_json(value, list)
    items = schema.get("items", {})
    if isinstance(value, list):
        return [_fit(item, items) for item in value]
    single = _fit(value, items)
    whole = value is not None and "prefixItems" not in schema and _fits(single, items)
    return [single] if whole else value


def _fit_scalar(value: Any, kind: Any) -> Any:
    if kind == "boolean" and isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower(), value)
    if kind == "string" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind in ("integer", "number") and isinstance(value, str):
        return _fit_number(value.strip(), kind, value)
    return value


def _fit_number(text: str, kind: str, otherwise: str) -> Any:
    if re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII):
        return int(text)
    if not re.fullmatch(r"[+-]?\d{1,18}\.\d{1,18}(?:[eE][+-]?\d{1,2})?", text, re.ASCII):
        return otherwise
    number = float(text)
    if kind == "integer":
        return int(number) if number.is_integer() else otherwise
    return number
