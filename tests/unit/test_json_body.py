"""Strict reading of bodies."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchai.errors import UsageError
from benchai.server.openai.body import MAX_COMMAS, MAX_CONTAINERS, MAX_DEPTH, read_json


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"", ["empty"]),
        (b" \n", ["empty"]),
        (b"{", ["line 1, column 2"]),
        (b'{"a": 1,\n "b": }', ["line 2, column 7"]),
        (b'{"a": 1} x', ["line 1, column 10"]),
        (b'{"a": "\xc3\xa9", x}', ["line 1, column 12"]),
        (b'{"a":\n"\xff"}', ["not UTF-8", "byte 7", "line 2"]),
        (b"\xff\xfe{\x00}\x00", ["not UTF-8", "byte 0"]),
        (b"\xef\xbb\xbf{}", ["byte order mark"]),
        (b'{"a": NaN}', ["line 1, column 7", "NaN and Infinity are no JSON"]),
        (b'{"a": Infinity}', ["line 1, column 7"]),
        (b'{"a": -Infinity}', ["line 1, column"]),
        (b'{"a": 1e999}', ["line 1, column 7"]),
        (b'{"a": ' + b"1" * 5000 + b"}", ["line 1, column 7"]),
        (b'{"a": "\\ud800"}', ["line 1, column"]),
        (b'{"a": "\n"}', ["line 1, column 8"]),
        (b"{'a': 1}", ["line 1, column 2"]),
        (b'{"a": 1,}', ["line 1, column 8"]),
        (b"// x\n{}", ["line 1, column 1"]),
        (b"\x00", ["line 1, column 1"]),
        (b"[]", ["must be a JSON object", "a list"]),
        (b'"x"', ["must be a JSON object", "a string"]),
        (b"null", ["must be a JSON object", "null"]),
        (b"1", ["a number"]),
        (b"true", ["true or false"]),
    ],
)
def test_what_is_no_object_is_refused_with_its_place(body: bytes, parts: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        read_json(body)
    for part in parts:
        assert part in f"{caught.value} {caught.value.hint}"


def nested(depth: int) -> bytes:
    """An object with lists in it, so many levels in all."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_depth_up_to_the_cap() -> None:
    read_json(nested(MAX_DEPTH))
    # what is cheap to prove is not walked through: more containers, none deep
    read_json(b'{"a": [' + b",".join([b"{}"] * 1000) + b"]}")
    read_json(json.dumps({"a": "{[" * 1000}).encode())


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 2000, 40_000])
def test_depth_over_the_cap(depth: int) -> None:
    for body in (nested(depth), b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth, b'{"a":' * depth):
        with pytest.raises(UsageError, match=r"levels deep|no JSON|JSON object"):
            read_json(body)
    with pytest.raises(UsageError, match=f"more than {MAX_DEPTH} levels deep"):
        read_json(nested(depth))


def test_a_million_messages_are_refused_before_they_are_read() -> None:
    message = json.dumps({"role": "user", "content": "x"}).encode()
    body = b'{"messages": [' + b",".join([message] * 1_000_000) + b"]}"
    # to parse them would hold up all other requests for a second
    with pytest.raises(UsageError, match="1,000,002 braces and brackets, at most 100,000 are read") as caught:
        read_json(body)
    assert caught.value.hint == "send fewer messages or values"


def test_a_million_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="commas"):
        read_json(b'{"input": [' + b"1," * (MAX_COMMAS + 1) + b"1]}")


def test_a_large_body_of_few_parts_is_read() -> None:
    image = "data:image/png;base64," + "A" * 4_000_000
    data = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": image}}]}]}
    assert read_json(json.dumps(data).encode()) == data
    most = {"a": [[] for _ in range(MAX_CONTAINERS - 2)]}
    assert read_json(json.dumps(most).encode()) == most


def test_of_twins_the_last_one_counts() -> None:
    assert read_json(b'{"a": 1, "a": {"b": 1, "b": 2}}') == {"a": {"b": 2}}


_plain = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
_text = st.text(max_size=8)
_values = st.recursive(
    _plain | _text,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(_text, inside, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40)
@given(st.dictionaries(_text, _values, max_size=3))
def test_what_is_an_object_is_read_as_it_is(data: dict[str, Any]) -> None:
    text = json.dumps(data, ensure_ascii=False)
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    assert read_json(body) == json.loads(text)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\1eE-nul \n', max_size=40).map(str.encode))
def test_whatever_is_sent_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(UsageError):
        assert isinstance(read_json(body), dict)
