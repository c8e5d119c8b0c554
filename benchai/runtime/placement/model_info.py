"""What a GGUF tells of its model: shape, sizes of its weights, and which layers keep a KV cache.

The rules that are not in the file (which architectures use a sliding window, and in which layers; which keep a
recurrent state) are those of llama.cpp b11434, ``src/models/*.cpp`` and ``src/llama-hparams.cpp``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchai.config import paths
from benchai.errors import ModelFileError
from benchai.runtime.placement.gguf_header import FILE_TYPES, Tensor, read_header

# period, whether the first layer of it is the full one, window if the file names none: llama.cpp load_swa_pattern
_WINDOWS: dict[str, tuple[int, bool, int]] = {
    **dict.fromkeys(("afmoe", "cohere2", "exaone-moe", "exaone4", "mellum", "muse-glimmer", "olmo2"), (4, False, 0)),
    **dict.fromkeys(("cohere2moe", "laguna"), (4, True, 0)),
    "smallthinker": (4, True, 4096),
    "llama4": (4, False, 8192),
    "gemma2": (2, False, 4096),
    "gpt-oss": (2, False, 0),
    "gemma3": (6, False, 0),
    "gemma3n": (5, False, 0),
    "plamo3": (8, False, 0),
    # one flag for each layer in the file
    **dict.fromkeys(("gemma4", "gemma4-assistant", "granite_swa", "dots3note", "maple", "mimo2"), (1, False, 0)),
    **dict.fromkeys(("spark2_5", "step35", "dflash"), (1, False, 0)),
}
_RECURRENT = {"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"}
# every so many layers one keeps a KV cache, the others a state
_INTERVAL = {"qwen3next", "qwen35", "qwen35moe", "qwen4exp", "minimax-01"}
_NO_CACHE = {"bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert"} | {
    *("modern-bert", "gemma-embedding", "wavtokenizer-dec", "dream", "llada", "llada-moe", "rnd1", "clef")
}
_INPUT = re.compile(r"(token_embd|position_embd|token_types|token_embd_norm|per_layer_token_embd)\b")
_BLOCK = re.compile(r"blk\.(\d+)\.")
EXPERTS = re.compile(r"blk\.(\d+)\.ffn_(?:up|down|gate|gate_up)_(?:ch)?exps")
"""Tensors of a layer's experts, as ``--n-cpu-moe`` finds them: llama.cpp common/common.h, LLM_FFN_EXPS_REGEX."""
_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.gguf)", re.IGNORECASE)


@dataclass(frozen=True)
class ModelInfo:
    """The facts of a model file; sizes in bytes, lengths in elements.

    ``kv_heads`` has an entry for each layer, 0 where the layer keeps no KV cache of its own (recurrent layers, layers
    that share another's cache, encoders). ``window_layers`` are those that look back only ``sliding_window`` tokens.
    ``state_bytes`` is the recurrent state of one slot over all layers. With ``latent`` (MLA) there is no V cache.
    ``expert_bytes`` are those of each layer's experts; ``tensors`` are names and sizes, without the input embedding.
    A ``projector`` has the shape of its vision part, and its ``context_length`` is the patches of one image.
    """

    path: Path
    architecture: str
    name: str | None
    quantisation: str
    file_bytes: int
    weight_bytes: int
    input_bytes: int
    output_bytes: int
    layer_bytes: tuple[int, ...]
    tied: bool
    parameters: int
    vocabulary: int
    layers: int
    context_length: int
    embedding_length: int
    feed_forward_length: int
    heads: int
    kv_heads: tuple[int, ...]
    key_length: int
    value_length: int
    window_key_length: int
    window_value_length: int
    sliding_window: int | None
    window_layers: tuple[int, ...]
    latent: bool
    recurrent: bool
    state_bytes: int
    experts: int
    experts_used: int
    expert_feed_forward_length: int
    projector: bool
    parts: int = 1
    expert_bytes: tuple[int, ...] = ()
    tensors: tuple[tuple[str, int], ...] = field(default=(), repr=False)


def read_model_info(path: Path) -> ModelInfo:
    """Read the header of a GGUF; of a split one (``-00001-of-00003.gguf``) those of all parts, any part named.

    Raises:
        ModelFileError: the file or a part of it is missing, no GGUF, truncated, or lacks what an estimate needs.
    """
    files = _parts(path)
    heads = [read_header(file) for file in files]
    facts = heads[0].facts
    for head in heads[1:]:
        facts = head.facts | facts
    if not isinstance(facts.get("general.architecture"), str):
        raise ModelFileError(f"{str(path)!r} names no architecture", hint="convert the model again")
    return _info(files, facts, [tensor for head in heads for tensor in head.tensors])


