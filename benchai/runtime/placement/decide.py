"""Where a model goes and what must leave for it: a pure function of budget, residents and request."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from operator import itemgetter
from typing import TypeAlias

#: Device ("gpu0", "gpu1", ..., "cpu") -> MiB; a model over several GPUs claims on several.
Claim: TypeAlias = Mapping[str, int]

#: Reload seconds, the latest use, how many, which.
_Cost: TypeAlias = tuple[float, float, int, tuple[str, ...]]

#: Up to so many candidates every set of them is weighed; beyond that the choice is greedy.
EXACT_CANDIDATES = 12


@dataclass(frozen=True)
class Resident:
    """A model that holds memory now.

    ``pinned`` ones never leave, ``busy`` ones only once their work has ended. ``leaving``: it is being
    stopped already and its memory is coming back, whatever else is said of it. ``reload_seconds`` is what
    its eviction costs, ``last_used`` a moment on any clock that all residents share.
    """

    model: str
    claim: Claim
    pinned: bool
    busy: bool
    reload_seconds: float
    last_used: float
    leaving: bool = False


@dataclass(frozen=True)
class Wanted:
    """A model to place, and its claims in order of preference."""

    model: str
    options: tuple[Claim, ...]


@dataclass(frozen=True)
class Place:
    """Start it now at ``claim``, after ``stop`` were stopped."""

    claim: Claim
    stop: tuple[str, ...]


@dataclass(frozen=True)
class Wait:
    """It fits at ``claim`` once ``busy`` have ended (they drain, or are leaving) and ``stop`` were stopped.

    Decide anew then: ``stop`` are idle now, another request may want them until then.
    """

    claim: Claim
    stop: tuple[str, ...]
    busy: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """One device of an option that cannot be had; MiB."""

    device: str
    needed: int
    budget: int
    pinned: int


@dataclass(frozen=True)
class Refuse:
    """It can never fit beside what is pinned; one tuple of figures for each option, ``reason`` in words."""

    figures: tuple[tuple[Figure, ...], ...]
    reason: str


Decision: TypeAlias = Place | Wait | Refuse


def decide(budget: Mapping[str, int], residents: Sequence[Resident], wanted: Wanted) -> Decision:
    """Where ``wanted`` goes, with the cheapest eviction.

    The first option that fits the budget beside the pinned models decides on the kind of place (how many GPUs,
    with a part in RAM or without), whatever it costs; the order of options is the caller's policy. Options of
    this kind are equals: the one that costs least is taken, and the first of those where nothing need leave.
    What is leaving is waited for before an idle model is stopped, and an idle one is stopped before a busy one
    is drained. Of each kind the set with the smallest sum of ``reload_seconds`` goes; then the one whose latest
    use is longest ago, then the smallest, then by name. The order of ``residents`` makes no difference.

    Args:
        budget: MiB that our models may use in all, by device; a device that is not there has none.
        residents: What holds memory now. It may exceed the budget: only the devices of the option are mended.
        wanted: The model to place.

    Raises:
        ValueError: ``wanted`` is resident, a model is resident twice, or a claim or a cost is negative.
    """
    _check(residents, wanted)
    ordered = sorted(residents, key=lambda resident: resident.model)
    fixed = _held(resident for resident in ordered if resident.pinned and not resident.leaving)
    options = [_figures(budget, fixed, claim) for claim in wanted.options]
    tried = zip(wanted.options, options, strict=True)
    possible = [claim for claim, figures in tried if all(_possible(figure) for figure in figures)]
    if not possible:
        return Refuse(tuple(options), _reason(wanted.model, options, ordered))
    equals = [claim for claim in possible if _kind(claim) == _kind(possible[0])]
    _, decision = min((_within(budget, ordered, claim) for claim in equals), key=itemgetter(0))
    return decision


def _check(residents: Sequence[Resident], wanted: Wanted) -> None:
    for name, times in Counter([wanted.model, *(resident.model for resident in residents)]).items():
        if times > 1:
            raise ValueError(f"model {name!r} is wanted or resident {times} times")
    for claim in chain(wanted.options, (resident.claim for resident in residents)):
        if any(mib < 0 for mib in claim.values()):
            raise ValueError(f"negative claim {dict(claim)!r}")
    for resident in residents:
        if not resident.reload_seconds >= 0:
            raise ValueError(f"reload_seconds of {resident.model!r} is {resident.reload_seconds!r}")


def _figures(budget: Claim, fixed: Claim, claim: Claim) -> tuple[Figure, ...]:
    return tuple(
        Figure(device, mib, budget.get(device, 0), fixed.get(device, 0)) for device, mib in sorted(claim.items())
    )


def _possible(figure: Figure) -> bool:
    # what needs nothing of a device is not in the way of those that hold too much of it
    return figure.budget > 0 and (not figure.needed or figure.needed + figure.pinned <= figure.budget)


def _kind(claim: Claim) -> tuple[int, bool]:
    """How many GPUs, and whether there is a part in RAM."""
    return len(claim.keys() - {"cpu"}), "cpu" in claim


def _within(budget: Claim, residents: Sequence[Resident], claim: Claim) -> tuple[tuple[_Cost, ...], Place | Wait]:
    """What must leave for one claim, and what that costs, the dearest kind first."""
    held = _held(residents)
    short = {device: held.get(device, 0) + mib - budget[device] for device, mib in claim.items() if mib}
    leaving = [resident for resident in residents if resident.leaving]
    movable = [resident for resident in residents if not resident.leaving and not resident.pinned]
    idle = [resident for resident in movable if not resident.busy]
    # each kind makes up only for what the milder kinds cannot
    drain = _cheapest([resident for resident in movable if resident.busy], _less(short, [*leaving, *idle]))
    stop = _cheapest(idle, _less(short, [*leaving, *drain]))
    await_ = _cheapest(leaving, _less(short, [*stop, *drain]))
    cost = (_cost(drain), _cost(stop), _cost(await_))
    if drain or await_:
        return cost, Wait(claim, _names(stop), _names([*drain, *await_]))
    return cost, Place(claim, _names(stop))


def _held(residents: Iterable[Resident]) -> Counter[str]:
    held: Counter[str] = Counter()
    for resident in residents:
        held.update(resident.claim)
    return held


def _less(short: Mapping[str, int], gone: Sequence[Resident]) -> dict[str, int]:
    """What is still short, by device, once some are gone."""
    left = {device: mib - sum(one.claim.get(device, 0) for one in gone) for device, mib in short.items()}
    return {device: mib for device, mib in left.items() if mib > 0}


def _cheapest(candidates: Sequence[Resident], short: Mapping[str, int]) -> tuple[Resident, ...]:
    """The cheapest set that makes up for ``short``, which all candidates together do."""
    if not short:
        return ()
    useful = [one for one in candidates if any(one.claim.get(device, 0) for device in short)]
    if len(useful) > EXACT_CANDIDATES:
        return _greedy(useful, short)
    sets = chain.from_iterable(combinations(useful, size) for size in range(1, len(useful) + 1))
    return min((chosen for chosen in sets if not _less(short, chosen)), key=_cost)


def _cost(chosen: Sequence[Resident]) -> _Cost:
    reload = sum(one.reload_seconds for one in chosen)
    # none at all costs less than one that loads at once
    return reload, max((one.last_used for one in chosen), default=-math.inf), len(chosen), _names(chosen)


def _greedy(candidates: Sequence[Resident], short: Mapping[str, int]) -> tuple[Resident, ...]:
    """A cheap set, perhaps not the cheapest: the best value first, then whatever proves superfluous goes.

    Value is reload seconds for each share of what is still short. Nothing superfluous remains, since the
    dearest are tried first and what is needed stays needed when the set shrinks.
    """
    chosen: list[Resident] = []
    rest = list(candidates)
    while left := _less(short, chosen):
        best = min(rest, key=lambda one: (_price(one, left), one.last_used, one.model))
        rest.remove(best)
        chosen.append(best)
    for one in sorted(chosen, key=lambda one: (one.reload_seconds, one.last_used, one.model), reverse=True):
        without = [other for other in chosen if other is not one]
        if not _less(short, without):
            chosen = without
    return tuple(chosen)


def _price(one: Resident, left: Mapping[str, int]) -> float:
    share = sum(min(one.claim.get(device, 0), mib) / mib for device, mib in left.items())
    return one.reload_seconds / share if share else math.inf


def _names(residents: Iterable[Resident]) -> tuple[str, ...]:
    return tuple(sorted(resident.model for resident in residents))


def _reason(model: str, options: Sequence[Sequence[Figure]], residents: Sequence[Resident]) -> str:
    if not options:
        return f"model {model!r} has no option where it could be placed"
    fixed = [resident for resident in residents if resident.pinned and not resident.leaving]
    tried = "; or ".join(", ".join(_words(figure, fixed) for figure in figures) for figures in options)
    return f"model {model!r} can be placed nowhere: it needs {tried}"


def _words(figure: Figure, fixed: Sequence[Resident]) -> str:
    text = f"{figure.needed} MiB on {figure.device}, whose budget is {figure.budget} MiB"
    if not figure.pinned:
        return text
    names = ", ".join(repr(one.model) for one in fixed if one.claim.get(figure.device))
    return f"{text}, of which pinned models hold {figure.pinned} ({names})"
