"""Sizes of models that are not there: held to published files, and to files of the same shape."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchai.runtime.advise.catalogue import Entry, catalogue
from benchai.runtime.advise.sizes import QUANTISATIONS, estimated_info, estimated_projector
from benchai.runtime.placement.estimate import BITS_PER_WEIGHT, estimate
from benchai.runtime.placement.model_info import read_model_info
from tests.shapes import SHAPES, write_shape

ENTRIES = {entry.name: entry for entry in catalogue()}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_the_shape_has_the_published_number_of_parameters(entry: Entry) -> None:
    assert estimated_info(entry, "F16").parameters / 1e9 == pytest.approx(entry.parameters, rel=0.01)


# GB as the publishers' pages give them, rounded to two digits
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("phi-4", {"Q8_0": 15.58, "Q5_K_M": 10.60, "Q4_K_M": 9.05}),
        ("phi-3-mini-4k-instruct", {"Q8_0": 4.06, "Q5_K_M": 2.82, "Q4_K_M": 2.39}),
        ("qwen2.5-7b-instruct", {"Q8_0": 8.10, "Q5_K_M": 5.44, "Q4_K_M": 4.68, "Q3_K_M": 3.81}),
        ("deepseek-coder-6.7b-instruct", {"Q8_0": 7.16, "Q5_K_M": 4.79, "Q4_K_M": 4.08}),
        ("qwen3-30b-a3b-instruct-2507", {"Q8_0": 32.48, "Q4_K_M": 18.56}),
        # a tied output, and rows that 256 divides
        ("qwen2-vl-2b-instruct", {"Q8_0": 1.65, "Q5_K_M": 1.13, "Q4_K_M": 0.99}),
    ],
)
def test_published_sizes(name: str, sizes: dict[str, float]) -> None:
    found = {kind: estimated_info(ENTRIES[name], kind).weight_bytes / 1e9 for kind in sizes}
    # a file has its vocabulary besides, up to 6 MB
    for kind, size in sizes.items():
        assert found[kind] + 0.003 == pytest.approx(size, rel=0.003, abs=0.012), kind


def test_bits_of_a_llama_3_8b() -> None:
    """llama.cpp's own table, tools/quantize/README.md."""
    shape = ENTRIES["qwen2.5-7b-instruct"].shape.model_copy(
        update={
            **{"architecture": "llama", "layers": 32, "embedding": 4096, "heads": 32, "kv_heads": 8},
            **{"feed_forward": 14336, "vocabulary": 128256, "bias": False},
        }
    )
    llama = ENTRIES["qwen2.5-7b-instruct"].model_copy(update={"name": "llama", "shape": shape})
    for kind in QUANTISATIONS:
        info = estimated_info(llama, kind)
        assert 8 * info.weight_bytes / info.parameters == pytest.approx(BITS_PER_WEIGHT[kind], abs=0.02), kind


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("qwen2.5-7b-instruct", "Qwen2.5-7B"),
        ("qwen2.5-0.5b-instruct", "Qwen2.5-0.5B"),
        ("phi-3-mini-4k-instruct", "Phi-3-mini"),
        ("qwen3-30b-a3b-instruct-2507", "Qwen3-30B-A3B"),
    ],
)
def test_a_file_of_the_same_shape_takes_the_same(name: str, shape: str, tmp_path: Path) -> None:
    entry = ENTRIES[name]
    small = entry.shape.model_copy(update={"layers": 4, "vocabulary": 1024})
    read = read_model_info(write_shape(tmp_path / "x.gguf", SHAPES[shape].smaller(4, 1024)))
    made = estimated_info(entry.model_copy(update={"shape": small}), "F16")
    assert (made.layer_bytes, made.input_bytes, made.output_bytes) == (
        read.layer_bytes,
        read.input_bytes,
        read.output_bytes,
    )
    assert (made.tied, made.experts, made.kv_heads) == (read.tied, read.experts, read.kv_heads)
    for on_gpu in (False, True):
        assert estimate(made, context=4096, on_gpu=on_gpu) == estimate(read, context=4096, on_gpu=on_gpu)


def test_half_of_the_careful_tensors_are_finer_in_a_mixture() -> None:
    info = estimated_info(ENTRIES["qwen2.5-7b-instruct"], "Q4_K_M")
    finest, coarsest = max(info.layer_bytes), min(info.layer_bytes)
    assert set(info.layer_bytes) == {finest, coarsest}
    assert info.layer_bytes.count(finest) == 14


def test_rows_that_do_not_divide_fall_back() -> None:
    """0.5B is 896 wide: its Q4_K_M is larger than 4.9 bits say."""
    info = estimated_info(ENTRIES["qwen2.5-0.5b-instruct"], "Q4_K_M")
    assert 8 * info.weight_bytes / info.parameters > 6


def test_projectors() -> None:
    towers = {entry.name: estimated_projector(entry) for entry in ENTRIES.values()}
    found = {name: info for name, info in towers.items() if info is not None}
    assert set(found) == {"qwen2-vl-7b-instruct", "qwen2-vl-2b-instruct"}
    assert all(info.projector and info.context_length == 1600 for info in found.values())
    # 675 million parameters in 16 bits
    assert found["qwen2-vl-7b-instruct"].weight_bytes / 1e9 == pytest.approx(1.35, abs=0.01)


def test_every_entry_can_be_told_apart_and_names_its_source() -> None:
    assert len(ENTRIES) == len(catalogue())
    for entry in ENTRIES.values():
        assert entry.source.endswith(": config.json on Hugging Face")
        assert entry.repo.count("/") == 1
        assert entry.roles
        assert entry.active <= round(entry.parameters, 1)