def imagined_info(path: Path, facts: dict[str, Any], tensors: list[Tensor]) -> ModelInfo:
    """The info of a file that need not be there, from its metadata and tensors; ``file_bytes`` is then 0."""
    return _info([path], facts, tensors)


def _parts(path: Path) -> list[Path]:
    split = _SPLIT.fullmatch(path.name)
    if split is None or not int(split[3]):
        return [path]
    parts = [
        path.with_name(f"{split[1]}-{number:05}-of-{split[3]}{split[4]}") for number in range(1, int(split[3]) + 1)
    ]
    for part in parts:
        if not paths.is_file(part):
            hint = f"all {len(parts)} parts have to lie in one folder"
            raise ModelFileError(f"the part {str(part)!r} of the model file is missing", hint=hint)
    return parts


def _info(files: list[Path], facts: dict[str, Any], tensors: list[Tensor]) -> ModelInfo:
    arch = facts["general.architecture"]
    projector = arch == "clip" or facts.get("general.type") == "mmproj"

    prefix = "clip.vision" if projector else arch

    def number(key: str, default: int = 0) -> int:
        value = facts.get(f"{prefix}.{key}", default)
        if isinstance(value, tuple):
            value = max(value, default=default)
        return int(value) if isinstance(value, int | float) else default

    layers = number("block_count")
    heads = number("attention.head_count")
    head_size = number("embedding_length") // heads if heads else 0
    key_length = number("attention.key_length", head_size)
    value_length = number("attention.value_length", head_size)
    kv_heads = _per_layer(facts.get(f"{arch}.attention.head_count_kv", heads), layers)
    stateful = _state_layers(arch, kv_heads, number, facts)
    window, window_layers = _window(arch, layers, number, facts)
    inputs, outputs, blocks = _split(tensors, layers)
    names = {tensor.name for tensor in tensors}
    return ModelInfo(
        path=files[0],
        architecture=arch,
        name=facts.get("general.name"),
        quantisation=_quantisation(facts, tensors),
        file_bytes=sum(file.stat().st_size for file in files if paths.is_file(file)),
        weight_bytes=sum(tensor.size for tensor in tensors),
        input_bytes=inputs,
        output_bytes=outputs,
        layer_bytes=blocks,
        tied="output.weight" not in names and "token_embd.weight" in names,
        parameters=sum(tensor.elements for tensor in tensors),
        vocabulary=_count(facts.get("tokenizer.ggml.tokens")) or number("vocab_size"),
        layers=layers,
        context_length=(number("image_size") // max(number("patch_size"), 1)) ** 2
        if projector
        else number("context_length"),
        embedding_length=number("embedding_length"),
        feed_forward_length=number("feed_forward_length"),
        heads=heads,
        kv_heads=_cached(arch, kv_heads, stateful, number),
        key_length=key_length,
        value_length=value_length,
        window_key_length=number("attention.key_length_swa", key_length),
        window_value_length=number("attention.value_length_swa", value_length),
        sliding_window=window,
        window_layers=window_layers,
        latent=number("attention.key_length_mla") > 0 and number("attention.value_length_mla") > 0,
        recurrent=bool(stateful),
        state_bytes=4 * len(stateful) * _state_elements(number),
        experts=number("expert_count"),
        experts_used=number("expert_used_count"),
        expert_feed_forward_length=number("expert_feed_forward_length", number("feed_forward_length")),
        projector=projector,
        parts=len(files),
        expert_bytes=_expert_bytes(tensors, layers),
        tensors=tuple((tensor.name, tensor.size) for tensor in tensors if not _INPUT.match(tensor.name)),
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _per_layer(value: Any, layers: int) -> tuple[int, ...]:
    if isinstance(value, tuple):
        return tuple(int(one) for one in value[:layers]) + (0,) * (layers - len(value))
    return (int(value),) * layers


def _quantisation(facts: dict[str, Any], tensors: list[Tensor]) -> str:
    named = FILE_TYPES.get(facts.get("general.file_type", -1))
    if named is not None:
        return named
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.type.name] += tensor.size
    return sizes.most_common(1)[0][0] if sizes else "unknown"


def _split(tensors: list[Tensor], layers: int) -> tuple[int, int, tuple[int, ...]]:
    """Bytes of the input embedding, of all that is in no layer, and of each layer."""
    blocks = [0] * layers
    inputs = outputs = 0
    for tensor in tensors:
        block = _BLOCK.match(tensor.name)
        if block is not None and int(block[1]) < layers:
            blocks[int(block[1])] += tensor.size
        elif _INPUT.match(tensor.name):
            inputs += tensor.size
        else:
            outputs += tensor.size
    return inputs, outputs, tuple(blocks)


def _expert_bytes(tensors: list[Tensor], layers: int) -> tuple[int, ...]:
    sizes = [0] * layers
    for tensor in tensors:
        found = EXPERTS.match(tensor.name)
        if found is not None and int(found[1]) < layers:
            sizes[int(found[1])] += tensor.size
    return tuple(sizes) if any(sizes) else ()


_Number = Callable[..., int]


def _window(arch: str, layers: int, number: _Number, facts: dict[str, Any]) -> tuple[int | None, tuple[int, ...]]:
    if arch not in _WINDOWS or (arch == "exaone4" and layers != 64):
        return None, ()
    period, dense_first, default = _WINDOWS[arch]
    size = number("attention.sliding_window", default)
    pattern = facts.get(f"{arch}.attention.sliding_window_pattern", period)
    if size <= 0:
        return None, ()
    if isinstance(pattern, tuple):
        return size, tuple(layer for layer, flag in enumerate(pattern[:layers]) if flag)
    step = int(pattern)
    if step == 0:
        return size, tuple(range(layers))
    full = 0 if dense_first else step - 1
    windowed = tuple(layer for layer in range(layers) if layer % step != full)
    return (size, windowed) if windowed else (None, ())


def _state_layers(arch: str, kv_heads: tuple[int, ...], number: _Number, facts: dict[str, Any]) -> tuple[int, ...]:
    """The layers that keep a recurrent state."""
    layers = len(kv_heads)
    if arch in _RECURRENT or arch == "falcon-h1":
        return tuple(range(layers))
    trunk = layers - number("nextn_predict_layers")
    if arch in _INTERVAL:
        flags = facts.get(f"{arch}.attention.recurrent_layers")
        if isinstance(flags, tuple):
            return tuple(layer for layer in range(trunk) if flags[layer])
        step = max(number("full_attention_interval", 4), 1)
        return tuple(layer for layer in range(trunk) if (layer + 1) % step)
    if _state_elements(number) == 0:
        return ()
    wide = _per_layer(facts.get(f"{arch}.feed_forward_length", 0), layers)
    # in nemotron_h a layer without KV heads may as well be a feed-forward one
    idle = {layer for layer in range(layers) if arch.startswith("nemotron_h") and wide[layer] > 0}
    return tuple(layer for layer in range(trunk) if kv_heads[layer] == 0 and layer not in idle)


def _state_elements(number: _Number) -> int:
    """Elements of a layer's recurrent state: llama_hparams::n_embd_r + n_embd_s."""
    width = number("embedding_length")
    if number("wkv.head_size"):
        return number("token_shift_count", 2) * width + width * number("wkv.head_size")
    if number("shortconv.l_cache"):
        return width * (number("shortconv.l_cache") - 1)
    inner, state = number("ssm.inner_size"), number("ssm.state_size")
    convolution = max(number("ssm.conv_kernel") - 1, 0) * (inner + 2 * number("ssm.group_count") * state)
    return convolution + state * inner


def _cached(arch: str, kv_heads: tuple[int, ...], stateful: tuple[int, ...], number: _Number) -> tuple[int, ...]:
    """KV heads of the layers that keep a KV cache, 0 for the others."""
    layers = len(kv_heads)
    if arch in _NO_CACHE or arch in _RECURRENT:
        return (0,) * layers
    kept = layers - number("nextn_predict_layers")
    if arch == "gemma3n":
        kept = min(kept, 20)
    elif arch == "gemma4":
        kept = min(kept, layers - number("attention.shared_kv_layers"))
    silent = set() if arch == "falcon-h1" else set(stateful)
    return tuple(heads if layer < kept and layer not in silent else 0 for layer, heads in enumerate(kv_heads))
