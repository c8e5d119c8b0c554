"""What MCP servers send, before anybody trusts it: schemas, names, lines, results."""

from __future__ import annotations

import builtins
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.config.models import McpServer
from benchai.errors import ConfigError, ToolError
from benchai.tools.json_args import JsonTool, json_tool
from benchai.tools.json_shown import MAX_SHOWN, plain_text, shown_schema
from benchai.tools.mcp import child_environment, mcp_tools
from benchai.tools.mcp.offers import tool_name
from benchai.tools.schema import signature
from benchai.tools.tool import ToolContext

types = pytest.importorskip("mcp_types")


async def show(values: dict[str, Any], ctx: ToolContext) -> str:
    return json.dumps(values)


def made(**schema: Any) -> JsonTool:
    return json_tool("t", "A tool.", {"type": "object", **schema}, show, "execute")


def complaint(arguments: Any, **schema: Any) -> str:
    with pytest.raises(ToolError) as caught:
        made(**schema).validate(arguments)
    return str(caught.value)


PERSON = {
    "properties": {
        "name": {"type": "string", "minLength": 2, "pattern": "^[A-Z]"},
        "age": {"type": ["integer", "null"], "minimum": 0},
        "kind": {"enum": ["cat", "dog"]},
        "home": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city", "zip"]},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "argument 'name' is missing; t takes name (string, required), age (integer), kind ('cat' or 'dog')"),
        ({"name": 3}, "argument 'name' = 3 is wrong: should be string"),
        ({"name": "A"}, "argument 'name' = 'A' is wrong: should have at least this many characters: 2"),
        ({"name": "anna"}, "argument 'name' = 'anna' is wrong: should match '^[A-Z]'"),
        ({"name": "Anna", "age": -1}, "argument 'age' = -1 is wrong: should be at least 0"),
        ({"name": "Anna", "kind": "cow"}, "argument 'kind' = 'cow' is wrong: should be 'cat' or 'dog'"),
        ({"name": "Anna", "nam": 1}, "argument 'nam' is unknown (did you mean 'name'?)"),
        ({"name": "Anna", "home": {}}, "argument 'home.city' is missing, argument 'home.zip' is missing"),
        ({"name": "Anna", "age": float("nan")}, "argument 'age' = nan is wrong: it cannot be written as JSON"),
        ({"name": "A\ud800"}, "it cannot be written as JSON"),
        ("{", "arguments '{' are not JSON"),
        ("[1]", "arguments '[1]' are not a JSON object"),
    ],
)
def test_complaints(arguments: Any, expected: str) -> None:
    assert expected in complaint(arguments, **PERSON)


def test_long_values_are_cut_in_complaints() -> None:
    assert len(complaint({"name": 1, "x" * 10_000: 1, "age": "y" * 10_000}, **PERSON)) < 700


def test_right_arguments_pass_as_they_are() -> None:
    values = {"name": "Anna", "age": None, "home": {"city": "Ulm", "zip": 1}}
    assert made(**PERSON).validate(json.dumps(values)).values == values
    assert made().validate("").values == {}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": ["object", "null"]},
        {"anyOf": [{"type": "object"}]},
        {"type": "object", "properties": 3},
        {"type": "object", "required": "name"},
        {"type": "object", "$ref": "#"},
        {"type": "object", "allOf": [{"$ref": "#"}]},
        {"type": "object", "$ref": "#/$defs/none"},
        {"type": "object", "$ref": "http://127.0.0.1:1/schema.json"},
    ],
)
def test_unusable_schemas_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="its input schema"):
        json_tool("t", "", schema, show, "execute")


def bomb(levels: int) -> dict[str, Any]:
    """A schema that doubles with each level."""
    level = lambda n: [{"$ref": f"#/$defs/l{n}"}] * 2  # noqa: E731
    definitions: dict[str, Any] = {f"l{n}": {"allOf": level(n + 1)} for n in range(levels)}
    return {"$defs": {**definitions, f"l{levels}": {"type": "string"}}, "properties": {"a": {"allOf": level(0)}}}


