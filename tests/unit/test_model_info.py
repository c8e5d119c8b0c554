"""Reading a GGUF's header."""

from __future__ import annotations

import os
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from benchai.errors import ModelFileError
from benchai.runtime.placement.gguf_header import FILE_TYPES, TENSOR_TYPES
from benchai.runtime.placement.model_info import ModelInfo, read_model_info
from tests.shapes import SHAPES, Shape, finish, write_shape

SMALL = Shape("llama", 4, 64, 4, 2, 96, 300)


def info_of(folder: Path, shape: Shape) -> ModelInfo:
    return read_model_info(write_shape(folder / "model.gguf", shape))


def test_the_bundled_model(tiny_model: Path) -> None:
    info = read_model_info(tiny_model)
    reader = GGUFReader(tiny_model)
    assert info.weight_bytes == sum(int(tensor.n_bytes) for tensor in reader.tensors)
    assert info.parameters == sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert info.vocabulary == len(reader.fields["tokenizer.ggml.tokens"].data)
    assert info.layers == reader.fields["qwen3.block_count"].contents()
    assert info.name == reader.fields["general.name"].contents()
    assert info.file_bytes == tiny_model.stat().st_size
    assert info.input_bytes + info.output_bytes + sum(info.layer_bytes) == info.weight_bytes
    assert (info.projector, info.recurrent, info.latent, info.parts) == (False, False, False, 1)


def test_types_are_those_of_the_gguf_package() -> None:
    for kind, (block, size) in GGML_QUANT_SIZES.items():
        assert TENSOR_TYPES[kind.value] == (kind.name, block, size)
    for file_type in LlamaFileType:
        if file_type is not LlamaFileType.GUESSED:
            name = file_type.name.removeprefix("MOSTLY_").removeprefix("ALL_")
            assert FILE_TYPES[file_type.value] == name


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Llama-2-7B", 6.738),
        ("Qwen2.5-7B", 7.616),
        ("Mixtral-8x7B", 46.703),
        ("Qwen3-30B-A3B", 30.532),
    ],
)
def test_the_parameters_of_published_models(tmp_path: Path, name: str, billions: float) -> None:
    info = info_of(tmp_path, SHAPES[name])
    assert round(info.parameters / 1e9, 3) == billions
    assert info.file_bytes >= info.weight_bytes > 0
    assert info.quantisation == "F16"


def test_the_vocabulary_is_not_kept(tmp_path: Path) -> None:
    path = write_shape(tmp_path / "model.gguf", replace(SMALL, vocabulary=150_000))
    tracemalloc.start()
    info = read_model_info(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert info.vocabulary == 150_000
    assert peak < 500_000


def test_experts(tmp_path: Path) -> None:
    info = info_of(tmp_path, replace(SMALL, experts=8, experts_used=2, expert_feed_forward=32))
    assert (info.experts, info.experts_used, info.expert_feed_forward_length) == (8, 2, 32)


def test_kv_heads_by_layer(tmp_path: Path) -> None:
    info = info_of(tmp_path, replace(SMALL, extra={"attention.head_count_kv": [4, 2, 0, 1]}))
    assert info.kv_heads == (4, 2, 0, 1)


def windows(folder: Path, architecture: str, layers: int, **extra: int | list[bool]) -> tuple[int | None, list[int]]:
    keys = {f"attention.{key}": value for key, value in extra.items()}
    info = info_of(folder, replace(SMALL, architecture=architecture, layers=layers, extra=keys))
    return info.sliding_window, list(info.window_layers)


def test_sliding_windows_follow_the_architecture(tmp_path: Path) -> None:
    assert windows(tmp_path, "gemma3", 12, sliding_window=512) == (512, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10])
    assert windows(tmp_path, "gemma2", 4) == (4096, [0, 2])
    assert windows(tmp_path, "gpt-oss", 4, sliding_window=128) == (128, [0, 2])
    assert windows(tmp_path, "cohere2moe", 5, sliding_window=128) == (128, [1, 2, 3])
    assert windows(tmp_path, "gemma3", 4) == (None, [])
    assert windows(tmp_path, "gemma3", 4, sliding_window=9, sliding_window_pattern=2) == (9, [0, 2])
    assert windows(tmp_path, "gemma4", 3, sliding_window=9, sliding_window_pattern=[False, True, True]) == (9, [1, 2])


def test_architectures_that_ignore_their_window(tmp_path: Path) -> None:
    for architecture in ("llama", "qwen2", "phi3"):
        assert windows(tmp_path, architecture, 4, sliding_window=2048) == (None, [])


