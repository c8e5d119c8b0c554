"""Which models live on the CPU: all up together, as large as the RAM and a bearable speed allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from benchai.runtime.advise.catalogue import Entry
from benchai.runtime.advise.fit import Choice, Group, Wanted, because_of_bits, candidates, joined, shorter
from benchai.runtime.advise.rules import CPU_ACTIVE, RULES, SOUND_CLASS

#: Whether bits are lower, the type of the KV cache, whether the leanest of a class is taken.
_Sparing = tuple[bool, str, bool]
#: The largest class, how roles share models, and where is saved.
_Try = tuple[int, list[Group], _Sparing]
_SPARING: tuple[_Sparing, ...] = tuple(product((False, True), ("f16", "q8_0"), (False, True)))


def on_cpu(
    entries: Sequence[Entry], groups: Sequence[Group], wanted: Wanted, room_mib: int, has_gpu: bool
) -> list[Choice]:
    """A model for each group of roles, in RAM all together.

    Beside a GPU each group keeps a model of its own, for availability, as long as that one is sound. Without a GPU
    the larger model comes first, even if it has to serve several groups.

    Args:
        entries: The models to choose from.
        groups: Roles that one model serves.
        wanted: The context, and the files that are there.
        room_mib: What they may take.
        has_gpu: Whether there is a GPU besides.

    Returns:
        None at all where nothing fits.
    """
    if not groups:
        return []
    fast = [one for one in entries if one.active <= CPU_ACTIVE]
    for size, shared, sparing in _tries(fast, groups, has_gpu):
        found = [_best(fast, group, wanted, size, *sparing) for group in shared]
        chosen = _once([one for one in found if one is not None], wanted)
        served = sum(len(one.roles) for one in chosen) == sum(map(len, groups))
        if served and sum(one.need.total_mib for one in chosen) <= room_mib:
            return [_told(one, has_gpu, len(chosen) < len(groups)) for one in chosen]
    if wanted.context is not None:
        # what was asked for is not cut
        return []
    everything = tuple(role for group in groups for role in group)
    last = (one for one in shorter(fast, everything, "cpu", wanted) if one.need.total_mib <= room_mib)
    return [_told(one, has_gpu, len(groups) > 1) for one in list(last)[:1]]


def _tries(entries: Sequence[Entry], groups: Sequence[Group], has_gpu: bool) -> Iterator[_Try]:
    """What to try, the best first."""
    sizes = sorted({one.size for one in entries}, reverse=True)
    sound = [size for size in sizes if size >= SOUND_CLASS]
    small = [size for size in sizes if size < SOUND_CLASS]
    ways = _sharing(groups)
    for some in (sound, small):
        if has_gpu and some is sound:
            yield from ((size, shared, sparing) for shared, sparing, size in product(ways, _SPARING, some))
        else:
            saved = product(some, (False, True), ("f16", "q8_0"), ways, (False, True))
            yield from ((size, shared, (lower, cache, lean)) for size, lower, cache, shared, lean in saved)


def _once(choices: Sequence[Choice], wanted: Wanted) -> list[Choice]:
    """The same choices; a model that was chosen twice serves all its roles at once, as the first of them has it."""
    kept: dict[str, Choice] = {}
    for one in choices:
        first = kept.get(one.entry.name)
        kept[one.entry.name] = joined(first, one.roles, wanted) if first else one
    return list(kept.values())


def _sharing(groups: Sequence[Group]) -> list[list[Group]]:
    """Ways to share models: none, chat by the reasoning model, one for all."""
    ways = [list(groups)]
    chat = ("general",)
    reasoning = next((group for group in groups if group[0] in ("planner", "research")), None)
    if reasoning and chat in groups and len(groups) > 2:
        rest = [group for group in groups if group not in (chat, reasoning)]
        ways.append([*rest, (*reasoning, *chat)])
    if len(groups) > 1:
        ways.append([tuple(role for group in groups for role in group)])
    return ways


def _best(
    entries: Sequence[Entry], group: Group, wanted: Wanted, size: int, lower: bool, cache: str, lean: bool
) -> Choice | None:
    """The best of at most a class, at a role's own bits or the next lower ones, with a type of KV cache."""
    rule = RULES[group[0]]
    bits = rule.lower[:1] if lower else rule.quantisations[-1:]
    # several roles on one model are no longer only chat
    largest = min(rule.largest, size) if len(group) == 1 else size
    capped = replace(rule, quantisations=bits, lower=(), largest=largest)
    tried = [one for one in candidates(entries, group, "cpu", wanted, capped) if one.cache_type == cache]
    if not lean or not tried:
        return next(iter(tried), None)
    return min((one for one in tried if one.entry.size == tried[0].entry.size), key=lambda one: one.need.total_mib)


def _told(choice: Choice, has_gpu: bool, shared: bool) -> Choice:
    where = "on the CPU, always available beside the GPU" if has_gpu else "on the CPU, since there is no GPU for it"
    together = shared and len(choice.roles) > 1
    others = [f"one model for {', '.join(choice.roles)}: models of their own would be no larger"] if together else []
    return choice.because(where, *others, *because_of_bits(choice))
