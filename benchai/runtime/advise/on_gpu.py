"""Which models go onto a GPU: code first, then what else has room, then a longer context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from benchai.runtime.advise.catalogue import Entry
from benchai.runtime.advise.fit import Choice, Group, Wanted, because_of_bits, candidates, info_of, longer, split
from benchai.runtime.advise.on_cpu import on_cpu
from benchai.runtime.advise.rooms import Rooms
from benchai.runtime.advise.rules import GPU_CLASS, LARGEST_CONTEXT, PARALLEL_CLASS, RULES, SOUND_CLASS
from benchai.runtime.placement.moe import split_layers

CODE = ("code",)


def code_choice(entries: Sequence[Entry], wanted: Wanted, rooms: Rooms, others: Sequence[Group]) -> list[Choice]:
    """The code model on one GPU; over all of them where only that holds a 30B. Empty where the CPU does better.

    Experts in RAM leave room there for the ``others``.
    """
    tried = [one for one in candidates(entries, CODE, "gpu", wanted) if one.entry.size >= GPU_CLASS]
    alone = next((replace(one, devices=at) for one in tried if (at := rooms.one_for(one))), None)
    if alone is None or alone.entry.size < PARALLEL_CLASS or alone.quantisation not in _usual_bits(CODE):
        # the lowest bits are no reason to leave a model that one card holds
        spread = [one for one in tried if alone is None or one.quantisation in _usual_bits(CODE)]
        alone = next((replace(one, devices=at) for one in spread if (at := rooms.all_for(one))), alone)
    if wanted.experts_in_ram:
        splits = _split(tried, alone, wanted, rooms)
        alone = next((one for one in splits if _leaves_room(entries, one, others, wanted, rooms)), alone)
    if alone is None:
        return []
    over = ", spread over all of them" if len(alone.devices) > 1 else ""
    first = f"first on the GPU{over}: code gains most there, 5 to 6 times the CPU's speed"
    return [alone.because(first, *because_of_bits(alone), *_experts(alone), *_larger(tried, alone, rooms))]


def _usual_bits(roles: Group) -> tuple[str, ...]:
    """The bits that suit some roles, and the next lower ones."""
    rule = RULES[roles[0]]
    return (*rule.quantisations, *rule.lower[:1])


def _split(tried: Iterable[Choice], whole: Choice | None, wanted: Wanted, rooms: Rooms) -> Iterator[Choice]:
    """Larger mixtures of experts on one GPU with as few experts in RAM as must be."""
    least, room = whole.entry.size if whole else 0, max(rooms.gpus, default=0)
    # finer bits would only be more to read from RAM
    bits = RULES[CODE[0]].quantisations[-1]
    for one in (one for one in tried if one.quantisation == bits and one.entry.size > least):
        layers = split_layers(info_of(one, wanted), _need(one), room)
        made = split(one, layers[0], wanted) if layers else None
        if made is not None and made.ram_mib <= rooms.ram:
            yield replace(made, devices=rooms.one_for(made))


def _leaves_room(
    entries: Sequence[Entry], choice: Choice, others: Sequence[Group], wanted: Wanted, rooms: Rooms
) -> bool:
    """Whether the other roles have a sound model beside a choice's experts in RAM, if they have one without."""
    before, beside = (on_cpu(entries, others, wanted, room, True) for room in (rooms.ram, rooms.ram - choice.ram_mib))
    return _largest(beside) >= min(_largest(before), SOUND_CLASS)


def _largest(choices: Iterable[Choice]) -> int:
    return max((one.entry.size for one in choices), default=0)


def _experts(choice: Choice) -> list[str]:
    """Where the experts are, of a model that is split."""
    where = f"experts of {choice.cpu_moe} of {choice.entry.shape.layers} layers in RAM, {choice.ram_mib} MiB"
    return (
        [f"{where}: a token uses {choice.entry.shape.experts_used} of {choice.entry.shape.experts}"]
        if (choice.cpu_moe)
        else []
    )


def _larger(tried: Iterable[Choice], chosen: Choice, rooms: Rooms) -> list[str]:
    """What the next larger class would need: why it is not taken."""
    bits = RULES[CODE[0]].quantisations
    above = [one for one in tried if one.entry.size > chosen.entry.size and one.quantisation in bits]
    if not above:
        return []
    next_size = min(one.entry.size for one in above)
    least = min((one for one in above if one.entry.size == next_size), key=_need)
    room = sum(rooms.gpus) if next_size >= PARALLEL_CLASS else max(rooms.gpus)
    return [f"the next larger, {least.entry.title} {least.quantisation}, needs {_need(least)} of {room} MiB"]


def _need(choice: Choice) -> int:
    return choice.need.total_mib


def lift(
    entries: Sequence[Entry],
    groups: Sequence[Group],
    wanted: Wanted,
    rooms: Rooms,
    least: int,
    usual: Sequence[Choice],
) -> list[Choice]:
    """The groups of roles that fit onto one GPU with a model of at least a class.

    At the next lower bits only where the model is larger than the ``usual`` one, which the CPU would have.
    """
    lifted = []
    for group in groups:
        size = _largest(one for one in usual if set(group) <= set(one.roles))
        able = (one for one in candidates(entries, group, "gpu", wanted) if one.entry.size >= least)
        own = RULES[group[0]].quantisations
        larger = (one for one in able if one.quantisation in own or one.entry.size > size)
        tried = (one for one in larger if not size or one.quantisation in _usual_bits(group))
        found = next((replace(one, devices=at) for one in tried if (at := rooms.one_for(one))), None)
        if found is not None:
            lifted.append(rooms.take(found).because("there is room on the GPU", *because_of_bits(found)))
    return lifted


def grow(choice: Choice, wanted: Wanted, rooms: Rooms) -> Choice:
    """What is left of its GPU goes to a model's context: twice as much while that fits in f16."""
    if choice.cache_type != "f16" or wanted.context is not None or choice.cpu_moe:
        return choice
    grown, spare = choice, rooms.spare(choice)
    while grown.context * 2 <= min(LARGEST_CONTEXT, choice.entry.shape.context):
        more = longer(grown, grown.context * 2, wanted)
        if _need(more) - _need(choice) > spare:
            break
        grown = more
    if grown is choice:
        return choice
    rooms.use(choice, _need(grown) - _need(choice))
    return grown.because(f"context {grown.context}: the memory is there, and no larger model fits")
