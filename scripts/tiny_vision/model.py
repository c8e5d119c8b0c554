"""The vision tower and its projector, as llama.cpp computes them for the projector type `janus_pro`.

A SigLIP graph: patches, learned positions, blocks of LayerNorm, attention and a SiLU feed-forward, a last LayerNorm,
and a projector of two layers into the text model's embeddings: one embedding for each patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.tiny_model.model import TinyModel, rotary_tables


@dataclass(frozen=True)
class TowerShape:
    """Sizes of the tower; `out` is the width of the text model."""

    side: int = 64
    patch: int = 8
    width: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int = 384
    hidden: int = 256
    out: int = 128
    epsilon: float = 1e-6

    @property
    def patches(self) -> int:
        """Embeddings of one picture."""
        return (self.side // self.patch) ** 2


class TowerBlock(nn.Module):
    """One layer, named as in the GGUF."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.ln1 = nn.LayerNorm(width, shape.epsilon)
        self.attn_q = nn.Linear(width, width)
        self.attn_k = nn.Linear(width, width)
        self.attn_v = nn.Linear(width, width)
        self.attn_out = nn.Linear(width, width)
        self.ln2 = nn.LayerNorm(width, shape.epsilon)
        self.ffn_up = nn.Linear(width, shape.feed_forward)
        self.ffn_down = nn.Linear(shape.feed_forward, width)

    def attention(self, x: Tensor) -> Tensor:
        """Every patch looks at every patch; x is [batch, patches, width]."""
        batch, patches, width = x.shape
        by_head = (batch, patches, self.heads, width // self.heads)
        q, k, v = (layer(x).view(by_head).transpose(1, 2) for layer in (self.attn_q, self.attn_k, self.attn_v))
        scores = torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT, dim=-1)
        out: Tensor = self.attn_out((scores @ v).transpose(1, 2).reshape(batch, patches, width))
        return out

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.ln1(x))
        out: Tensor = x + self.ffn_down(F.silu(self.ffn_up(self.ln2(x))))
        return out


class Tower(nn.Module):
    """Pictures [batch, side, side, 3] of bytes in, embeddings [batch, patches, out] of the text model out."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embd = nn.Linear(3 * shape.patch**2, shape.width)
        self.position_embd = nn.Parameter(torch.zeros(shape.patches, shape.width))
        self.blk = nn.ModuleList(TowerBlock(shape) for _ in range(shape.layers))
        self.post_ln = nn.LayerNorm(shape.width, shape.epsilon)
        self.mm = nn.ModuleList((nn.Linear(shape.width, shape.hidden), nn.Linear(shape.hidden, shape.out)))
        self.initialise()

    def initialise(self) -> None:
        """Matrices that write into the residual stream begin at zero; positions begin small."""
        for name, parameter in self.named_parameters():
            if name.endswith(("bias", "attn_out.weight", "ffn_down.weight")):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.3 if "position" in name else parameter.shape[1] ** -0.5)

    def forward(self, pictures: Tensor) -> Tensor:
        shape = self.shape
        grid = shape.side // shape.patch
        x = (pictures.float() / 255 - 0.5) / 0.5
        x = x.view(-1, grid, shape.patch, grid, shape.patch, 3).permute(0, 1, 3, 5, 2, 4)
        x = self.patch_embd(x.reshape(-1, shape.patches, 3 * shape.patch**2)) + self.position_embd
        for block in self.blk:
            x = block(x)
        out: Tensor = self.mm[1](F.silu(self.mm[0](self.post_ln(x))))
        return out


class Student(nn.Module):
    """The tower with its linear read-out, thrown away after training, and later the text model."""

    def __init__(self, shape: TowerShape, classes: int) -> None:
        super().__init__()
        self.tower = Tower(shape)
        self.read_out = nn.Linear(shape.out, classes)
        self.text: TinyModel | None = None

    @torch.no_grad()
    def meet(self, text: TinyModel, pictures: Tensor) -> None:
        """Take on a text model: scale the projector so that embeddings of `pictures` are as large as its tokens'."""
        self.text = text
        share = text.token_embd.weight.square().mean().sqrt() / self.tower(pictures).square().mean().sqrt()
        last = self.tower.mm[1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(share)
        last.bias.mul_(share)
        self.read_out.weight.div_(share)

    def hidden(self, tokens: Tensor, embeddings: Tensor) -> Tensor:
        """The text model's hidden states [batch, time, width]; tokens of -1 are the pictures' embeddings, in order."""
        assert self.text is not None
        x = self.text.token_embd(tokens.clamp(min=0))
        x = x.masked_scatter((tokens < 0)[..., None], embeddings.to(x.dtype))
        positions = torch.arange(tokens.shape[1])[None]
        cosine, sine = rotary_tables(positions, self.text.shape.head_width, self.text.shape.rope_base)
        for block in self.text.blk:
            x = block(x, cosine, sine)
        out: Tensor = self.text.output_norm(x)
        return out


def count(module: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in module.parameters())
