"""A model of random weights, as slow as a real one of its size: what it says does not matter."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

TINY = Path(__file__).parents[1] / "benchai" / "models" / "tiny.gguf"
CONTEXT = 4096


def synthetic(path: Path, width: int = 768, layers: int = 12) -> Path:
    """A qwen3 of random 8-bit weights, the tokenizer of the bundled model; about 90 million parameters."""
    if path.exists():
        return path
    writer = gguf.GGUFWriter(path, "qwen3")
    heads, wide = width // 64, 3 * width
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(wide)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_key_length(64)
    writer.add_value_length(64)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_Q8_0))
    words = copy_tokenizer(writer)
    _add_tensors(writer, width, wide, layers, words)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def copy_tokenizer(writer: gguf.GGUFWriter) -> int:
    """Copy all ``tokenizer.*`` keys; the number of tokens."""
    reader = gguf.GGUFReader(TINY)
    for key, entry in reader.fields.items():
        if key.startswith("tokenizer."):
            kind, *inner = entry.types
            writer.add_key_value(key, entry.contents(), kind, inner[0] if inner else None)
    return len(reader.fields["tokenizer.ggml.tokens"].contents())


def _add_tensors(writer: gguf.GGUFWriter, width: int, wide: int, layers: int, words: int) -> None:
    random = np.random.default_rng(0)

    def matrix(name: str, rows: int, columns: int) -> None:
        weights = random.normal(0, 0.02, (rows, columns)).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(weights, kind), raw_dtype=kind)

    def norm(name: str, size: int) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(size, np.float32))

    matrix("token_embd", words, width)
    norm("output_norm", width)
    for layer in range(layers):
        block = f"blk.{layer}"
        for name, size in (("attn_norm", width), ("ffn_norm", width), ("attn_q_norm", 64), ("attn_k_norm", 64)):
            norm(f"{block}.{name}", size)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"{block}.{name}", width, width)
        matrix(f"{block}.ffn_gate", wide, width)
        matrix(f"{block}.ffn_up", wide, width)
        matrix(f"{block}.ffn_down", width, wide)
