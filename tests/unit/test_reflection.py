"""What critiques and evaluations say: approval, open points, what has to change."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from benchai.graphs.evaluator_optimizer import Check, Evaluation, complaint_for, feedback_of, of_criteria
from benchai.graphs.reflection import is_approved, open_points, what_to_change


@pytest.mark.parametrize(
    ("critique", "approved"),
    [
        ("APPROVED", True),
        ("Title: yes.\nAPPROVED", True),
        ("Title: yes.\n\n**APPROVED**\n", True),
        ("approved.", True),
        ("APPROVED. The draft has everything.", True),
        ("APPROVED: nothing to change", True),
        ("", False),
        ("NOT APPROVED", False),
        ("It is not approved", False),
        ("APPROVED\nThe title must change.", False),
        ("Approved once the title is right.", False),
        ("APPROVED, but add a title.", False),
        ("Approved if you add a title", False),
        ("UNAPPROVED", False),
        ("APPROVEDLY", False),
        ("REJECTED: it returns nothing", False),
    ],
)
def test_approval(critique: str, approved: bool) -> None:
    assert is_approved(critique) is approved
    assert (open_points(critique) == 0) is approved


@pytest.mark.parametrize(
    ("critique", "points", "change"),
    [
        ("Title: yes. Length: no.\nMake it longer.", 1, "Make it longer."),
        ("Title: no. Length: no.\nAdd a title. Make it longer.", 2, "Add a title. Make it longer."),
        ("Add a title.", 1, "Add a title."),
        ("Add a title.\nMake it longer.", 2, "Add a title.\nMake it longer."),
        ("Title: no", 1, "Title: no"),
        ("", 1, ""),
    ],
)
def test_points(critique: str, points: int, change: str) -> None:
    assert open_points(critique) == points
    assert what_to_change(critique) == change


def evaluation(*met: bool, score: float = 5, feedback: str = "") -> Evaluation:
    checks = [Check(criterion=f"c{place}", met=one) for place, one in enumerate(met)]
    return Evaluation(checks=checks, score=score, feedback=feedback)


def test_feedback() -> None:
    assert feedback_of(evaluation(True, False, feedback="Longer.")) == "Longer."
    assert feedback_of(evaluation(True, False, False)) == "Not met: c1\nNot met: c2"
    assert feedback_of(evaluation(True)) == "It can be better."


@pytest.mark.parametrize("score", [-1, 11, float("nan"), float("inf")])
def test_scores_have_limits(score: float) -> None:
    with pytest.raises(ValidationError):
        evaluation(True, score=score)


def test_every_criterion_is_checked() -> None:
    complain = complaint_for({"criteria": ["a", "b"]})
    assert complain(evaluation(True)) == "1 checks for 2 criteria"
    assert complain(evaluation(True, False)) is None
    assert complaint_for({"criteria": []})(evaluation(True)) is None


def test_checks_that_nobody_asked_for_do_not_count() -> None:
    said = evaluation(True, True, False, feedback="Shorter.")
    kept = of_criteria(said, ["c0", "C1"])
    assert ([check.criterion for check in kept.checks], kept.score, kept.feedback) == (["c0", "c1"], 10, "")
    assert [check.criterion for check in of_criteria(said, ["x", "y"]).checks] == ["c0", "c1"]
    assert of_criteria(said, []) is said
