"""`python -m scripts.tiny_model`: train and export the bundled model. The benchmark scores what comes out.

The tokenizer is kept beside this file, so that a retraining keeps the ids of its tokens; `--new-tokenizer` learns
another from the data, which new tasks with many new words may need. `--start` with a lower `--rate` goes on from a
checkpoint, which is how the bundled model was finished. `--draft` trains the smaller model of the same tokenizer that
drafts for it.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

from scripts.tiny_model import data, words
from scripts.tiny_model.export import export
from scripts.tiny_model.fixed_text import fixed_texts
from scripts.tiny_model.model import Shape, draft_shape
from scripts.tiny_model.team import Plan, report
from scripts.tiny_model.template import render
from scripts.tiny_model.tokenizer import Tokenizer, train_tokenizer
from scripts.tiny_model.train import TextLesson, train

MODELS = Path(__file__).parents[2] / "benchai" / "models"
MODEL, DRAFT = MODELS / "tiny.gguf", MODELS / "tiny-draft.gguf"
TEXTS = 12_000
MERGES, BLANKS = 850, 330
MATRIX_RATE, OTHER_RATE = 0.02, 4e-3


def make_tokenizer(seed: int) -> Tokenizer:
    """Learn a tokenizer from training conversations; words of the value pools get no token with a blank.

    Nor does "in", which begins so many words: " input" would be cut as " in" and "put", "/input" as "in" and "put", and
    could hardly be copied from one place to the other. As a word it is a fixed text, its blanks included.
    """
    texts = [render(talk.messages, talk.tools) for talk in islice(data.training(seed, drills=False), TEXTS)]
    values = {word.lower() for pool in (words.NAMES, words.WORDS, words.STEMS, words.FOLDERS) for word in pool}
    return train_tokenizer(texts, fixed_texts(), values, {"in"}, MERGES, BLANKS)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.tiny_model", description=__doc__)
    parser.add_argument("--draft", action="store_true", help="train the small model that drafts for the other")
    parser.add_argument("--out", type=Path, help="the GGUF to write; default: the bundled one")
    parser.add_argument("--work", type=Path, default=Path("build/tiny_model"), help="folder for the checkpoint")
    parser.add_argument("--start", type=Path, help="begin with the weights of this checkpoint")
    parser.add_argument("--new-tokenizer", action="store_true", help="learn the tokenizer anew")
    parser.add_argument("--steps", type=int, default=10_600)
    parser.add_argument("--minutes", type=float, default=58.0, help="end earlier than --steps if need be")
    parser.add_argument("--rate", type=float, default=1.0, help="share of the full rates, for going on with --start")
    parser.add_argument(
        "--choosy", type=float, default=1.0, help="share of the phase after which hard samples alone count"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes, one for each idle core")
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def main() -> None:
    """Run all parts."""
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.new_tokenizer:
        make_tokenizer(options.seed).save(words.TOKENIZER)
    tokenizer = Tokenizer.load(words.TOKENIZER)
    vocabulary = len(tokenizer.tokens)
    shape = draft_shape(vocabulary) if options.draft else Shape(vocabulary)
    lesson = TextLesson(options.seed, tokenizer, shape.context, options.start is None, options.choosy)
    rates = MATRIX_RATE * options.rate, OTHER_RATE * options.rate
    plan = Plan(options.steps, options.minutes, *rates, options.workers)
    report(f"{vocabulary} tokens; {shape}; {plan}")
    model = train(shape, lesson, plan, options.work / "checkpoint.pt", options.start)
    out = options.out or (DRAFT if options.draft else MODEL)
    export(model, tokenizer, out, "BenchAI tiny draft" if options.draft else "BenchAI tiny")
    report(f"{model.parameter_count()} parameters, {out.stat().st_size} bytes: {out}")


if __name__ == "__main__":
    main()
