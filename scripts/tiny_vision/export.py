"""Write the tower and its projector as an mmproj GGUF of 16-bit floats."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch

from scripts.tiny_vision.model import Tower


def add_shape(writer: gguf.GGUFWriter, tower: Tower) -> None:
    """The keys that llama.cpp reads for the projector type `janus_pro`."""
    shape = tower.shape
    writer.add_type("mmproj")
    writer.add_name("BenchAI tiny vision")
    writer.add_description("Projector of a demonstration model that names simple shapes and reads short numbers")
    writer.add_license("MIT")
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_F16))
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("janus_pro")
    writer.add_bool("clip.use_silu", True)
    writer.add_vision_image_size(shape.side)
    writer.add_vision_patch_size(shape.patch)
    writer.add_vision_embedding_length(shape.width)
    writer.add_vision_feed_forward_length(shape.feed_forward)
    writer.add_vision_block_count(shape.layers)
    writer.add_vision_projection_dim(shape.out)
    writer.add_vision_head_count(shape.heads)
    writer.add_vision_attention_layernorm_eps(shape.epsilon)
    writer.add_vision_image_mean([0.5, 0.5, 0.5])
    writer.add_vision_image_std([0.5, 0.5, 0.5])


def tensor_name(name: str) -> str:
    """The GGUF's name of a weight of the tower."""
    return name if name.startswith("mm.") else f"v.{name}" + (".weight" if name == "position_embd" else "")


def export(tower: Tower, path: Path) -> None:
    """Write the file beside its final name, then move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "clip")
    add_shape(writer, tower)
    patch = tower.shape.patch
    for name, tensor in tower.state_dict().items():
        values = tensor.detach().to(torch.float32).numpy()
        if name == "patch_embd.weight":
            values = values.reshape(-1, 3, patch, patch)
        half = values.ndim > 1 and name != "position_embd"
        writer.add_tensor(tensor_name(name), values.astype(np.float16 if half else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)
