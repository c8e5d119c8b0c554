"""Questions and decisions: which answers fit, and how they find the interrupt they belong to."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.types import Interrupt

from benchai.errors import UsageError
from benchai.graphs.approvals import Approval, Decision, decisions_of, every, pending

SHELL = Approval("one", "tool", "shell", {"command": "ls"}, "asks")
WRITE = Approval("two", "tool", "write_file", {"path": "a"}, "asks")


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        ("approve", Decision("approve")),
        ("reject", Decision("reject")),
        ({"decision": "approve"}, Decision("approve")),
        ({"decision": "reject", "message": "no"}, Decision("reject", "no")),
        ({"decision": "respond", "message": "42"}, Decision("respond", "42")),
        ({"decision": "edit", "arguments": {"command": "pwd"}}, Decision("edit", "", {"command": "pwd"})),
        ({"decisions": {"one": "approve"}}, Decision("approve")),
        ({"decisions": {"one": {"decision": "reject", "message": "no"}}}, Decision("reject", "no")),
    ],
)
def test_decisions(answer: Any, decision: Decision) -> None:
    assert decisions_of(answer, [SHELL]) == {"one": decision}


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ("", "the decision '' is unknown"),
        ("Approve", "the decision 'Approve' is unknown"),
        ("edit", "needs arguments"),
        ("respond", "needs a message"),
        (None, "None is no decision"),
        (True, "True is no decision"),
        (["approve"], "is no decision"),
        ({}, "is no decision"),
        ({"decision": 1}, "is no decision"),
        ({"decision": "edit", "arguments": ["pwd"]}, "needs arguments"),
        ({"decision": "reject", "message": 7}, "message = 7 is no text"),
        ({"decisions": "approve"}, "is no mapping"),
        ({"decisions": {}}, "'one' is missing"),
        ({"decisions": {"one": "approve", "three": "approve"}}, "'three'"),
    ],
)
def test_answers_that_are_no_decision(answer: Any, part: str) -> None:
    with pytest.raises(UsageError) as raised:
        decisions_of(answer, [SHELL])
    assert part in raised.value.message


def test_one_answer_for_all_or_one_for_each() -> None:
    both = decisions_of("approve", [SHELL, WRITE])
    assert set(both) == {"one", "two"}
    each = decisions_of({"decisions": {"two": "reject", "one": "approve"}}, [SHELL, WRITE])
    assert (each["one"].kind, each["two"].kind) == ("approve", "reject")
    with pytest.raises(UsageError, match="'two' is missing"):
        decisions_of({"decisions": {"one": "approve"}}, [SHELL, WRITE])


def interrupted(id_: str, *asked: Approval) -> Interrupt:
    return Interrupt({"requests": [one.as_json() for one in asked]}, id=id_)


def test_questions_of_parallel_workers_with_the_same_id() -> None:
    """The user sees two ids; each node gets its decision under the id that it knows."""
    other = Approval("one", "tool", "shell", {"command": "rm a"}, "asks")
    questions = pending([interrupted("a" * 32, SHELL), interrupted("b" * 32, other, WRITE)])
    ids = [one.id for one in every(questions)]
    assert len(set(ids)) == 3
    assert ids[0] == "one"
    given = {"decisions": dict(zip(ids, ("approve", "reject", "approve"), strict=True))}
    decisions_of(given, every(questions))
    assert questions[0].answer(given) == {"decisions": {"one": "approve"}}
    assert questions[1].answer(given) == {"decisions": {"one": "reject", "two": "approve"}}
    assert questions[1].answer("approve") == "approve"


def test_an_interrupt_of_a_custom_graph_asks_nothing_that_we_know() -> None:
    [question] = pending([Interrupt("How old are you?", id="a" * 32)])
    assert question.asked == []
    assert question.answer("42") == "42"