def test_recurrent_and_hybrid_models(tmp_path: Path) -> None:
    state = {"ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 16, "ssm.group_count": 1}
    mamba = info_of(tmp_path, replace(SMALL, architecture="mamba2", extra=dict(state)))
    layer = 4 * (3 * (128 + 2 * 16) + 16 * 128)
    assert (mamba.recurrent, mamba.kv_heads, mamba.state_bytes) == (True, (0, 0, 0, 0), 4 * layer)
    hybrid = info_of(tmp_path, replace(SMALL, architecture="qwen3next", layers=8, extra=dict(state)))
    assert hybrid.kv_heads == (0, 0, 0, 2, 0, 0, 0, 2)
    assert hybrid.state_bytes == 6 * layer
    jamba = info_of(
        tmp_path, replace(SMALL, architecture="jamba", extra=state | {"attention.head_count_kv": [0, 2, 0, 0]})
    )
    assert (jamba.kv_heads, jamba.state_bytes) == ((0, 2, 0, 0), 3 * layer)


def test_encoders_keep_no_cache(tmp_path: Path) -> None:
    assert info_of(tmp_path, replace(SMALL, architecture="bert")).kv_heads == (0, 0, 0, 0)


def test_layers_that_predict_further_tokens_keep_no_cache(tmp_path: Path) -> None:
    info = info_of(tmp_path, replace(SMALL, extra={"nextn_predict_layers": 1}))
    assert info.kv_heads == (2, 2, 2, 0)


def test_latent_attention(tmp_path: Path) -> None:
    extra = {"attention.key_length_mla": 192, "attention.value_length_mla": 128}
    info = info_of(tmp_path, replace(SMALL, architecture="deepseek2", kv_heads=1, head=576, extra=extra))
    assert (info.latent, info.key_length, info.kv_heads[0]) == (True, 576, 1)


def test_a_projector(tmp_path: Path) -> None:
    writer = GGUFWriter(None, "clip")
    writer.add_type("mmproj")
    for key, value in {"block_count": 2, "embedding_length": 64, "image_size": 224, "patch_size": 14}.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_tensor_info(
        "v.patch_embd.weight", [64, 588], np.dtype(np.float16), 64 * 588 * 2, raw_dtype=GGMLQuantizationType.F16
    )
    info = read_model_info(finish(writer, tmp_path / "mmproj.gguf"))
    assert (info.projector, info.layers, info.context_length) == (True, 2, 256)
    assert (info.weight_bytes, info.quantisation) == (64 * 588 * 2, "F16")


def test_all_parts_of_a_split_model(tmp_path: Path) -> None:
    whole = info_of(tmp_path, SMALL)
    first, second = (tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2))
    write_shape(first, SMALL, drop=("blk.2.", "blk.3."))
    write_shape(second, SMALL, drop=("blk.0.", "blk.1.", "token_embd", "output"))
    for named in (first, second):
        info = read_model_info(named)
        assert (info.path, info.parts) == (first, 2)
        assert (info.weight_bytes, info.layer_bytes) == (whole.weight_bytes, whole.layer_bytes)
        assert info.file_bytes == first.stat().st_size + second.stat().st_size
    second.unlink()
    with pytest.raises(ModelFileError, match="00002-of-00002") as caught:
        read_model_info(first)
    assert caught.value.hint == "all 2 parts have to lie in one folder"


def test_the_share_of_each_part(tmp_path: Path) -> None:
    info = info_of(tmp_path, SMALL)
    assert info.input_bytes == 64 * 300 * 2
    assert info.output_bytes == 64 * 300 * 2 + 64 * 4
    assert len(set(info.layer_bytes)) == 1
    assert not info.tied
    assert info_of(tmp_path, replace(SMALL, tied=True)).tied


@pytest.mark.parametrize("keep", [10, 23, 24, 60, 400, -1])
def test_a_truncated_file(tmp_path: Path, keep: int) -> None:
    whole = write_shape(tmp_path / "whole.gguf", SMALL).read_bytes()
    path = tmp_path / "short.gguf"
    path.write_bytes(whole[:keep])
    with pytest.raises(ModelFileError, match="truncated") as caught:
        read_model_info(path)
    assert caught.value.hint == "download the file again"


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "empty"),
        (b"no model at all, but long enough", "no GGUF"),
        (struct.pack("<4sIQQ", b"GGUF", 1, 0, 0), "version 1"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**63), "truncated or damaged"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 2**63, 0), "truncated or damaged"),
        (struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 8, 2**62), "truncated or damaged"),
        (struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 4, 2**62), "truncated or damaged"),
        (struct.pack("<4sIQQQ1sI", b"GGUF", 3, 0, 1, 1, b"k", 77), "truncated or damaged"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 0), "names no architecture"),
    ],
)
def test_a_damaged_file(tmp_path: Path, content: bytes, part: str) -> None:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=part) as caught:
        read_model_info(path)
    assert caught.value.hint


def test_an_unknown_type_of_tensors(tmp_path: Path) -> None:
    path = tmp_path / "new.gguf"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 1, 0) + struct.pack("<Q1sIQIQ", 1, b"t", 1, 32, 99, 0))
    with pytest.raises(ModelFileError, match="unknown type 99"):
        read_model_info(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="missing"):
        read_model_info(tmp_path / "none.gguf")
    with pytest.raises(ModelFileError, match="folder"):
        read_model_info(tmp_path)


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelFileError, match="no regular file"):
        read_model_info(tmp_path / "pipe.gguf")
