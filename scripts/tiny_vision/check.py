"""`python -m scripts.tiny_vision.check`: do preprocessing, tower and token cuts here equal those of the server?

Training learns from what this package computes. Where the server does it differently, the model meets at work what it
never saw. Run this after a change of the model's shape or of the engine. A tower with random weights is checked, so
that no training is needed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import httpx
import numpy as np
import torch

from scripts.tiny_model import words
from scripts.tiny_model.export import export as export_text
from scripts.tiny_model.model import Shape, TinyModel
from scripts.tiny_model.tokenizer import Tokenizer
from scripts.tiny_vision import data
from scripts.tiny_vision.batches import sample
from scripts.tiny_vision.evaluate import ask
from scripts.tiny_vision.export import export
from scripts.tiny_vision.model import Tower, TowerShape
from scripts.tiny_vision.paint import data_url, pixels
from scripts.tiny_vision.questions import Question
from scripts.tiny_vision.scene import KINDS
from scripts.tiny_vision.serve import served

QUESTIONS = 30
# What 16-bit weights, another JPEG decoder and single steps of rounding cost, as a share of the embeddings' spread.
TOLERANCE = 0.1


def random_tower() -> Tower:
    """A tower whose every weight matters."""
    torch.manual_seed(1)
    tower = Tower(TowerShape())
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return tower


def dumped(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The embeddings that the server wrote: rows, columns, then the values."""
    content = path.read_bytes()
    rows, columns = np.frombuffer(content[:8], dtype=np.int32)
    return np.frombuffer(content[8:], dtype=np.float32).reshape(rows, columns)


def embedding_error(tower: Tower, question: Question, dump: Path) -> float:
    """The largest difference of the last picture's embeddings, as a share of their spread."""
    assert question.scene
    with torch.no_grad():
        ours = tower(torch.from_numpy(pixels(question.scene).copy())[None])[0].numpy()
    return float(np.abs(dumped(dump) - ours).max() / ours.std())


def prompt_tokens(client: httpx.Client, question: Question) -> int:
    """The number of tokens of a question as the server counts them, picture included."""
    assert question.scene
    talk = question.conversation(data_url(question.scene))
    body = {"messages": talk.messages[:-1], "max_tokens": 1, "cache_prompt": False}
    response = client.post("/v1/chat/completions", json={**body, "tools": talk.tools} if talk.tools else body)
    return int(response.raise_for_status().json()["usage"]["prompt_tokens"])


def compare(client: httpx.Client, tower: Tower, tokenizer: Tokenizer, dump: Path) -> tuple[list[float], int]:
    """Errors of the embeddings, and how many prompts are cut otherwise."""
    errors, other_cuts = [], 0
    questions = [question for kind in KINDS for question in data.held_out(kind, kind == "number", QUESTIONS // 3)]
    for question in questions:
        assert question.scene
        ask(client, question, data_url(question.scene))
        errors.append(embedding_error(tower, question, dump))
        other_cuts += prompt_tokens(client, question) != sample(tokenizer, question, tower.shape.patches).answer
    return errors, other_cuts


def main() -> None:
    """Compare pictures through a real server and tell the largest error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default=shutil.which("llama-server"), help="a llama-server")
    options = parser.parse_args()
    if not options.engine:
        parser.error("no llama-server on PATH; name one with --engine")
    tokenizer, tower = Tokenizer.load(words.TOKENIZER), random_tower()
    with tempfile.TemporaryDirectory() as folder:
        text, mmproj, dump = (Path(folder) / name for name in ("text.gguf", "mmproj.gguf", "dump"))
        export_text(TinyModel(Shape(vocabulary=len(tokenizer.tokens))), tokenizer, text)
        export(tower, mmproj)
        with served((options.engine,), text, mmproj, {"MTMD_DEBUG_EMBEDDINGS": str(dump)}) as client:
            errors, other_cuts = compare(client, tower, tokenizer, dump)
    print(f"{QUESTIONS} pictures: largest error {max(errors):.5f} of the spread; {other_cuts} prompts of other lengths")
    sys.exit(max(errors) > TOLERANCE or other_cuts > 0)


if __name__ == "__main__":
    main()
