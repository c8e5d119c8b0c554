"""Bytes that weights, KV cache and compute buffer of a model take, from its shape and its launch settings.

The formulas follow llama.cpp b11434 (``src/llama-kv-cache*.cpp``, ``llama-hparams.cpp``); those of the compute buffer
were fitted to what the engine projects for published shapes, and lie at or above it.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchai.runtime.placement.gguf_header import TENSOR_TYPES
from benchai.runtime.placement.model_info import ModelInfo

# cells of a KV cache come in this many: llama-context.cpp
_PAD = 256
_TYPES = {kind.name.lower(): kind for kind in TENSOR_TYPES.values()}


@dataclass(frozen=True)
class Settings:
    """The launch settings that memory depends on; ``context`` 0 means the model's own."""

    context: int
    slots: int = 1
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    ubatch: int = 512
    flash_attn: bool = True
    on_gpu: bool = False
    embedding: bool = False
    swa_full: bool = False

    def tokens(self, info: ModelInfo) -> tuple[int, int]:
        """Cells of the KV cache, and tokens of one physical batch."""
        cells = _padded(self.context or info.context_length)
        # the engine pads its cells, but cuts the batch to the context that was asked for
        return cells, min(self.context or cells, self.ubatch)


def _padded(tokens: int) -> int:
    return -(-tokens // _PAD) * _PAD


def weight_bytes(info: ModelInfo, on_gpu: bool) -> int:
    """Bytes of the weights; the input embedding stays in RAM, and its second use as output goes to the GPU."""
    if not on_gpu:
        return info.weight_bytes
    return info.weight_bytes - info.input_bytes + (info.input_bytes if info.tied else 0)


def row_bytes(cache_type: str, elements: int) -> int:
    """Bytes of so many elements of a cache type.

    Raises:
        ValueError: there is no such type.
    """
    kind = _TYPES.get(cache_type.lower())
    if kind is None:
        raise ValueError(f"cache type {cache_type!r} does not exist")
    return -(-elements // kind.block) * kind.size


def kv_bytes(info: ModelInfo, settings: Settings) -> int:
    """Bytes of the KV cache and the recurrent states.

    A layer with a sliding window keeps that window for each slot and one batch, padded to 256 cells, or the whole
    context with ``swa_full`` (llama-kv-cache-iswa.cpp); a recurrent state does not grow with the context.
    """
    cells, _ = settings.tokens(info)
    window = window_cells(info, settings)
    windowed = set(info.window_layers)
    # without flash attention V is stored transposed, all layers as wide as the widest: llama-kv-cache.cpp
    widest = 0 if settings.flash_attn else max((_widths(info, layer)[1] for layer in range(info.layers)), default=0)
    total = info.state_bytes * max(settings.slots, 1)
    for layer, heads in enumerate(info.kv_heads):
        if heads == 0:
            continue
        k, v = _widths(info, layer)
        row = row_bytes(settings.cache_type_k, k)
        if not info.latent:
            row += row_bytes(settings.cache_type_v, max(v, widest))
        total += row * (window if layer in windowed else cells)
    return total


def _widths(info: ModelInfo, layer: int) -> tuple[int, int]:
    heads = info.kv_heads[layer]
    if layer in info.window_layers:
        return heads * info.window_key_length, heads * info.window_value_length
    return heads * info.key_length, heads * info.value_length


def window_cells(info: ModelInfo, settings: Settings) -> int:
    """Cells of the cache of a layer with a sliding window; 0 where the model has none."""
    if info.sliding_window is None:
        return 0
    cells, _ = settings.tokens(info)
    if settings.swa_full:
        return cells
    return _padded(min(cells, info.sliding_window * max(settings.slots, 1) + settings.ubatch))


def compute_bytes(info: ModelInfo, settings: Settings) -> int:
    """Bytes of the compute buffer: attention masks, and the widest step of a layer or the output.

    The widths count float32 values for each token of a batch, fitted to the engine's reports.
    """
    if info.projector:
        return projector_compute_bytes(info)
    cells, tokens = settings.tokens(info)
    masked = cells + window_cells(info, settings)
    masks = masked * tokens * (2 if settings.flash_attn else 4) if any(info.kv_heads) else 0
    wide = info.embedding_length
    attention = 3 * info.heads * info.key_length + 4 * wide + 2 * max(info.kv_heads, default=0) * info.key_length
    if not settings.flash_attn:
        attention += info.heads * cells
    outputs = tokens if settings.embedding else min(tokens, max(settings.slots, 1))
    steps = (attention * tokens, _feed_forward(info) * tokens, 5 * wide * tokens + info.vocabulary * outputs)
    return masks + 4 * max(steps)


def _feed_forward(info: ModelInfo) -> int:
    wide, used = info.embedding_length, info.experts_used
    dense = 3 * info.feed_forward_length + 5 * wide
    expert = used * info.expert_feed_forward_length
    mixed = expert + (2 * used + 3) * wide if info.experts else 0
    return max(dense, 3 * expert + 5 * wide, mixed, 16 * wide if info.recurrent else 0)


def work_bytes(info: ModelInfo, settings: Settings) -> int:
    """Bytes of the CPU's work buffer, in which matrix products convert their input: at most to 16 bits."""
    cells, tokens = settings.tokens(info)
    widest = max(info.feed_forward_length, info.experts_used * info.expert_feed_forward_length)
    return 2 * tokens * max(widest, 0 if settings.flash_attn else info.heads * cells)


def projector_compute_bytes(projector: ModelInfo) -> int:
    """Bytes to encode one image of the projector's own size: rough, models that tile or scale images take more."""
    patches = projector.context_length
    rows = 3 * projector.feed_forward_length + 5 * projector.embedding_length + projector.heads * patches
    return 4 * patches * rows
