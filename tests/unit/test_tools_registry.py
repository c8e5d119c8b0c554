"""Tools and their registry: schemas as models are trained on them, and mistakes that come back as text."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from benchai.config.models import ToolsConfig
from benchai.errors import ToolError
from benchai.tools import Tool, ToolArgs, ToolContext, ToolRegistry, ToolResult, builtin_tools
from benchai.tools.schema import compact_schema, signature
from benchai.tools.selection import select_tools

EXPECTED = """[
{"type":"function","function":{"name":"calculator","description":
"Evaluate an arithmetic expression exactly. Use it for every calculation.","parameters":{"type":"object",
"properties":{"expression":{"type":"string","description":"For example (12 + 3) * 4"}},
"required":["expression"]}}},
{"type":"function","function":{"name":"current_time","description":"Tell the current date and time.",
"parameters":{"type":"object","properties":{"timezone":{"type":"string","description":
"IANA name, for example Europe/Berlin. Default UTC"}},"required":[]}}},
{"type":"function","function":{"name":"list_files","description":
"List the files and folders in a folder of the workspace.","parameters":{"type":"object","properties":
{"path":{"type":"string","description":"Folder, relative to the workspace. Default ."}},"required":[]}}},
{"type":"function","function":{"name":"read_file","description":"Read a text file of the workspace.",
"parameters":{"type":"object","properties":
{"path":{"type":"string","description":"File, relative to the workspace"},
"offset":{"type":"integer","description":"First line, from 1"},
"limit":{"type":"integer","description":"How many lines"}},"required":["path"]}}}
]"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def ctx(tmp_path: Path) -> ToolContext:
    return ToolContext(tmp_path)


class EchoArgs(ToolArgs):
    text: str
    times: int | None = None


async def echo(args: EchoArgs, ctx: ToolContext) -> str:
    return args.text * (args.times or 1)


ECHO = Tool("echo", "Say it again.", EchoArgs, echo)


def failing(error: BaseException) -> Tool:
    async def run(args: EchoArgs, ctx: ToolContext) -> str:
        raise error

    return Tool("failing", "Fail.", EchoArgs, run)


def test_schemas_are_as_trained_on() -> None:
    # As text, because the order of keys is part of what models are trained on
    assert json.dumps(select_tools(ToolsConfig()).schemas()) == json.dumps(json.loads(EXPECTED))


def test_schemas_of_some() -> None:
    registry = builtin_tools()
    names = [entry["function"]["name"] for entry in registry.schemas(["read_file", "calculator"])]
    assert names == ["read_file", "calculator"]
    with pytest.raises(ToolError, match="no tool 'nope'"):
        registry.schemas(["nope"])


class Inner(BaseModel):
    title: str
    default: Literal["a", "b"] = "a"


class Outer(ToolArgs):
    inner: Inner | None = Field(default=None, description="Nested")
    many: list[Inner] = Field(default_factory=list)
    either: int | str = 3


