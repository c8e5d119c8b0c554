"""Which slot a request of one token may use: none that holds a conversation, none of an engine at work; doubts."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.runtime.fleet.health import Activity, _free_slot, cpu_seconds

EMPTY: dict[str, Any] = {"is_processing": False}
HOLDS: dict[str, Any] = {"is_processing": False, "n_prompt_tokens": 36}
BUSY: dict[str, Any] = {"is_processing": True, "n_prompt_tokens": 36}


def numbered(*slots: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": number, **slot} for number, slot in enumerate(slots)]


@pytest.mark.parametrize(
    ("slots", "silent", "chosen"),
    [
        ([], False, None),
        ([], True, None),
        (numbered(EMPTY), False, 0),
        (numbered(HOLDS), False, None),
        (numbered(HOLDS), True, 0),
        (numbered(HOLDS, EMPTY), False, 1),
        (numbered(HOLDS, EMPTY), True, 1),
        (numbered(HOLDS, HOLDS), True, 0),
        (numbered(BUSY), False, None),
        (numbered(BUSY), True, None),
        (numbered(EMPTY, BUSY), False, None),
        (numbered(EMPTY, BUSY), True, None),
        (numbered({"is_processing": False, "n_prompt_tokens": 0}), False, 0),
        ([{"id": 7}], False, 7),
    ],
)
def test_the_slot_for_one_token(slots: list[dict[str, Any]], silent: bool, chosen: int | None) -> None:
    assert _free_slot(slots, silent) == chosen


# what an engine of another kind may answer is no reason to fall over
@pytest.mark.parametrize("answer", [None, {}, {"error": "no"}, "text", 7, [1, None, "x"], [[]], [{}], [{"id": "x"}]])
def test_an_answer_that_makes_no_sense_names_no_slot(answer: Any) -> None:
    assert _free_slot(answer, False) is None
    assert _free_slot(answer, True) is None


@given(
    slots=st.lists(
        st.fixed_dictionaries(
            {"is_processing": st.booleans()}, optional={"n_prompt_tokens": st.integers(0, 100) | st.none()}
        ),
        max_size=5,
    ),
    silent=st.booleans(),
)
def test_no_conversation_is_lost_and_no_work_disturbed(slots: list[dict[str, Any]], silent: bool) -> None:
    slots = numbered(*slots)
    chosen = _free_slot(slots, silent)
    if chosen is None:
        return
    assert not any(slot["is_processing"] for slot in slots)
    holds = [bool(slot.get("n_prompt_tokens")) for slot in slots]
    assert not holds[chosen] or (silent and all(holds))


def test_processor_time_is_that_of_the_process() -> None:
    mine = cpu_seconds(os.getpid())
    assert mine > 0
    assert cpu_seconds(os.getpid()) >= mine


@pytest.mark.parametrize("pid", [None, 0, 2**22 + 1])
def test_a_process_that_is_gone_uses_nothing(pid: int | None) -> None:
    assert cpu_seconds(pid) == 0.0


def test_a_doubt_is_answered_by_a_look_that_began_after_it() -> None:
    relieved: list[bool] = []
    activity = Activity(relieved=lambda: relieved.append(activity.silent))
    assert not activity.doubted
    activity.suspect(True)
    seen = activity.doubts
    activity.suspect(False)
    activity.believe(seen)
    assert activity.doubted, "the look began before the second doubt"
    assert not relieved
    activity.believe(activity.doubts)
    assert not activity.doubted
    activity.believe(activity.doubts)
    assert relieved == [False], "told once; the next doubt need not be of the same kind"


def test_one_call_that_saw_no_token_makes_a_doubt_a_silent_one() -> None:
    activity = Activity()
    activity.suspect(True)
    activity.suspect(False)
    assert activity.silent
    assert activity.suspected.is_set()


def test_a_new_process_is_in_no_doubt() -> None:
    relieved: list[bool] = []
    activity = Activity(relieved=lambda: relieved.append(True))
    activity.suspect(True)
    activity.renew()
    assert not activity.doubted
    assert not activity.silent
    assert not activity.suspected.is_set()
    assert not relieved, "it does not answer yet"
