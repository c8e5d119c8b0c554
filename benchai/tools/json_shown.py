"""JSON schemas of third parties as a model is shown them: without references, clean, and of bounded size."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from benchai.tools.results import neutralise
from benchai.tools.schema import compact_schema

__all__ = ["plain_text", "shown_schema"]

MAX_SHOWN = 6000  # characters; about 1500 tokens in each request
_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_NUMBERS = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
)
_MAX_NAME = 64
_MAX_VALUE = 100


@dataclass(frozen=True)
class _Bounds:
    depth: int
    nodes: int
    text: int


# Each coarser than the one before; the first whose outcome is short enough is shown
_ROUNDS = (_Bounds(6, 200, 300), _Bounds(4, 120, 120), _Bounds(2, 60, 60), _Bounds(1, 40, 0))


def shown_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the compact form of a JSON schema of an object, at most about 6000 characters long.

    Where the schema is too deep or too large, descriptions are cut first, then what is nested, then arguments
    that are not required. A reference to itself becomes a plain object. Never raises for a schema from JSON.
    """
    shown: dict[str, Any] = {}
    for bounds in _ROUNDS:
        shown = compact_schema(_Walk(schema, bounds).top())
        if len(json.dumps(shown)) <= MAX_SHOWN:
            break
    return shown


def plain_text(text: str, limit: int) -> str:
    """`text` on one line, cut to `limit` characters, without what is invisible or imitates a chat template."""
    # Four times the limit leaves enough when white space is folded, and keeps a text of megabytes cheap
    kept = "".join(" " if _is_invisible(character) else character for character in text[: 4 * limit + 16])
    line = neutralise(" ".join(kept.split()))
    return line if len(line) <= limit else f"{line[: max(limit - 3, 0)]}..."[:limit]


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character).startswith("C")


def _is_printable(text: str, limit: int) -> bool:
    return 0 < len(text) <= limit and not any(map(_is_invisible, text)) and neutralise(text) == text


class _Walk:
    """One pass over a schema within bounds."""

    def __init__(self, root: Mapping[str, Any], bounds: _Bounds) -> None:
        self._root = root
        self._bounds = bounds
        self._left = bounds.nodes

    def top(self) -> dict[str, Any]:
        merged, seen = self._merged(self._root, frozenset())
        for key in ("anyOf", "oneOf"):
            # A choice of objects at the top: all of its arguments, none of them required
            for option in _listed(merged.get(key)):
                found, _ = self._merged(option, seen)
                merged["properties"] = {**_mapped(found.get("properties")), **_mapped(merged.get("properties"))}
        return self._fields(merged, self._bounds.depth, seen)

    def _node(self, schema: Any, depth: int, seen: frozenset[str]) -> dict[str, Any]:
        if not isinstance(schema, Mapping) or self._left <= 0:
            return {}
        merged, seen = self._merged(schema, seen)
        shown = self._plain(merged)
        if depth <= 0:
            return shown
        if "properties" in merged:
            shown |= self._fields(merged, depth - 1, seen)
        if isinstance(merged.get("items"), Mapping):
            shown["items"] = self._node(merged["items"], depth - 1, seen)
        options = _listed(merged.get("anyOf")) or _listed(merged.get("oneOf"))
        if options:
            shown["anyOf"] = [self._node(option, depth - 1, seen) for option in options]
        return shown

    def _fields(self, schema: Mapping[str, Any], depth: int, seen: frozenset[str]) -> dict[str, Any]:
        properties, required = _mapped(schema.get("properties")), _names(schema.get("required"))
        names = [name for name in properties if _is_printable(name, _MAX_NAME)]
        if len(names) > self._left:
            names = sorted(names, key=lambda name: name not in required)[: max(self._left, 0)]
        fields = {name: self._node(properties[name], depth, seen) for name in names}
        return {"type": "object", "properties": fields, "required": [name for name in names if name in required]}

    def _merged(self, schema: Mapping[str, Any], seen: frozenset[str]) -> tuple[dict[str, Any], frozenset[str]]:
        """The schema with its reference and its allOf written out."""
        self._left -= 1
        own, seen = self._resolved(schema, seen)
        for option in _listed(own.pop("allOf", None)):
            if self._left <= 0:
                break
            part, seen = self._merged(option, seen)
            properties = {**_mapped(part.get("properties")), **_mapped(own.get("properties"))}
            required = [*_names(own.get("required")), *_names(part.get("required"))]
            own = {**part, **own}
            if properties:
                own |= {"properties": properties, "required": required}
        return own, seen

    def _resolved(self, schema: Mapping[str, Any], seen: frozenset[str]) -> tuple[dict[str, Any], frozenset[str]]:
        found = dict(schema)
        while "$ref" in found:
            reference = str(found.pop("$ref"))
            if reference in seen:
                return {"type": "object", **found}, seen
            seen = seen | {reference}
            found = {**_mapped(self._at(reference)), **found}
        return found, seen

    def _at(self, reference: str) -> Any:
        if not reference.startswith("#"):
            return {}
        found: Any = self._root
        for part in unquote(reference[1:]).split("/")[1:]:
            found = _mapped(found).get(part.replace("~1", "/").replace("~0", "~"), {})
        return found

    def _plain(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        shown = _type_of(schema)
        if self._bounds.text and isinstance(schema.get("description"), str):
            shown["description"] = plain_text(schema["description"], self._bounds.text)
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(values, list):
            shown |= _enumerated(values, 30 if self._bounds.text else 10)
        shown |= {key: schema[key] for key in _NUMBERS if _is_number(schema.get(key))}
        for key in ("pattern", "format"):
            if isinstance(schema.get(key), str) and _is_printable(schema[key], _MAX_VALUE):
                shown[key] = schema[key]
        return shown


def _type_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    kind = schema.get("type")
    kinds = [one for one in (kind if isinstance(kind, list) else [kind]) if isinstance(one, str) and one in _TYPES]
    if len(kinds) > 1:
        kinds = [one for one in kinds if one != "null"]
    if len(kinds) == 1:
        return {"type": kinds[0]}
    return {"anyOf": [{"type": one} for one in kinds]} if kinds else {}


def _enumerated(values: Iterable[Any], limit: int) -> dict[str, Any]:
    kept = [value for value in values if isinstance(value, bool) or _is_number(value) or _is_option(value)]
    return {"enum": kept[:limit]} if kept else {}


def _is_option(value: Any) -> bool:
    return isinstance(value, str) and _is_printable(value, _MAX_VALUE)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 10**18


def _mapped(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _listed(value: Any) -> list[Mapping[str, Any]]:
    return [option for option in value[:8] if isinstance(option, Mapping)] if isinstance(value, list) else []
