"""Experts in RAM: which tensors stay there, which splits are offered, and that claim and flags agree."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.config import LoadedConfig, ModelConfig, load_config
from benchai.config.tensors import in_ram
from benchai.errors import ConfigError
from benchai.runtime.engine.discover import Engine
from benchai.runtime.placement.decide import Place, Refuse, Resident, Wanted, decide
from benchai.runtime.placement.estimate import Settings, estimate
from benchai.runtime.placement.footprint import kv_bytes, window_cells
from benchai.runtime.placement.gauge import Gauge
from benchai.runtime.placement.memory import MemoryBook, Need, draft_types, estimate_with, settings_of
from benchai.runtime.placement.model_info import ModelInfo, read_model_info
from benchai.runtime.placement.moe import (
    ExpertsInRam,
    expert_layers,
    kept_bytes,
    layers_in_ram,
    left_bytes,
    parts_mib,
    split_claims,
    split_layers,
    split_table,
    staging_bytes,
    user_splits,
)
from benchai.runtime.placement.outlook import outlook
from benchai.runtime.placement.plan import placed, plan_fleet, plan_model
from tests.conftest import TINY
from tests.shapes import SHAPES, write_shape

SERVER = Engine("llama-server", Path("/opt/llama-server"))
MIB = 1024 * 1024
#: Bytes of one expert tensor of Qwen3-30B-A3B in F16, and of a layer's three.
TENSOR = 128 * 768 * 2048 * 2
LAYER = 3 * TENSOR


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    shape = SHAPES["Qwen3-30B-A3B"].smaller(48, 2048)
    return read_model_info(write_shape(tmp_path_factory.mktemp("moe") / "moe.gguf", shape))


@pytest.fixture(scope="module")
def whole(info: ModelInfo) -> int:
    return estimate(info, context=4096, on_gpu=True).total_mib


# ---- what stays in RAM


def test_the_experts_of_each_layer_are_known(info: ModelInfo) -> None:
    assert info.expert_bytes == (LAYER,) * 48
    assert expert_layers(info) == 48
    assert sum(info.expert_bytes) < info.weight_bytes
    assert "tensors" not in repr(info)


def test_a_dense_model_has_none() -> None:
    info = read_model_info(TINY)
    assert (info.expert_bytes, expert_layers(info), split_table(info, 100)) == ((), 0, [])
    assert split_layers(info, 1000, 10) == []


def test_the_last_layer_with_experts_counts(info: ModelInfo) -> None:
    assert expert_layers(replace(info, expert_bytes=(0, 5, 5, 0))) == 3


@pytest.mark.parametrize(
    ("layers", "overrides", "kept"),
    [
        (0, [], 0),
        (1, [], LAYER),
        (10, [], 10 * LAYER),
        (48, [], 48 * LAYER),
        (99, [], 48 * LAYER),
        (0, ["exps=CPU"], 48 * LAYER),
        (0, [r"blk\.(0|1)\.ffn_up_exps=CPU"], 2 * TENSOR),
        (1, [r"blk\.47\.ffn_up_exps=CPU"], LAYER + TENSOR),
        # the first pattern that matches counts, and a user's before the experts
        (1, [r"blk\.0\.ffn_up_exps=CUDA0"], LAYER - TENSOR),
        (0, [r"ffn_up_exps=CUDA0", "exps=CPU"], 48 * 2 * TENSOR),
        (0, [r"attn_output=CPU"], 48 * 32 * 128 * 2048 * 2),
        # layer 1 is not layer 10
        (0, [r"blk\.1\.ffn_up_exps=CPU"], TENSOR),
        # the input embedding lies in RAM anyway
        (0, ["token_embd=CPU"], 0),
    ],
)
def test_what_stays_in_ram(info: ModelInfo, layers: int, overrides: list[str], kept: int) -> None:
    assert kept_bytes(info, layers, overrides) == kept


def test_a_large_batch_copies_one_tensor_at_a_time(info: ModelInfo) -> None:
    assert (staging_bytes(info, 0), staging_bytes(info, 3)) == (0, TENSOR)


@given(layers=st.integers(0, 48))
def test_both_parts_hold_the_whole_model(info: ModelInfo, whole: int, layers: int) -> None:
    on_gpu, kept = parts_mib(info, whole, layers)
    staging = -(-staging_bytes(info, layers) // MIB)
    assert whole + staging <= on_gpu + kept <= whole + staging + 1


# ---- which splits are offered


@given(room=st.integers(0, 70_000))
def test_as_few_experts_as_fit(info: ModelInfo, whole: int, room: int) -> None:
    offered = split_layers(info, whole, room)
    assert len(offered) <= 8
    assert offered == sorted(set(offered))
    for count in offered:
        assert parts_mib(info, whole, count)[0] <= room
    if not offered:
        assert parts_mib(info, whole, 48)[0] > room
    else:
        assert offered[-1] == 48
        assert offered[0] == 1 or parts_mib(info, whole, offered[0] - 1)[0] > room


@pytest.mark.parametrize(("room", "first"), [(2_000, None), (11_288, 41), (23_576, 31), (60_000, 1)])
def test_the_splits_of_a_card(info: ModelInfo, whole: int, room: int, first: int | None) -> None:
    assert next(iter(split_layers(info, whole, room)), None) == first


def test_the_table_goes_from_none_to_all(info: ModelInfo, whole: int) -> None:
    table = split_table(info, whole)
    assert [row["layers"] for row in table] == [0, 12, 24, 36, 48]
    assert table[0] == {"layers": 0, "gpu_mib": whole, "ram_mib": 0}
    assert table[-1]["ram_mib"] == 48 * LAYER // MIB


def test_claims_on_several_gpus() -> None:
    claims = list(split_claims(900, 5000, 7, ["gpu0", "gpu1"], {"gpu0": 2000, "gpu1": 1000}, [0] * 11))
    assert claims == [
        {"gpu0": 900, "cpu": 5000},
        {"gpu1": 900, "cpu": 5000},
        {"gpu0": 600, "gpu1": 300, "cpu": 5000},
    ]
    assert [layers_in_ram(claim) for claim in claims] == [7, 7, 7]
    assert (layers_in_ram({"gpu0": 1}), layers_in_ram(None)) == (0, 0)


@given(layers=st.integers(0, 48), sizes=st.lists(st.integers(1000, 50_000), min_size=2, max_size=4))
def test_a_gpu_is_claimed_for_the_layers_that_it_gets(
    info: ModelInfo, whole: int, layers: int, sizes: list[int]
) -> None:
    gpus = [f"gpu{number}" for number in range(len(sizes))]
    on_gpu, kept = parts_mib(info, whole, layers)
    left = left_bytes(info, layers)
    totals = dict(zip(gpus, sizes, strict=True))
    claim = list(split_claims(on_gpu, kept, layers, gpus, totals, left))[-1]
    # llama.cpp: a layer goes to the first GPU whose end, as a share of all, lies behind its number by that of all
    ends = [sum(sizes[: place + 1]) / sum(sizes) for place in range(len(sizes))]
    for place, gpu in enumerate(gpus):
        mine = [layer for layer in range(48) if next(at for at, end in enumerate(ends) if end > layer / 49) == place]
        assert claim[gpu] * MIB >= sum(left[layer] for layer in mine)
    together = sum(claim[gpu] for gpu in gpus)
    assert on_gpu <= together <= on_gpu + 2 * len(gpus)


def test_the_layers_behind_those_in_ram_weigh_on_the_last_gpu(info: ModelInfo, whole: int) -> None:
    on_gpu, kept = parts_mib(info, whole, 24)
    gpus, totals = ["gpu0", "gpu1"], {"gpu0": 24_000, "gpu1": 24_000}
    claim = list(split_claims(on_gpu, kept, 24, gpus, totals, left_bytes(info, 24)))[-1]
    assert claim["gpu1"] - claim["gpu0"] > 21 * LAYER // MIB


@given(
    layers=st.integers(0, 48),
    overrides=st.lists(
        st.sampled_from(["exps=CPU", r"blk\.1\d\.=CPU", "up_exps=CUDA0", "attn_q=CUDA_Host"]), max_size=3
    ),
)
def test_more_layers_in_ram_never_take_more_of_the_gpu(
    info: ModelInfo, whole: int, layers: int, overrides: list[str]
) -> None:
    one, more = (parts_mib(info, whole, count, overrides) for count in (layers, layers + 1))
    assert more[0] <= one[0]
    assert more[1] >= one[1]
    assert sum(one) * MIB >= whole * MIB + staging_bytes(info, layers, overrides)
    assert sum(left_bytes(info, layers, overrides)) + kept_bytes(info, layers, overrides) >= sum(info.layer_bytes)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], False),
        (["--no-warmup"], False),
        (["-ot", "exps=CPU"], True),
        (["--override_tensor", "x=CPU"], True),
        (["--n-cpu-moe", "3"], True),
    ],
)
def test_who_splits_by_further_flags(args: list[str], expected: bool) -> None:
    assert user_splits(args) is expected


# ---- the decision


def split(gpu: int, ram: int, layers: int) -> ExpertsInRam:
    return ExpertsInRam({"gpu0": gpu, "cpu": ram}, layers)


OPTIONS = ({"gpu0": 60_000}, split(10_000, 50_000, 40), split(4_000, 56_000, 48), {"cpu": 61_000})
BUDGET = {"gpu0": 11_000, "cpu": 64_000}


def idle(mib: int) -> Resident:
    return Resident("code", {"gpu0": mib}, pinned=False, busy=False, reload_seconds=5, last_used=0)


@pytest.mark.parametrize(
    ("budget", "residents", "layers", "stops"),
    [
        pytest.param(BUDGET, [], 40, (), id="as few in RAM as fit"),
        pytest.param(BUDGET, [idle(6000)], 48, (), id="more in RAM rather than another model's end"),
        pytest.param(BUDGET, [idle(8000)], 40, ("code",), id="where one has to leave, as few as fit"),
        pytest.param(BUDGET, [replace(idle(6000), pinned=True)], 48, (), id="beside a pinned one"),
        pytest.param({"gpu0": 60_000, "cpu": 64_000}, [], 0, (), id="the whole on the GPU where it fits"),
        pytest.param(BUDGET, [replace(idle(8000), pinned=True)], 0, (), id="else the CPU"),
    ],
)
def test_experts_go_to_ram_first(
    budget: dict[str, int], residents: list[Resident], layers: int, stops: tuple[str, ...]
) -> None:
    decision = decide(budget, residents, Wanted("moe", OPTIONS))
    assert isinstance(decision, Place)
    assert (layers_in_ram(decision.claim), decision.stop) == (layers, stops)


def test_too_little_ram_for_the_experts_is_refused() -> None:
    decision = decide({"gpu0": 11_000, "cpu": 8_000}, [], Wanted("moe", OPTIONS))
    assert isinstance(decision, Refuse)
    assert "50000 MiB on cpu" in decision.reason


# ---- the memory book and the plan: a budget stands in for a GPU


def configured(folder: Path, file: Path, vram: int, **settings: Any) -> LoadedConfig:
    model = {"file": str(file), "placement": "gpu", "context": 4096, **settings}
    data = {"models": {"m": model}, "fleet": {"memory": {"vram": vram, "reserve": 0}}}
    path = folder / "benchai.yaml"
    path.write_text(json.dumps(data), encoding="utf-8")
    return load_config(path, {})


def need(folder: Path, file: Path, vram: int, **settings: Any) -> Need:
    with Gauge() as gauge:
        return MemoryBook(configured(folder, file, vram, **settings), gauge).need("m", file, SERVER)


def test_the_options_of_a_mixture_of_experts(tmp_path: Path, info: ModelInfo) -> None:
    options = need(tmp_path, info.path, 12_000).options
    assert [layers_in_ram(option) for option in options] == [0, 40, 42, 44, 46, 48]
    assert set(options[0]) == {"gpu0"}
    for fewer, more in pairwise(options[1:]):
        assert more["gpu0"] < fewer["gpu0"] <= 12_000
        assert more["cpu"] - fewer["cpu"] == 2 * LAYER // MIB


@pytest.mark.parametrize(
    ("settings", "layers"),
    [
        ({"cpu_moe": 7}, [7]),
        ({"cpu_moe": 99}, [48]),
        ({"cpu_moe": "all"}, [48]),
        ({"cpu_moe": 0}, [0]),
        ({"override_tensors": ["blk.0.ffn_up_exps=CPU"]}, [0]),
        ({"override_tensors": ["blk.0.ffn_up_exps=CPU"], "cpu_moe": 2}, [2]),
        ({"override_tensors": ["output=CUDA0"]}, [0]),
        ({"extra_args": ["-ot", "exps=CPU"]}, [0]),
        ({"hybrid": True}, [0, 0]),
    ],
)
def test_who_says_where_experts_go_is_heard(
    tmp_path: Path, info: ModelInfo, settings: dict[str, Any], layers: list[int]
) -> None:
    assert [layers_in_ram(option) for option in need(tmp_path, info.path, 12_000, **settings).options] == layers


def test_overridden_tensors_are_claimed_in_ram(tmp_path: Path, info: ModelInfo) -> None:
    [option] = need(tmp_path, info.path, 70_000, override_tensors=["exps=CPU"]).options
    [usual] = need(tmp_path, info.path, 70_000, cpu_moe=0).options
    # a large batch copies them to the GPU like those of --cpu-moe
    [split] = need(tmp_path, info.path, 70_000, cpu_moe="all").options
    assert (option["gpu0"], option["cpu"]) == (split["gpu0"], split["cpu"])
    assert usual["gpu0"] - option["gpu0"] == (48 * LAYER - TENSOR) // MIB
    assert option["cpu"] > 48 * LAYER // MIB


def test_experts_of_a_dense_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"models.m.cpu_moe = 3: the model is no mixture of experts"):
        need(tmp_path, TINY, 1000, cpu_moe=3)
    assert [layers_in_ram(one) for one in need(tmp_path, TINY, 10).options] == [0]


def test_a_measurement_belongs_to_its_split(tmp_path: Path, info: ModelInfo) -> None:
    loaded = configured(tmp_path, info.path, 12_000)
    with Gauge() as gauge:
        book = MemoryBook(loaded, gauge)
        before = book.need("m", info.path, SERVER).options
        book._measured.put(book.key("m", info.path), "gpu, experts of 44 layers in RAM", 9_999)
        after = book.need("m", info.path, SERVER).options
    changed = [layers_in_ram(new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [44]
    assert after[3]["gpu0"] == 9_999


@pytest.mark.parametrize(
    ("settings", "claim", "flags"),
    [
        ({}, split(1, 1, 5), ["--n-cpu-moe", "5"]),
        ({}, {"gpu0": 1}, []),
        ({}, {"cpu": 1}, []),
        ({"cpu_moe": 3}, split(1, 1, 3), ["--n-cpu-moe", "3"]),
        ({"cpu_moe": "all"}, split(1, 1, 48), ["--cpu-moe"]),
        ({"cpu_moe": 0}, {"gpu0": 1}, []),
        (
            {"override_tensors": ["a=CPU", "b=CUDA0"], "cpu_moe": 1},
            split(1, 1, 1),
            ["--override-tensor", "a=CPU", "--override-tensor", "b=CUDA0", "--n-cpu-moe", "1"],
        ),
    ],
)
def test_the_flags_are_those_of_the_claim(
    tmp_path: Path, settings: dict[str, Any], claim: dict[str, int], flags: list[str]
) -> None:
    loaded = configured(tmp_path, TINY, 1000, **settings)
    argv = plan_model(loaded, "m", SERVER, ["gpu0"], TINY, claim).argv
    named = {"--n-cpu-moe", "--cpu-moe", "--override-tensor"}
    start = min((at for at, word in enumerate(argv) if word in named), default=len(argv))
    assert argv[start : start + len(flags)] == flags
    assert not named & {*argv[start + len(flags) :]}


def test_the_plan_of_a_fleet_shows_the_split(tmp_path: Path) -> None:
    shape = replace(SHAPES["Qwen3-30B-A3B"].smaller(6, 2048), embedding=512, expert_feed_forward=256)
    file = write_shape(tmp_path / "moe.gguf", shape)
    loaded = configured(tmp_path, file, 560)
    view = outlook(loaded, SERVER)
    claim = view.claims()["m"]
    assert view.of("m")["claim"] == dict(claim)  # type: ignore[index]
    [plan] = plan_fleet(loaded, SERVER, view.gpus, view.claims())
    assert plan.argv[plan.argv.index("--n-cpu-moe") + 1] == str(layers_in_ram(claim))
    assert 0 < layers_in_ram(claim) < 6
    whole = outlook(configured(tmp_path, file, 2000), SERVER).claims()["m"]
    assert (list(whole), layers_in_ram(whole)) == (["gpu0"], 0)


def test_the_other_flags(tmp_path: Path) -> None:
    draft = {"file": str(TINY), "cache_type_k": "q8_0", "cache_type_v": "q4_0"}
    argv = plan_model(configured(tmp_path, TINY, 1000, swa_full=True, draft=draft), "m", SERVER, []).argv
    assert "--swa-full" in argv
    assert argv[argv.index("--cache-type-k-draft") + 1] == "q8_0"
    assert argv[argv.index("--cache-type-v-draft") + 1] == "q4_0"
    plain = plan_model(configured(tmp_path, TINY, 1000), "m", SERVER, []).argv
    assert not {"--swa-full", "--cache-type-k-draft", "--cpu-moe", "--n-cpu-moe"} & set(plain)


def test_a_split_is_no_hybrid() -> None:
    model = ModelConfig.model_validate({"file": "m.gguf"})
    launched, env = placed(model, ["gpu0"], split(1, 1, 5))
    assert (launched.gpu_layers, launched.cpu_moe, launched.extra_args) == ("all", 5, ["--fit", "off"])
    assert env["CUDA_VISIBLE_DEVICES"] == "0"


# ---- keys of the configuration


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("exps", "PATTERN=BUFFER is expected"),
        ("=CPU", "PATTERN=BUFFER is expected"),
        ("a=", "'' is no buffer"),
        ("a=CPU;rm", "'CPU;rm' is no buffer"),
        ("a,b=CPU", "a comma separates entries"),
        ("blk.(=CPU", "'blk.(' is no regular expression"),
    ],
)
def test_a_wrong_entry_is_told(tmp_path: Path, entry: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"models.m.override_tensors.0") as caught:
        configured(tmp_path, TINY, 1000, override_tensors=[entry])
    assert said in str(caught.value)


def test_which_entries_mean_ram() -> None:
    assert in_ram("a=b=CPU") is not None
    assert in_ram("a=CUDA_Host") is not None
    assert in_ram("a=CUDA0") is None


# ---- sliding windows and cache types


def test_a_full_window_keeps_the_whole_context(tmp_path: Path) -> None:
    info = read_model_info(write_shape(tmp_path / "gemma.gguf", SHAPES["Gemma-3-4B"].smaller(34, 2048)))
    usual = Settings(32768, slots=2)
    full = replace(usual, swa_full=True)
    assert window_cells(info, full) == 32768 > window_cells(info, usual)
    assert kv_bytes(info, full) == 34 * 2 * 4 * 256 * 2 * 32768
    assert estimate(info, context=32768, swa_full=True).kv_mib > 4 * estimate(info, context=32768).kv_mib
    plain = replace(info, sliding_window=None, window_layers=())
    assert window_cells(plain, full) == 0


def test_the_settings_reach_the_estimate(info: ModelInfo) -> None:
    model = ModelConfig.model_validate(
        {"file": "m.gguf", "swa_full": True, "draft": {"file": "d.gguf", "cache_type_k": "q8_0"}}
    )
    assert settings_of(model, info, 1).swa_full
    assert not settings_of(None, info, 1).swa_full
    assert draft_types(model) == ("q8_0", "f16")
    assert draft_types(None) == ("f16", "f16")


def test_the_types_of_the_draft_count(info: ModelInfo) -> None:
    draft = read_model_info(TINY)
    settings = Settings(2048)
    plain = estimate_with(info, settings, False, None, draft)
    small = estimate_with(info, settings, False, None, draft, ("q4_0", "q4_0"))
    assert small.kv_mib < plain.kv_mib
    assert (small.weights_mib, small.compute_mib) == (plain.weights_mib, plain.compute_mib)
