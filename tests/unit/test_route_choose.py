"""Who answers a routed request now: prices in seconds, as tables and as promises."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.runtime.router.choose import OTHER_CALLER, PROMPT_RATE, SECONDS_EACH, START_SECONDS, Candidate, choose
from benchai.runtime.router.route import KEEP, Route
from benchai.runtime.router.tables import FALLBACKS

FIELDS: dict[str, Any] = {"intent": "code", "complexity": 0.1, "scores": {}, "reason": "code: code word"}
CODE = Route(role="code", allowed={"code": 0.0, **FALLBACKS["code"]}, **FIELDS)
VISION = Route(role="vision", allowed={"vision": 0.0}, picture=True, **FIELDS)
KEPT = CODE._replace(role=KEEP)
GENERAL = Candidate("general", "small")


def coder(**given: Any) -> Candidate:
    return Candidate("code", "coder", **given)


@pytest.mark.parametrize(
    ("own", "other", "tokens", "model"),
    [
        (coder(), GENERAL, 0, "coder"),
        # the general model is worth 40 s of waiting less
        (coder(queue=4), GENERAL, 0, "coder"),
        (coder(queue=6), GENERAL, 0, "small"),
        (coder(queue=6, wait=1.0), GENERAL, 0, "coder"),
        (coder(wait=41.0), GENERAL, 0, "small"),
        (coder(state="stopped"), GENERAL, 0, "coder"),
        (coder(state="stopped", swap=41.0), GENERAL, 0, "small"),
        (coder(state="loading", swap=39.0), GENERAL, 0, "coder"),
        (coder(state="loading", swap=30.0, wait=11.0), GENERAL, 0, "small"),
        (coder(state="ready", swap=1000.0), GENERAL, 0, "coder"),
        (coder(state="failed"), GENERAL, 0, "small"),
        (coder(queue=2, queue_limit=2), GENERAL, 0, "small"),
        (coder(queue=2, queue_limit=3), GENERAL, 0, "coder"),
        (coder(n_ctx=100), GENERAL, 100, "coder"),
        (coder(n_ctx=100), GENERAL, 101, "small"),
        (coder(n_ctx=0), GENERAL, 10**6, "coder"),
        # what the other still holds of the conversation needs no reading
        (coder(prompt_rate=100.0), GENERAL._replace(kept=10_000), 4100, "small"),
        (coder(prompt_rate=100.0), GENERAL._replace(kept=10_000), 3900, "coder"),
        (coder(prompt_rate=100.0, kept=200), GENERAL._replace(kept=10_000), 4100, "coder"),
        (coder(prompt_rate=0.0), GENERAL, 0, "coder"),
        (coder(wait=math.nan), GENERAL, 0, "coder"),
        (coder(wait=math.inf), GENERAL, 0, "small"),
        (coder(wait=-100.0, kept=-5), GENERAL, 0, "coder"),
    ],
)
def test_the_best_role_wins_unless_the_next_is_cheaper(
    own: Candidate, other: Candidate, tokens: int, model: str
) -> None:
    for candidates in ([own, other], [other, own]):
        choice = choose(CODE, candidates, prompt_tokens=tokens)
        assert choice.model == model, choice.reason
        assert choice.outcome == ("best" if model == "coder" else "instead")


@pytest.mark.parametrize(
    ("own", "tokens", "words"),
    [
        (coder(state="failed"), 0, "instead of code: coder has failed"),
        (coder(queue=3, queue_limit=3), 0, "instead of code: coder its queue of 3 is full"),
        (coder(n_ctx=8), 10, "instead of code: coder its context of 8 tokens is too short for about 10"),
        (coder(queue=100), 0, f"instead of code: coder would cost queue {100 * SECONDS_EACH:.1f} s"),
        (coder(state="stopped", queue=99), 0, "coder is stopped and would cost"),
        (None, 0, "instead of code: no model serves it"),
    ],
)
def test_the_reason_says_why_another_answers(own: Candidate | None, tokens: int, words: str) -> None:
    choice = choose(CODE, [GENERAL] if own is None else [own, GENERAL], prompt_tokens=tokens)
    assert words in choice.reason
    assert choice.reason.startswith("general on small (")


def test_the_reason_of_the_best_tells_its_price() -> None:
    assert choose(CODE, [coder()]).reason == "code on coder: 0 s"
    choice = choose(CODE, [coder(state="stopped", queue=1)], prompt_tokens=1000)
    parts = f"queue {SECONDS_EACH:.1f} s + start {START_SECONDS:.1f} s + prompt {1000 / PROMPT_RATE:.1f} s"
    assert choice.reason == f"code on coder: {parts}"
    assert choice.prices[0].seconds == pytest.approx(SECONDS_EACH + START_SECONDS + 1000 / PROMPT_RATE)


@pytest.mark.parametrize(
    ("candidates", "outcome", "n_ctx"),
    [
        ([], "none", None),
        ([Candidate("vision", "eyes")], "none", None),
        ([coder(state="failed")], "none", None),
        ([coder(n_ctx=5), GENERAL._replace(n_ctx=7)], "too_long", 7),
        ([coder(state="failed"), GENERAL._replace(n_ctx=7)], "too_long", 7),
        ([coder(queue=1, queue_limit=1), GENERAL._replace(n_ctx=7)], "busy", 7),
        ([coder(queue=1, queue_limit=0, n_ctx=5)], "too_long", 5),
    ],
)
def test_nobody_answers_and_the_reason_names_all(candidates: list[Candidate], outcome: str, n_ctx: int | None) -> None:
    choice = choose(CODE, candidates, prompt_tokens=8, reply_tokens=2)
    assert (choice.outcome, choice.model, choice.role, choice.n_ctx) == (outcome, None, None, n_ctx)
    assert all(one.model in choice.reason for one in candidates if one.role != "vision")


def test_the_reply_needs_room_as_well() -> None:
    assert choose(CODE, [coder(n_ctx=10)], prompt_tokens=8, reply_tokens=2).model == "coder"
    assert choose(CODE, [coder(n_ctx=10)], prompt_tokens=8, reply_tokens=3).outcome == "too_long"


def test_a_picture_needs_eyes() -> None:
    blind, seeing = Candidate("vision", "blind"), Candidate("vision", "eyes", state="stopped", vision=True)
    assert choose(VISION, [blind, seeing]).model == "eyes"
    assert "sees no pictures" in choose(VISION, [blind]).reason


def test_one_model_in_several_roles_answers_in_the_best_one() -> None:
    candidates = [Candidate(role, "tiny") for role in ("general", "planner", "code")]
    assert choose(CODE, candidates).role == "code"


def test_the_result_of_a_tool_goes_to_the_model_that_called() -> None:
    called = Candidate("research", "thinker", queue=2)
    assert choose(KEPT, [coder(), called], session_model="thinker").model == "thinker"
    assert choose(KEPT, [coder(), called]).model == "coder"
    # vision is no role that the route allows, but it called
    eyes = Candidate("vision", "eyes", state="stopped")
    assert choose(KEPT, [coder(), eyes], session_model="eyes").model == "eyes"
    gone = called._replace(state="failed")
    choice = choose(KEPT, [coder(), gone], session_model="thinker")
    assert (choice.model, choice.outcome) == ("coder", "instead")
    assert "instead of research: thinker has failed" in choice.reason
    slow = called._replace(wait=OTHER_CALLER + 1)
    assert choose(KEPT, [coder(), slow], session_model="thinker").model == "coder"


def test_a_role_that_the_route_does_not_allow_is_never_chosen() -> None:
    assert choose(CODE, [Candidate("embed", "vectors"), coder(wait=1e6)]).model == "coder"


def test_a_route_that_names_no_roles_allows_its_own() -> None:
    assert choose(CODE._replace(allowed={}), [GENERAL, coder(queue=100)]).model == "coder"


SECONDS = st.none() | st.floats(0, 200)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        role=st.sampled_from(["code", "planner", "general", "vision", "research"]),
        model=st.sampled_from(["a", "b", "c", "d"]),
        state=st.sampled_from(["ready", "loading", "stopped", "failed"]),
        queue=st.integers(0, 20),
        queue_limit=st.none() | st.integers(0, 20),
        wait=SECONDS,
        swap=SECONDS,
        n_ctx=st.none() | st.integers(0, 5000),
        vision=st.booleans(),
        kept=st.integers(0, 5000),
        prompt_rate=st.none() | st.floats(0, 1000),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda one: (one.role, one.model),
)
WORSE = st.sampled_from(
    [
        lambda one: one._replace(queue=one.queue + 3),
        lambda one: one._replace(wait=(one.wait or 0.0) + one.queue * SECONDS_EACH + 30.0),
        lambda one: one._replace(state="failed" if one.state == "failed" else "stopped"),
        lambda one: one._replace(state="failed"),
        lambda one: one._replace(swap=(START_SECONDS if one.swap is None else one.swap) + 10.0),
        lambda one: one._replace(n_ctx=1),
        lambda one: one._replace(kept=0),
        lambda one: one._replace(vision=False),
        lambda one: one._replace(queue_limit=0),
    ]
)


@given(CANDIDATES, st.data(), WORSE, st.integers(2, 4000), st.sampled_from([CODE, VISION, KEPT]))
def test_what_makes_a_candidate_worse_never_makes_it_win(
    candidates: list[Candidate], data: st.DataObject, worse: Any, tokens: int, route: Route
) -> None:
    at = data.draw(st.integers(0, len(candidates) - 1))
    before = choose(route, candidates, prompt_tokens=tokens, session_model="a")
    after_all = [*candidates[:at], worse(candidates[at]), *candidates[at + 1 :]]
    after = choose(route, after_all, prompt_tokens=tokens, session_model="a")
    one = (candidates[at].role, candidates[at].model)
    if (before.role, before.model) != one:
        assert (after.role, after.model) != one
        # and the others are left as they were
        assert (after.role, after.model) == (before.role, before.model)


@given(CANDIDATES, st.integers(0, 6000), st.integers(0, 500), st.sampled_from([CODE, VISION, KEPT]))
def test_the_chosen_one_can_answer_and_none_is_cheaper(
    candidates: list[Candidate], tokens: int, reply: int, route: Route
) -> None:
    choice = choose(route, candidates, prompt_tokens=tokens, reply_tokens=reply, session_model="b")
    assert choice == choose(route, candidates, prompt_tokens=tokens, reply_tokens=reply, session_model="b")
    able = [price for price in choice.prices if price.excluded is None]
    assert (choice.model is None) == (not able)
    assert choice.reason
    if choice.model is not None:
        won = next(one for one in candidates if (one.role, one.model) == (choice.role, choice.model))
        assert won.state != "failed"
        assert not won.n_ctx or tokens + reply <= won.n_ctx
        assert won.vision or not route.picture
        assert choice.prices[0].seconds == min(price.seconds for price in able)


@given(CANDIDATES, st.integers(0, 3000), st.integers(1, 3000))
def test_a_longer_prompt_never_opens_a_candidate(candidates: list[Candidate], tokens: int, more: int) -> None:
    def shut(length: int) -> set[tuple[str, str]]:
        prices = choose(CODE, candidates, prompt_tokens=length).prices
        return {(one.candidate.role, one.candidate.model) for one in prices if one.excluded is not None}

    assert shut(tokens) <= shut(tokens + more)
