"""Plain data of whatever a state holds, and the shapes of threads and states on the wire."""

from __future__ import annotations

import enum
import json
import re
import sqlite3
import uuid
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langgraph.types import Interrupt, PregelTask, StateSnapshot
from pydantic import BaseModel

from benchai.server.agent.shapes import (
    Wire,
    interrupts_json,
    json_bytes,
    jsonable,
    no_state_json,
    place_json,
    state_json,
    thread_json,
)

THREAD = "00000000-0000-0000-0000-000000000001"
INNER = f"{THREAD}@ann"


class Colour(enum.Enum):
    RED = "red"


class Model(BaseModel):
    word: Any = "x"


@dataclass
class Data:
    word: Any = "x"


class Pair(NamedTuple):
    one: int
    two: int


class Broken:
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({1}, [1]),
        (frozenset({2}), [2]),
        (deque([3]), [3]),
        (Pair(1, 2), [1, 2]),
        (b"ab\xff", "YWL/"),
        (Model(), {"word": "x"}),
        (Data(), {"word": "x"}),
        (datetime(2020, 1, 1, tzinfo=UTC), "2020-01-01T00:00:00+00:00"),
        (timedelta(seconds=90), 90.0),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (Colour.RED, "red"),
        ({Colour.RED: 1, 2: 3}, {"red": 1, "2": 3}),
        (float("nan"), None),
        (Decimal("1.5"), 1.5),
        (PurePosixPath("a/b"), "a/b"),
        (re.compile("a+"), "a+"),
        (ValueError("boom!"), "ValueError('boom!')"),
        (Model, "<class 'tests.unit.test_agent_shapes.Model'>"),
        (Broken(), "<Broken>"),
        (Interrupt("go on?", id="i"), {"value": "go on?", "id": "i", "response_schema": None}),
        # what JSON cannot carry, alone and deep inside
        ("a\ud800b", "a?b"),
        (Data(Model(word="a\ud800b")), {"word": {"word": "a?b"}}),
        ({"a\ud800": 1, (1, 2): 2}, {"a?": 1, "[1, 2]": 2}),
        ([2**64, -(2**70), {"x": {Broken()}}], [2.0**64, -(2.0**70), {"x": ["<Broken>"]}]),
        ([2**63, timedelta(seconds=1), Colour.RED, 2**64 - 1], [2**63, 1.0, "red", 2**64 - 1]),
        (10**400, None),
    ],
)
def test_anything_becomes_plain_data(value: Any, plain: Any) -> None:
    assert jsonable(value) == plain
    assert jsonable([2**64, value])[1] == plain


def test_messages_are_what_clients_expect() -> None:
    call = {"name": "look", "args": {"at": 1}, "id": "c", "type": "tool_call"}
    assert jsonable({"messages": [AIMessage("", id="a", tool_calls=[call])]})["messages"] == [
        {
            "content": "",
            "additional_kwargs": {},
            "response_metadata": {},
            "type": "ai",
            "name": None,
            "id": "a",
            "tool_calls": [call],
            "invalid_tool_calls": [],
            "usage_metadata": None,
        }
    ]


def test_what_is_nested_in_itself_or_too_deep_ends() -> None:
    itself: dict[str, Any] = {}
    itself |= {"left": itself, "right": [itself]}
    assert jsonable(itself) == {"left": "(nested in itself)", "right": ["(nested in itself)"]}
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    assert json_bytes(deep).count(b"[") == 201
    assert "(nested too deep)" in json_bytes(deep).decode()


_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.text(st.characters())
_values = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(_leaves, inner, max_size=3)
        | st.builds(Model, word=inner)
        | st.builds(Data, inner)
    ),
    max_leaves=8,
)


@given(_values)
def test_plain_data_is_json_whatever_it_was(value: Any) -> None:
    plain = jsonable(value)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert jsonable(plain) == plain


