"""What the runs before have spent, from the events that are kept of them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from benchai.graphs.guards import Budget, Ledger
from benchai.graphs.running import spent_before


def began(at: float, resumed: bool = False) -> dict[str, Any]:
    return {"type": "run", "time": at} | ({"resumed": True} if resumed else {})


def call(at: float, step: int) -> dict[str, Any]:
    return {"type": "model_call", "time": at, "step": step, "prompt_tokens": 20, "completion_tokens": 10}


def failed(at: float, step: int, then: str) -> dict[str, Any]:
    return call(at, step) | {"prompt_tokens": 0, "completion_tokens": 0, "error": "EndpointLost", "then": then}


def event(at: float, kind: str) -> dict[str, Any]:
    return {"type": kind, "time": at}


@pytest.mark.parametrize(
    ("events", "steps", "tokens", "seconds"),
    [
        ([], 0, 0, 0),
        ([began(0), call(2, 1)], 1, 30, 2),
        # the run that is gone on with, and the one before that
        ([began(0), call(2, 1), began(100, True), call(103, 2), call(104, 3)], 3, 90, 6),
        # an earlier task of the thread has nothing to do with it
        ([began(0), call(2, 1), call(3, 2), began(100), call(101, 1)], 1, 30, 1),
        # how long the user thinks about a decision is not the run's time
        ([began(0), call(1, 1), event(2, "approval_requested"), event(500, "approval_given"), call(501, 2)], 2, 60, 3),
        ([began(5), call(3, 1)], 1, 30, 0),
        # a call that failed is a step without tokens; one that was made again is told late
        ([began(0), failed(3, 1, "repaired"), call(4, 2)], 2, 30, 4),
        ([began(0), event(5, "notice"), failed(1, 1, "called_again"), call(6, 1)], 1, 30, 6),
        # the result of the run before ends its time
        ([began(0), call(2, 1), event(3, "result"), began(100, True), call(101, 2)], 2, 60, 4),
    ],
)
def test_what_was_spent(events: list[dict[str, Any]], steps: int, tokens: int, seconds: float) -> None:
    ledger = Ledger(Budget(10, 1000, 1000))
    spent_before(ledger, events)
    assert (ledger.steps, ledger.tokens) == (steps, tokens)
    assert ledger.began == pytest.approx(time.monotonic() - seconds, abs=0.5)
