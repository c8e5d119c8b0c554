"""The fault suite: what small models and their servers do wrong, in every workflow that calls a model.

A run recovers, or ends with a reason; no tool runs on arguments that are not valid, or twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchai.agents import role
from benchai.errors import BadStructure, ContextExceeded, EmptyReply, EndpointError, EndpointNotReady, UnreadableCall
from benchai.events import ModelCall, Observation
from benchai.graphs.guards import Budget
from benchai.testing import Reply, begun, broken_call, calls, error, overflow, text
from tests.integration.fault_scenes import (
    FAULTS,
    LOADING,
    NOTE_ONE,
    NOTE_TWO,
    SCENES,
    Fault,
    Scene,
    Stage,
    Turn,
    places,
)

pytestmark = pytest.mark.anyio
MATRIX = [
    pytest.param(scene, place, fault, id=f"{name}-{scene.workflow}-{place}")
    for number, (name, fault) in enumerate(FAULTS.items())
    for scene, place in places(number, lambda turn, fault=fault: fault.at(turn) is not None)
]
REACT = SCENES[0]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.workflow)
async def test_without_a_fault_nothing_is_mended(tmp_path: Path, scene: Scene) -> None:
    ran = await Stage(tmp_path).play(
        scene.workflow, scene.task, *scene.replies(0, [scene.turns[0].right]), images=scene.images
    )
    assert (ran.error, ran.result.stop_reason, ran.told()) == (None, "completed", "")
    assert scene.output in ran.result.output
    assert ran.notes == scene.notes
    assert len(ran.requests) == len(scene.turns) == len(ran.of_type(ModelCall))


@pytest.mark.parametrize(("scene", "place", "fault"), MATRIX)
async def test_a_run_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene, place: int, fault: Fault
) -> None:
    monkeypatch.setattr(role, "LONGEST_PAUSE", 0.02)
    found = fault.at(scene.turns[place])
    assert found is not None
    instead, tells = found
    replies = scene.replies(place, instead(scene.turns[place]))
    ran = await Stage(tmp_path).play(scene.workflow, scene.task, *replies, images=scene.images)
    assert (ran.error, ran.result.stop_reason) == (None, "completed")
    assert scene.output in ran.result.output
    # each reply was asked for once: nothing was asked in vain, no tool ran twice, and none on wrong arguments
    assert len(ran.requests) == len(replies)
    assert ran.notes == scene.notes
    assert tells in ran.told()
    # each request is told, and those that failed were mended
    assert len(ran.of_type(ModelCall)) == len(ran.requests)
    assert {call.then for call in ran.of_type(ModelCall) if call.error} <= {"called_again", "repaired"}
    if not tells:
        [complaint] = [seen.text for seen in ran.of_type(Observation) if not seen.ok]
        assert "tools: read_file, note, page" in complaint


# what goes on and on, and how the run ends
LASTING = {
    "empty": ([text("")] * 2, {"tools": EmptyReply, "json": BadStructure, "text": EmptyReply}, "answer"),
    "unreadable": ([broken_call()] * 2, {"tools": UnreadableCall, "json": BadStructure, "text": UnreadableCall}, ""),
    "broken off": ([begun("We", lambda at: at.reset())] * 3, EndpointError, "broke off"),
    "compute error": ([error(500, message="Compute error.")], EndpointError, "Compute error"),
    "calls in vain": ([calls(("note", "{}"))] * 2, {"text": EmptyReply}, "tools where there are none"),
    "no form": ([text("no"), text("no")], {"json": BadStructure}, "does not answer as"),
    "never fits": ([overflow(9000, 4096)], ContextExceeded, "9000 tokens, the context has 4096"),
}


def error_at(scene: Scene, turn: Turn, errors: Any) -> type[EndpointError] | None:
    """What ends the run; a worker's failure ends none, see below, nor a plan or an answer of rag that is none."""
    if scene.workflow == "orchestrator-worker" and turn.kind == "tools":
        return None
    found: type[EndpointError] | None = errors.get(turn.kind) if isinstance(errors, dict) else errors
    return None if scene.workflow == "rag" and found is BadStructure else found


