"""The ladder: each rung in its order, the event that it leaves, and what never becomes a call that could run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from benchai.agents.ladder import known_name, next_action
from benchai.agents.messages import arguments_of, is_question, normalise_reply, with_own_ids
from benchai.agents.role import Request
from benchai.errors import EmptyReply, EndpointError, UnreadableCall
from benchai.tools.registry import ToolRegistry
from benchai.tools.tool import Tool, ToolArgs, ToolContext
from tests.unit.listed import Listed, as_json, called, said

pytestmark = pytest.mark.anyio


class NoteArgs(ToolArgs):
    text: str
    times: int = 1


class NoArgs(ToolArgs):
    where: str = "here"


async def _never(args: Any, _: ToolContext) -> str:
    raise AssertionError(f"the ladder runs nothing: {args!r}")


TOOLS = ToolRegistry(
    [
        Tool("note", "Note a text.", NoteArgs, _never, permission="write"),
        Tool("list_files", "List the files.", NoArgs, _never),
    ]
)
GOOD = {"text": "a"}
UNREADABLE = UnreadableCall("the server could not read the call")
EMPTY = EmptyReply("the model answered nothing")


def request(**settings: Any) -> Request:
    return Request([SystemMessage("Note."), HumanMessage("Note a.")], TOOLS.schemas(), **settings)


async def climbed(*replies: Any, **settings: Any) -> tuple[AIMessage, Listed]:
    answer = Listed(*replies)
    reply = await next_action(answer, request(**settings), TOOLS, answer.emit)
    assert answer.left == []
    return reply, answer


def only_call(reply: AIMessage) -> tuple[str, Any]:
    [call] = reply.tool_calls
    assert call["id"]
    return call["name"], arguments_of(reply, call)


def valid(reply: AIMessage) -> list[bool]:
    """Whether each call could run: its arguments as they are fit its tool."""
    return [
        call["name"] in TOOLS.names() and not isinstance(arguments_of(reply, call), str) for call in reply.tool_calls
    ]


@pytest.mark.parametrize(
    ("reply", "rungs"),
    [
        (called(("note", GOOD)), []),
        (said('<tool_call>{"name": "note", "arguments": {"text": "a"}}</tool_call>'), ["markup"]),
        (said('I will.\n```json\n{"name": "note", "arguments": {"text": "a"}}\n```'), ["markup"]),
        (said("<tool_call>{'name': 'note', 'arguments': {'text': 'a'}}</tool_call>"), ["markup"]),
        (said('<tool_call>{"name": "Note", "arguments": {"text": "a", "times": "1"}}</tool_call>'), ["markup", "name"]),
        (called(("note", "{'text': 'a',}")), ["json"]),
        (called(("note", '```json\n{"text": "a"}\n```')), ["json"]),
        (called(("Note", GOOD)), ["name"]),
        (called(("functions.note", GOOD)), ["name"]),
    ],
)
async def test_the_cheap_rungs_ask_for_nothing_again(reply: AIMessage, rungs: list[str]) -> None:
    got, answer = await climbed(reply)
    name, arguments = only_call(got)
    assert (name, TOOLS.get(name).validate(arguments)) == ("note", NoteArgs(text="a"))
    assert answer.rungs == rungs
    assert len(answer.requests) == 1


async def test_what_was_said_before_a_call_in_the_text_is_kept() -> None:
    got, _ = await climbed(said('I will.\n<tool_call>{"name": "note", "arguments": {"text": "a"}}</tool_call>'))
    assert got.text == "I will."


@pytest.mark.parametrize(
    ("arguments", "about"),
    [("text is a", "no JSON object"), ({"words": "a"}, "'text' is missing"), ({"text": "a", "times": "many"}, "times")],
)
async def test_the_grammar_is_asked_once(arguments: Any, about: str) -> None:
    got, answer = await climbed(called(("note", arguments)), as_json(text="a"))
    assert only_call(got) == ("note", GOOD)
    assert answer.rungs == ["grammar"]
    first, second = answer.requests
    assert about in answer.asked(1)
    assert not is_question(second.messages[-1])
    assert (second.schema, second.tool_choice) == (TOOLS.get("note").parameters(), "none")
    # the prompt stays the same up to the aside: its tools, its messages
    assert (list(second.messages[:-1]), second.tools) == (list(first.messages), first.tools)


@pytest.mark.parametrize(
    "filled",
    [said("no"), as_json(times=2), said('{"text": "a'), EMPTY, UNREADABLE],
    ids=["words", "wrong", "cut", "empty", "unreadable"],
)
async def test_what_the_grammar_does_not_mend_is_left_for_a_complaint(filled: Any) -> None:
    got, answer = await climbed(called(("note", "text is a")), filled)
    assert only_call(got) == ("note", "text is a")
    assert valid(got) == [False]
    assert answer.rungs == ["grammar"]


async def test_only_the_first_wrong_call_is_filled() -> None:
    got, answer = await climbed(called(("note", "one"), ("note", {"text": "b"}), ("note", "two")), as_json(text="a"))
    assert [arguments_of(got, call) for call in got.tool_calls] == [GOOD, {"text": "b"}, "two"]
    assert answer.rungs == ["grammar"]


async def test_an_unknown_tool_is_left_for_a_complaint() -> None:
    got, answer = await climbed(called(("notes_app", {"text": "a"})))
    assert only_call(got) == ("notes_app", {"text": "a"})
    assert answer.rungs == []


@pytest.mark.parametrize(
    "cut",
    [
        called(("note", '{"text": "half of')),
        called(("note", '{"text": "half of'), cut=True),
        called(("note", GOOD), ("list_files", {}), cut=True),
        said('<tool_call>{"name": "note", "arguments": {"text": "half of'),
        said('<tool_call>{"name": "note", "arguments": {"text": "half of', cut=True),
    ],
    ids=["native", "at the limit", "before its arguments", "in the text", "in the text, at the limit"],
)
async def test_a_call_that_was_cut_is_asked_for_again_with_more_room(cut: AIMessage) -> None:
    got, answer = await climbed(cut, called(("note", GOOD)))
    assert only_call(got) == ("note", GOOD)
    assert answer.rungs == [*["markup"][: not cut.tool_calls], "cut"]
    assert (answer.requests[1].max_tokens, answer.requests[1].exceed) == (200, True)
    assert list(answer.requests[1].messages) == list(request().messages)


async def test_a_call_that_is_cut_again_never_runs() -> None:
    torn = called(("note", '{"text": "half of'))
    got, answer = await climbed(torn, torn, EMPTY)
    assert valid(got) == [False]
    assert answer.rungs == ["cut", "grammar"]


async def test_a_whole_call_at_the_limit_is_taken() -> None:
    got, answer = await climbed(called(("note", GOOD), cut=True))
    assert (only_call(got), answer.rungs) == (("note", GOOD), [])


async def test_after_an_unreadable_call_the_action_is_chosen_and_then_filled() -> None:
    got, answer = await climbed(UNREADABLE, as_json(action="note"), as_json(text="a"))
    assert only_call(got) == ("note", GOOD)
    assert answer.rungs == ["grammar"]
    choice = answer.requests[1]
    assert choice.schema is not None
    assert choice.schema["properties"]["action"]["enum"] == ["note", "list_files", "answer"]
    assert choice.tool_choice == answer.requests[2].tool_choice == "none"
    assert answer.requests[2].schema == TOOLS.get("note").parameters()


@pytest.mark.parametrize("choice", [as_json(action="answer"), as_json(action="fly"), said("well")])
async def test_who_chooses_no_tool_answers(choice: AIMessage) -> None:
    got, answer = await climbed(UNREADABLE, choice, said("It is a."))
    assert (got.text, got.tool_calls) == ("It is a.", [])
    assert answer.requests[2].tool_choice == "none"


async def test_a_chosen_tool_that_cannot_be_filled_is_left_for_a_complaint() -> None:
    got, _ = await climbed(UNREADABLE, as_json(action="note"), as_json(times=1))
    assert valid(got) == [False]
    assert got.tool_calls[0]["name"] == "note"


async def test_an_unreadable_call_after_a_cut_one_climbs_on() -> None:
    got, answer = await climbed(
        called(("note", '{"text": "half')), UNREADABLE, as_json(action="note"), as_json(text="a")
    )
    assert (only_call(got), answer.rungs) == (("note", GOOD), ["cut", "grammar"])


async def test_an_empty_reply_is_asked_for_again_before_all_rungs() -> None:
    got, answer = await climbed(EMPTY, called(("note", "{'text': 'a'}")))
    assert (only_call(got), answer.rungs) == (("note", GOOD), ["empty", "json"])


@pytest.mark.parametrize("failure", [EndpointError("refused"), UNREADABLE])
async def test_the_ladder_ends_with_the_reason(failure: EndpointError) -> None:
    answer = Listed(UNREADABLE, failure)
    with pytest.raises(type(failure)):
        await next_action(answer, request(), TOOLS, answer.emit)


async def test_where_calls_are_forbidden_none_comes_back() -> None:
    got, answer = await climbed(called(("note", GOOD)), said("In words."), tool_choice="none")
    assert (got.text, got.tool_calls, answer.rungs) == ("In words.", [], ["no_tools"])


@pytest.mark.parametrize(
    "reply",
    [
        said("The answer is 4."),
        said('Use `{"name": "note", "arguments": {"text": "a"}}` to note.'),
        said('```json\n{"name": "Ann", "age": 4}\n```'),
        said("```python\nnote('a')\n```\nnotes it."),
    ],
)
async def test_an_answer_stays_an_answer(reply: AIMessage) -> None:
    got, answer = await climbed(reply)
    assert (got, answer.rungs) == (reply, [])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("note", "note"),
        ("NOTE", "note"),
        ("ListFiles", "list_files"),
        ("list-files", "list_files"),
        ("tools.list_files", "list_files"),
        (" note ", "note"),
        ("notes", None),
        ("", None),
        ("list", None),
    ],
)
def test_a_name_is_taken_only_when_it_is_certain(name: str, meant: str | None) -> None:
    assert known_name(name, TOOLS.names()) == meant


def test_a_name_that_fits_two_tools_fits_none() -> None:
    assert known_name("Read File", ["read_file", "readFile"]) is None
    assert known_name("readFile", ["read_file", "readFile"]) == "readFile"


def test_every_call_gets_an_id_of_its_own() -> None:
    reply = normalise_reply(called(("note", GOOD), ("note", "{a"), ("note", {"text": "c"})))
    first, second = with_own_ids(reply), with_own_ids(reply)
    ids = [call["id"] for one in (first, second) for call in one.tool_calls]
    assert len(set(ids)) == 6
    assert all(len(str(one)) == 9 and str(one).isalnum() for one in ids)
    assert [arguments_of(first, call) for call in first.tool_calls] == [GOOD, "{a", {"text": "c"}]
    assert with_own_ids(said("no calls")) == said("no calls")
    assert json.dumps(first.additional_kwargs)