def test_compact_schema_of_nested_models() -> None:
    inner = {
        "type": "object",
        "properties": {"title": {"type": "string"}, "default": {"type": "string", "enum": ["a", "b"]}},
        "required": ["title"],
    }
    compact = compact_schema(Outer.model_json_schema())
    assert compact == {
        "type": "object",
        "properties": {
            "inner": {"type": "object", "description": "Nested", **inner},
            "many": {"type": "array", "items": inner},
            "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        },
        "required": [],
    }
    assert signature(compact) == "inner (object), many (array), either (integer or string)"


def test_arguments_must_forbid_extra() -> None:
    with pytest.raises(ValueError, match="derive from ToolArgs"):
        Tool("loose", "Loose.", Inner, echo)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "arguments",
    [{"text": "a", "times": 2}, '{"text": "a", "times": 2}', {"text": "a", "times": "2"}],
)
async def test_arguments_as_object_or_text(arguments: Any, ctx: ToolContext) -> None:
    assert await ECHO.invoke(arguments, ctx) == ToolResult(ok=True, text="aa")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "argument 'text' is missing; echo takes text (string, required), times (integer)"),
        ("{}", "argument 'text' is missing"),
        ('{"text": "a"', "are not JSON"),
        ("[1]", "arguments '[1]' are not a JSON object"),
        ("[" * 100_000, "are not JSON"),
        ({"txt": "a", "text": "b"}, "argument 'txt' is unknown (did you mean 'text'?)"),
        ({"text": 5}, "argument 'text' = 5 is wrong: input should be a valid string"),
        ({"text": "a", "times": "many"}, "argument 'times' = 'many' is wrong"),
        ({"text": ["x" * 5000]}, "argument 'text' = ['xxx"),
        ({f"extra{i}": i for i in range(50)}, "echo takes text"),
    ],
)
async def test_mistakes_are_told_on_one_line(arguments: Any, message: str, ctx: ToolContext) -> None:
    result = await ECHO.invoke(arguments, ctx)
    assert not result.ok
    assert result.text.startswith("Error: ")
    assert message in result.text
    assert "\n" not in result.text
    assert len(result.text) < 600


@pytest.mark.anyio
async def test_tool_error_comes_back_with_its_hint(ctx: ToolContext) -> None:
    result = await failing(ToolError("no such row 7", hint="rows are 1 to 5")).invoke({"text": "a"}, ctx)
    assert result == ToolResult(ok=False, text="Error: no such row 7; rows are 1 to 5", error="ToolError")


async def _late(args: EchoArgs, ctx: ToolContext) -> str:
    try:
        raise TimeoutError
    except TimeoutError:
        raise ToolError("it took longer than 1 s") from None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("arguments", "kind"),
    [({"text": "a"}, "TimeoutError"), ({}, "UsageError"), ("{", "UsageError"), ({"text": 5}, "UsageError")],
)
async def test_a_failure_is_named(arguments: Any, kind: str, ctx: ToolContext) -> None:
    result = await Tool("late", "Takes long.", EchoArgs, _late).invoke(arguments, ctx)
    assert (result.ok, result.error) == (False, kind)


@pytest.mark.anyio
async def test_unexpected_error_is_logged(ctx: ToolContext, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        result = await failing(KeyError("k")).invoke({"text": "a"}, ctx)
    assert result == ToolResult(ok=False, text="Error: KeyError: 'k'", error="KeyError")
    assert "tool 'failing' failed" in caplog.text


@pytest.mark.anyio
async def test_cancellation_passes_through(ctx: ToolContext) -> None:
    with pytest.raises(asyncio.CancelledError):
        await failing(asyncio.CancelledError()).invoke({"text": "a"}, ctx)


@pytest.mark.anyio
async def test_registry_knows_its_tools(ctx: ToolContext) -> None:
    registry = select_tools(ToolsConfig())
    assert registry.names() == ("calculator", "current_time", "list_files", "read_file")
    assert (await registry.invoke("calculator", {"expression": "6*7"}, ctx)).text == "42"
    result = await registry.invoke("calculater", {}, ctx)
    assert result == ToolResult(
        ok=False,
        text="Error: there is no tool 'calculater'; tools: calculator, current_time, list_files, read_file"
        " (did you mean 'calculator'?)",
        error="UsageError",
    )


def test_names_are_unique() -> None:
    registry = ToolRegistry([ECHO])
    with pytest.raises(ValueError, match="already a tool 'echo'"):
        registry.add(ECHO)
    assert registry.get("echo") is ECHO


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(st.sampled_from(["path", "expression", "limit", "timezone"]) | st.text(), JSON)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(builtin_tools().names()) | st.text(max_size=12), arguments=ARGUMENTS | st.text())
def test_any_call_comes_back_as_text(name: str, arguments: Any, tmp_path: Path) -> None:
    result = asyncio.run(builtin_tools().invoke(name, arguments, ToolContext(tmp_path)))
    assert result.text
    assert result.ok or result.text.startswith("Error: ")
    result.text.encode()
