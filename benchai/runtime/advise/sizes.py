"""Sizes of a model's tensors in a quantisation, without the file: the mixture that llama-quantize would make.

A mixed quantisation keeps some tensors in finer types, so that bits x parameters is wrong by up to a tenth. The rules
are those of llama.cpp b11434, ``src/llama-quant.cpp``. A file made by other rules (a publisher's own mixture) differs
by a few per cent.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from benchai.runtime.advise.catalogue import Entry, Projector, Shape
from benchai.runtime.placement.gguf_header import FILE_TYPES, TENSOR_TYPES, Tensor, TensorType
from benchai.runtime.placement.model_info import ModelInfo, imagined_info

_TYPES = {kind.name: kind for kind in TENSOR_TYPES.values()}
_BASE = {"F16": "F16", "Q8_0": "Q8_0", "Q6_K": "Q6_K", "Q5_K_M": "Q5_K", "Q4_K_M": "Q4_K", "Q3_K_M": "Q3_K"}
QUANTISATIONS = tuple(_BASE)
"""What sizes are known for, the finest first."""
# a row that 256 does not divide: tensor_type_fallback
_COARSER = {"Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
# as the published files of fused models have it; b11434 itself counts attn_qkv as attn_v, which is up to 2.5 % less
_QKV = {"Q3_K_M": "Q4_K", "Q4_K_M": "Q5_K", "Q5_K_M": "Q6_K"}
_FINER = {"Q4_K_M": "Q6_K", "Q5_K_M": "Q6_K"}
#: A layer (-1: none), a tensor's name and its extents, the row first.
_Row = tuple[int, str, tuple[int, ...]]


@cache
def estimated_info(entry: Entry, quantisation: str) -> ModelInfo:
    """The info of an entry's file in a quantisation, as far as it follows from the shape."""
    shape = entry.shape
    tensors = [_tensor(shape, quantisation, row) for row in _rows(shape)]
    return imagined_info(Path(entry.file(quantisation)), _facts(entry, quantisation), tensors)


@cache
def estimated_projector(entry: Entry) -> ModelInfo | None:
    """The info of an entry's vision projector in 16 bits; None where it has none."""
    tower = entry.projector
    if tower is None:
        return None
    facts = {
        "general.architecture": "clip",
        "clip.vision.block_count": tower.layers,
        "clip.vision.embedding_length": tower.embedding,
        "clip.vision.feed_forward_length": tower.feed_forward,
        "clip.vision.attention.head_count": tower.heads,
        "clip.vision.image_size": tower.image,
        "clip.vision.patch_size": tower.patch,
    }
    rows = ((-1, f"{name}.weight", extents) for name, extents in _tower(tower))
    tensors = [_sized(name, "F16", extents) for _, name, extents in rows]
    return imagined_info(Path(entry.projector_file), facts, tensors)


def _facts(entry: Entry, quantisation: str) -> dict[str, Any]:
    shape, arch = entry.shape, entry.shape.architecture
    named = {
        "block_count": shape.layers,
        "context_length": shape.context,
        "embedding_length": shape.embedding,
        "feed_forward_length": shape.feed_forward,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.key_length": shape.head_size,
        "attention.value_length": shape.head_size,
        "vocab_size": shape.vocabulary,
        "expert_count": shape.experts,
        "expert_used_count": shape.experts_used,
        "expert_feed_forward_length": shape.expert_feed_forward,
    }
    kinds = {name: number for number, name in FILE_TYPES.items()}
    known = {f"{arch}.{key}": value for key, value in named.items() if value}
    return known | {
        "general.architecture": arch,
        "general.name": entry.title,
        "general.file_type": kinds[quantisation],
    }


def _tensor(shape: Shape, quantisation: str, row: _Row) -> Tensor:
    layer, name, extents = row
    kept = len(extents) == 1 or "gate_inp" in name or name.startswith(("position_embd", "token_types"))
    return _sized(name, "F32" if kept else _kind(shape, quantisation, layer, name, extents[0]), extents)


