"""Replies that are whole: empty ones are asked for again, cut ones go on, calls where there are none are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from benchai.agents.messages import is_question
from benchai.agents.role import N_CTX, Request
from benchai.agents.whole import (
    CONTINUATIONS,
    FIRST_ROOM,
    REPEATS,
    exact_text,
    joined,
    whole_reply,
    with_more_room,
    without_repeats,
)
from benchai.errors import EmptyReply, EndpointError, UnreadableCall
from tests.unit.listed import Listed, called, said

pytestmark = pytest.mark.anyio
TOOLS = [{"type": "function", "function": {"name": "note", "description": "", "parameters": {}}}]
MARKUP = '<tool_call>{"name": "note", "arguments": {"text": "a"}}</tool_call>'
EMPTY = EmptyReply("the model answered nothing")
UNREADABLE = UnreadableCall("the server could not read the call")


def request(**settings: Any) -> Request:
    return Request([SystemMessage("Be brief."), HumanMessage("Say it.")], **settings)


async def test_a_good_reply_is_left_alone() -> None:
    answer = Listed(said("Well."))
    assert (await whole_reply(answer, request(), answer.emit)).text == "Well."
    assert (answer.events, len(answer.requests)) == ([], 1)


@pytest.mark.parametrize(("tools", "word"), [((), "words"), (TOOLS, "tool")])
async def test_an_empty_reply_is_asked_for_again_once(tools: Any, word: str) -> None:
    answer = Listed(EMPTY, said("Well."))
    asked = request(tools=tools)
    assert (await whole_reply(answer, asked, answer.emit)).text == "Well."
    assert answer.rungs == ["empty"]
    assert word in answer.asked(1)
    # the conversation before the aside is the same: the engine's cache of it holds
    assert list(answer.requests[1].messages[:-1]) == list(asked.messages)
    assert not is_question(answer.requests[1].messages[-1])
    answer = Listed(EMPTY, EMPTY)
    with pytest.raises(EmptyReply):
        await whole_reply(answer, asked, answer.emit)


async def test_a_call_where_there_are_no_tools_leaves_its_text() -> None:
    answer = Listed(called(("note", {"text": "a"}), ("note", "{a"), text="I think so."))
    reply = await whole_reply(answer, request(), answer.emit)
    assert (reply.text, reply.tool_calls, reply.additional_kwargs, answer.rungs) == (
        "I think so.",
        [],
        {},
        ["no_tools"],
    )


@pytest.mark.parametrize("first", [called(("note", {})), said(MARKUP), said(f"I will. {MARKUP}"), UNREADABLE])
@pytest.mark.parametrize("settings", [{}, {"tools": TOOLS, "tool_choice": "none"}], ids=["no tools", "forbidden"])
async def test_a_call_alone_where_none_is_possible_is_asked_for_in_words(first: Any, settings: dict[str, Any]) -> None:
    answer = Listed(first, said("In words."))
    reply = await whole_reply(answer, request(**settings), answer.emit)
    assert (reply.text, answer.rungs) == ("In words.", ["no_tools"])
    assert "no tools here" in answer.asked(1)


async def test_calls_in_vain_end_with_a_reason() -> None:
    answer = Listed(called(("note", {})), called(("note", {})))
    with pytest.raises(EmptyReply, match="calls tools where there are none"):
        await whole_reply(answer, request(), answer.emit)


async def test_a_text_that_shows_a_call_twice_is_meant() -> None:
    words = f"A call looks like this: {MARKUP} and nothing else."
    answer = Listed(said(words), said(words))
    assert (await whole_reply(answer, request(), answer.emit)).text == words


@pytest.mark.parametrize("words", [f"Like `{MARKUP}`.", f"```\n{MARKUP}\n```\nis a call."])
async def test_a_quoted_call_is_text(words: str) -> None:
    answer = Listed(said(words))
    assert (await whole_reply(answer, request(), answer.emit)).text == words
    assert answer.rungs == []


async def test_with_tools_calls_are_left_to_the_ladder() -> None:
    for reply in (called(("note", {})), said(MARKUP), said(MARKUP[:-20], cut=True), called(("note", "{"), cut=True)):
        answer = Listed(reply)
        assert await whole_reply(answer, request(tools=TOOLS), answer.emit) == reply
        assert answer.rungs == []
    answer = Listed(UNREADABLE)
    with pytest.raises(UnreadableCall):
        await whole_reply(answer, request(tools=TOOLS), answer.emit)


async def test_a_cut_text_goes_on() -> None:
    answer = Listed(said("def f():\n    return ", cut=True), said("1\n", cut=True), said("\n\ndef g():\n    pass"))
    reply = await whole_reply(answer, request(), answer.emit)
    assert reply.text == "def f():\n    return 1\n\n\ndef g():\n    pass"
    assert answer.rungs == ["cut", "cut"]
    last = answer.requests[2].messages
    assert list(last[:2]) == list(request().messages)
    assert isinstance(last[2], AIMessage)
    assert last[2].text == "def f():\n    return 1\n"
    assert not is_question(last[3])


@pytest.mark.parametrize("failure", [EndpointError("refused"), EMPTY, TimeoutError("late")])
async def test_what_was_written_stays_when_it_cannot_go_on(failure: Exception) -> None:
    answer = Listed(said("The first half", cut=True), failure)
    assert (await whole_reply(answer, request(), answer.emit)).text == "The first half"
    assert answer.rungs == ["cut", "cut"]


async def test_a_text_does_not_go_on_for_ever() -> None:
    answer = Listed(*(said(f" part {number}", cut=True) for number in range(99)))
    reply = await whole_reply(answer, request(), answer.emit)
    assert reply.text == " ".join(f"part {number}" for number in range(CONTINUATIONS + 1))


async def test_an_endless_repetition_is_cut_and_not_gone_on_with() -> None:
    answer = Listed(said("It begins. " + "And so on. " * 40, cut=True))
    reply = await whole_reply(answer, request(), answer.emit)
    assert (reply.text, answer.rungs) == ("It begins. And so on.", ["repetition"])


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ab" * REPEATS, "ab"),
        ("Start. " + "no " * (REPEATS + 1), "Start. no"),
        ("Start. " + "no " * (REPEATS - 2) + "yes", None),
        ("x" * 5000, "x"),
        (" " * 500, None),
        ("one two three", None),
        ("", None),
    ],
)
def test_repeats_are_cut_down_to_one(text: str, kept: str | None) -> None:
    assert without_repeats(text) == kept


@pytest.mark.parametrize(
    ("text", "rest", "whole"),
    [
        ("The quick brown fox", " jumps", "The quick brown fox jumps"),
        ("The quick brown fox", "brown fox jumps", "The quick brown fox jumps"),
        ("The quick brown fox", "The quick brown fox jumps", "The quick brown fox jumps"),
        # too short to be a repeat
        ("a = 1\n", "a = 1\n", "a = 1\na = 1\n"),
        ("", "all", "all"),
        ("all", "", "all"),
    ],
)
def test_two_parts_are_joined_without_what_stands_twice(text: str, rest: str, whole: str) -> None:
    assert joined(text, rest) == whole


@given(st.text(max_size=60), st.text(max_size=60))
def test_joining_loses_nothing_of_either_part(text: str, rest: str) -> None:
    whole = joined(text, rest)
    assert whole.startswith(text)
    assert whole.endswith(rest)


@given(st.text(alphabet=" \n\tab", max_size=12))
def test_the_blanks_around_a_text_are_kept(text: str) -> None:
    assert exact_text(said(text)) == (text if text.strip() else "")


@pytest.mark.parametrize(
    ("reply", "limit", "room"),
    [
        (said("a", cut=True, used=100), None, 200),
        (said("a", cut=True, used=100), 5000, 200),
        (said("a", cut=True, used=1), None, 32),
        (None, None, 2 * FIRST_ROOM),
        (None, 50, 100),
    ],
)
def test_there_is_more_room_than_what_was_used(reply: AIMessage | None, limit: int | None, room: int) -> None:
    more = with_more_room(request(max_tokens=limit), reply)
    assert (more.max_tokens, more.exceed) == (room, True)


def test_a_reply_gets_half_of_the_context_at_most() -> None:
    reply = said("a", cut=True, used=900)
    reply.response_metadata[N_CTX] = 1000
    assert with_more_room(request(), reply).max_tokens == 500
