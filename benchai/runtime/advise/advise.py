"""A model for each role of a machine: a pure function of its memory, the catalogue and what is asked for.

The seed's order: the code model gets the GPU, as large as it fits there at 5 bits and more; what else has room there
follows. The others live on the CPU, where they are always available. Vision is loaded when an image comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from benchai.runtime.advise.catalogue import Entry
from benchai.runtime.advise.fit import Choice, Group, Wanted, because_of_bits, candidates, shorter
from benchai.runtime.advise.on_cpu import on_cpu
from benchai.runtime.advise.on_gpu import code_choice, grow, lift
from benchai.runtime.advise.rooms import Rooms
from benchai.runtime.advise.rules import CPU_ACTIVE, DEFAULT_ROLES, RESERVE, RULES, SOUND_CLASS, gpu_room, ram_room


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
    rooms = Rooms([gpu_room(total) for total in budget.gpus], ram_room(budget.ram))
    placed = _text(entries, _groups(asked), given, rooms)
    own = replace(given, context=None)
    placed += [one for role in asked if role in ("embed", "rerank") for one in _small(entries, role, own, rooms)]
    if "vision" in asked:
        placed += _vision(entries, own, budget, rooms)
    served = {role for one in placed for role in one.roles}
    missing = {role: _missing(entries, role, given, ram_room(budget.ram)) for role in asked if role not in served}
    return Advice(budget, tuple(placed), missing)


def _groups(roles: Group) -> list[Group]:
    """Roles that one model serves: planner and research reason, the others stand alone; the first is placed first."""
    wished = (("code",), ("planner", "research"), ("general",))
    kept = (tuple(role for role in group if role in roles) for group in wished)
    return [group for group in kept if group]


def _text(entries: Sequence[Entry], groups: list[Group], wanted: Wanted, rooms: Rooms) -> list[Choice]:
    """The models that write text: code and reasoning on the GPU where they fit, a longer context there, then chat."""
    has_gpu = bool(rooms.gpus)
    placed = [rooms.take(one) for one in code_choice(entries, wanted, rooms) if ("code",) in groups]
    rest = _left(groups, placed)
    usual = on_cpu(entries, rest, wanted, rooms.ram, has_gpu)
    placed += lift(entries, [group for group in rest if group != ("general",)], wanted, rooms, SOUND_CLASS)
    placed = [grow(one, wanted, rooms) for one in placed]
    chat = [one.entry for one in usual if one.roles == ("general",)]
    placed += lift(chat, [group for group in rest if group == ("general",)], wanted, rooms, 0)
    return placed + [rooms.take(one) for one in on_cpu(entries, _left(groups, placed), wanted, rooms.ram, has_gpu)]


def _left(groups: Iterable[Group], placed: Sequence[Choice]) -> list[Group]:
    return [group for group in groups if not any(one.roles == group for one in placed)]


def _small(entries: Sequence[Entry], role: str, wanted: Wanted, rooms: Rooms) -> list[Choice]:
    fitting = (one for one in candidates(entries, (role,), "cpu", wanted) if one.need.total_mib <= rooms.ram)
    return [rooms.take(one).because("on the CPU, it is small", RULES[role].why) for one in list(fitting)[:1]]


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


def _missing(entries: Sequence[Entry], role: str, wanted: Wanted, room_mib: int) -> str:
    """Why a role has no model, with the least that one would need."""
    own = wanted if role in ("code", "general", "planner", "research") else replace(wanted, context=None)
    fast = [one for one in entries if one.active <= CPU_ACTIVE]
    tried = [*candidates(fast, (role,), "cpu", own)]
    tried += shorter(fast, (role,), "cpu", own) if own.context is None else []
    if not tried:
        context = f" with a context of {own.context} tokens" if own.context else ""
        return f"the catalogue has no model for {role}{context}"
    least = min(tried, key=lambda one: one.need.total_mib)
    return f"no model fits: {least.entry.title} needs {least.need.total_mib} MiB, {room_mib} MiB of the RAM may be used"
