"""Well-known open models: what they are for, where their GGUF files are, and the shape that memory depends on.

The facts are in ``catalogue.json``; each entry names the file it was taken from. The first of a size is preferred.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

FILE = Path(__file__).with_name("catalogue.json")


class _Fact(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Shape(_Fact):
    """The figures of a model's config.json; lengths in elements, ``context`` in tokens.

    ``fused``: one tensor holds Q, K and V (and, but for encoders, one holds the two inner projections). ``encoder``:
    BERT and its kin, with ``gated`` those with three feed-forward tensors.
    """

    architecture: str
    layers: int
    embedding: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    context: int
    head: int = 0
    tied: bool = False
    bias: bool = False
    fused: bool = False
    head_norms: bool = False
    experts: int = 0
    experts_used: int = 0
    expert_feed_forward: int = 0
    encoder: bool = False
    gated: bool = False

    @property
    def head_size(self) -> int:
        """Elements of one attention head."""
        return self.head or self.embedding // self.heads


class Projector(_Fact):
    """A vision tower in 16 bits: its blocks, and the two layers that bring ``merged`` patches to the model's width."""

    layers: int
    embedding: int
    heads: int
    feed_forward: int
    patch: int
    image: int
    merged: int
    output: int


class Entry(_Fact):
    """One model of the catalogue.

    ``size`` is its class: entries of one class stand in for each other. ``active`` are the billions of parameters read
    for a token, ``parameters`` the published total in billions. ``repo`` holds its GGUF files on the hub.
    """

    name: str
    short: str
    title: str
    roles: tuple[str, ...]
    size: int
    active: float
    parameters: float
    licence: str
    repo: str
    source: str
    shape: Shape
    projector: Projector | None = Field(None)

    def file(self, quantisation: str) -> str:
        """The name under which its file is kept."""
        return f"{self.name}.{quantisation}.gguf"

    @property
    def projector_file(self) -> str:
        """The name under which its projector is kept."""
        return f"{self.name}.mmproj-f16.gguf"


@cache
def catalogue() -> tuple[Entry, ...]:
    """All entries, as they stand in the file."""
    return tuple(TypeAdapter(list[Entry]).validate_json(FILE.read_text(encoding="utf-8")))