def _sized(name: str, kind: str, extents: tuple[int, ...]) -> Tensor:
    elements = 1
    for extent in extents:
        elements *= extent
    found: TensorType = _TYPES[kind]
    return Tensor(name, found, elements, elements // found.block * found.size)


def _kind(shape: Shape, quantisation: str, layer: int, name: str, row: int) -> str:
    kind = _mixed(shape, quantisation, layer, name)
    if row % _TYPES[kind].block:
        # the output is never coarser than 8 bits then
        return "Q8_0" if _is_output(shape, name) else _COARSER[kind]
    return kind


def _mixed(shape: Shape, quantisation: str, layer: int, name: str) -> str:
    base = _BASE[quantisation]
    if base in ("F16", "Q8_0"):
        return base
    if _is_output(shape, name):
        return "Q6_K"
    if "attn_qkv" in name:
        return _QKV.get(quantisation, base)
    if "attn_v" in name or "ffn_down" in name:
        return _careful(shape, quantisation, layer, "attn_v" in name)
    return "Q4_K" if "attn_output" in name and quantisation == "Q3_K_M" else base


def _careful(shape: Shape, quantisation: str, layer: int, value: bool) -> str:
    """The type of ``attn_v`` and ``ffn_down``, which suffer most: finer in about half of the layers."""
    if quantisation == "Q3_K_M":
        return "Q5_K" if layer < (2 if value else shape.layers // 16) else "Q4_K"
    eighth, last = shape.layers // 8, 7 * shape.layers // 8
    finer = layer < eighth or layer >= last or (layer - eighth) % 3 == 2
    return _FINER.get(quantisation, _BASE[quantisation]) if finer else _BASE[quantisation]


def _is_output(shape: Shape, name: str) -> bool:
    return name == "output.weight" or (name == "token_embd.weight" and (shape.tied or shape.encoder))


def _rows(shape: Shape) -> Iterator[_Row]:
    wide = shape.embedding
    yield -1, "token_embd.weight", (wide, shape.vocabulary)
    if shape.encoder:
        yield from ((-1, f"token_embd_norm.{part}", (wide,)) for part in ("weight", "bias"))
        if not shape.gated:
            yield -1, "position_embd.weight", (wide, shape.context)
    else:
        yield -1, "output_norm.weight", (wide,)
    if not shape.tied and not shape.encoder:
        yield -1, "output.weight", (wide, shape.vocabulary)
    for layer in range(shape.layers):
        for name, extents in (*_attention(shape), *_feed_forward(shape)):
            yield layer, f"blk.{layer}.{name}", extents


def _attention(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    wide, queries, keys = shape.embedding, shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    yield "attn_norm.weight", (wide,)
    yield "attn_output.weight", (queries, wide)
    if shape.fused:
        yield "attn_qkv.weight", (wide, queries + 2 * keys)
        return
    for name, width in (("q", queries), ("k", keys), ("v", keys)):
        yield f"attn_{name}.weight", (wide, width)
        if shape.bias or shape.encoder:
            yield f"attn_{name}.bias", (width,)
    if shape.head_norms:
        yield from ((f"attn_{name}_norm.weight", (shape.head_size,)) for name in ("q", "k"))


def _feed_forward(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    wide, inner = shape.embedding, shape.feed_forward
    yield "ffn_norm.weight", (wide,)
    if shape.experts:
        inner = shape.expert_feed_forward
        yield "ffn_gate_inp.weight", (wide, shape.experts)
        yield from ((f"ffn_{name}_exps.weight", (wide, inner, shape.experts)) for name in ("gate", "up"))
        yield "ffn_down_exps.weight", (inner, wide, shape.experts)
        return
    split = shape.gated or not (shape.fused or shape.encoder)
    if split:
        yield "ffn_gate.weight", (wide, inner)
    yield "ffn_up.weight", (wide, inner if split or shape.encoder else 2 * inner)
    yield "ffn_down.weight", (inner, wide)


def _tower(tower: Projector) -> Iterator[tuple[str, tuple[int, ...]]]:
    wide, merged = tower.embedding, tower.embedding * tower.merged
    # two frames of three colours
    yield "v.patch_embd", (wide, 2 * 3 * tower.patch * tower.patch)
    for layer in range(tower.layers):
        for name, width in (("q", wide), ("k", wide), ("v", wide), ("out", wide)):
            yield f"v.blk.{layer}.attn_{name}", (wide, width)
        yield f"v.blk.{layer}.ffn_up", (wide, tower.feed_forward)
        yield f"v.blk.{layer}.ffn_down", (tower.feed_forward, wide)
    yield "mm.0", (merged, merged)
    yield "mm.2", (merged, tower.output)
