"""The model: a small decoder with the Qwen3 architecture, in plain PyTorch.

The layout follows what llama.cpp computes for `general.architecture = qwen3` (root-mean-square norms before
attention and feed-forward, norms on queries and keys per head, rotary positions in the NEOX order, SwiGLU,
input and output embeddings tied), so that the exported weights give the same logits there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.tiny_model.attention import attend


@dataclass(frozen=True)
class Shape:
    """Sizes of the model. `width` must be a multiple of `heads`, and a head's width must be even."""

    vocabulary: int
    width: int = 128
    layers: int = 5
    heads: int = 4
    feed_forward: int = 384
    context: int = 4096
    rope_base: float = 10_000.0
    epsilon: float = 1e-6

    @property
    def head_width(self) -> int:
        """Features of one attention head."""
        return self.width // self.heads


def draft_shape(vocabulary: int) -> Shape:
    """Sizes of the model that drafts for the other: a tenth of its weights."""
    return Shape(vocabulary, width=64, layers=2, heads=2, feed_forward=192)


class RootMeanSquareNorm(nn.Module):
    """x / rms(x) * weight over the last dimension."""

    def __init__(self, width: int, epsilon: float, start: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), start))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.epsilon)


def rotary_tables(positions: Tensor, head_width: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine for `positions` [batch, time], each [batch, 1, time, head_width]."""
    frequencies = base ** (-torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
    angles = positions.to(torch.float32)[:, None, :, None] * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Apply rotary positions to x [batch, heads, time, head_width], pairs half a head apart (NEOX order)."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


class Block(nn.Module):
    """One layer: attention and feed-forward, each behind a norm and added to its input."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, head_width = shape.width, shape.head_width
        self.heads = shape.heads
        self.attn_norm = RootMeanSquareNorm(width, shape.epsilon)
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, width, bias=False)
        self.attn_v = nn.Linear(width, width, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        # Scores lie within start ** 2 * sqrt(head_width): 1 would be too blunt to pick one token of hundreds.
        self.attn_q_norm = RootMeanSquareNorm(head_width, shape.epsilon, start=1.6)
        self.attn_k_norm = RootMeanSquareNorm(head_width, shape.epsilon, start=1.6)
        self.ffn_norm = RootMeanSquareNorm(width, shape.epsilon)
        self.ffn_gate = nn.Linear(width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, width, bias=False)

    def attention(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Causal self-attention over x [batch, time, width]."""
        batch, time, width = x.shape
        by_head = (batch, time, self.heads, width // self.heads)
        q = self.attn_q_norm(self.attn_q(x).view(by_head)).transpose(1, 2)
        k = self.attn_k_norm(self.attn_k(x).view(by_head)).transpose(1, 2)
        v = self.attn_v(x).view(by_head).transpose(1, 2)
        q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
        mixed = attend(q, k, v)
        out: Tensor = self.attn_output(mixed.transpose(1, 2).reshape(batch, time, width))
        return out

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, places: Tensor | None = None) -> Tensor:
        """Hidden states [batch, time, width], or [places, width] for flat places: those alone are fed forward."""
        x = x + self.attention(self.attn_norm(x), cosine, sine)
        if places is not None:
            x = x.flatten(0, 1)[places]
        y = self.ffn_norm(x)
        out: Tensor = x + self.ffn_down(F.silu(self.ffn_gate(y)) * self.ffn_up(y))
        return out


class TinyModel(nn.Module):
    """Token ids in, hidden states out; `logits` turns hidden states into scores over the vocabulary."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = RootMeanSquareNorm(shape.width, shape.epsilon)
        self.initialise()

    def initialise(self) -> None:
        """Matrices that write into the residual stream begin at zero, so that it holds the tokens alone at first.

        Attention then finds equal tokens from the start, which is what copying is made of.
        """
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            if name.endswith(("attn_output.weight", "ffn_down.weight")):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.1 if "embd" in name else parameter.shape[1] ** -0.5)

    def forward(self, tokens: Tensor, positions: Tensor, places: Tensor) -> Tensor:
        """Hidden states [places, width] for token ids and positions, both [batch, time], at flat places of them."""
        x: Tensor = self.token_embd(tokens)
        cosine, sine = rotary_tables(positions, self.shape.head_width, self.shape.rope_base)
        for block in self.blk[:-1]:
            x = block(x, cosine, sine)
        out: Tensor = self.output_norm(self.blk[-1](x, cosine, sine, places))
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores [..., vocabulary] for hidden states [..., width]; the embedding matrix is reused."""
        return F.linear(hidden, self.token_embd.weight)

    def parameter_count(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.parameters())
