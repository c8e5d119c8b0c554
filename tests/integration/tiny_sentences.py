"""A small sentence-transformers model, made and saved here: random weights, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

SYLLABLES = ("ka", "lo", "mi", "ne", "pu", "ra", "so", "ti", "va", "ze")
WORDS = [first + second for first in SYLLABLES for second in SYLLABLES]


def build(
    folder: Path, *, dimension: int = 32, seed: int = 0, length: int = 32, prompts: dict[str, str] | None = None
) -> Path:
    """Save a BERT of two layers with mean pooling, which knows the words `WORDS`; returns its folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    parts = folder.parent / f"{folder.name}-parts"
    parts.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "query", "passage", ":", *WORDS]
    (parts / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizer(str(parts / "vocab.txt")).save_pretrained(str(parts))
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=dimension,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=dimension * 2,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(str(parts))
    transformer = Transformer(str(parts), max_seq_length=length)
    model = SentenceTransformer(modules=[transformer, Pooling(dimension)], prompts=prompts, device="cpu")
    model.save(str(folder))
    return folder
