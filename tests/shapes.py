"""GGUF files of published shapes: real metadata and tensor sizes, weights that are a hole in the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES

F16 = GGMLQuantizationType.F16
F32 = GGMLQuantizationType.F32
Value = int | float | bool | list[int] | list[bool]


@dataclass(frozen=True)
class Shape:
    """The figures of a model's config.json that memory depends on; `extra` are keys below the architecture."""

    architecture: str
    layers: int
    embedding: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    head: int = 0
    context: int = 32768
    experts: int = 0
    experts_used: int = 0
    expert_feed_forward: int = 0
    tied: bool = False
    bias: bool = False
    norms: tuple[str, ...] = ()
    head_norms: bool = False
    fused: bool = False
    type: GGMLQuantizationType = F16
    extra: dict[str, Value] = field(default_factory=dict)

    def smaller(self, layers: int, vocabulary: int) -> Shape:
        """The same widths with fewer layers and tokens."""
        return replace(self, layers=layers, vocabulary=vocabulary)

    @property
    def head_size(self) -> int:
        return self.head or self.embedding // self.heads


_GEMMA = ("post_attention_norm", "post_ffw_norm")
SHAPES = {
    "Llama-2-7B": Shape("llama", 32, 4096, 32, 32, 11008, 32000, context=4096),
    "Llama-3-8B": Shape("llama", 32, 4096, 32, 8, 14336, 128256, context=8192),
    "Qwen2.5-7B": Shape("qwen2", 28, 3584, 28, 4, 18944, 152064, bias=True),
    "Qwen2.5-0.5B": Shape("qwen2", 24, 896, 14, 2, 4864, 151936, tied=True, bias=True),
    "Phi-3-mini": Shape("phi3", 32, 3072, 32, 32, 8192, 32064, fused=True, extra={"attention.sliding_window": 2047}),
    "Gemma-3-4B": Shape(
        *("gemma3", 34, 2560, 8, 4, 10240, 262144),
        head=256,
        tied=True,
        norms=_GEMMA,
        head_norms=True,
        extra={"attention.sliding_window": 1024},
    ),
    "Gemma-2-2B": Shape(
        *("gemma2", 26, 2304, 8, 4, 9216, 256000),
        head=256,
        tied=True,
        norms=_GEMMA,
        extra={
            "attention.sliding_window": 4096,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
    ),
    "Mixtral-8x7B": Shape(
        *("llama", 32, 4096, 32, 8, 14336, 32000), experts=8, experts_used=2, expert_feed_forward=14336
    ),
    "Qwen3-30B-A3B": Shape(
        *("qwen3moe", 48, 2048, 32, 4, 6144, 151936),
        head=128,
        head_norms=True,
        experts=128,
        experts_used=8,
        expert_feed_forward=768,
    ),
}
"""Published shapes by name."""


def write_shape(path: Path, shape: Shape, drop: tuple[str, ...] = ()) -> Path:
    """Write the file; `drop` leaves out the tensors whose names begin so."""
    writer = _metadata(shape)
    for name, *extents in _tensors(shape):
        if not name.startswith(drop or ("none of them",)):
            _add(writer, shape, name, extents)
    return finish(writer, path)


def finish(writer: GGUFWriter, path: Path) -> Path:
    """Write header and tensor infos, then a hole as large as the weights."""
    writer.write_header_to_file(path=path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    assert writer.fout is not None
    [file] = writer.fout
    weights = sum(_aligned(info.nbytes) for info in writer.tensors[0].values())
    file.truncate(_aligned(file.tell()) + weights)
    writer.close()
    return path


def _aligned(size: int) -> int:
    return -(-size // 32) * 32


def _metadata(shape: Shape) -> GGUFWriter:
    writer = GGUFWriter(None, shape.architecture)
    writer.add_name("test shape")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.embedding)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(shape.head_size)
    if shape.head:
        writer.add_key_length(shape.head)
        writer.add_value_length(shape.head)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.experts_used)
        writer.add_expert_feed_forward_length(shape.expert_feed_forward)
    for key, value in shape.extra.items():
        _value(writer, f"{shape.architecture}.{key}", value)
    _vocabulary(writer, shape.vocabulary)
    return writer


def _value(writer: GGUFWriter, key: str, value: Value) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_array(key, value)


def _vocabulary(writer: GGUFWriter, size: int) -> None:
    writer.add_file_type(1)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    # the engine wants a token for each byte
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    single = [chr(code) for code in shown] + [chr(256 + number) for number in range(256 - len(shown))]
    writer.add_token_list([*single, *(f"token{number}" for number in range(size - 256))])
    writer.add_token_types([1] * size)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _add(writer: GGUFWriter, shape: Shape, name: str, extents: list[int]) -> None:
    kind = F32 if len(extents) == 1 or "gate_inp" in name else shape.type
    block, size = GGML_QUANT_SIZES[kind]
    count = int(np.prod(extents, dtype=np.int64))
    rows = [*reversed(extents)]
    dtype = {F16: np.dtype(np.float16), F32: np.dtype(np.float32)}.get(kind, np.dtype(np.uint8))
    if dtype == np.uint8:
        rows[-1] = rows[-1] // block * size
    writer.add_tensor_info(name, rows, dtype, count // block * size, raw_dtype=kind)


def _tensors(shape: Shape) -> Iterator[tuple[str, *tuple[int, ...]]]:
    wide = shape.embedding
    yield ("token_embd.weight", wide, shape.vocabulary)
    yield ("output_norm.weight", wide)
    if not shape.tied:
        yield ("output.weight", wide, shape.vocabulary)
    for layer in range(shape.layers):
        for name, *extents in _layer(shape):
            yield (f"blk.{layer}.{name}", *extents)


def _layer(shape: Shape) -> Iterator[tuple[str, *tuple[int, ...]]]:
    wide, inner = shape.embedding, shape.feed_forward
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    for norm in ("attn_norm", "ffn_norm", *shape.norms):
        yield (f"{norm}.weight", wide)
    yield ("attn_output.weight", queries, wide)
    if shape.head_norms:
        yield ("attn_q_norm.weight", shape.head_size)
        yield ("attn_k_norm.weight", shape.head_size)
    if shape.fused:
        yield ("attn_qkv.weight", wide, queries + 2 * keys)
        yield ("ffn_up.weight", wide, 2 * inner)
        yield ("ffn_down.weight", inner, wide)
        return
    for name, width in (("q", queries), ("k", keys), ("v", keys)):
        yield (f"attn_{name}.weight", wide, width)
        if shape.bias:
            yield (f"attn_{name}.bias", width)
    if shape.experts:
        yield ("ffn_gate_inp.weight", wide, shape.experts)
        for name in ("gate", "up"):
            yield (f"ffn_{name}_exps.weight", wide, shape.expert_feed_forward, shape.experts)
        yield ("ffn_down_exps.weight", shape.expert_feed_forward, wide, shape.experts)
        return
    yield ("ffn_gate.weight", wide, inner)
    yield ("ffn_up.weight", wide, inner)
    yield ("ffn_down.weight", inner, wide)
