"""Objects as models write them, and how they are fitted to a schema."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from benchai.agents.repair import MAX_CHARS, MAX_DEPTH, Read, coerce, read_object, read_value, without_thoughts
from benchai.tools.schema import compact_schema

MENDED: list[tuple[str, dict[str, Any]]] = [
    ('```json\n{"a": 1}\n```', {"a": 1}),
    ('```\n{"a": 1}\n```', {"a": 1}),
    ('```json\n{"a": 1}', {"a": 1}),
    ('Sure, here it is: {"a": 1}', {"a": 1}),
    ('{"a": 1}\nThat is it.', {"a": 1}),
    ('{"a": 1}}', {"a": 1}),
    ('{"a": "b"}</tool_call>', {"a": "b"}),
    ('{} {"a": 1}', {"a": 1}),
    ('{"a": 1} {"a": 1}', {"a": 1}),
    ("{'a': True, 'b': None, 'c': False}", {"a": True, "b": None, "c": False}),
    ("{'a': 'it's', 'b': \"x\"}", {"a": "it's", "b": "x"}),
    ('{"a": 1, "b": [1, 2,],}', {"a": 1, "b": [1, 2]}),
    ("{a: 1, b-c: {d: 'x'}}", {"a": 1, "b-c": {"d": "x"}}),
    ('{"a": 1, // one\n # two\n /* three */ "b": "c" // four\n}', {"a": 1, "b": "c"}),
    ('{"url": "http://x/#y", z: 1}', {"url": "http://x/#y", "z": 1}),
    ('{"a": "x\ny\tz"}', {"a": "x\ny\tz"}),
    ('{"a": "say "hi", ok", "b": 1}', {"a": 'say "hi", ok', "b": 1}),
    ('{"a": "say "hi"", "b": 1}', {"a": 'say "hi"', "b": 1}),
    ('{"code": "print("a", "b")\n"}', {"code": 'print("a", "b")\n'}),
    ('{"code": "def f():\n    return {"x": 1}\n"}', {"code": 'def f():\n    return {"x": 1}\n'}),
    ('{"html": "<b class="x">t</b>"}', {"html": '<b class="x">t</b>'}),
    ('{"pattern": "\\d+\\.py", "path": "C:\\Dir"}', {"pattern": "\\d+\\.py", "path": "C:\\Dir"}),
    ('{"a": """x\n"y" z"""}', {"a": 'x\n"y" z'}),
    ("{“a”: “b”}", {"a": "b"}),
    ('{"a": 1 "b": "c" "d": 2}', {"a": 1, "b": "c", "d": 2}),
    ('{"a": .5, "b": 5., "c": +1}', {"a": 0.5, "b": 5.0, "c": 1}),
    ('"{\\"a\\": 1}"', {"a": 1}),
    ('"\\"{\\\\\\"a\\\\\\": 1}\\""', {"a": 1}),
    ("{'a': '\\ud83d\\ude00'}", {"a": "😀"}),
]

CUT: list[tuple[str, dict[str, Any], bool]] = [
    ('{"a": "half of', {"a": "half of"}, True),
    ('{"a": "b\\', {"a": "b"}, True),
    ('{"a": [1, 2', {"a": [1]}, True),
    ('{"a": [1, 2,', {"a": [1, 2]}, False),
    ('{"a": [1, 2]', {"a": [1, 2]}, False),
    ('{"a": "b"', {"a": "b"}, False),
    ('{"a": "say "hi"', {"a": 'say "hi'}, True),
    ('{"a": "b", "c', {"a": "b"}, True),
    ('{"a": "b", "c"', {"a": "b"}, True),
    ('{"a": "b", "c":', {"a": "b"}, True),
    ('{"a": tru', {}, True),
    ('{"a": {"b": 1}', {"a": {"b": 1}}, False),
    ('{"a": 1 /* half', {"a": 1}, False),
    ('```json\n{"a": "half of', {"a": "half of"}, True),
    ("{", {}, False),
]

REFUSED = [
    "",
    "no object",
    "5",
    '"text"',
    "null",
    "[1]",
    '[{"a": 1}]',
    'x = [{"a": 1}]',
    '{"a": 1} {"b": 2}',
    '{"a": NaN}',
    '{"a": Infinity}',
    '{"a": -Infinity,}',
    '{"a": 1e999}',
    "{'a': 1e999}",
    '{"a": 1,000}',
    '{"a": 007}',
    '{"a": ' + "9" * 5000 + "}",
    '{"a": path}',
    '{"a": f"x"}',
    '{"a": "b" + "c"}',
    '{"a" 1}',
    '{"a": 1]',
    "{1: {2: 3}}",
    '{1: {"a": 2}}',
    "{1, 2}",
    "{x}",
    "{...}",
    '{"a": ["b" "c"]}',
    '{"a": ["print("b", "c")"]}',
    '{"a": "x{"}y"}',
    '{"a": "x = {"k": "v"} y"}',
    '{"a": "d = {"b": "x", "c": 2}"}',
    "{a: 1, a: 2}",
    "<think>{}",
]


@pytest.mark.parametrize(("text", "value"), MENDED)
def test_mended(text: str, value: dict[str, Any]) -> None:
    assert read_object(text) == Read(value, mended=True)


@pytest.mark.parametrize(("text", "value", "torn"), CUT)
def test_cut_off(text: str, value: dict[str, Any], torn: bool) -> None:
    assert read_object(text) == Read(value, mended=True, cut=True, torn=torn)


@pytest.mark.parametrize("text", REFUSED)
def test_what_has_no_certain_meaning_is_refused(text: str) -> None:
    assert read_object(text) is None


@pytest.mark.parametrize(
    "text", ['{"a": 1}', ' {"a": 1}\n', '<think>{"b": 2}</think>\n{"a": 1}', 'hm {x}\n</think>\n{"a": 1}']
)
def test_plain_json_is_not_mended(text: str) -> None:
    assert read_object(text) == Read({"a": 1})


def test_lone_surrogates_go() -> None:
    assert read_object('{"a": "\\ud83d\\ude00 \\ud83d"}') == Read({"a": "😀 ?"})


@pytest.mark.parametrize("mend", ["", ","])
def test_depth_is_bounded(mend: str) -> None:
    def nested(levels: int) -> str:
        return '{"a":' * levels + "1" + f"{mend}}}" * levels

    assert read_object(nested(MAX_DEPTH)) is not None
    assert read_object(nested(MAX_DEPTH + 1)) is None
    assert read_object(nested(20_000)) is None


def test_size_is_bounded() -> None:
    assert read_object('{"a": 1}'.ljust(MAX_CHARS)) == Read({"a": 1})
    assert read_object('{"a": 1}'.ljust(MAX_CHARS + 1)) is None


def test_a_value_amid_text_ends_where_it_ends() -> None:
    piece = read_value('x [1, {"a": 2}] y', 2)
    assert piece is not None
    assert (piece.value, piece.end, piece.mended, piece.cut) == ([1, {"a": 2}], 15, False, False)


def test_a_limit_ends_what_must_be_mended() -> None:
    text = "{'a': 'b</tool_call>"
    piece = read_value(text, 0, text.index("<"))
    assert piece is not None
    assert (piece.value, piece.cut, piece.torn) == ({"a": "b"}, True, True)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>a</think>b", "b"),
        ("<think>a</think>\n<think>b</think>c", "c"),
        ("a</think>\nb", "\nb"),
        ("<think>a", ""),
        ("[THINK]a[/THINK]b", "b"),
        ('{"a": "</think> "}', '{"a": "</think> "}'),
        ("say </think>, he said", "say </think>, he said"),
        ("<think></think>" * 50_000 + "b", "b"),
    ],
)
def test_without_thoughts(text: str, rest: str) -> None:
    assert without_thoughts(text) == rest


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
objects = st.dictionaries(st.text(max_size=8), json_values, max_size=4)


@given(objects, st.booleans(), st.sampled_from([None, 2]))
def test_json_comes_back_as_it_was(value: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert read_object(text) == Read(value)
    assert read_object(json.dumps(text)) == Read(value, mended=True)


@given(st.dictionaries(st.sampled_from("abc"), st.integers() | st.booleans() | st.none(), min_size=1))
def test_python_comes_back_as_it_was(value: dict[str, Any]) -> None:
    assert read_object(repr(value)) == Read(value, mended=True) or repr(value) == json.dumps(value)


@given(objects.filter(bool), st.data())
def test_every_beginning_of_an_object_is_cut_or_refused(value: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(value)
    short = text[: data.draw(st.integers(1, len(text) - 1))]
    read = read_object(short)
    assert read is None or read.cut


LETTERS = [
    *"{}[]\"'`:,\\ \n1-.#/*+aT“”",
    "true",
    "None",
    "NaN",
    "\\u12",
    "//",
    "/*",
    '"a":',
    "```json\n",
    "<think>",
    "\ud800",
]


@given(st.lists(st.sampled_from(LETTERS), max_size=40).map("".join))
@example('{"a":"\ud800"}')
def test_nothing_raises_and_nothing_but_json_comes_out(text: str) -> None:
    read = read_object(text)
    if read is not None:
        json.dumps(read.value, allow_nan=False).encode()
        assert not read.torn or read.cut


@pytest.mark.parametrize(
    "unit", [*LETTERS, '{"a":1,}', "{//\n}", "{'", '"}', '",', '", "a', "' '", '{"a":"/*"', "x{ ", '"#\n']
)
@pytest.mark.parametrize("head", ["", '{"a": "', "{'a': ['"])
def test_a_hundred_kilobytes_of_anything_come_to_an_end(unit: str, head: str) -> None:
    """The time limit of the suite is the only clock: work that grows with the square would run into it."""
    read_object(head + unit * (100_000 // len(unit)))


class Point(BaseModel):
    x: int
    long_name: str = ""


class Arguments(BaseModel):
    file_path: str = ""
    limit: int | None = None
    ratio: float = 0.0
    deep: bool = False
    mode: Literal["Read", "write"] = "Read"
    level: Literal[1, 2] = 1
    tags: list[str] = []
    sizes: list[int] = []
    pair: tuple[int, int] = (0, 0)
    point: Point | None = None
    points: list[Point] = []
    either: int | str = 0
    amount: int | bool = 0
    anything: dict[str, Any] = {}


SCHEMA = compact_schema(Arguments.model_json_schema())

COERCED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"limit": "5"}, {"limit": 5}),
    ({"limit": " -5 "}, {"limit": -5}),
    ({"limit": 5.0}, {"limit": 5}),
    ({"limit": "5.0"}, {"limit": 5}),
    ({"ratio": "0.5"}, {"ratio": 0.5}),
    ({"ratio": "2"}, {"ratio": 2}),
    ({"deep": "true"}, {"deep": True}),
    ({"deep": "False"}, {"deep": False}),
    ({"mode": "read"}, {"mode": "Read"}),
    ({"mode": " WRITE"}, {"mode": "write"}),
    ({"level": "2"}, {"level": 2}),
    ({"file_path": 5}, {"file_path": "5"}),
    ({"tags": "a"}, {"tags": ["a"]}),
    ({"tags": '["a", "b"]'}, {"tags": ["a", "b"]}),
    ({"tags": [1]}, {"tags": ["1"]}),
    ({"sizes": "3"}, {"sizes": [3]}),
    ({"sizes": ["1", 2.0]}, {"sizes": [1, 2]}),
    ({"point": '{"x": "1"}'}, {"point": {"x": 1}}),
    ({"point": {"X": "1", "longName": "a"}}, {"point": {"x": 1, "long_name": "a"}}),
    ({"points": {"x": "1"}}, {"points": [{"x": 1}]}),
    ({"points": [{"x": "1"}, {"x": 2}]}, {"points": [{"x": 1}, {"x": 2}]}),
    ({"filePath": "a"}, {"file_path": "a"}),
    ({"file-path": "a", "LIMIT": "1"}, {"file_path": "a", "limit": 1}),
    ({"arguments": {"limit": "5"}}, {"limit": 5}),
    ({"parameters": {"args": {"limit": 5}}}, {"limit": 5}),
    ({"kwargs": '{"limit": 5}'}, {"limit": 5}),
]

KEPT: list[dict[str, Any]] = [
    {"limit": "five"},
    {"limit": 5.5},
    {"limit": "5.5"},
    {"limit": "1_000"},
    {"limit": "٥"},
    {"limit": "1e5"},
    {"limit": None},
    {"ratio": "nan"},
    {"ratio": "1.0e999"},
    {"deep": "yes"},
    {"deep": 1},
    {"mode": "append"},
    {"file_path": 1.5},
    {"file_path": True},
    {"file_path": {"a": 1}},
    {"sizes": "many"},
    {"sizes": None},
    {"pair": 1},
    {"point": "x"},
    {"either": "5"},
    {"either": 5},
    {"anything": {"filePath": "5"}},
    {"unknown": 1},
    {"file_path": "a", "filePath": "b"},
    {"filePath": "a", "FILE_PATH": "b"},
    {"arguments": {"limit": 5}, "limit": 6},
    {"arguments": "limit"},
    {"arguments": [1]},
    {},
]


@pytest.mark.parametrize(("value", "fitted"), COERCED)
def test_a_certain_meaning_is_fitted(value: dict[str, Any], fitted: dict[str, Any]) -> None:
    result = coerce(value, SCHEMA)
    assert result == fitted
    assert json.dumps(result) == json.dumps(fitted)
    Arguments.model_validate(result, strict=True) if "pair" not in result else None


@pytest.mark.parametrize("value", KEPT)
def test_what_is_not_certain_stays(value: dict[str, Any]) -> None:
    assert json.dumps(coerce(value, SCHEMA)) == json.dumps(value)


def test_a_wrapper_that_the_schema_knows_is_an_argument() -> None:
    schema = {"type": "object", "properties": {"args": {"type": "array", "items": {"type": "string"}}}, "required": []}
    assert coerce({"args": "a"}, schema) == {"args": ["a"]}


def test_names_that_differ_only_in_case_are_not_confused() -> None:
    schema = {"type": "object", "properties": {"path": {}, "Path": {}}, "required": []}
    assert coerce({"PATH": 1}, schema) == {"PATH": 1}


def test_the_value_that_was_given_is_not_changed() -> None:
    value = {"point": {"X": "1"}}
    coerce(value, SCHEMA)
    assert value == {"point": {"X": "1"}}


@given(st.dictionaries(st.sampled_from([*Arguments.model_fields, "filePath", "arguments", "x"]), json_values))
def test_no_argument_is_dropped(value: dict[str, Any]) -> None:
    fitted = coerce(value, SCHEMA)
    assert len(fitted) == len(value) or "arguments" in value
    assert coerce(fitted, SCHEMA) == fitted or "arguments" in value
