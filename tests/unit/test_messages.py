"""Repairs of a conversation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.messages.ai import UsageMetadata

from benchai.agents.messages import INTERRUPTED, close_open_calls, normalise_reply, text_of


def call(id_: str | None, name: str = "calculator", **args: Any) -> ToolCall:
    return ToolCall(name=name, args=args, id=id_, type="tool_call")


def broken(id_: str | None, name: str | None = "calculator", args: str | None = '{"a":') -> InvalidToolCall:
    return InvalidToolCall(name=name, args=args, id=id_, error=None, type="invalid_tool_call")


def ids(reply: AIMessage) -> list[str | None]:
    return [one["id"] for one in reply.tool_calls]


def test_a_good_reply_stays_as_it_is() -> None:
    usage = UsageMetadata(input_tokens=1, output_tokens=2, total_tokens=3)
    reply = AIMessage(
        "text",
        id="r",
        tool_calls=[call("a", x=1), call("b", "clock")],
        usage_metadata=usage,
        response_metadata={"finish_reason": "tool_calls"},
    )
    same = normalise_reply(reply)
    assert same == reply
    assert type(same) is AIMessage


@pytest.mark.parametrize("given_ids", [["a", "a"], [None, None], ["", ""], ["a", None, "a", ""], [None, "a", "a"]])
def test_ids_become_unique(given_ids: list[str | None]) -> None:
    reply = AIMessage("", tool_calls=[call(one, n=number) for number, one in enumerate(given_ids)])
    repaired = normalise_reply(reply)
    assert len(set(ids(repaired))) == len(given_ids)
    assert all(ids(repaired))
    assert [one["args"] for one in repaired.tool_calls] == [{"n": number} for number in range(len(given_ids))]
    assert ids(repaired)[given_ids.index("a") if "a" in given_ids else 0] == (
        "a" if "a" in given_ids else ids(repaired)[0]
    )


def test_unreadable_arguments_become_a_call_that_validation_can_answer() -> None:
    reply = AIMessage(
        "", tool_calls=[call("a", x=1)], invalid_tool_calls=[broken("b"), broken("a"), broken(None, None)]
    )
    repaired = normalise_reply(reply)
    assert [one["name"] for one in repaired.tool_calls] == ["calculator", "calculator", "calculator", ""]
    assert [one["args"] for one in repaired.tool_calls] == [{"x": 1}, {}, {}, {}]
    assert ids(repaired)[:2] == ["a", "b"]
    assert len(set(ids(repaired))) == 4
    assert repaired.invalid_tool_calls == []


def test_a_reply_in_parts_becomes_text() -> None:
    reply = AIMessage([{"type": "text", "text": " one "}, {"type": "text", "text": "two\n"}])
    assert normalise_reply(reply).content == "one two"
    assert text_of(HumanMessage("  x\n")) == "x"


@given(
    st.lists(st.sampled_from([None, "", "a", "b", "c"]), max_size=6),
    st.lists(st.sampled_from([None, "", "a", "b", "c"]), max_size=4),
)
def test_no_call_is_lost_and_all_ids_are_unique(good: list[str | None], bad: list[str | None]) -> None:
    reply = AIMessage("", tool_calls=[call(one) for one in good], invalid_tool_calls=[broken(one) for one in bad])
    repaired = normalise_reply(reply)
    assert len(repaired.tool_calls) == len(good) + len(bad)
    assert all(ids(repaired))
    assert len(set(ids(repaired))) == len(ids(repaired))
    assert set(ids(repaired)) >= {one for one in good + bad if one}
    assert normalise_reply(repaired) == repaired


def answers_after(messages: list[AnyMessage]) -> list[tuple[list[str | None], list[str]]]:
    """For each reply: the ids of its calls, and those of the results that stand directly after it."""
    found: list[tuple[list[str | None], list[str]]] = []
    for message in messages:
        if isinstance(message, AIMessage):
            found.append((ids(message), []))
        elif isinstance(message, ToolMessage):
            found[-1][1].append(message.tool_call_id)
    return found


def assert_closed(messages: list[AnyMessage]) -> None:
    for calls, results in answers_after(messages):
        assert sorted(map(str, calls)) == sorted(results)


def test_an_interrupted_call_gets_a_result_in_its_place() -> None:
    messages: list[AnyMessage] = [
        HumanMessage("task"),
        AIMessage("", tool_calls=[call("a"), call("b", "clock")]),
        ToolMessage("4", tool_call_id="a"),
        HumanMessage("next"),
        AIMessage("answer"),
    ]
    closed = close_open_calls(messages)
    assert_closed(closed)
    added = [message for message in closed if message not in messages]
    assert [(one.content, one.name) for one in added] == [(INTERRUPTED, "clock")]
    assert closed.index(added[0]) in (2, 3)
    assert [message for message in closed if message in messages] == messages


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [SystemMessage("s"), HumanMessage("h"), AIMessage("a")],
        [HumanMessage("h"), AIMessage("", tool_calls=[call("a")]), ToolMessage("4", tool_call_id="a")],
    ],
)
def test_a_whole_conversation_stays_as_it_is(messages: list[AnyMessage]) -> None:
    before = list(messages)
    assert close_open_calls(messages) == before
    assert messages == before


def test_an_id_that_came_before_does_not_answer_a_later_call() -> None:
    """Servers number the calls of each reply anew."""
    messages: list[AnyMessage] = [
        AIMessage("", tool_calls=[call("call_0")]),
        ToolMessage("4", tool_call_id="call_0"),
        AIMessage("", tool_calls=[call("call_0")]),
        HumanMessage("go on"),
    ]
    assert_closed(close_open_calls(messages))


def conversation(turns: list[tuple[list[str], int]]) -> list[AnyMessage]:
    """Turns of a run: the ids of the reply's calls, and how many of them were answered before it broke off."""
    messages: list[AnyMessage] = []
    for call_ids, answered in turns:
        messages += [HumanMessage("task"), AIMessage("", tool_calls=[call(one) for one in call_ids])]
        messages += [ToolMessage("x", tool_call_id=one) for one in call_ids[:answered]]
    return messages


TURN = st.tuples(st.integers(0, 4), st.integers(0, 4))


@given(st.lists(TURN, max_size=5))
def test_every_call_has_exactly_one_result(turns: list[tuple[int, int]]) -> None:
    named = [([f"t{turn}c{n}" for n in range(calls)], answered) for turn, (calls, answered) in enumerate(turns)]
    closed = close_open_calls(conversation(named))
    assert_closed(closed)
    assert close_open_calls(closed) == closed


@given(st.lists(TURN, max_size=5))
def test_every_call_has_exactly_one_result_when_ids_come_again(turns: list[tuple[int, int]]) -> None:
    named = [([f"call_{n}" for n in range(calls)], answered) for calls, answered in turns]
    closed = close_open_calls(conversation(named))
    assert_closed(closed)
    assert close_open_calls(closed) == closed
