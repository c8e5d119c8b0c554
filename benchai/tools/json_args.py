"""Tools whose arguments are described by a JSON schema of somebody else instead of an argument model.

The schema comes from a third party, and so does the danger in it: expressions that take for ever to match,
references that lead in circles or out of the document. What cannot be checked safely here is left to the
server that wrote the schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from benchai.errors import ToolError
from benchai.tools.json_shown import shown_schema
from benchai.tools.tool import Permission, Tool, ToolArgs, ToolContext, guess_for, shorten

__all__ = ["JsonArguments", "JsonTool", "SchemaJudge", "json_tool"]

MAX_SCHEMA = 256 * 1024  # characters; a larger schema is not checked here
MAX_REFERENCES = 5000  # followed in one check; nested references can double with each level
MAX_MATCHED = 200  # characters of a text that is held against an expression
MAX_USAGE = 1000  # characters
MAX_COMPLAINTS = 5
_REPEATS = re.compile(r"[*+]|\{\d*,")
_REPEATED_GROUP = re.compile(r"\)[*+?{]")
_REASONS = {
    "minimum": "should be at least",
    "maximum": "should be at most",
    "exclusiveMinimum": "should be greater than",
    "exclusiveMaximum": "should be less than",
    "multipleOf": "should be a multiple of",
    "minLength": "should have at least this many characters:",
    "maxLength": "should have at most this many characters:",
    "minItems": "should have at least this many items:",
    "maxItems": "should have at most this many items:",
    "pattern": "should match",
    "const": "should be",
}


class JsonArguments(ToolArgs):
    """Arguments that a JSON schema has judged, as the model gave them."""

    values: dict[str, Any]


@dataclass(frozen=True)
class JsonTool(Tool):
    """A tool whose arguments `judge` checks, and `shown` describes to the model; made by `json_tool`."""

    judge: SchemaJudge | None = field(default=None, compare=False)
    shown: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def parameters(self) -> dict[str, Any]:
        """Return the compact, bounded JSON schema of the arguments."""
        return dict(self.shown)

    def validate(self, arguments: Mapping[str, Any] | str) -> JsonArguments:
        """Return the arguments. Raises ToolError that names each wrong one, its value and what is valid."""
        values = self._parse(arguments) if isinstance(arguments, str) else dict(arguments)
        complaints = self._unsendable(values) or (self.judge.complaints(values) if self.judge else [])
        if complaints:
            raise ToolError(f"{', '.join(complaints)}; {self._usage()}")
        return JsonArguments(values=values)

    def _unsendable(self, values: Mapping[str, Any]) -> list[str]:
        # NaN and lone surrogates are Python's, not JSON's: no server could read them
        for name, value in values.items():
            try:
                json.dumps([name, value], allow_nan=False, ensure_ascii=False).encode()
            except (ValueError, TypeError, RecursionError):
                return [f"argument {shorten(name)} = {shorten(value)} is wrong: it cannot be written as JSON"]
        return []

    def _usage(self) -> str:
        usage = super()._usage()
        return usage if len(usage) <= MAX_USAGE else f"{usage[:MAX_USAGE]}..."


def json_tool(
    name: str,
    description: str,
    schema: Mapping[str, Any],
    run: Callable[[dict[str, Any], ToolContext], Awaitable[str]],
    permission: Permission,
) -> JsonTool:
    """Return a tool for a JSON schema of an object; `run` gets the arguments as a dict, its text is not trusted.

    Raises ValueError, with the reason, when `schema` is no usable schema of an object.
    """

    async def call(args: JsonArguments, ctx: ToolContext) -> str:
        return await run(args.values, ctx)

    return JsonTool(
        name,
        description,
        JsonArguments,
        call,
        permission,
        trusted=False,
        judge=SchemaJudge(schema),
        shown=shown_schema(schema),
    )


class SchemaJudge:
    """Says what is wrong with arguments, by the original JSON schema, in words that help a model.

    Raises ValueError when the schema is not one of an object, is not valid, or refers to what it does not have.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._left = 0
        if not _is_object_schema(schema):
            raise ValueError(f"its input schema is not one of an object, its type is {shorten(schema.get('type'))}")
        try:
            self._validator = self._make_validator(schema) if _is_checkable(schema) else None
            self._errors({}, limit=1)
        except RecursionError:
            raise ValueError("its input schema is nested too deeply, or refers to itself without end") from None

    def complaints(self, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with the arguments, at most 5 complaints; none when they are right.

        Raises ToolError when they are nested too deeply to be checked.
        """
        try:
            errors = self._errors(values, limit=MAX_COMPLAINTS)
        except ValueError:
            return []  # a fault of the schema, not of the arguments: the server has the last word
        except RecursionError:
            raise ToolError("the arguments cannot be checked: they are nested too deeply") from None
        return list(dict.fromkeys(_complaint(error) for error in errors))[:MAX_COMPLAINTS]

    def _errors(self, values: Any, limit: int) -> list[Any]:
        if self._validator is None:
            return []
        self._left = MAX_REFERENCES
        try:
            return list(islice(self._validator.iter_errors(values), limit))
        except _unresolvable() as error:
            raise ValueError(f"its input schema refers to what it does not have: {shorten(str(error))}") from None

    def _make_validator(self, schema: Mapping[str, Any]) -> Any:
        from jsonschema import SchemaError, validators  # type: ignore[import-untyped]
        from referencing import Registry

        original = validators.validator_for(schema, default=validators.Draft202012Validator)
        try:
            original.check_schema(schema, format_checker=None)
        except SchemaError as error:
            raise ValueError(f"its input schema is not valid: {shorten(error.message)}") from None
        guarded = validators.extend(original, self._guards(original.VALIDATORS))
        # "$schema" would bring back the class without guards; the empty registry fetches nothing
        own = {key: value for key, value in schema.items() if key != "$schema"}
        return guarded(own, registry=Registry())

    def _guards(self, known: Mapping[str, Any]) -> dict[str, Any]:
        matching = {"pattern", "patternProperties", "additionalProperties"}
        following = {"$ref", "$dynamicRef", "$recursiveRef"}
        guards = {name: _unless_costly(check) for name, check in known.items() if name in matching}
        return guards | {name: self._counted(check) for name, check in known.items() if name in following}

    def _counted(self, check: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
        def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
            self._left -= 1
            if self._left < 0:
                raise ValueError("its input schema follows too many references")
            yield from check(validator, value, instance, schema) or ()

        return counted


def _unresolvable() -> type[Exception]:
    from referencing.exceptions import Unresolvable

    return Unresolvable


def _is_object_schema(schema: Mapping[str, Any]) -> bool:
    if "type" in schema:
        return bool(schema["type"] == "object")
    return not schema or isinstance(schema.get("properties"), Mapping)


def _is_checkable(schema: Mapping[str, Any]) -> bool:
    """Whether the checks below hold; each exception is a way around them."""
    text = json.dumps(schema, default=repr)
    if len(text) > MAX_SCHEMA or '"unevaluated' in text:
        return False
    return text.count('"$schema"') <= int("$schema" in schema)


def _unless_costly(check: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    """`check`, left out where an expression of the schema might take for ever or is none of Python's."""

    def guarded(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        patterns = [value] if isinstance(value, str) else list(schema.get("patternProperties", {}))
        texts = [instance] if isinstance(instance, str) else list(instance) if isinstance(instance, dict) else []
        if all(map(_is_cheap, patterns)) and (not patterns or all(len(text) <= MAX_MATCHED for text in texts)):
            yield from check(validator, value, instance, schema) or ()

    return guarded


def _is_cheap(pattern: str) -> bool:
    if len(pattern) > MAX_MATCHED or _REPEATED_GROUP.search(pattern) or len(_REPEATS.findall(pattern)) > 2:
        return False
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _complaint(error: Any) -> str:
    path = [str(part) for part in error.absolute_path]
    if error.validator == "required" and isinstance(error.instance, dict):
        return ", ".join(f"argument {'.'.join([*path, name])!r} is missing" for name in _missing(error))
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        return ", ".join(_unknown(error, path)) or f"argument {'.'.join(path)!r} has an argument too many"
    reason = _reason(error.validator, error.validator_value)
    if not path:
        return f"arguments {shorten(error.instance)} are wrong: {reason}"
    return f"argument {'.'.join(path)!r} = {shorten(error.instance)} is wrong: {reason}"


def _missing(error: Any) -> list[str]:
    return [name for name in error.validator_value if name not in error.instance][:MAX_COMPLAINTS]


def _unknown(error: Any, path: list[str]) -> list[str]:
    known = error.schema.get("properties", {})
    names = [name for name in error.instance if name not in known][:MAX_COMPLAINTS]
    return [f"argument {shorten('.'.join([*path, name]))} is unknown{guess_for(name, known)}" for name in names]


def _reason(keyword: str, value: Any) -> str:
    if keyword == "type":
        return f"should be {' or '.join(value) if isinstance(value, list) else value}"
    if keyword == "enum":
        options = " or ".join(repr(option) for option in value[:20])
        return f"should be {options[:400]}{' or others' if len(value) > 20 else ''}"
    if keyword in _REASONS:
        return f"{_REASONS[keyword]} {shorten(value)}"
    if keyword in {"anyOf", "oneOf"}:
        kinds = [str(option.get("type", "other")) for option in value if isinstance(option, dict)]
        return f"should be {' or '.join(dict.fromkeys(kinds))}"[:200]
    return f"it does not keep to {keyword} {shorten(value)}"
