"""How much memory a model will take, before it is loaded; docs/memory.md tells how well this fits.

All figures are MiB, rounded up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from benchai.runtime.placement.fit_tool import FitFigures, cross_check, fit_argv
from benchai.runtime.placement.footprint import (
    Settings,
    compute_bytes,
    kv_bytes,
    projector_compute_bytes,
    row_bytes,
    weight_bytes,
    work_bytes,
)
from benchai.runtime.placement.model_info import ModelInfo

__all__ = [
    "BITS_PER_WEIGHT",
    "CACHE_TYPES",
    "Estimate",
    "FitFigures",
    "Settings",
    "Suggestion",
    "by_quantisation",
    "cross_check",
    "estimate",
    "fit_argv",
    "kv_mib_per_context",
    "suggestions",
]

MIB = 1024 * 1024
CPU_BASE_MIB = 40
"""RSS of an engine without a model: the embedded engine after a request, measured; llama-server takes 17 less."""
GPU_BASE_MIB = 250
"""CUDA context and libraries of one process on the GPU (seed, "CUDA libraries only")."""
TOKEN_BYTES = 460
"""What a token of the vocabulary takes in the embedded engine's RAM, measured; in llama-server 340."""
CACHE_TYPES = ("f16", "q8_0", "q4_0")
"""The KV types that tables and suggestions show."""
SMALLEST_CONTEXT = 2048

BITS_PER_WEIGHT = {
    "F16": 16.0,
    "Q8_0": 8.5,
    "Q6_K": 6.56,
    "Q5_K_M": 5.70,
    "Q5_K_S": 5.57,
    "Q4_K_M": 4.89,
    "Q4_K_S": 4.67,
    "IQ4_XS": 4.46,
    "Q3_K_M": 4.00,
    "Q2_K": 3.16,
}
"""Bits of a weight over a whole model, largest first: llama.cpp tools/quantize/README.md, Llama 3.1 8B.

The mixed ones (``_M``, ``_S``) keep some tensors in finer types: a small model with a large vocabulary is larger.
"""


@dataclass(frozen=True)
class Estimate:
    """What a model will take, in MiB. On the GPU: GPU memory alone, with all layers there.

    ``overhead_mib`` is the process itself; in RAM with the vocabulary and the CPU's work buffer.
    """

    weights_mib: int
    kv_mib: int
    compute_mib: int
    overhead_mib: int

    @property
    def total_mib(self) -> int:
        """The sum."""
        return self.weights_mib + self.kv_mib + self.compute_mib + self.overhead_mib


