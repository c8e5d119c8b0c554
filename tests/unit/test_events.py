"""Events as plain data."""

from __future__ import annotations

import dataclasses
import inspect
import json
import time
import typing

import pytest

from benchai import events
from benchai.events import Event, Observation, Result, StopReason, ToolCall, Usage

EXAMPLES: list[Event] = [
    events.RunStarted(workflow="react", thread_id="t", run_id="r"),
    events.ModelLoading(model="tiny", role="general", engine="native", file="/m/tiny.gguf"),
    events.ModelReady(model="tiny", pid=1, n_ctx=4096, seconds=0.5),
    events.ModelStopped(model="tiny", exit_code=None),
    events.ModelState(model="tiny", previous="ready", state="backoff", cause="killed", pid=7, exit_code=-9),
    events.Delta(role="general", text="ä"),
    events.Thought(step=1, text="think"),
    ToolCall(step=1, id="c", name="calculator", arguments={"expression": "1+1"}),
    Observation(step=1, id="c", name="calculator", ok=True, text="2"),
    events.Answer(text="2"),
    events.Step(node="draft", detail="1"),
    events.ModelCall(
        step=1,
        role="general",
        model="tiny",
        prompt_tokens=99,
        completion_tokens=35,
        cached_tokens=12,
        seconds=0.1,
        finish_reason="stop",
    ),
    events.Repair(rung="json", detail="mended"),
    events.Compacted(done="cleared old results", before=4000, after=2000),
    events.BudgetLow(reason="budget_steps", detail="all 12 steps are used"),
    events.ApprovalRequested(id="c", kind="tool", subject="shell", arguments={"command": "ls"}, reason="default"),
    events.ApprovalGiven(id="c", decision="reject", message="no"),
    events.Notice(text="cut"),
    Result(output="2", stop_reason="completed", steps=1, usage=Usage(), thread_id="t", workflow="react"),
]


def test_every_event_of_the_module_has_an_example() -> None:
    kinds = [kind for _, kind in inspect.getmembers(events, inspect.isclass) if issubclass(kind, Event)]
    assert {type(event) for event in EXAMPLES} == set(kinds) - {Event}


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.type)
def test_an_event_as_json(event: Event) -> None:
    data = event.as_json()
    assert next(iter(data)) == "type"
    assert data["type"] == event.type
    assert set(data) == {"type"} | {field.name for field in dataclasses.fields(event)}
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["time"] <= time.time()


def test_an_event_tells_when_it_happened() -> None:
    before = time.time()
    happened = events.Notice(text="now").time
    assert before <= happened <= time.time()


def test_types_are_told_apart() -> None:
    assert len({event.type for event in EXAMPLES}) == len(EXAMPLES)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.type)
def test_an_event_cannot_be_changed(event: Event) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.time = 0.0  # type: ignore[misc]


def test_a_result_holds_plain_usage() -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    data = dataclasses.replace(EXAMPLES[-1], usage=usage).as_json()  # type: ignore[call-arg]
    assert data["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert data["error"] is None


def test_stop_reasons() -> None:
    assert set(typing.get_args(StopReason)) >= {
        *("completed", "budget_steps", "budget_tokens", "budget_time", "loop"),
        *("cancelled", "error", "awaiting_approval"),
    }