def test_traps_in_schemas_end() -> None:
    begun = time.process_time()
    evil = made(properties={"a": {"pattern": "^(a+)+$"}}, patternProperties={"^(b+)+$": {"type": "string"}})
    assert evil.validate({"a": "a" * 60 + "!", "b" * 60 + "!": 1}).values
    assert made(**bomb(40)).validate({"a": "x"}).values == {"a": "x"}
    dialect = {"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"a": {"$ref": "#/x"}}}
    evil = made(**dialect, x={"pattern": "^(a+)+$"})
    assert evil.validate({"a": "a" * 60 + "!"}).values
    assert "argument 'a.b.b' = 1 is wrong: should be object" in complaint({"a": {"b": {"b": 1}}}, **TREE)
    assert time.process_time() - begun < 5


TREE = {
    "properties": {"a": {"$ref": "#/$defs/n"}},
    "$defs": {"n": {"type": "object", "properties": {"b": {"$ref": "#/$defs/n"}}}},
}


def test_patterns_of_other_dialects_are_left_to_the_server() -> None:
    assert made(properties={"a": {"pattern": r"^\p{L}$"}}).validate({"a": "1"}).values == {"a": "1"}


def test_shown_schema_is_compact() -> None:
    schema = {
        "type": "object",
        "title": "Args",
        "properties": {
            "path": {
                "type": "string",
                "title": "Path",
                "description": "Where\x1b[0m <|im_start|>\n to",
                "default": ".",
            },
            "limit": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
            "mode": {"type": ["string", "null"], "enum": ["r", "w", None]},
            "either": {"type": ["string", "number"]},
            "tags": {"type": "array", "items": {"$ref": "#/definitions/tag"}},
            "node": {"$ref": "#"},
            "any": True,
            "bad\nname": {"type": "string"},
            "<|im_end|>": {"type": "string"},
        },
        "required": ["path"],
        "definitions": {"tag": {"const": "x"}},
        "allOf": [{"properties": {"more": {"type": "boolean"}}, "required": ["more"]}],
    }
    shown = shown_schema(schema)
    fields = shown["properties"]
    assert fields["path"] == {"type": "string", "description": "Where [0m ‹|im_start|> to"}
    assert fields["limit"] == {"type": "integer", "minimum": 1}
    assert fields["mode"] == {"type": "string", "enum": ["r", "w"]}
    assert fields["either"] == {"anyOf": [{"type": "string"}, {"type": "number"}]}
    assert fields["tags"] == {"type": "array", "items": {"enum": ["x"]}}
    assert fields["node"]["properties"]["node"] == {"type": "object"}
    assert fields["any"] == {}
    assert list(fields) == ["more", "path", "limit", "mode", "either", "tags", "node", "any"]
    assert shown["required"] == ["more", "path"] or shown["required"] == ["path", "more"]
    assert signature(shown).startswith("more (boolean, required), path (string, required), limit (integer)")


def nested(depth: int) -> dict[str, Any]:
    inner = nested(depth - 1) if depth else {"type": "string"}
    return {"type": "object", "description": "d" * 1000, "properties": {"deep": inner}, "required": ["deep"]}


@pytest.mark.parametrize(
    "schema",
    [
        nested(60),
        {"type": "object", **bomb(40)},
        {"type": "object", "properties": {f"p{n}": nested(3) for n in range(1000)}, "required": ["p999"]},
        {"type": "object", "properties": {"p": {"enum": ["e" * 90 + str(n) for n in range(10_000)]}}},
        {"type": "object", "properties": {"x" * 1000: {"type": "string"}}},
    ],
)
def test_shown_schema_is_bounded(schema: dict[str, Any]) -> None:
    shown = shown_schema(schema)
    assert len(json.dumps(shown)) <= MAX_SHOWN
    if "p999" in schema["properties"]:
        assert shown["required"] == ["p999"], "what is required stays"


KEYS = st.sampled_from(
    ["type", "properties", "required", "items", "$ref", "anyOf", "oneOf", "allOf", "enum", "$defs", "description", "a"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, JSON, max_size=5))
def test_no_schema_breaks_what_is_shown(schema: dict[str, Any]) -> None:
    shown = shown_schema(schema)
    assert shown["type"] == "object"
    assert isinstance(signature(shown), str)


def test_names() -> None:
    assert tool_name("files", "read_file") == "mcp__files__read_file"
    assert tool_name("files", "read.file/ä") == "mcp__files__read_file__"
    cut = tool_name("files", "x" * 100)
    assert re.fullmatch("[A-Za-z0-9_-]{64}", cut)
    assert cut != tool_name("files", "x" * 101)
    taken = {"mcp__a__b_c"}
    other = tool_name("a", "b.c", taken)
    assert re.fullmatch("mcp__a__b_c_[0-9a-f]{8}", other)
    assert other == tool_name("a", "b.c", taken)


@given(st.text(max_size=100), st.text(max_size=100), st.sets(st.text(max_size=70)))
def test_names_are_names(server: str, tool: str, taken: set[str]) -> None:
    assert re.fullmatch("mcp__[A-Za-z0-9_-]{0,59}", tool_name(server, tool, taken))


@given(st.text(max_size=2000), st.integers(0, 400))
def test_plain_text_is_short_and_plain(text: str, limit: int) -> None:
    plain = plain_text(text, limit)
    assert len(plain) <= limit
    assert plain.isprintable()


def test_environment_of_a_child() -> None:
    server = McpServer(command="x", env={"A": "1"}, env_from=["TOKEN"])
    ours = {"PATH": "/bin", "HOME": "/h", "TOKEN": "t", "OPENAI_API_KEY": "secret", "LD_PRELOAD": "x"}
    assert child_environment(server, ours) == {"PATH": "/bin", "HOME": "/h", "TOKEN": "t", "A": "1"}
    with pytest.raises(ConfigError, match="'TOKEN' is not set"):
        child_environment(server, {})


@pytest.mark.anyio
async def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any) -> Any:
        if name == "mcp":
            raise ModuleNotFoundError("No module named 'mcp'", name="mcp")
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", absent)
    async with mcp_tools({}, tmp_path) as tools:
        assert tools == []
    with pytest.raises(ConfigError, match="needs the package 'mcp'") as caught:
        async with mcp_tools({"s": McpServer(command="x")}, tmp_path):
            pass
    assert caught.value.hint == 'pip install "benchai[mcp]"'


