"""What one model takes, and the best one for a role that a room holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from benchai.runtime.advise.catalogue import Entry
from benchai.runtime.advise.rules import RULES, SMALLEST_CONTEXT, SOUND_CLASS, UBATCH, Rule, concurrency
from benchai.runtime.advise.sizes import estimated_info, estimated_projector
from benchai.runtime.placement.estimate import Estimate, estimate
from benchai.runtime.placement.model_info import ModelInfo
from benchai.runtime.placement.moe import parts_mib

Place = Literal["gpu", "cpu"]
#: Roles that one model serves.
Group = tuple[str, ...]


@dataclass(frozen=True)
class File:
    """A model file that is there already."""

    path: Path
    info: ModelInfo


@dataclass(frozen=True)
class Wanted:
    """What is asked for: a context for all roles (None: each role's own), and the files that are there.

    ``files`` has them by the name that the catalogue gives them. With ``experts_in_ram`` a mixture of experts that is
    too large for a GPU may keep experts in RAM.
    """

    context: int | None = None
    files: Mapping[str, File] = field(default_factory=dict)
    experts_in_ram: bool = False


@dataclass(frozen=True)
class Choice:
    """One model for one or more roles, and what it takes.

    Attributes:
        roles: What it serves.
        entry: Which model.
        quantisation: Of its file.
        context: Tokens.
        cache_type: Of the KV cache.
        place: Where it lives.
        need: MiB there.
        exact: Whether the sizes were read from its file.
        devices: The GPUs it lies on; empty on the CPU.
        on_demand: It is loaded when it is asked for.
        cpu_moe: The layers whose experts stay in RAM while the rest is on the GPU.
        ram_mib: What those take there.
        reasons: Why, in words.
    """

    roles: Group
    entry: Entry
    quantisation: str
    context: int
    cache_type: str
    place: Place
    need: Estimate
    exact: bool
    devices: tuple[int, ...] = ()
    on_demand: bool = False
    cpu_moe: int = 0
    ram_mib: int = 0
    reasons: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The name under which its file is kept."""
        return self.entry.file(self.quantisation)

    def because(self, *reasons: str) -> Choice:
        """The same with further reasons."""
        return replace(self, reasons=(*self.reasons, *reasons))


def measured(choice: Choice, wanted: Wanted) -> Choice:
    """The same choice with the sizes of its file, once that is there."""
    whole = _choice(choice, choice.entry, choice.quantisation, choice.context, choice.cache_type, choice.place, wanted)
    return split(whole, choice.cpu_moe, wanted) if choice.cpu_moe else whole


def split(whole: Choice, layers: int, wanted: Wanted) -> Choice:
    """A choice that lies on the GPU whole, with the experts of its first layers in RAM instead."""
    on_gpu, in_ram = parts_mib(info_of(whole, wanted), whole.need.total_mib, layers)
    weights = whole.need.weights_mib - (whole.need.total_mib - on_gpu)
    return replace(whole, need=replace(whole.need, weights_mib=weights), cpu_moe=layers, ram_mib=in_ram)


def info_of(choice: Choice, wanted: Wanted) -> ModelInfo:
    """The shape and sizes of a choice's file, there or estimated."""
    found = wanted.files.get(choice.file)
    return found.info if found else estimated_info(choice.entry, choice.quantisation)


def _choice(
    like: Choice | Group,
    entry: Entry,
    quantisation: str,
    context: int,
    cache_type: str,
    place: Place,
    wanted: Wanted,
) -> Choice:
    roles = like.roles if isinstance(like, Choice) else like
    found = wanted.files.get(entry.file(quantisation))
    info = found.info if found else estimated_info(entry, quantisation)
    beside = wanted.files.get(entry.projector_file)
    need = estimate(
        info,
        context=context,
        slots=concurrency(roles),
        cache_type_k=cache_type,
        cache_type_v=cache_type,
        ubatch=context if entry.shape.encoder else UBATCH,
        on_gpu=place == "gpu",
        projector=beside.info if beside else estimated_projector(entry),
        embedding=bool({"embed", "rerank"} & set(roles)),
    )
    exact = found is not None and (entry.projector is None or beside is not None)
    if isinstance(like, Choice):
        return replace(like, need=need, exact=exact)
    return Choice(roles, entry, quantisation, context, cache_type, place, need, exact)


def joined(choice: Choice, roles: Group, wanted: Wanted) -> Choice:
    """The same choice for further roles."""
    return measured(replace(choice, roles=(*choice.roles, *roles)), wanted)


def longer(choice: Choice, context: int, wanted: Wanted) -> Choice:
    """The same choice with another context."""
    made = replace(choice, context=context)
    return measured(made, wanted)


def candidates(
    entries: Iterable[Entry], roles: Group, place: Place, wanted: Wanted, rule: Rule | None = None
) -> Iterator[Choice]:
    """All ways to serve some roles at the full context, the best first.

    A larger class comes before a smaller one, within a class the catalogue's order; of one model, finer weights come
    first, and a q8_0 KV cache after f16. Classes that are not sound come after sound ones at lower bits; sound ones at
    still lower bits come last.
    """
    used = rule or RULES[roles[0]]
    fitting = [one for one in entries if set(roles) <= set(one.roles)]
    sized = sorted((one for one in fitting if one.size <= used.largest), key=lambda one: -one.size)
    sound = [one for one in sized if one.size >= SOUND_CLASS]
    small = [one for one in sized if one.size < SOUND_CLASS]
    finest = used.quantisations if place == "gpu" else used.quantisations[-1:]
    tries = [(sound, finest), (sound, used.lower[:1]), (small, finest), (small, used.lower), (sound, used.lower[1:])]
    for group, quantisations in tries:
        for entry in group:
            yield from _ways(entry, roles, quantisations, place, wanted, used.context)


def _ways(
    entry: Entry, roles: Group, quantisations: tuple[str, ...], place: Place, wanted: Wanted, usual: int
) -> Iterator[Choice]:
    context = wanted.context or usual
    # a window that the model does not have is no use to anybody
    context = min(context, entry.shape.context)
    if wanted.context is not None and entry.shape.context < wanted.context:
        return
    types = ("f16",) if entry.shape.encoder else ("f16", "q8_0")
    for quantisation in quantisations:
        for cache_type in types if quantisation == quantisations[-1] else types[:1]:
            yield _choice(roles, entry, quantisation, context, cache_type, place, wanted)


def shorter(entries: Iterable[Entry], roles: Group, place: Place, wanted: Wanted) -> Iterator[Choice]:
    """The last resort: the smallest model with ever less context, the KV cache in q8_0."""
    used = RULES[roles[0]]
    fitting = sorted((one for one in entries if set(roles) <= set(one.roles)), key=lambda one: one.parameters)
    context = (wanted.context or used.context) // 2
    while context >= SMALLEST_CONTEXT:
        smaller = replace(wanted, context=context)
        for entry in fitting[:1]:
            for quantisation in (*used.quantisations[-1:], *used.lower):
                yield from list(_ways(entry, roles, (quantisation,), place, smaller, context))[-1:]
        context //= 2


def because_of_bits(choice: Choice) -> list[str]:
    """The reasons for a choice's quantisation, KV cache and context."""
    rule = RULES[choice.roles[0]]
    lower = choice.quantisation not in rule.quantisations
    reasons = [f"{choice.quantisation}: a larger model at lower bits beats a smaller one" if lower else rule.why]
    if choice.cache_type != "f16":
        reasons.append(f"KV cache in {choice.cache_type}, which comes before a smaller context")
    if choice.context < min(rule.context, choice.entry.shape.context):
        reasons.append(f"context {choice.context}, since nothing fits with more")
    return reasons
