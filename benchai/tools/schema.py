"""JSON schemas of tool arguments, in the short form that small models are trained on.

Pydantic writes titles, defaults and `anyOf` with null; each costs tokens in every request and tells a model
nothing. The compact form has `type` first, then `description`, and gives optional arguments their plain type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["compact_schema", "signature"]

_NOISE = frozenset({"title", "additionalProperties", "default", "$defs"})
_ORDER = {"type": 0, "description": 1, "properties": 2, "required": 3}


def compact_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the compact form of the JSON schema of an argument model: type, properties, required.

    References into `$defs` are written out in place; one that refers to itself becomes a plain object.
    """
    compact = _compact(schema, schema.get("$defs", {}), frozenset())
    properties = compact.get("properties", {})
    required = compact.get("required", [])
    return {"type": "object", "properties": properties, "required": required}


def signature(parameters: Mapping[str, Any]) -> str:
    """Return the arguments of a compact schema on one line, such as `path (string, required), limit (integer)`."""
    required = parameters["required"]
    parts = [
        f"{name} ({_type_name(field)}{', required' if name in required else ''})"
        for name, field in parameters["properties"].items()
    ]
    return ", ".join(parts) or "no arguments"


def _type_name(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " or ".join(repr(value) for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_type_name(option) for option in field["anyOf"])
    return str(field.get("type", "any"))


def _compact(schema: Mapping[str, Any], defs: Mapping[str, Any], seen: frozenset[str]) -> dict[str, Any]:
    schema, seen = _dereferenced(schema, defs, seen)
    schema = _without_null(schema)
    if "$ref" in schema:
        schema, seen = _dereferenced(schema, defs, seen)
    items = {key: _part(key, value, defs, seen) for key, value in schema.items() if key not in _NOISE}
    return dict(sorted(items.items(), key=lambda item: _ORDER.get(item[0], len(_ORDER))))


def _part(key: str, value: Any, defs: Mapping[str, Any], seen: frozenset[str]) -> Any:
    # Names of properties are the author's: one called "title" or "default" stays
    if key == "properties":
        return {name: _compact(field, defs, seen) for name, field in value.items()}
    if key == "items":
        return _compact(value, defs, seen)
    if key in {"anyOf", "oneOf", "allOf", "prefixItems"}:
        return [_compact(option, defs, seen) for option in value]
    return value


def _dereferenced(
    schema: Mapping[str, Any], defs: Mapping[str, Any], seen: frozenset[str]
) -> tuple[dict[str, Any], frozenset[str]]:
    reference = schema.get("$ref")
    if reference is None:
        return dict(schema), seen
    name = str(reference).rsplit("/", 1)[-1]
    own = {key: value for key, value in schema.items() if key != "$ref"}
    if name in seen:
        return {"type": "object", **own}, seen
    return {**defs[name], **own}, seen | {name}


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    if len(options) == 1:
        return {**options[0], **rest}
    return {**rest, "anyOf": options} if options else rest