def text_of(*parts: Any, **extra: Any) -> str:
    from benchai.tools.mcp.results import result_text

    return result_text(types.CallToolResult(content=list(parts), **extra), "tool 't'")


def test_results() -> None:
    one = types.TextContent(type="text", text="one")
    assert text_of(one, one) == "one\none"
    assert text_of(one, structured_content={"a": 1}) == "one"
    assert text_of(structured_content={"a": "ä"}) == '{"a": "ä"}'
    assert text_of() == "(no output)"
    with pytest.raises(ToolError, match="one"):
        text_of(one, is_error=True)
    with pytest.raises(ToolError, match="tool 't' reported an error without a word"):
        text_of(is_error=True)
    picture = types.ImageContent(type="image", data="A" * 4_000_000, mime_type="image/png\n<|im_end|>")
    assert text_of(picture) == "[image, image/png ‹|im_end|>, 3000000 bytes]"
    long = types.TextContent(type="text", text="ä" * 2_000_000)
    assert len(text_of(*[long] * 20).encode()) < 1024**2 + 50
    assert text_of(*[one] * 1500).endswith("[500 more parts]")


@given(st.lists(st.binary(max_size=30)), st.integers(1, 20))
def test_lines_are_cut_the_same_however_they_arrive(pieces: list[bytes], limit: int) -> None:
    from benchai.tools.mcp.stdio import LineCutter, Overlong

    cutter = LineCutter(limit)
    lines = [line for piece in pieces for line in cutter.feed(piece)]
    expected = b"".join(pieces).split(b"\n")[:-1]
    assert len(lines) == len(expected)
    for line, whole in zip(lines, expected, strict=True):
        assert isinstance(line, Overlong) == (len(whole) > limit)
        assert line == whole if isinstance(line, bytes) else whole.startswith(line.head[:limit])
