"""What a tune tries for which model, and what a choice means for the model's settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchai.config import ModelConfig
from benchai.runtime.tune.space import (
    Situation,
    change_of,
    changed,
    first_tries,
    knobs,
    labels_of,
    parts_of,
    said,
    value_of,
)

CPU = Situation(model=ModelConfig(file="a.gguf"), on_gpu=False, cores=8, logical=16, layers=32, slots=2, goal="latency")
GPU = replace(CPU, on_gpu=True)
DRAFT = {"file": "d.gguf", "max_tokens": 16}


def with_model(situation: Situation, **settings: Any) -> Situation:
    return replace(situation, model=ModelConfig(file="a.gguf", **settings))


def values(situation: Situation, name: str) -> list[Any]:
    """The values of a knob, and of the first key where it turns several; empty where there is no such knob."""
    found = [knob for knob in knobs(situation) if knob.name == name]
    return [next(iter(option.values())) for option in found[0].options[1:]] if found else []


@pytest.mark.parametrize(
    ("situation", "knob", "expected"),
    [
        # 8 threads are what the engine takes unasked
        (CPU, "threads", [2, 3, 4, 6, 12, 16]),
        (with_model(CPU, threads=4), "threads", [2, 3, 6, 8, 12, 16]),
        (replace(CPU, cores=1, logical=1), "threads", []),
        (GPU, "threads", [1, 2, 4]),
        (with_model(GPU, threads=12), "threads", [1, 2, 4, 8]),
        (CPU, "ubatch_size", [64, 128, 256, 1024, 2048]),
        (CPU, "flash_attn", [True, False]),
        (with_model(CPU, cache_type_v="q8_0"), "flash_attn", [True]),
        (CPU, "kv", []),
        (replace(CPU, lossy=True), "kv", ["q8_0"]),
        (with_model(replace(CPU, lossy=True), flash_attn=False), "kv", []),
        (with_model(replace(CPU, lossy=True), cache_type_k="q4_0", cache_type_v="q4_0"), "kv", ["f16", "q8_0"]),
        (CPU, "slots", []),
        (replace(CPU, goal="throughput"), "slots", [1, 4, 8]),
        (GPU, "gpu_layers", []),
        (with_model(GPU, hybrid=True), "gpu_layers", [0, 8, 16, 24, "all"]),
        (with_model(CPU, hybrid=True), "gpu_layers", []),
        (CPU, "ngram", [True]),
        (with_model(CPU, draft=DRAFT), "ngram", []),
        (with_model(CPU, draft=DRAFT), "draft.max_tokens", [2, 4, 8, 32]),
    ],
)
def test_the_values_of_a_knob(situation: Situation, knob: str, expected: list[Any]) -> None:
    assert values(situation, knob) == expected


def test_each_knob_can_be_left_as_it_is() -> None:
    assert all(knob.options[0] == {} for knob in knobs(replace(GPU, lossy=True, goal="throughput")))


def test_a_model_on_the_gpu_begins_with_fewer_threads_and_flash_attention() -> None:
    situation = with_model(GPU, threads=12)
    tries = first_tries(situation, knobs(situation))
    assert tries[:4] == [{}, {"threads": 8, "flash_attn": True}, {"threads": 4}, {"threads": 2}]


def test_a_model_on_the_cpu_begins_with_the_physical_cores() -> None:
    situation = with_model(CPU, threads=16)
    assert {"threads": 8, "flash_attn": True} in first_tries(situation, knobs(situation))


def test_first_tries_are_of_the_space_and_never_twice() -> None:
    space = knobs(CPU)
    tries = first_tries(CPU, space)
    assert tries[0] == {}
    assert len(tries) == len({said(one) for one in tries})
    for one in tries:
        assert change_of(labels_of(space, one), CPU.model) == one


@pytest.mark.parametrize(
    ("model", "chosen", "meant"),
    [
        # the engine would make the micro-batch smaller itself
        ({}, {"batch_size": 256}, {"batch_size": 256, "ubatch_size": 256}),
        ({"batch_size": 512}, {"ubatch_size": 2048}, {"ubatch_size": 512}),
        ({"batch_size": 512, "ubatch_size": 512}, {"batch_size": 1024}, {"batch_size": 1024}),
        (
            {},
            {"cache_type_k": "q8_0", "cache_type_v": "q8_0", "flash_attn": False},
            {"cache_type_k": "q8_0", "cache_type_v": "q8_0"},
        ),
    ],
)
def test_what_would_contradict_itself_is_brought_into_line(
    model: dict[str, Any], chosen: dict[str, Any], meant: dict[str, Any]
) -> None:
    situation = with_model(replace(CPU, lossy=True), **model)
    assert change_of(labels_of(knobs(situation), chosen), situation.model) == meant


def test_a_change_leaves_the_other_settings() -> None:
    model = ModelConfig.model_validate({"file": "a.gguf", "threads": 4, "draft": DRAFT})
    after = changed(model, {"draft.max_tokens": 8, "flash_attn": True})
    assert after == ModelConfig.model_validate(
        {"file": "a.gguf", "threads": 4, "draft": DRAFT | {"max_tokens": 8}, "flash_attn": True}
    )
    assert value_of(model, "draft.max_tokens") == 16
    assert value_of(ModelConfig(file="a.gguf"), "draft.max_tokens") is None


def test_a_change_that_contradicts_the_settings_is_told() -> None:
    with pytest.raises(ValueError, match="needs flash attention"):
        changed(ModelConfig(file="a.gguf", flash_attn=False), {"cache_type_v": "q8_0"})


def test_both_cache_types_are_one_part() -> None:
    change = {"threads": 4, "cache_type_k": "q8_0", "cache_type_v": "q8_0"}
    parts = parts_of(change, knobs(replace(CPU, lossy=True)))
    assert parts == [{"threads": 4}, {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}]
