"""Loops of a model: when one is seen, when it is hopeless, and what is none."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from benchai.graphs.loops import HINTS, find_loop, pairs_of, with_hint, without_hint

Step = tuple[str, str, str]


def conversation(*steps: Step, ids: str | None = None, failed: bool = False, thought: str = "") -> list[AnyMessage]:
    """A question, then calls: tool, argument, result."""
    messages: list[AnyMessage] = [HumanMessage("Do it")]
    for place, (name, argument, result) in enumerate(steps):
        call_id = ids or f"call_{place}"
        call = {"name": name, "args": {"a": argument}, "id": call_id, "type": "tool_call"}
        messages.append(AIMessage(thought, tool_calls=[call]))
        messages.append(ToolMessage(result, tool_call_id=call_id, name=name, status="error" if failed else "success"))
    return messages


A, B, C = ("read", "a", "1"), ("read", "b", "2"), ("list", "c", "3")


@pytest.mark.parametrize(
    ("steps", "kind", "excess"),
    [
        ([], None, 0),
        ([A, A], None, 0),
        ([A, A, A], "call", 0),
        ([B, A, A, A, A], "call", 1),
        ([A, A, A, B], None, 0),
        # the same call with another result is progress
        ([A, A, ("read", "a", "9")], None, 0),
        ([A, B, A, B, A], None, 0),
        ([A, B, A, B, A, B], "alternation", 0),
        ([A, B, A, B, A, B, A, B], "alternation", 2),
        ([A, B, C, A, B, C], None, 0),
    ],
)
@pytest.mark.parametrize("ids", [None, "call_0"], ids=["own-ids", "one-id"])
def test_calls(steps: list[Step], kind: str | None, excess: int, ids: str | None) -> None:
    """Also on servers that give the same id to every call."""
    loop = find_loop(conversation(*steps, ids=ids))
    assert ((None, 0) if loop is None else (loop.kind, loop.excess)) == (kind, excess)


@pytest.mark.parametrize("ids", [None, "call_0"], ids=["own-ids", "one-id"])
def test_each_call_has_its_own_result(ids: str | None) -> None:
    pairs = pairs_of(conversation(A, B, C, ids=ids))
    assert [(pair.name, pair.result) for pair in pairs] == [("read", "1"), ("read", "2"), ("list", "3")]


def test_the_same_error_from_different_calls() -> None:
    steps = [("read", str(number), "Error: no") for number in range(3)]
    loop = find_loop(conversation(*steps, failed=True))
    assert loop is not None
    assert (loop.kind, loop.hopeless) == ("error", False)
    assert find_loop(conversation(*steps)) is None


def test_the_same_words_again_and_again() -> None:
    steps = [("read", str(number), str(number % 2)) for number in range(6)]
    loop = find_loop(conversation(*steps, thought="I think about it."))
    assert loop is not None
    assert (loop.kind, loop.excess, loop.hopeless) == ("text", 1, True)
    assert find_loop(conversation(*steps)) is None
    # beside calls that find new things they are a habit
    news = [("read", str(number), str(number)) for number in range(6)]
    assert find_loop(conversation(*news, thought="I think about it.")) is None


@pytest.mark.parametrize(("count", "hopeless"), [(3, False), (4, True)])
def test_hopeless_after_the_hint(count: int, hopeless: bool) -> None:
    loop = find_loop(conversation(*[A] * count))
    assert loop is not None
    assert loop.hopeless is hopeless


def test_an_alternation_is_given_a_whole_turn_more() -> None:
    for count, hopeless in ((6, False), (7, False), (8, True)):
        loop = find_loop(conversation(*([A, B] * 4)[:count]))
        assert loop is not None
        assert loop.hopeless is hopeless


def test_polling_is_no_loop() -> None:
    assert find_loop(conversation(A, A, A, A), polling=["read"]) is None
    assert find_loop(conversation(A, A, A, A), polling=["list"]) is not None


def test_a_new_question_begins_anew() -> None:
    assert find_loop([*conversation(A, A), *conversation(A)]) is None


@pytest.mark.parametrize("hint", HINTS.values())
def test_a_hint_does_not_hide_the_loop(hint: str) -> None:
    assert without_hint(with_hint("1", hint)) == "1"
    hinted = ("read", "a", with_hint("1", hint))
    loop = find_loop(conversation(A, A, hinted, A))
    assert loop is not None
    assert loop.hopeless
