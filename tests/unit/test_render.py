"""What the terminal shows of calls that fail."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from benchai.cli.render import LABEL_WIDTH, TextView
from benchai.events import Event, ModelCall, Observation


def shown(*events: Event) -> list[str]:
    file = io.StringIO()
    view = TextView(Console(file=file, width=200))
    for event in events:
        view.show(event)
    return [line.strip() for line in file.getvalue().splitlines()]


def call(error: str | None = None, then: Any = None, model: str = "far") -> ModelCall:
    return ModelCall(step=1, role="general", model=model, seconds=0.5, error=error, detail="its words", then=then)


@pytest.mark.parametrize(
    ("then", "words"),
    [("called_again", "called again"), ("repaired", "repaired"), ("given_up", "given up")],
)
def test_a_call_that_failed_is_shown_with_what_follows(then: Any, words: str) -> None:
    assert shown(call("EndpointLost", then)) == [f"model  far: the call failed (EndpointLost), {words}"]


def test_a_call_that_was_answered_is_not_shown() -> None:
    assert shown(call()) == []


def test_a_call_that_waits_is_shown_once() -> None:
    again = call("EndpointNotReady", "called_again")
    assert len(shown(again, again, again)) == 1
    assert len(shown(again, call("EndpointLost", "called_again"), again)) == 3
    # the next wait is another one
    assert len(shown(again, call(), again)) == 2
    assert len(shown(again, call("EndpointNotReady", "given_up"))) == 2


@pytest.mark.parametrize(
    ("error", "label"),
    [
        ("ToolError", "failed"),
        ("UsageError", "bad call"),
        ("Refused", "refused"),
        ("TimeoutError", "timed out"),
        ("KeyError", "failed"),
        (None, "failed"),
    ],
)
def test_a_tool_that_failed_is_labelled_by_its_error(error: str | None, label: str) -> None:
    seen = Observation(step=1, id="c", name="note", ok=False, text="Error: no", error=error)
    assert shown(seen) == [f"{label}  Error: no"]
    assert len(label) <= LABEL_WIDTH
