"""What a tune may change, which values it tries, and where it begins.

The values and the first tries follow the seed ("llama.cpp Optimization", "Quick Wins"): fewer threads for a model on
the GPU, flash attention on, half batches. Values that equal the engine's own default are left out: they'd be the
same engine twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchai.config import ModelConfig

Goal = Literal["latency", "throughput", "first-token"]
GOALS: tuple[Goal, ...] = ("latency", "throughput", "first-token")
Change = dict[str, Any]
"""Other values for keys of a model (``{"threads": 4, "draft.max_tokens": 8}``); empty: as it is."""

THREADS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
GPU_THREADS = (1, 2, 4, 8)
BATCHES = (256, 512, 1024, 4096)
UBATCHES = (64, 128, 256, 1024, 2048)
ENGINE_DEFAULTS: Mapping[str, Any] = {"batch_size": 2048, "ubatch_size": 512}
SLOTS = (1, 2, 4, 8)
DRAFTED = (2, 4, 8, 16, 32)
EXACT_KV, SMALL_KV = ("f32", "f16", "bf16"), "q8_0"
FIRST_TRIES = 6


@dataclass(frozen=True)
class Situation:
    """What decides the space: the model as it is, where it was placed, and the machine.

    ``cores`` are physical, ``logical`` counts hyper-threads. ``lossy`` allows what changes the replies.
    """

    model: ModelConfig
    on_gpu: bool
    cores: int
    logical: int
    layers: int
    slots: int
    goal: Goal
    lossy: bool = False


@dataclass(frozen=True)
class Knob:
    """One thing that may be turned; the first option changes nothing."""

    name: str
    options: tuple[Change, ...]

    @property
    def labels(self) -> list[str]:
        """The options as text, for the study."""
        return [json.dumps(option, sort_keys=True) for option in self.options]


def knobs(situation: Situation) -> list[Knob]:
    """All that a tune of this model may turn; a knob without a choice is left out."""
    model = situation.model
    found = [
        _knob(model, "threads", _threads(situation), situation.cores),
        _knob(model, "threads_batch", _threads(situation), model.threads or situation.cores),
        _knob(model, "batch_size", BATCHES),
        _knob(model, "ubatch_size", UBATCHES),
        _flash(situation),
        _kv(situation),
        *_speculative(model),
    ]
    if situation.goal == "throughput":
        found.append(_knob(model, "slots", SLOTS, situation.slots))
    if situation.on_gpu and model.hybrid and situation.layers:
        parts = [round(situation.layers * quarter / 4) for quarter in range(4)]
        found.append(_knob(model, "gpu_layers", (*parts, "all")))
    return [knob for knob in found if len(knob.options) > 1]


def _knob(model: ModelConfig, key: str, values: Sequence[Any], unset: Any = None) -> Knob:
    now = value_of(model, key)
    if now is None:
        now = ENGINE_DEFAULTS.get(key, unset)
    return Knob(key, ({}, *({key: value} for value in values if value != now)))


def _threads(situation: Situation) -> list[int]:
    if situation.on_gpu:
        return [count for count in GPU_THREADS if count <= situation.logical]
    known = {count for count in THREADS if situation.cores // 4 <= count <= situation.logical}
    return sorted(known | {situation.cores, situation.logical})


def _flash(situation: Situation) -> Knob:
    model = situation.model
    needed = model.cache_type_v not in (None, *EXACT_KV)
    return _knob(model, "flash_attn", (True,) if needed else (True, False))


def _kv(situation: Situation) -> Knob:
    """Both caches at once: of two types the engine has few fast ways."""
    model = situation.model
    now = (model.cache_type_k or "f16", model.cache_type_v or "f16")
    values = ("f16", SMALL_KV) if situation.lossy and model.flash_attn is not False else ()
    others = tuple({"cache_type_k": one, "cache_type_v": one} for one in values if (one, one) != now)
    return Knob("kv", ({}, *others))


def _speculative(model: ModelConfig) -> list[Knob]:
    if model.draft is not None:
        return [_knob(model, "draft.max_tokens", DRAFTED)]
    return [_knob(model, "ngram", (True, False))]


def value_of(model: ModelConfig, key: str) -> Any:
    """The value of a key, with a dot for what lies in a section; None where the section is not set."""
    value: Any = model
    for part in key.split("."):
        value = getattr(value, part) if value is not None else None
    return value


def first_tries(situation: Situation, space: Sequence[Knob]) -> list[Change]:
    """What the rules would try, the model as it is first; each is one that the space has."""
    threads = [{"threads": count} for count in ((8, 4, 2) if situation.on_gpu else (situation.cores,))]
    flash = {"flash_attn": True}
    wishes: list[Change] = [
        {},
        *({**one, **flash} for one in threads[:1]),
        *threads[1:],
        flash,
        {"ubatch_size": 256},
        {"ngram": True},
        {"cache_type_k": SMALL_KV, "cache_type_v": SMALL_KV, **flash},
        {"slots": 4},
        {"threads_batch": situation.logical},
    ]
    known = [{key: value for key, value in wish.items() if _offers(space, key, value)} for wish in wishes]
    tries: list[Change] = [{}]
    tries += [one for place, one in enumerate(known) if one and one not in known[:place]]
    return tries[:FIRST_TRIES]


def _offers(space: Sequence[Knob], key: str, value: Any) -> bool:
    return any(key in option and _equal(option[key], value) for knob in space for option in knob.options)


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def labels_of(space: Sequence[Knob], change: Change) -> dict[str, str]:
    """A change as the study writes it: the label of each knob's option."""
    found = {}
    for knob in space:
        chosen = next((one for one in knob.options[1:] if one.items() <= change.items()), {})
        found[knob.name] = json.dumps(chosen, sort_keys=True)
    return found


def change_of(labels: Mapping[str, str], model: ModelConfig) -> Change:
    """The change that a study's labels mean; what would contradict itself is brought into line."""
    change: Change = {}
    for label in labels.values():
        change |= json.loads(label)
    batch = change.get("batch_size") or model.batch_size or ENGINE_DEFAULTS["batch_size"]
    ubatch = change.get("ubatch_size") or model.ubatch_size or ENGINE_DEFAULTS["ubatch_size"]
    if ubatch > batch:
        # the engine would do so silently
        change["ubatch_size"] = batch
    if change.get("cache_type_v") == SMALL_KV and change.get("flash_attn") is False:
        del change["flash_attn"]
    return change


def parts_of(change: Change, space: Sequence[Knob]) -> list[Change]:
    """A change by the knobs that made it."""
    keys = [[key for key in change if any(key in option for option in knob.options)] for knob in space]
    return [{key: change[key] for key in one} for one in keys if one]


def changed(model: ModelConfig, change: Change) -> ModelConfig:
    """The settings after a change.

    Raises:
        ValueError: they contradict each other.
    """
    data = model.model_dump(exclude_unset=True)
    for key, value in change.items():
        section = data
        *inner, last = key.split(".")
        for part in inner:
            section = section[part]
        section[last] = value
    return ModelConfig.model_validate(data)


def said(change: Change) -> str:
    """A change in words."""
    return ", ".join(f"{key} {_word(value)}" for key, value in change.items()) or "as configured"


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
