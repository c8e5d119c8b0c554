"""Extraction: the model is asked with numbered turns, and what it answers is checked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.memory.extract import PROMPT, Extraction, Extractor, sift, windows
from benchai.memory.turns import Turn


def turn(number: int, text: str, role: str = "user", name: str = "") -> Turn:
    return Turn(id=f"t{number}", namespace="", thread="a", run="r", role=role, name=name, text=text, at=1.7e9 + number)


def fact(**changed: Any) -> dict[str, Any]:
    return {
        "subject": "user",
        "relation": "lives in",
        "value": "Bern",
        "text": "The user lives in Bern",
        "sources": [1],
        "confidence": 0.9,
    } | changed


TURNS = [turn(11, "I live in Bern"), turn(12, "Bern is a lovely town in Peru", "assistant")]


def kept(extraction: Extraction) -> list[tuple[str, tuple[int, ...]]]:
    return [(one.fact.value, one.sources) for one in extraction.learned]


def reasons(extraction: Extraction) -> str:
    return "; ".join(reason for one in extraction.refused for reason in one.reasons)


@pytest.mark.anyio
async def test_the_model_sees_numbered_turns_and_the_schema() -> None:
    asked: list[tuple[str, str, dict[str, Any]]] = []

    async def call(system: str, user: str, schema: dict[str, Any]) -> dict[str, Any]:
        asked.append((system, user, schema))
        return {"facts": [fact()]}

    extraction = await Extractor(call, "tiny").extract(TURNS)
    assert kept(extraction) == [("Bern", (11,))]
    assert extraction.learned[0].fact.relation == "lives_in"
    assert extraction.learned[0].fact.valid_at == 1.7e9 + 11
    ((system, user, schema),) = asked
    assert system == PROMPT
    assert user.startswith("[1] user, ")
    assert "\n[2] assistant, " in user
    assert schema["properties"]["facts"]["maxItems"] == 8


@pytest.mark.anyio
async def test_nothing_to_save_is_an_answer_and_nobody_is_asked_where_nobody_spoke() -> None:
    calls = 0

    async def call(system: str, user: str, schema: dict[str, Any]) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        return {"facts": []}

    extractor = Extractor(call, "tiny")
    assert await extractor.extract(TURNS) == Extraction()
    assert await extractor.extract([turn(1, "Hi", "assistant")]) == Extraction()
    assert await extractor.extract([]) == Extraction()
    assert calls == 1


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        (fact(sources=[2]), "names no turn"),
        (fact(sources=[0, 3, -1]), "names no turn"),
        (fact(value="Peru", text="The user lives in Peru", sources=[1, 2]), "not in the turns"),
        (fact(confidence=7), "confidence"),
        (fact(sources="one"), "sources"),
        ({}, "subject"),
        ("a text", "valid dictionary"),
        (None, "valid dictionary"),
    ],
)
def test_what_a_person_did_not_say_is_refused(claim: object, reason: str) -> None:
    extraction = sift({"facts": [claim]}, TURNS)
    assert kept(extraction) == []
    assert reason in reasons(extraction)


@pytest.mark.parametrize("reply", [{}, {"facts": None}, {"facts": "none"}, {"other": []}])
def test_a_reply_of_another_form_is_refused(reply: dict[str, Any]) -> None:
    assert "no list of facts" in reasons(sift(reply, TURNS))


def test_more_facts_than_were_asked_for_are_left_out() -> None:
    assert len(sift({"facts": [fact()] * 50}, TURNS).learned) == 8


def test_long_threads_are_read_in_parts() -> None:
    turns = [turn(number, "x" * 2_500) for number in range(1, 6)]
    assert [[one.id for one in window] for window in windows(turns)] == [["t1", "t2"], ["t3", "t4"], ["t5"]]
    assert [len(window) for window in windows([turn(1, "x" * 100_000), turn(2, "y" * 100_000)])] == [2]
    assert list(windows([])) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
CLAIM = st.fixed_dictionaries(
    {},
    optional={
        "subject": st.sampled_from(["user", "Bern", " ", "\ud800"]) | JSON,
        "relation": st.sampled_from(["lives in", "...", "\ud800"]) | JSON,
        "value": st.sampled_from(["Bern", "Peru", "", "4111 1111 1111 1111"]) | JSON,
        "text": st.sampled_from(["The user lives in Bern", "Bern?", ""]) | JSON,
        "sources": st.lists(st.integers(-1, 3), max_size=4) | JSON,
        "confidence": st.floats(0, 1) | JSON,
    },
)


@given(st.fixed_dictionaries({"facts": st.lists(CLAIM | JSON, max_size=4) | JSON}))
def test_whatever_a_model_answers_is_kept_for_good_reasons_or_refused(reply: dict[str, Any]) -> None:
    extraction = sift(reply, TURNS)
    for learned in extraction.learned:
        assert learned.sources == (11,)
        assert "bern" in learned.fact.value.casefold()
    assert all(one.reasons for one in extraction.refused)