def lasting() -> Iterator[Any]:
    for number, (name, (replies, errors, words)) in enumerate(LASTING.items()):
        for scene in SCENES:
            possible = [place for place in scene.places if error_at(scene, scene.turns[place], errors)]
            if possible:
                place = possible[number % len(possible)]
                expected = error_at(scene, scene.turns[place], errors)
                yield pytest.param(scene, place, replies, expected, words, id=f"{name}-{scene.workflow}-{place}")


@pytest.mark.parametrize(("scene", "place", "wrong", "expected", "words"), [*lasting()])
async def test_a_run_ends_with_a_reason(
    tmp_path: Path, scene: Scene, place: int, wrong: list[Reply], expected: type[EndpointError], words: str
) -> None:
    replies = scene.replies(place, wrong)[: place + len(wrong)]
    ran = await Stage(tmp_path).play(scene.workflow, scene.task, *replies, images=scene.images)
    assert type(ran.error) is expected or expected is EndpointError
    assert isinstance(ran.error, EndpointError)
    assert words in ran.error.message
    assert (ran.result.stop_reason, ran.result.error) == ("error", ran.error.message)
    assert len(ran.requests) == len(replies)
    assert ran.notes == scene.notes[:place]
    told = ran.of_type(ModelCall)
    assert len(told) == len(ran.requests)
    if told[-1].error is not None:
        assert told[-1].then == "given_up"
        assert told[-1].error == type(ran.error).__name__ or isinstance(ran.error, BadStructure)
    assert all(call.then != "given_up" for call in told[:-1])


async def test_a_worker_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    scene = next(scene for scene in SCENES if scene.workflow == "orchestrator-worker")
    replies = [scene.turns[0].right, NOTE_ONE.right, text(""), text(""), *[turn.right for turn in scene.turns[4:]]]
    ran = await Stage(tmp_path).play(scene.workflow, scene.task, *replies)
    assert (ran.error, ran.result.stop_reason, ran.notes) == (None, "completed", ["one"])
    assert "sub-task 1 failed: the model 'far' answered nothing" in ran.told()


@pytest.mark.parametrize("call_id", [None, "", "same"])
@pytest.mark.parametrize("workflow", ["react", "router", "orchestrator-worker"])
async def test_ids_that_are_missing_or_come_again_confuse_no_results(
    tmp_path: Path, workflow: str, call_id: str | None
) -> None:
    scene = next(scene for scene in SCENES if scene.workflow == workflow)
    first = scene.turns.index(NOTE_ONE)
    both = calls(("note", NOTE_ONE.words, call_id), ("note", NOTE_TWO.words, call_id))
    again = calls(("note", '{"text": "three"}', call_id))
    replies = scene.replies(first, [both])
    replies[first + 1] = again
    ran = await Stage(tmp_path).play(workflow, scene.task, *replies)
    assert (ran.error, ran.result.stop_reason, len(ran.requests)) == (None, "completed", len(replies))
    # a call whose id was seen before is another call
    assert sorted(ran.notes) == ["one", "three", "two"]
    last = ran.requests[first + 2]["messages"]
    asked = [call["id"] for message in last for call in message.get("tool_calls", [])]
    assert asked == [message["tool_call_id"] for message in last if message["role"] == "tool"]
    assert len(set(asked)) == len(asked) == 3


async def test_more_room_is_given_to_what_was_cut(tmp_path: Path) -> None:
    replies = [calls(("note", '{"text": "o'), finish="length"), *REACT.replies(0, [NOTE_ONE.right])]
    ran = await Stage(tmp_path).play("react", REACT.task, *replies)
    first, second, third, _ = [request["max_completion_tokens"] for request in ran.requests]
    assert second == 2 * first
    assert third == first


async def test_waiting_for_a_model_ends_with_the_run(tmp_path: Path) -> None:
    began = time.monotonic()
    ran = await Stage(tmp_path).play("react", REACT.task, LOADING, budget=Budget(9, 99_999, 2))
    assert time.monotonic() - began < 20
    assert "Loading model; calling again when it is ready" in ran.told()
    assert len(ran.requests) > 1
    # the last wait would have been longer than the run; a slow machine may come to its end in a request
    assert isinstance(ran.error, EndpointNotReady) or ran.result.stop_reason == "budget_time"
