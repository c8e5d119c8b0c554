"""Write the trained model as a GGUF file of 16-bit floats."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from scripts.tiny_model.model import TinyModel
from scripts.tiny_model.template import SOURCE
from scripts.tiny_model.tokenizer import CONTROL, Tokenizer


def token_types(tokenizer: Tokenizer) -> list[int]:
    """The GGUF type of each token."""
    kinds = [gguf.TokenType.CONTROL] * len(CONTROL) + [gguf.TokenType.USER_DEFINED] * len(tokenizer.fixed)
    return [int(kind) for kind in kinds] + [int(gguf.TokenType.NORMAL)] * (len(tokenizer.tokens) - len(kinds))


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    """Vocabulary, merges, special tokens and the chat template."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokenizer.tokens)
    writer.add_token_types(token_types(tokenizer))
    writer.add_token_merges([f"{left} {right}" for left, right in tokenizer.merges])
    writer.add_bos_token_id(tokenizer.ids["<|endoftext|>"])
    writer.add_eos_token_id(tokenizer.ids["<|im_end|>"])
    writer.add_pad_token_id(tokenizer.ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(SOURCE.read_text(encoding="utf-8"))


def add_shape(writer: gguf.GGUFWriter, model: TinyModel, name: str) -> None:
    """The sizes that llama.cpp needs."""
    shape = model.shape
    writer.add_name(name)
    writer.add_description("Demonstration model for a few templated tasks; not an assistant")
    writer.add_license("MIT")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_F16))


def export(model: TinyModel, tokenizer: Tokenizer, path: Path, name: str = "BenchAI tiny") -> None:
    """Write the file beside its final name, then move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "qwen3")
    add_shape(writer, model, name)
    add_tokenizer(writer, tokenizer)
    for name, tensor in model.state_dict().items():
        # llama.cpp keeps norms in 32 bits; the output matrix is missing because it is the embedding.
        kind = np.float16 if tensor.dim() == 2 else np.float32
        writer.add_tensor(name, tensor.numpy().astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)