def row(**columns: Any) -> sqlite3.Row:
    found = {"thread_id": THREAD, "created": 0.0, "updated": 1.0, "state_updated": 2.5, "status": "idle"}
    found |= {"metadata": '{"k":"v"}', "config": "{}", "state": None, "error": None, "interrupts": "{}"} | columns
    names = ", ".join(f"? AS {name}" for name in found)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(f"SELECT {names}", list(found.values())).fetchone()


def test_a_thread_has_the_wires_shape() -> None:
    shown = {
        "thread_id": THREAD,
        "created_at": "1970-01-01T00:00:00+00:00",
        "updated_at": "1970-01-01T00:00:01+00:00",
        "state_updated_at": "1970-01-01T00:00:02.500000+00:00",
        "metadata": {"k": "v"},
        "status": "idle",
        "config": {},
        "error": None,
        "interrupts": {},
    }
    assert thread_json(row()) == shown | {"values": None}
    assert thread_json(row(), values=False) == shown
    failed = thread_json(row(state='{"a":1}', error='{"error":"E","message":"m"}', status="error"))
    assert (failed["values"], failed["error"]) == ({"a": 1}, {"error": "E", "message": "m"})


def config(name: str, **more: Any) -> Any:
    return {"configurable": {"thread_id": INNER, "checkpoint_ns": "", "checkpoint_id": name, **more}}


def snapshot(state: Any = None, **fields: Any) -> StateSnapshot:
    asked = (Interrupt({"q": 1}, id="i"),)
    task = PregelTask("t", "work", ("__pregel_pull", "work"), ValueError("boom!"), asked, state, {"log": {1}})
    data: dict[str, Any] = {
        "values": {"log": {1}},
        "next": ("work",),
        "config": config("b", __pregel_read="internal"),
        "metadata": {"step": 1, "thread_id": INNER, "langgraph_host": "x", "run_id": "r"},
        "created_at": "2020",
        "parent_config": config("a"),
        "tasks": (task,),
        "interrupts": asked,
    }
    return StateSnapshot(**data | fields)


def test_a_state_has_the_wires_shape_and_ids() -> None:
    place = {"thread_id": THREAD, "checkpoint_ns": ""}
    asked = [{"id": "i", "value": {"q": 1}}]
    assert state_json(snapshot(), THREAD) == {
        "values": {"log": [1]},
        "next": ["work"],
        "tasks": [
            {
                "id": "t",
                "name": "work",
                "path": ["__pregel_pull", "work"],
                "error": "ValueError('boom!')",
                "interrupts": asked,
                "checkpoint": None,
                "state": None,
                "result": {"log": [1]},
            }
        ],
        "metadata": {"step": 1, "thread_id": THREAD, "run_id": "r"},
        "created_at": "2020",
        "checkpoint": place | {"checkpoint_id": "b"},
        "parent_checkpoint": place | {"checkpoint_id": "a"},
        "interrupts": asked,
        "checkpoint_id": "b",
        "parent_checkpoint_id": "a",
    }
    assert interrupts_json(snapshot()) == {"t": asked}
    assert INNER not in json_bytes(state_json(snapshot(), THREAD)).decode()


def test_nested_states_are_named_or_shown() -> None:
    nested = config("n", checkpoint_ns="work:t", checkpoint_map={"": "b"})
    del nested["configurable"]["checkpoint_id"]
    [task] = state_json(snapshot(nested), THREAD)["tasks"]
    assert task["checkpoint"] == {"thread_id": THREAD, "checkpoint_ns": "work:t", "checkpoint_map": {"": "b"}}
    [task] = state_json(snapshot(snapshot()), THREAD)["tasks"]
    assert task["checkpoint"] is None
    assert task["state"] == state_json(snapshot(), THREAD)
    assert place_json({}, THREAD) == {"thread_id": THREAD}


def test_a_thread_without_a_state_has_an_empty_one() -> None:
    none = StateSnapshot({}, (), {"configurable": {"thread_id": INNER}}, None, None, None, (), ())
    assert state_json(none, THREAD) == no_state_json()


def test_answers_are_made_of_anything() -> None:
    answer = Wire({"x": {1}, "y": "\ud800"})
    assert (answer.body, answer.media_type) == (b'{"x":[1],"y":"?"}', "application/json")
