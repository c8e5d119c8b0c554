"""A small mixture of experts of random weights: what it says is nonsense, how it is served is not."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from benchmarks.synthetic_model import copy_tokenizer

LAYERS, EXPERTS, USED, WIDTH, HEAD, INNER = 3, 16, 2, 128, 32, 256


def write_moe(path: Path) -> Path:
    """A qwen3moe with the tokenizer and the chat template of the bundled model."""
    writer = gguf.GGUFWriter(path, "qwen3moe")
    writer.add_context_length(1024)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_expert_feed_forward_length(INNER)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(USED)
    writer.add_head_count(WIDTH // HEAD)
    writer.add_head_count_kv(WIDTH // HEAD)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    words = copy_tokenizer(writer)
    _add_tensors(writer, words)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tensors(writer: gguf.GGUFWriter, words: int) -> None:
    random = np.random.default_rng(0)

    def add(name: str, *extents: int) -> None:
        writer.add_tensor(f"{name}.weight", random.normal(0, 0.1, extents).astype(np.float32))

    def norm(name: str, size: int) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(size, np.float32))

    add("token_embd", words, WIDTH)
    norm("output_norm", WIDTH)
    add("output", words, WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for name, size in (("attn_norm", WIDTH), ("ffn_norm", WIDTH), ("attn_q_norm", HEAD), ("attn_k_norm", HEAD)):
            norm(f"{block}.{name}", size)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"{block}.{name}", WIDTH, WIDTH)
        add(f"{block}.ffn_gate_inp", EXPERTS, WIDTH)
        add(f"{block}.ffn_gate_exps", EXPERTS, INNER, WIDTH)
        add(f"{block}.ffn_up_exps", EXPERTS, INNER, WIDTH)
        add(f"{block}.ffn_down_exps", EXPERTS, WIDTH, INNER)
