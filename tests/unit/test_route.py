"""The routing decision: labelled requests, its promises as properties, its rules as tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from benchai.runtime.router.reading import read
from benchai.runtime.router.route import (
    FACTORS,
    HEAD,
    PLANNER_ABOVE,
    RESEARCH_ABOVE,
    TAIL,
    Route,
    complexity_of,
    factors,
    route,
    workflow,
)
from benchai.runtime.router.tables import tables

Example = dict[str, Any]
EXAMPLES: list[Example] = yaml.safe_load(
    Path(__file__).parent.parent.joinpath("fixtures", "routes.yaml").read_text(encoding="utf-8")
)
CLEAR = [one for one in EXAMPLES if one.get("clear")]
HELD_OUT = [one for one in EXAMPLES if one.get("held_out")]
TUNED = [one for one in EXAMPLES if not one.get("held_out")]
INTENTS = {"code", "planner", "research", "vision", "general"}
WORKFLOWS = {
    "react",
    "orchestrator-worker",
    "reflection",
    "evaluator-optimizer",
    "planner-coder-reviewer",
    "vision",
}

#: Words that the rules know, so that made-up texts reach their branches.
PIECES = st.sampled_from(
    [
        *("write ", "plan ", "compare ", "a function ", "a poem ", "must ", "and then ", "12 * 3 ", "? ", ". ", "\n"),
        *("```", "def f(x): ", "sources ", "python ", "two functions ", "read a.txt ", "hello ", "ß", "\x00", "日本"),
    ]
)
TEXTS = st.text() | st.lists(PIECES | st.text(max_size=5), max_size=40).map("".join)
AMOUNTS = st.fixed_dictionaries(dict.fromkeys(FACTORS, st.floats(0, 100)))


def routed(example: Example) -> tuple[Route, str]:
    decided = route(example["text"], image=example.get("image", False))
    return decided, workflow(decided, example["text"])


def agrees(example: Example) -> bool:
    decided, chosen = routed(example)
    return (decided.intent, chosen) == (example["intent"], example["workflow"])


@pytest.mark.parametrize("example", CLEAR, ids=lambda one: one["text"][:40])
def test_clear_requests_go_where_they_belong(example: Example) -> None:
    decided, chosen = routed(example)
    assert (decided.intent, chosen) == (example["intent"], example["workflow"]), decided.reason
    assert decided.role == example["intent"]


@pytest.mark.parametrize(("examples", "floor"), [(TUNED, 0.95), (HELD_OUT, 0.90)], ids=["tuned", "held out"])
def test_accuracy_keeps_above_its_floor(examples: list[Example], floor: float) -> None:
    wrong = [one["text"] for one in examples if not agrees(one)]
    assert 1 - len(wrong) / len(examples) >= floor, wrong


def test_the_labels_are_ones_that_can_be_given_and_none_is_missing() -> None:
    assert {one["intent"] for one in EXAMPLES} == INTENTS
    assert {one["workflow"] for one in EXAMPLES} == WORKFLOWS
    assert len({(one["text"], one.get("image")) for one in EXAMPLES}) == len(EXAMPLES)
    assert not [one for one in HELD_OUT if one.get("clear")]


@given(TEXTS, st.booleans())
def test_any_text_gets_a_route_a_workflow_and_a_reason(text: str, image: bool) -> None:
    decided = route(text, image=image)
    assert decided == route(text, image=image)
    assert 0 <= decided.complexity <= 1
    assert decided.intent in INTENTS
    assert set(decided.scores) == INTENTS
    assert decided.reason.startswith((f"{decided.intent}: ", "no intent is clear, complexity "))
    assert workflow(decided, text) in WORKFLOWS


@given(TEXTS)
def test_vision_needs_a_picture_and_a_picture_means_vision(text: str) -> None:
    assert route(text, image=True).role == "vision"
    decided = route(text)
    assert decided.role != "vision"
    assert workflow(decided, text) != "vision"


@pytest.mark.parametrize("example", [one for one in CLEAR if one["intent"] != "code"], ids=lambda one: one["text"][:40])
def test_case_makes_no_difference_to_words(example: Example) -> None:
    assert routed({**example, "text": example["text"].upper()})[0].intent == example["intent"]


@given(AMOUNTS, st.sampled_from(sorted(FACTORS)), st.floats(0, 100))
def test_complexity_never_falls_when_a_factor_grows(amounts: dict[str, float], name: str, more: float) -> None:
    grown = {**amounts, name: amounts[name] + more}
    assert 0 <= complexity_of(amounts) <= complexity_of(grown) <= 1


@pytest.mark.parametrize(("name", "limit"), [(name, limit) for name, (_, limit) in FACTORS.items()])
def test_each_factor_saturates_at_its_limit(name: str, limit: float) -> None:
    none = dict.fromkeys(FACTORS, 0.0)
    assert complexity_of(none) == 0
    assert complexity_of({**none, name: 1e6}) == pytest.approx(limit)


@pytest.mark.parametrize(
    ("name", "text", "amount"),
    [
        ("length", "a" * 500, 0.5),
        ("code_blocks", "```\na\n```\nand\n```\nb\n```", 2),
        ("code_blocks", "```\nnever closed", 1),
        ("technical_terms", "The cache of the database, and the Cache again", 2),
        ("questions", "Is it? Was it? Will it be?", 2),
        ("questions", "Is it?", 0),
        ("questions", "Read the book, describe the plot and count the pages.", 2),
        ("questions", "Wash it and then dry it, after that fold it", 1),
        ("questions", "Erst waschen, danach trocknen", 0.5),
    ],
)
def test_factors_count(name: str, text: str, amount: float) -> None:
    assert factors(text)[name] == pytest.approx(amount)


def test_without_a_clear_intent_complexity_chooses_the_role() -> None:
    for size, role in [(10, "general"), (450, "planner")]:
        decided = route("blue " * (size // 5))
        assert (decided.intent, decided.role) == ("general", role)
        assert "no intent is clear, complexity" in decided.reason
    decided = route("Does the server keep its cache? And the database? And the index? Is it so? " + "blue " * 50)
    assert decided.complexity > RESEARCH_ABOVE
    assert (decided.intent, decided.role) == ("general", "research")
    assert f"above {RESEARCH_ABOVE}" in decided.reason
    assert workflow(decided, "blue") == "orchestrator-worker"


def test_a_clear_intent_goes_before_complexity() -> None:
    text = "Fix the bug in this function. " + "The server loses its cache. " * 60
    decided = route(text)
    assert decided.complexity > PLANNER_ABOVE
    assert decided.role == "code"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Compare bread and cheese.", "comparison"),
        ("Plan a trip.", "planning verb"),
        ("Write a poem.", "what is to be made"),
        ("What is 3 * 4?", "arithmetic"),
        ("why?\n```\nx\n```", "code block"),
        ("Read notes.txt", "files"),
    ],
)
def test_the_reason_names_what_decided(text: str, named: str) -> None:
    assert named in route(text).reason


@pytest.mark.parametrize("filler", ["blue ", "\n", "?", "```", "write a ", "1 * ", "a", "("])
def test_a_megabyte_is_routed_by_its_ends(filler: str) -> None:
    text = filler * (1_000_000 // len(filler))
    decided = route(text)
    assert 0.5 <= decided.complexity <= 1
    assert workflow(decided, text) in WORKFLOWS


@pytest.mark.parametrize("request_", ["Plan a trip to Rome.", "Compare bread and cheese."])
def test_a_request_is_found_before_and_behind_a_long_paste(request_: str) -> None:
    paste = "blue " * HEAD
    wanted = route(request_).intent
    assert route(f"{request_}\n{paste}").intent == wanted
    assert route(f"{paste}.\n{request_}").intent == wanted


def test_what_stands_in_a_fenced_block_is_no_request() -> None:
    quoted = "```\n" + "write a poem, compare bread and cheese\n" * TAIL + "```\nPlan a trip to Rome."
    decided = route(quoted)
    assert decided.scores["general"] == decided.scores["research"] == 0
    assert decided.intent == "planner"


def test_the_part_of_a_split_task_is_not_split_again() -> None:
    text = "Add the results.\n\nResults:\n1. 3 * 4 = 12.\n2. 5 + 5 + 1 = 11."
    assert workflow(route(text), text) == "react"


@pytest.mark.parametrize(
    "text",
    [
        "def add(a, b)",
        "the error: none",
        "a party for 20 people",
        "what is 3 plus 4",
        "break it into two steps",
        "what changed since 1999",
        "see https://example.org",
        "list the files",
        "Hello there",
    ],
)
def test_the_quick_look_misses_no_pattern(text: str) -> None:
    known = tables()
    found, slowly = read(text, known), read(text, replace(known, plain=None))
    assert known.plain is not None
    assert (found.scores, found.found) == (slowly.scores, slowly.found)
