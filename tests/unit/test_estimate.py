"""What a model will take: figures worked out by hand from published shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchai.runtime.placement.estimate import (
    BITS_PER_WEIGHT,
    GPU_BASE_MIB,
    MIB,
    Estimate,
    Settings,
    by_quantisation,
    cross_check,
    estimate,
    fit_argv,
    kv_mib_per_context,
    suggestions,
)
from benchai.runtime.placement.fit_tool import FitFigures, parse_fit
from benchai.runtime.placement.model_info import ModelInfo, read_model_info
from tests.shapes import SHAPES, Shape, write_shape

TOKENS = 512


@pytest.fixture(scope="module")
def infos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelInfo]:
    """The published shapes, with all their layers and few tokens."""
    folder = tmp_path_factory.mktemp("shapes")
    found = {}
    for name, shape in SHAPES.items():
        small = shape.smaller(shape.layers, TOKENS)
        found[name] = read_model_info(write_shape(folder / f"{name}.gguf", small))
    return found


@pytest.mark.parametrize(
    ("name", "context", "mib"),
    [
        # 2 (K and V) * layers * KV heads * head size * 2 bytes * tokens
        ("Llama-2-7B", 4096, 2 * 32 * 32 * 128 * 2 * 4096 / MIB),
        ("Llama-2-7B", 4096, 2048),
        ("Llama-3-8B", 8192, 1024),
        ("Qwen2.5-7B", 4096, 224),
        ("Qwen2.5-0.5B", 4096, 48),
        ("Phi-3-mini", 4096, 1536),
        ("Mixtral-8x7B", 4096, 512),
        ("Qwen3-30B-A3B", 4096, 384),
        # 5 of 34 layers see all, 29 see 1024 + 512 tokens; 4 KiB each
        ("Gemma-3-4B", 32768, 5 * 128 + 29 * 6),
        ("Gemma-3-4B", 1024, 34 * 4),
        ("Gemma-2-2B", 8192, 13 * 32 + 13 * 18),
        # cells come in 256
        ("Qwen2.5-7B", 4097, 238),
        ("Qwen2.5-7B", 1, 14),
    ],
)
def test_the_kv_cache(infos: dict[str, ModelInfo], name: str, context: int, mib: int) -> None:
    assert estimate(infos[name], context=context).kv_mib == mib


def test_types_of_the_kv_cache(infos: dict[str, ModelInfo]) -> None:
    def kv(k: str, v: str) -> int:
        return estimate(infos["Llama-2-7B"], context=4096, cache_type_k=k, cache_type_v=v).kv_mib

    assert kv("q8_0", "q8_0") == 2048 * 34 / 64
    assert kv("q4_0", "q4_0") == 2048 * 18 / 64
    assert kv("f16", "q8_0") == 1024 + 1024 * 34 / 64
    assert kv("f32", "f32") == 4096
    with pytest.raises(ValueError, match="'q9' does not exist"):
        kv("q9", "f16")


def test_slots_share_the_context(infos: dict[str, ModelInfo]) -> None:
    full, windowed = infos["Qwen2.5-7B"], infos["Gemma-3-4B"]
    assert estimate(full, context=8192, slots=4).kv_mib == estimate(full, context=8192).kv_mib
    # a window is kept for each slot: 4 * 1024 + 512 tokens, 4 KiB a layer
    assert estimate(windowed, context=32768, slots=4).kv_mib == 5 * 128 + 29 * 18


def test_context_0_is_that_of_the_model(infos: dict[str, ModelInfo]) -> None:
    info = infos["Llama-2-7B"]
    assert estimate(info, context=0) == estimate(info, context=4096)


def test_recurrent_state_does_not_grow_with_the_context(tmp_path: Path) -> None:
    extra = {"ssm.conv_kernel": 4, "ssm.inner_size": 4096, "ssm.state_size": 16}
    shape = Shape("mamba", 48, 2048, 1, 0, 0, TOKENS, extra=dict(extra))
    info = read_model_info(write_shape(tmp_path / "mamba.gguf", shape))
    # 48 layers * (3 + 16) * 4096 float32, for each slot
    assert [estimate(info, context=size).kv_mib for size in (1024, 65536)] == [15, 15]
    assert estimate(info, context=1024, slots=4).kv_mib == 57


def test_latent_attention_keeps_no_v(tmp_path: Path) -> None:
    extra = {"attention.key_length_mla": 192, "attention.value_length_mla": 128}
    shape = Shape("deepseek2", 27, 2048, 16, 1, 10944, TOKENS, head=576, extra=dict(extra))
    info = read_model_info(write_shape(tmp_path / "latent.gguf", shape))
    assert estimate(info, context=16384).kv_mib == 27 * 576 * 2 * 16384 / MIB


def test_compute_grows_with_the_batch_and_without_flash_attention(infos: dict[str, ModelInfo]) -> None:
    info = infos["Qwen2.5-7B"]
    # (3 * 18944 + 5 * 3584) float32 and 4096 cells of mask in 16 bits, for each of 512 tokens: 150 MiB
    assert estimate(info, context=4096).compute_mib == 150
    assert estimate(info, context=4096, ubatch=128).compute_mib == 38
    assert estimate(info, context=128).compute_mib < 38
    without = estimate(info, context=4096, flash_attn=False)
    assert without.compute_mib > 28 * 4096 * 512 * 4 / MIB
    assert without.kv_mib == 224


def test_embeddings_have_an_output_for_each_token(infos: dict[str, ModelInfo]) -> None:
    info = replace(infos["Qwen2.5-7B"], vocabulary=152064)
    assert estimate(info, context=4096, embedding=True).compute_mib == 336


def test_on_the_gpu_the_input_embedding_stays_behind(infos: dict[str, ModelInfo]) -> None:
    whole, tied = infos["Llama-3-8B"], infos["Gemma-3-4B"]
    on_gpu = estimate(whole, context=4096, on_gpu=True)
    assert on_gpu.weights_mib == -(-(whole.weight_bytes - whole.input_bytes) // MIB)
    assert on_gpu.overhead_mib == GPU_BASE_MIB
    # the tied embedding is there as the output
    assert estimate(tied, context=4096, on_gpu=True).weights_mib == -(-tied.weight_bytes // MIB)


def test_projector_and_draft_are_added(infos: dict[str, ModelInfo]) -> None:
    info, small = infos["Qwen2.5-7B"], infos["Qwen2.5-0.5B"]
    alone, draft = estimate(info, context=4096), estimate(small, context=4096)
    both = estimate(info, context=4096, draft=draft)
    assert both.weights_mib == alone.weights_mib + draft.weights_mib
    assert both.kv_mib == alone.kv_mib + draft.kv_mib
    assert alone.overhead_mib <= both.overhead_mib < alone.overhead_mib + draft.overhead_mib
    shape = {"layers": 2, "feed_forward_length": 4096, "embedding_length": 1024, "heads": 16, "context_length": 576}
    eye = replace(small, projector=True, weight_bytes=600 * MIB, **shape)
    seeing = estimate(info, context=4096, projector=eye)
    assert seeing.weights_mib == alone.weights_mib + 600
    assert seeing.compute_mib > alone.compute_mib


def test_the_total() -> None:
    assert Estimate(1, 20, 300, 4000).total_mib == 4321


def test_the_seeds_table_of_contexts(infos: dict[str, ModelInfo]) -> None:
    """Seed, "KV Cache: The Hidden VRAM Killer": 500 MiB for 2048 tokens, linear."""
    contexts = (2048, 4096, 8192, 16384, 32768)
    table = kv_mib_per_context(infos["Llama-2-7B"], contexts, cache_types=("f16", "q8_0"))
    assert [table[context]["q8_0"] for context in contexts] == [544, 1088, 2176, 4352, 8704]
    assert [table[context]["f16"] for context in contexts] == [1024, 2048, 4096, 8192, 16384]
    halved = replace(infos["Llama-2-7B"], kv_heads=(16,) * 32)
    assert [row["f16"] for row in kv_mib_per_context(halved, contexts).values()] == [512, 1024, 2048, 4096, 8192]


def test_the_seeds_table_of_quantisations() -> None:
    """Seed, "Quantization Ladder": sizes of a 7B model in GB."""
    seed = {"F16": 14.0, "Q8_0": 7.0, "Q5_K_M": 4.5, "Q4_K_M": 3.8, "Q3_K_M": 3.0, "Q2_K": 2.5}
    table = by_quantisation(7_000_000_000)
    for name, gigabytes in seed.items():
        assert table[name] * MIB / 1e9 == pytest.approx(gigabytes, rel=0.17)
    sizes = list(table.values())
    assert sizes == sorted(sizes, reverse=True)


def test_quantisations_against_a_published_file() -> None:
    # llama.cpp tools/quantize/README.md: Llama 3.1 8B, GiB
    table = by_quantisation(8_030_261_312)
    for name, size in {"Q4_K_M": 4.58, "Q5_K_M": 5.33, "Q6_K": 6.14, "Q8_0": 7.95, "Q2_K": 2.95}.items():
        assert table[name] / 1024 == pytest.approx(size, abs=0.01)
    assert set(table) == set(BITS_PER_WEIGHT)


def test_suggestions_each_fit(infos: dict[str, ModelInfo]) -> None:
    info = infos["Llama-2-7B"]
    settings = Settings(context=16384, on_gpu=True)
    now = estimate(info, context=16384, on_gpu=True).total_mib
    found = suggestions(info, settings, now - 1000)
    assert [(one.context, one.cache_type_k, one.quantisation) for one in found] == [
        (8192, "f16", None),
        (16384, "q8_0", None),
        (16384, "f16", "Q8_0"),
    ]
    for one in found:
        assert one.total_mib <= now - 1000
        assert str(one.total_mib) in one.text
    assert found[0].total_mib == estimate(info, context=8192, on_gpu=True).total_mib


def test_suggestions_are_joined_where_none_helps_alone(infos: dict[str, ModelInfo]) -> None:
    info = replace(infos["Llama-2-7B"], vocabulary=32000)
    [both] = suggestions(replace(info, parameters=10**12), Settings(context=16384), 13_300)
    assert (both.context, both.cache_type_k, both.quantisation) == (4096, "q4_0", None)
    [all_three] = suggestions(info, Settings(context=16384), 8_000)
    assert (all_three.context, all_three.cache_type_k, all_three.quantisation) == (8192, "q4_0", "Q8_0")
    assert all_three.total_mib <= 8_000
    assert suggestions(info, Settings(context=16384), 1000) == []


def test_no_suggestion_that_the_engine_refuses(infos: dict[str, ModelInfo]) -> None:
    # blocks of 32 do not divide a head of 80; a quantised V needs flash attention
    odd = replace(infos["Llama-2-7B"], key_length=80, value_length=80)
    plain = Settings(context=16384, flash_attn=False)
    for info, settings in ((odd, Settings(context=16384)), (infos["Llama-2-7B"], plain)):
        found = suggestions(info, settings, 15_500)
        assert found
        assert {one.cache_type_k for one in found} == {"f16"}


def test_what_projector_and_draft_take_counts(infos: dict[str, ModelInfo]) -> None:
    info = infos["Qwen2.5-7B"]
    alone = suggestions(info, Settings(context=32768), 15_000)
    beside = suggestions(info, Settings(context=32768), 16_000, extra_mib=1000)
    assert [one.total_mib + 1000 for one in alone] == [one.total_mib for one in beside]


def test_the_lines_of_the_fit_tool() -> None:
    text = "ggml_cuda_init: found 1 devices\nCUDA0 4358 1024 296 \nHost 281 0 24 \n"
    assert parse_fit(text) == [FitFigures("CUDA0", 4358, 1024, 296), FitFigures("Host", 281, 0, 24)]


def test_no_fit_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, infos: dict[str, ModelInfo]) -> None:
    monkeypatch.setenv("PATH", "")
    argv = fit_argv(infos["Qwen2.5-7B"], Settings(context=4096))
    assert argv[argv.index("-c") + 1] == "4096"
    assert cross_check(tmp_path / "llama-server", argv) is None