def _mib(size: float) -> int:
    return int(-(-size // MIB))


def estimate(
    info: ModelInfo,
    *,
    context: int,
    slots: int = 1,
    cache_type_k: str = "f16",
    cache_type_v: str = "f16",
    ubatch: int = 512,
    flash_attn: bool = True,
    on_gpu: bool = False,
    projector: ModelInfo | None = None,
    draft: Estimate | None = None,
    embedding: bool = False,
    swa_full: bool = False,
) -> Estimate:
    """What a model will take with these settings, once its whole context has been used.

    Args:
        info: The model's file.
        context: Tokens (``-c``), shared by the slots (``--kv-unified``); 0: the model's own.
        slots: Parallel requests (``-np``).
        cache_type_k: Type of the K cache.
        cache_type_v: Type of the V cache.
        ubatch: Tokens of one physical batch (``-ub``).
        flash_attn: Whether flash attention is used; ``auto`` means that it is.
        on_gpu: GPU memory with all layers there; else RAM with none there.
        projector: The vision projector's file.
        draft: The estimate of the draft model, with its own types and the same context.
        embedding: The model serves embeddings or reranking: every token of a batch has an output.
        swa_full: Layers with a sliding window keep the whole context.

    Raises:
        ValueError: a cache type that does not exist.
    """
    settings = Settings(context, slots, cache_type_k, cache_type_v, ubatch, flash_attn, on_gpu, embedding, swa_full)
    weights, compute = weight_bytes(info, on_gpu), compute_bytes(info, settings)
    if projector is not None:
        weights += projector.weight_bytes
        compute += projector_compute_bytes(projector)
    found = Estimate(_mib(weights), _mib(kv_bytes(info, settings)), _mib(compute), _overhead_mib(info, settings))
    return _add(found, draft, on_gpu) if draft is not None else found


def _add(model: Estimate, draft: Estimate, on_gpu: bool) -> Estimate:
    # one process: its base counts once
    own = max(0, draft.overhead_mib - (GPU_BASE_MIB if on_gpu else CPU_BASE_MIB))
    return Estimate(
        model.weights_mib + draft.weights_mib,
        model.kv_mib + draft.kv_mib,
        model.compute_mib + draft.compute_mib,
        model.overhead_mib + own,
    )


def _overhead_mib(info: ModelInfo, settings: Settings) -> int:
    if settings.on_gpu:
        return GPU_BASE_MIB
    # the vocabulary itself, and a row of logits for each slot
    words = info.vocabulary * (TOKEN_BYTES + 4 * max(settings.slots, 1))
    return CPU_BASE_MIB + _mib(words + work_bytes(info, settings))


def kv_mib_per_context(
    info: ModelInfo, contexts: Iterable[int], settings: Settings | None = None, cache_types: Iterable[str] = CACHE_TYPES
) -> dict[int, dict[str, int]]:
    """MiB of the KV cache by context and by the type of both K and V."""
    base = settings or Settings(context=0)
    types = tuple(cache_types)
    return {
        context: {
            kind: _mib(kv_bytes(info, replace(base, context=context, cache_type_k=kind, cache_type_v=kind)))
            for kind in types
        }
        for context in contexts
    }


def by_quantisation(parameters: int) -> dict[str, int]:
    """MiB of the weights of a model of so many parameters, by quantisation."""
    return {name: _mib(parameters * bits / 8) for name, bits in BITS_PER_WEIGHT.items()}


@dataclass(frozen=True)
class Suggestion:
    """Other settings with which a model fits, and what it takes then; ``quantisation`` names another file."""

    text: str
    total_mib: int
    context: int
    cache_type_k: str
    cache_type_v: str
    quantisation: str | None = None


def suggestions(info: ModelInfo, settings: Settings, budget_mib: int, extra_mib: int = 0) -> list[Suggestion]:
    """What would make a model fit into a budget: a smaller context, a quantised KV cache, smaller weights.

    Args:
        info: The model's file.
        settings: The settings that do not fit.
        budget_mib: What may be used.
        extra_mib: What projector and draft model take beside it.

    Returns:
        One of each kind that helps alone; if none does, the two or three together that keep most.
    """
    wanted = replace(settings, context=settings.context or info.context_length)
    contexts = _smaller_contexts(wanted.context)
    types = _smaller_types(info, wanted)
    files = [name for name in by_quantisation(info.parameters) if _weights_mib(info, wanted, name) < _now(info, wanted)]

    def first(tries: Iterable[tuple[int, str | None, str | None]]) -> list[Suggestion]:
        made = (_suggest(info, wanted, extra_mib, *one) for one in tries)
        return next(([one] for one in made if one.total_mib <= budget_mib), [])

    found = first((context, None, None) for context in contexts)
    found += first((wanted.context, kind, None) for kind in types)
    found += first((wanted.context, None, name) for name in files)
    if found:
        return found
    found = first((context, kind, None) for context in contexts for kind in types)
    both = [
        (context, kind, name) for name in files for context in (wanted.context, *contexts) for kind in (None, *types)
    ]
    return found or first(both)


def _smaller_contexts(context: int) -> list[int]:
    sizes = []
    size = 1 << (max(context - 1, 1).bit_length() - 1)
    while size >= SMALLEST_CONTEXT:
        sizes.append(size)
        size //= 2
    return sizes


def _smaller_types(info: ModelInfo, settings: Settings) -> list[str]:
    # the engine refuses a type whose blocks do not divide a head; a quantised V needs flash attention
    if not settings.flash_attn or not any(info.kv_heads) or info.key_length % 32 or info.value_length % 32:
        return []
    now = row_bytes(settings.cache_type_k, 256) + row_bytes(settings.cache_type_v, 256)
    return [kind for kind in CACHE_TYPES if 2 * row_bytes(kind, 256) < now]


def _now(info: ModelInfo, settings: Settings) -> int:
    return _mib(weight_bytes(info, settings.on_gpu))


def _weights_mib(info: ModelInfo, settings: Settings, quantisation: str) -> int:
    share = by_quantisation(info.parameters)[quantisation] * MIB / max(info.weight_bytes, 1)
    return _mib(weight_bytes(info, settings.on_gpu) * share)


def _suggest(
    info: ModelInfo, wanted: Settings, extra_mib: int, context: int, kind: str | None, quantisation: str | None
) -> Suggestion:
    k, v = kind or wanted.cache_type_k, kind or wanted.cache_type_v
    settings = replace(wanted, context=context, cache_type_k=k, cache_type_v=v)
    weights = _weights_mib(info, wanted, quantisation) if quantisation else _now(info, wanted)
    total = weights + _mib(kv_bytes(info, settings)) + _mib(compute_bytes(info, settings))
    total += _overhead_mib(info, settings) + extra_mib
    parts = [f"context: {context}"] if context != wanted.context else []
    parts += [f"cache_type_k: {k}, cache_type_v: {v}"] if kind else []
    parts += [f"a {quantisation} file"] if quantisation else []
    return Suggestion(f"{', '.join(parts)} ({total} MiB)", total, context, k, v, quantisation)
