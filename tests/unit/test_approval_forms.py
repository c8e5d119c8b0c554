"""Decisions in LangChain's form, and interrupts of users' graphs that look like ours."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.types import Interrupt

from benchai.errors import UsageError
from benchai.graphs.approvals import Approval, Decision, by_id, decisions_of, every, pending

SHELL = Approval("one", "tool", "shell", {"command": "ls"}, "asks")
WRITE = Approval("two", "tool", "write_file", {"path": "a"}, "asks")
BOTH = [SHELL, WRITE]


@pytest.mark.parametrize(
    ("given", "decision"),
    [
        ({"type": "approve"}, Decision("approve")),
        ({"type": "reject", "message": "no"}, Decision("reject", "no")),
        ({"type": "reject"}, Decision("reject")),
        ({"type": "respond", "message": "42"}, Decision("respond", "42")),
        (
            {"type": "edit", "edited_action": {"name": "shell", "args": {"command": "pwd"}}},
            Decision("edit", "", {"command": "pwd"}),
        ),
        # ours in a list, too
        ("approve", Decision("approve")),
        ({"decision": "edit", "arguments": {"command": "pwd"}}, Decision("edit", "", {"command": "pwd"})),
    ],
)
def test_decisions_in_a_list(given: Any, decision: Decision) -> None:
    assert decisions_of(by_id({"decisions": [given]}, [SHELL]), [SHELL]) == {"one": decision}


def test_they_come_in_the_order_of_the_questions() -> None:
    answer = by_id({"decisions": [{"type": "approve"}, {"type": "reject", "message": "no"}]}, BOTH)
    assert decisions_of(answer, BOTH) == {"one": Decision("approve"), "two": Decision("reject", "no")}
    turned = by_id({"decisions": ["approve", "reject"]}, BOTH[::-1])
    assert {key: one.kind for key, one in decisions_of(turned, BOTH).items()} == {"two": "approve", "one": "reject"}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_one_for_each_question(count: int) -> None:
    with pytest.raises(UsageError, match=f"{count} decisions were given, 2 are asked for"):
        by_id({"decisions": ["approve"] * count}, BOTH)


@pytest.mark.parametrize(
    "answer",
    [
        "approve",
        None,
        5,
        ["approve"],
        {},
        {"decision": "approve"},
        {"decisions": {"one": "approve"}},
        {"decisions": "x"},
    ],
)
def test_other_answers_are_left_as_they_are(answer: Any) -> None:
    assert by_id(answer, BOTH) is answer


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"type": "accept"}, "'accept' is unknown"),
        ({"type": 5}, "is no decision"),
        ({"type": None}, "is no decision"),
        ({"type": ["approve"]}, "is no decision"),
        ({"type": "edit"}, "needs arguments"),
        ({"type": "edit", "edited_action": "pwd"}, "needs arguments"),
        ({"type": "edit", "edited_action": {"name": "shell"}}, "needs arguments"),
        ({"type": "edit", "edited_action": {"name": "shell", "args": ["pwd"]}}, "needs arguments"),
        # the tool that was asked about is the one that runs
        ({"type": "edit", "edited_action": {"name": "rm", "args": {}}}, "'rm' is not what was asked about: 'shell'"),
        ({"type": "respond"}, "needs a message"),
        ({"type": "reject", "message": 7}, "message = 7 is no text"),
        (5, "5 is no decision"),
        (None, "None is no decision"),
        (["approve"], "is no decision"),
    ],
)
def test_decisions_that_are_none(wrong: Any, part: str) -> None:
    with pytest.raises(UsageError) as refused:
        decisions_of(by_id({"decisions": [wrong]}, [SHELL]), [SHELL])
    assert part in refused.value.message


@pytest.mark.parametrize(
    "value",
    [
        None,
        "requests",
        [],
        {"requests": "all"},
        {"requests": {}},
        {"requests": ["one"]},
        {"requests": [{"id": "one"}]},
        {"requests": [{**SHELL.as_json(), "more": 1}]},
        {"requests": [SHELL.as_json(), {"question": "?"}]},
        {"requests": []},
        {"action_requests": [{"name": "shell", "args": {}}], "review_configs": []},
    ],
)
def test_an_interrupt_that_is_not_ours_asks_nothing(value: Any) -> None:
    [question] = pending([Interrupt(value, id="a" * 32)])
    assert (question.asked, question.interrupt) == ([], "a" * 32)
    for answer in ("approve", {"decisions": {"x": 1}}, {"decisions": [1]}, None):
        assert question.answer(answer) is answer


def test_ours_and_another_at_the_same_time() -> None:
    ours, theirs = Interrupt({"requests": [SHELL.as_json()]}, id="a" * 32), Interrupt("how?", id="b" * 32)
    questions = pending([theirs, ours])
    assert every(questions) == [SHELL]
    assert [one.asked for one in questions] == [[], [SHELL]]
