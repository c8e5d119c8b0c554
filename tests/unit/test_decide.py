"""The placement decision: tables for its rules, properties for its promises."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, combinations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchai.runtime.placement.decide import (
    EXACT_CANDIDATES,
    Claim,
    Decision,
    Figure,
    Place,
    Refuse,
    Resident,
    Wait,
    Wanted,
    decide,
)

BUDGET = {"gpu0": 10_000, "cpu": 32_000}
GPU = {"gpu0": 4_000}
CPU = {"cpu": 4_000}


def idle(model: str, mib: int, reload: float = 5, used: float = 0, device: str = "gpu0") -> Resident:
    return Resident(model, {device: mib}, False, False, reload, used)


def busy(model: str, mib: int, reload: float = 5, used: float = 0) -> Resident:
    return replace(idle(model, mib, reload, used), busy=True)


def pinned(model: str, mib: int) -> Resident:
    return replace(idle(model, mib), pinned=True)


def leaving(model: str, mib: int) -> Resident:
    return replace(busy(model, mib), leaving=True)


def place(*stop: str, claim: Claim = GPU) -> Place:
    return Place(claim, stop)


def wait(stop: Sequence[str], busy: Sequence[str], claim: Claim = GPU) -> Wait:
    return Wait(claim, tuple(stop), tuple(busy))


@pytest.mark.parametrize(
    ("residents", "expected"),
    [
        pytest.param([], place(), id="an empty machine"),
        pytest.param([idle("a", 6000)], place(), id="fits to the last MiB"),
        pytest.param([idle("a", 6001)], place("a"), id="one MiB too many"),
        pytest.param([idle("a", 9000, device="cpu"), idle("b", 7000)], place("b"), id="only where it is short"),
        pytest.param([idle("a", 5000, 9), idle("b", 5000, 2)], place("b"), id="the cheaper reload"),
        pytest.param([idle("a", 5000, 3), idle("b", 2000, 1), idle("c", 2000, 1)], place("b", "c"), id="two for less"),
        pytest.param(
            [idle("a", 5000, 2), idle("b", 2000, 1), idle("c", 2000, 1)], place("a"), id="fewest at one price"
        ),
        pytest.param([idle("a", 5000, 5, 9), idle("b", 5000, 5, 8)], place("b"), id="the least recently used"),
        pytest.param(
            [idle("a", 5000, 2, 9), idle("b", 2000, 1, 8), idle("c", 2000, 1, 7)],
            place("b", "c"),
            id="age before number",
        ),
        pytest.param([idle("b", 5000), idle("a", 5000)], place("a"), id="by name at last"),
        pytest.param([pinned("p", 4000), idle("a", 6000, 99)], place("a"), id="pinned stays"),
        pytest.param([busy("b", 5000, 0), idle("a", 5000, 99)], place("a"), id="idle at any price before busy"),
        pytest.param([busy("b", 7000)], wait([], ["b"]), id="only a busy one in the way"),
        pytest.param([busy("b", 5000, 1), busy("c", 5000, 2)], wait([], ["b"]), id="the cheaper busy one"),
        pytest.param([busy("b", 4500), idle("a", 4500)], place("a"), id="the idle one suffices"),
        pytest.param([busy("b", 7000), idle("a", 3000)], wait([], ["b"]), id="nothing superfluous beside a busy one"),
        pytest.param([busy("b", 3500, 0), idle("a", 3000), busy("c", 3500)], wait(["a"], ["b"]), id="both kinds"),
        pytest.param([leaving("l", 7000)], wait([], ["l"]), id="leaving suffices"),
        pytest.param([leaving("l", 6000)], place(), id="leaving is not in the way"),
        pytest.param([leaving("l", 5000), idle("a", 5000)], wait([], ["l"]), id="leaving before idle"),
        pytest.param([leaving("l", 3000), idle("a", 7000)], place("a"), id="idle makes room beside leaving"),
        pytest.param(
            [leaving("l", 3000), idle("a", 3500), pinned("p", 3500)], wait(["a"], ["l"]), id="leaving and idle"
        ),
        pytest.param(
            [leaving("l", 3000), busy("b", 3500), pinned("p", 3500)], wait([], ["b", "l"]), id="leaving and busy"
        ),
        pytest.param([replace(leaving("l", 9000), pinned=True)], wait([], ["l"]), id="a pinned one that leaves"),
        pytest.param([idle("a", 12_000)], place("a"), id="the budget shrank below what runs"),
        pytest.param([idle("a", 40_000, device="cpu")], place(), id="another device is over its budget"),
    ],
)
def test_what_must_leave(residents: list[Resident], expected: Decision) -> None:
    assert decide(BUDGET, residents, Wanted("w", (GPU,))) == expected


TWO_GPUS = {"gpu0": 8000, "gpu1": 8000}
SPREAD = {"gpu0": 5000, "gpu1": 5000}
LESS = {"gpu0": 3000, "gpu1": 3000}


@pytest.mark.parametrize(
    ("budget", "residents", "options", "expected"),
    [
        pytest.param(BUDGET, [idle("a", 7000)], (GPU, CPU), place("a"), id="gpu with eviction before cpu without"),
        pytest.param(BUDGET, [busy("b", 7000)], (GPU, CPU), wait([], ["b"]), id="gpu after a wait before cpu"),
        pytest.param(BUDGET, [pinned("p", 7000)], (GPU, CPU), place(claim=CPU), id="cpu where gpu is pinned"),
        pytest.param({"cpu": 8000}, [], (GPU, CPU), place(claim=CPU), id="no gpu"),
        pytest.param({"gpu0": 0, "cpu": 8000}, [], ({"gpu0": 0}, CPU), place(claim=CPU), id="a device without budget"),
        pytest.param({}, [], ({},), place(claim={}), id="nothing claimed"),
        pytest.param(
            TWO_GPUS, [idle("a", 4000), idle("b", 4000, device="gpu1")], (SPREAD,), place("a", "b", claim=SPREAD),
            id="room on both",
        ),
        pytest.param(
            TWO_GPUS,
            [idle("a", 2000, 2), idle("b", 2000, 2, device="gpu1"), Resident("c", LESS, False, False, 3, 0)],
            (SPREAD,),
            place("c", claim=SPREAD),
            id="one over both for less than two",
        ),
        pytest.param(
            BUDGET, [idle("a", 12_000)], ({"gpu0": 0, "cpu": 10},), place(claim={"gpu0": 0, "cpu": 10}),
            id="nothing claimed of a device over its budget",
        ),
    ],
)  # fmt: skip
def test_options(budget: Claim, residents: list[Resident], options: tuple[Claim, ...], expected: Decision) -> None:
    assert decide(budget, residents, Wanted("w", options)) == expected


EITHER_GPU = ({"gpu0": 6000}, {"gpu1": 6000})
BOTH = {"gpu0": 3000, "gpu1": 3000}


@pytest.mark.parametrize(
    ("residents", "more", "expected"),
    [
        pytest.param([], (), place(claim={"gpu0": 6000}), id="the first of two that are empty"),
        pytest.param([idle("a", 6000)], (), place(claim={"gpu1": 6000}), id="the empty one"),
        pytest.param([busy("b", 6000)], (), place(claim={"gpu1": 6000}), id="no wait where none is needed"),
        pytest.param([pinned("p", 6000)], (), place(claim={"gpu1": 6000}), id="the only one that can be"),
        pytest.param([idle("a", 2000)], (), place(claim={"gpu0": 6000}), id="the first where both have room"),
        pytest.param(
            [leaving("l", 6000), idle("a", 6000, device="gpu1")], (), wait([], ["l"], {"gpu0": 6000}),
            id="what leaves anyway",
        ),
        pytest.param(
            [leaving("l", 6000), idle("a", 2000, device="gpu1")], (), place(claim={"gpu1": 6000}),
            id="room now before what leaves",
        ),
        pytest.param(
            [busy("b", 6000), idle("a", 6000, 99, device="gpu1")], (), place("a", claim={"gpu1": 6000}),
            id="idle before busy",
        ),
        pytest.param(
            [idle("a", 6000, 9), idle("b", 6000, 2, device="gpu1")], (), place("b", claim={"gpu1": 6000}),
            id="the cheaper reload",
        ),
        pytest.param(
            [idle("a", 6000, 5, 9), idle("b", 6000, 5, 8, device="gpu1")], (), place("b", claim={"gpu1": 6000}),
            id="the least recently used",
        ),
        # another kind of place is another quality, whatever it costs
        pytest.param(
            [idle("a", 5000, 2), idle("b", 5000, 3, device="gpu1")], (BOTH, CPU), place("a", claim={"gpu0": 6000}),
            id="one with eviction before both without",
        ),
        pytest.param(
            [pinned("p", 5000), replace(pinned("q", 5000), claim={"gpu1": 5000})], (CPU, BOTH), place(claim=CPU),
            id="the caller's order of kinds",
        ),
    ],
)  # fmt: skip
def test_gpus_are_equals(residents: list[Resident], more: tuple[Claim, ...], expected: Decision) -> None:
    assert decide({**TWO_GPUS, "cpu": 32_000}, residents, Wanted("w", (*EITHER_GPU, *more))) == expected


def test_refused_beside_what_is_pinned() -> None:
    residents = [pinned("embed", 7000), idle("a", 1000)]
    decision = decide(BUDGET, residents, Wanted("w", (GPU, {"cpu": 40_000}, {"gpu1": 1})))
    assert decision == Refuse(
        ((Figure("gpu0", 4000, 10_000, 7000),), (Figure("cpu", 40_000, 32_000, 0),), (Figure("gpu1", 1, 0, 0),)),
        "model 'w' can be placed nowhere: it needs 4000 MiB on gpu0, whose budget is 10000 MiB, of which pinned "
        "models hold 7000 ('embed'); or 40000 MiB on cpu, whose budget is 32000 MiB; or 1 MiB on gpu1, whose "
        "budget is 0 MiB",
    )


def test_refused_without_an_option() -> None:
    assert decide(BUDGET, [], Wanted("w", ())) == Refuse((), "model 'w' has no option where it could be placed")


@pytest.mark.parametrize(
    ("residents", "claim", "words"),
    [
        ([idle("w", 1)], GPU, "'w' is wanted or resident 2 times"),
        ([idle("a", 1), busy("a", 1)], GPU, "'a' is wanted or resident 2 times"),
        ([idle("a", -1)], GPU, "negative claim {'gpu0': -1}"),
        ([], {"cpu": -5}, "negative claim {'cpu': -5}"),
        ([idle("a", 1, -1.0)], GPU, "reload_seconds of 'a' is -1.0"),
        ([idle("a", 1, float("nan"))], GPU, "reload_seconds of 'a' is nan"),
    ],
)
def test_a_mistake_of_the_caller(residents: list[Resident], claim: Claim, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decide(BUDGET, residents, Wanted("w", (claim,)))


SMALL = [idle(f"s{number:02}", 500, 1, number) for number in range(16)]
TINY = [idle(f"t{number:02}", 1, 1) for number in range(11)]


@pytest.mark.parametrize(
    ("residents", "expected"),
    [
        pytest.param([*SMALL, idle("big", 2000, 3)], ["big", "s00", "s01", "s02", "s03"], id="big is the better value"),
        pytest.param([*SMALL, idle("big", 2000, 9)], [f"s{number:02}" for number in range(8)], id="small is"),
        # x and y are the best value; once big is there as well, one of the two is enough
        pytest.param(
            [*TINY, idle("x", 1000, 1), idle("y", 1000, 2), idle("big", 3000, 50), pinned("p", 4989)],
            ["big", "x"],
            id="the dearer superfluous one goes",
        ),
        pytest.param([*TINY, idle("a", 3000, 6), idle("big", 5900, 10)], ["a"], id="more than is short has no value"),
    ],
)
def test_many_candidates_are_chosen_greedily(residents: list[Resident], expected: list[str]) -> None:
    assert len(residents) > EXACT_CANDIDATES
    assert decide(BUDGET, residents, Wanted("w", (GPU,))) == place(*expected)


def test_models_elsewhere_do_not_make_the_choice_greedy() -> None:
    elsewhere = [idle(f"c{number:02}", 1, 0, device="cpu") for number in range(EXACT_CANDIDATES)]
    # by value a comes first, and then c with it
    residents = [*elsewhere, idle("a", 3000, 3), idle("b", 4000, 4.5), idle("c", 1000, 2), pinned("p", 2000)]
    assert decide(BUDGET, residents, Wanted("w", (GPU,))) == place("b")


# -- properties

DEVICES = ("gpu0", "gpu1", "cpu")
claims = st.dictionaries(st.sampled_from(DEVICES), st.integers(0, 8), max_size=3)
budgets = st.dictionaries(st.sampled_from(DEVICES), st.integers(0, 16), max_size=3)
dense = st.fixed_dictionaries({"gpu0": st.integers(1, 4), "cpu": st.integers(0, 4)})
kinds = st.sampled_from(["idle", "idle", "busy", "pinned", "leaving"])


@st.composite
def crowds(draw: st.DrawFn, smallest: int = 0, largest: int = 7) -> list[Resident]:
    """Residents of all kinds, within or beyond any budget; small figures make ties."""
    found = []
    for number in range(draw(st.integers(smallest, largest))):
        kind = draw(kinds) if smallest == 0 or number % 4 == 3 else "idle"
        found.append(
            Resident(
                f"m{number}",
                draw(claims if smallest == 0 else dense),
                kind == "pinned",
                kind == "busy" or (draw(st.booleans()) and kind != "idle"),
                draw(st.sampled_from([0.0, 0.25, 0.5, 0.75, 2.0])),
                float(draw(st.integers(0, 3))),
                kind == "leaving",
            )
        )
    return found


wants = st.builds(Wanted, st.just("w"), st.lists(claims, max_size=3).map(tuple))
cases = st.tuples(budgets, crowds(), wants)
roomy = st.fixed_dictionaries({"gpu0": st.integers(8, 40), "cpu": st.integers(8, 40)})
large_cases = st.tuples(roomy, crowds(14, 24), st.builds(Wanted, st.just("w"), st.tuples(dense)))


def without(residents: Sequence[Resident], names: Sequence[str]) -> list[Resident]:
    return [resident for resident in residents if resident.model not in names]


def held(residents: Sequence[Resident], device: str) -> int:
    return sum(resident.claim.get(device, 0) for resident in residents)


def fits(budget: Claim, residents: Sequence[Resident], claim: Claim) -> bool:
    return all(held(residents, device) + mib <= budget.get(device, 0) for device, mib in claim.items() if mib)


def within_budget(budget: Claim, residents: Sequence[Resident]) -> bool:
    return all(held(residents, device) <= budget.get(device, 0) for device in DEVICES)


def by_kind(residents: Sequence[Resident], test: Callable[[Resident], bool]) -> set[str]:
    return {resident.model for resident in residents if test(resident)}


def kind(claim: Claim) -> tuple[int, bool]:
    return sum(device != "cpu" for device in claim), "cpu" in claim


def check_promises(budget: Claim, residents: list[Resident], wanted: Wanted) -> None:
    decision = decide(budget, residents, wanted)
    staying = [resident for resident in residents if resident.pinned and not resident.leaving]
    possible = [
        claim
        for claim in wanted.options
        if fits(budget, staying, claim) and all(budget.get(device, 0) > 0 for device in claim)
    ]
    if isinstance(decision, Refuse):
        assert not possible
        assert len(decision.figures) == len(wanted.options)
        return
    assert kind(decision.claim) == kind(possible[0])
    gone = (*decision.stop, *(decision.busy if isinstance(decision, Wait) else ()))
    assert len(set(gone)) == len(gone)
    assert fits(budget, without(residents, gone), decision.claim)
    for name in gone:
        assert not fits(budget, without(residents, [other for other in gone if other != name]), decision.claim)
    at_rest = by_kind(residents, lambda one: not (one.pinned or one.busy or one.leaving))
    assert set(decision.stop) <= at_rest
    if isinstance(decision, Wait):
        assert decision.busy
        assert set(decision.busy) <= by_kind(residents, lambda one: one.leaving or (one.busy and not one.pinned))
    elif within_budget(budget, residents):
        new = Resident("w", decision.claim, False, True, 0, 0)
        assert within_budget(budget, [*without(residents, decision.stop), new])


@given(cases)
@example(({"gpu0": 1}, [pinned("p", 2)], Wanted("w", ({"gpu0": 0}, {}))))
def test_promises(case: tuple[Claim, list[Resident], Wanted]) -> None:
    check_promises(*case)


@given(large_cases)
def test_promises_to_a_crowd(case: tuple[Claim, list[Resident], Wanted]) -> None:
    check_promises(*case)


@given(cases, st.randoms())
def test_the_order_of_residents_makes_no_difference(
    case: tuple[Claim, list[Resident], Wanted], chance: random.Random
) -> None:
    budget, residents, wanted = case
    shuffled = residents[:]
    chance.shuffle(shuffled)
    assert decide(budget, shuffled, wanted) == decide(budget, residents, wanted)


@given(cases)
def test_no_set_of_idle_models_is_cheaper(case: tuple[Claim, list[Resident], Wanted]) -> None:
    budget, residents, wanted = case
    decision = decide(budget, residents, wanted)
    if isinstance(decision, Refuse):
        return
    awaited = decision.busy if isinstance(decision, Wait) else ()
    away = {*awaited, *by_kind(residents, lambda one: one.leaving)}
    at_rest = [one for one in residents if not (one.pinned or one.busy or one.leaving)]
    sets = chain.from_iterable(combinations(at_rest, size) for size in range(len(at_rest) + 1))
    enough = [
        chosen
        for chosen in sets
        if fits(budget, without(residents, [*away, *(one.model for one in chosen)]), decision.claim)
    ]
    assert [one.model for one in min(enough, key=cost)] == sorted(decision.stop)


@given(cases)
def test_no_option_of_the_same_kind_is_milder(case: tuple[Claim, list[Resident], Wanted]) -> None:
    budget, residents, wanted = case
    decision = decide(budget, residents, wanted)
    if isinstance(decision, Refuse):
        return
    alone = [decide(budget, residents, Wanted("w", (claim,))) for claim in wanted.options]
    equals = [one for one in alone if not isinstance(one, Refuse) and kind(one.claim) == kind(decision.claim)]
    assert dearness(decision, residents) == min(dearness(one, residents) for one in equals)
    # what costs nothing anywhere goes where the caller would rather have it
    assert decision == next(one for one in equals if dearness(one, residents) == dearness(decision, residents))


def dearness(decision: Place | Wait, residents: Sequence[Resident]) -> tuple[object, ...]:
    """How bad a decision is: what is drained, what is stopped, what is waited for."""
    busy = decision.busy if isinstance(decision, Wait) else ()
    chosen = [one for one in residents if one.model in busy]
    stopped = [one for one in residents if one.model in decision.stop]
    drained = [one for one in chosen if not one.leaving]
    return tuple(map(cost, (drained, stopped, [one for one in chosen if one.leaving])))


def cost(chosen: Sequence[Resident]) -> tuple[float, float, int, list[str]]:
    """What the design says, a second time: reload, latest use, number, names."""
    reload = sum(one.reload_seconds for one in chosen)
    latest = max((one.last_used for one in chosen), default=-1.0)
    return reload, latest, len(chosen), sorted(one.model for one in chosen)


@given(cases)
def test_a_busy_model_is_drained_only_where_idle_ones_do_not_suffice(
    case: tuple[Claim, list[Resident], Wanted],
) -> None:
    budget, residents, wanted = case
    decision = decide(budget, residents, wanted)
    if isinstance(decision, Wait):
        at_rest = by_kind(residents, lambda one: one.leaving or not (one.pinned or one.busy))
        drained = set(decision.busy) - by_kind(residents, lambda one: one.leaving)
        assert not drained or not fits(budget, without(residents, list(at_rest)), decision.claim)


sequences = st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), max_size=20)


@given(st.lists(st.lists(claims, min_size=1, max_size=2).map(tuple), min_size=6, max_size=6), budgets, sequences)
def test_serving_any_sequence_ends_within_the_budget(
    options: list[tuple[Claim, ...]], budget: Claim, sequence: list[tuple[int, bool, bool]]
) -> None:
    residents: list[Resident] = []
    for moment, (number, stays_busy, is_pinned) in enumerate(sequence):
        name = f"m{number}"
        if name in [resident.model for resident in residents]:
            continue
        claim, residents = serve(budget, residents, Wanted(name, options[number]))
        if claim is not None:
            residents.append(Resident(name, claim, is_pinned, stays_busy, number / 10, moment))
        assert within_budget(budget, residents)


def serve(budget: Claim, residents: list[Resident], wanted: Wanted) -> tuple[Claim | None, list[Resident]]:
    """Do what the decision says; what it waits for ends."""
    unsettled = by_kind(residents, lambda one: one.busy or one.leaving)
    for _round in range(len(unsettled) + 1):
        decision = decide(budget, residents, wanted)
        if isinstance(decision, Refuse):
            return None, residents
        if isinstance(decision, Place):
            return decision.claim, without(residents, decision.stop)
        gone = by_kind(residents, lambda one: one.leaving and one.model in decision.busy)  # noqa: B023
        ended = set(decision.busy)
        residents = [replace(one, busy=one.busy and one.model not in ended) for one in residents]
        residents = without(residents, list(gone))
    raise AssertionError(f"still waiting after {len(unsettled) + 1} rounds: {residents}")
