"""A model for each role of a machine: a pure function of its memory, the catalogue and what is asked for.

The seed's order: the code model gets the GPU, as large as it fits there at 5 bits and more; what else has room there
follows. The others live on the CPU, where they are always available. Vision is loaded when an image comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from benchai.runtime.advise.catalogue import Entry
from benchai.runtime.advise.fit import Choice, Group, Place, Wanted, because_of_bits, candidates, joined, shorter
from benchai.runtime.advise.on_cpu import on_cpu
from benchai.runtime.advise.on_gpu import CODE, code_choice, grow, lift
from benchai.runtime.advise.rooms import Rooms
from benchai.runtime.advise.rules import (
    ANY,
    CPU_ACTIVE,
    DEFAULT_ROLES,
    GPU_CLASS,
    RESERVE,
    RULES,
    SOUND_CLASS,
    gpu_room,
    ram_room,
)

CHAT = ("general",)
SMALL_ROLES = ("embed", "rerank")
WRITING = ("code", "general", "planner", "research")
PLACES: tuple[Place, ...] = ("cpu", "gpu")


@dataclass(frozen=True)
class Budget:
    """The memory of a machine in MiB: each of its GPUs, and the RAM; ``cores`` are physical ones, None: not known."""

    gpus: tuple[int, ...]
    ram: int
    cores: int | None = None


@dataclass(frozen=True)
class Advice:
    """What is advised: a choice for each group of roles, and why a role has none."""

    budget: Budget
    choices: tuple[Choice, ...]
    missing: dict[str, str] = field(default_factory=dict)

    def choice(self, role: str) -> Choice | None:
        """What serves a role."""
        return next((one for one in self.choices if role in one.roles), None)


def advise(
    budget: Budget, entries: Sequence[Entry], roles: Iterable[str] = DEFAULT_ROLES, wanted: Wanted | None = None
) -> Advice:
    """What to serve on a machine.

    Args:
        budget: Its memory.
        entries: The models to choose from.
        roles: What is to be served.
        wanted: The context, and the files that are there already.
    """
    asked, given = tuple(dict.fromkeys(roles)), wanted or Wanted()
    usual = _advice(budget, entries, asked, given, ())
    lost = tuple(role for role in usual.missing if role in SMALL_ROLES)
    # what writes text may be smaller for their sake, but not be gone
    others = (_advice(budget, entries, asked, given, first) for first in (SMALL_ROLES, *zip(lost)) if lost)
    return next((one for one in others if one.missing.keys() < usual.missing.keys()), usual)


def _advice(budget: Budget, entries: Sequence[Entry], asked: Group, wanted: Wanted, first: Group) -> Advice:
    """An advice that serves some of the small roles ``first``, as leanly as can be."""
    rooms = Rooms([gpu_room(total) for total in budget.gpus], ram_room(budget.ram))
    own = replace(wanted, context=None)
    small = [role for role in asked if role in SMALL_ROLES]
    early = [one for role in small if role in first for one in _small(entries, role, own, rooms, lean=True)]
    groups, free = _groups(asked), Rooms([*rooms.gpus], rooms.ram)
    placed = _text(entries, groups, wanted, rooms)
    placed = _shared(_left(groups, placed), placed, wanted, rooms)
    if _left(groups, placed) and (alone := _one_for_all(entries, groups, wanted, free)):
        placed, rooms = alone, free
    placed += early
    placed += [one for role in small if role not in first for one in _small(entries, role, own, rooms, lean=False)]
    if "vision" in asked:
        placed += _vision(entries, own, budget, rooms)
    served = {role for one in placed for role in one.roles}
    missing = {role: _missing(entries, role, wanted, budget, rooms) for role in asked if role not in served}
    return Advice(budget, tuple(placed), missing)


def _groups(roles: Group) -> list[Group]:
    """Roles that one model serves: planner and research reason, the others stand alone; the first is placed first."""
    wished = (("code",), ("planner", "research"), ("general",))
    kept = (tuple(role for role in group if role in roles) for group in wished)
    return [group for group in kept if group]


def _text(entries: Sequence[Entry], groups: list[Group], wanted: Wanted, rooms: Rooms) -> list[Choice]:
    """The models that write text: code and reasoning on the GPU where they fit, a longer context there, then chat."""
    has_gpu = bool(rooms.gpus)
    others = [group for group in groups if group != CODE]
    placed = [rooms.take(one) for one in code_choice(entries, wanted, rooms, others) if CODE in groups]
    rest = _left(groups, placed)
    usual = on_cpu(entries, rest, wanted, rooms.ram, has_gpu)
    placed += lift(entries, [group for group in rest if group != CHAT], wanted, rooms, SOUND_CLASS, usual)
    placed = [grow(one, wanted, rooms) for one in placed]
    chat = (
        [one.entry for one in usual if one.roles == CHAT] if any("general" in one.roles for one in usual) else entries
    )
    placed += lift(chat, [group for group in rest if group == CHAT], wanted, rooms, 0, usual)
    return placed + [rooms.take(one) for one in on_cpu(entries, _left(groups, placed), wanted, rooms.ram, has_gpu)]


def _left(groups: Iterable[Group], placed: Sequence[Choice]) -> list[Group]:
    return [group for group in groups if not any(set(group) <= set(one.roles) for one in placed)]


def _shared(groups: Sequence[Group], placed: Sequence[Choice], wanted: Wanted, rooms: Rooms) -> list[Choice]:
    """What is placed, the largest of it also for roles that have no model of their own."""
    kept = sorted(placed, key=lambda one: -one.entry.size)
    for group in groups:
        for number, one in enumerate(kept):
            more = joined(one, group, wanted)
            spare = rooms.spare(one) if one.devices else rooms.ram
            if set(group) <= set(one.entry.roles) and more.need.total_mib - one.need.total_mib <= spare:
                rooms.use(one, more.need.total_mib - one.need.total_mib)
                kept[number] = more.because(f"{', '.join(group)} too: nothing else fits")
                break
    return [next(one for one in kept if one.entry == first.entry) for first in placed]


def _one_for_all(entries: Sequence[Entry], groups: Sequence[Group], wanted: Wanted, rooms: Rooms) -> list[Choice]:
    """One model on a GPU for all that write text, where some of them would have none beside another one."""
    everything = tuple(role for group in groups for role in group)
    found = lift(entries, [everything], wanted, rooms, GPU_CLASS, ())
    return [one.because(f"one model for {', '.join(everything)}: there is no room for a second one") for one in found]


def _small(entries: Sequence[Entry], role: str, wanted: Wanted, rooms: Rooms, *, lean: bool) -> list[Choice]:
    """A model that is small: in RAM, or on a GPU where only that has room; with ``lean`` the smallest at its bits."""
    own = RULES[role].quantisations
    for place in PLACES:
        able = list(candidates(entries, (role,), place, wanted))
        if lean:
            able.sort(key=lambda one: (one.quantisation not in own, one.need.total_mib))
        for one in able:
            devices = rooms.one_for(one) if place == "gpu" else ()
            if devices or (place == "cpu" and one.need.total_mib <= rooms.ram):
                where = "on the GPU, the RAM has no room" if devices else "on the CPU, it is small"
                return [rooms.take(replace(one, devices=devices)).because(where, *because_of_bits(one))]
    return []


def _vision(entries: Sequence[Entry], wanted: Wanted, budget: Budget, rooms: Rooms) -> list[Choice]:
    """On the GPU alone, whatever else must leave; without one on the CPU, where it is slow."""
    largest = max(budget.gpus, default=0)
    on_gpu = [one for one in candidates(entries, ("vision",), "gpu", wanted) if one.need.total_mib <= largest - RESERVE]
    if on_gpu:
        chosen, room, place = on_gpu[0], max(rooms.gpus), "the GPU"
        chosen = replace(chosen, devices=(budget.gpus.index(largest),))
    else:
        fits = ram_room(budget.ram)
        here = [one for one in candidates(entries, ("vision",), "cpu", wanted) if one.need.total_mib <= fits]
        if not here:
            return []
        chosen, room, place = here[0], rooms.ram, "the RAM"
    beside = "there is room beside the others"
    how = beside if chosen.need.total_mib <= room else f"the others leave {place} meanwhile"
    slow = "" if on_gpu else ", on the CPU, which is slow"
    loaded = replace(chosen, on_demand=True).because(f"on demand, when an image comes{slow}: {how}")
    return [loaded.because(*because_of_bits(chosen))]


def _missing(entries: Sequence[Entry], role: str, wanted: Wanted, budget: Budget, rooms: Rooms) -> str:
    """Why a role has no model, with the least that one would need."""
    own = wanted if role in WRITING else replace(wanted, context=None)
    fast = [one for one in entries if one.active <= CPU_ACTIVE]
    tried = [*candidates(fast, (role,), "cpu", own, replace(RULES[role], largest=ANY))]
    tried += shorter(fast, (role,), "cpu", own) if own.context is None else []
    if not tried:
        context = f" with a context of {own.context} tokens" if own.context else ""
        return f"the catalogue has no model for {role}{context}"
    least = min(tried, key=lambda one: one.need.total_mib)
    needs = f"no model fits: {least.entry.title} needs {least.need.total_mib} MiB"
    if role == "vision":
        # whatever else is there would leave
        card = f" and {max(budget.gpus) - RESERVE} MiB of a GPU" if max(budget.gpus, default=0) > RESERVE else ""
        return f"{needs}, {ram_room(budget.ram)} MiB of the RAM{card} may be used"
    card = f" and {max(rooms.gpus)} MiB of a GPU" if rooms.gpus else ""
    return f"{needs}, {rooms.ram} of {ram_room(budget.ram)} MiB of the RAM{card} are left"
