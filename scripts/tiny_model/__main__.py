"""`python -m scripts.tiny_model`: tokenizer, training, export. The benchmark scores what comes out."""

from __future__ import annotations

import argparse
import random
from itertools import islice
from pathlib import Path

from scripts.tiny_model import data, words
from scripts.tiny_model.export import export
from scripts.tiny_model.fixed_text import fixed_texts
from scripts.tiny_model.model import Shape
from scripts.tiny_model.template import render
from scripts.tiny_model.tokenizer import Tokenizer, train_tokenizer
from scripts.tiny_model.train import Plan, report, train

MODEL = Path(__file__).parents[2] / "benchai" / "models" / "tiny.gguf"
TEXTS = 12_000
MERGES, BLANKS = 850, 330


def make_tokenizer(seed: int) -> Tokenizer:
    """Learn the tokenizer from training conversations; words of the value pools get no token with a blank."""
    texts = [render(talk.messages, talk.tools) for talk in islice(data.training(seed), TEXTS)]
    random.Random(seed).shuffle(texts)
    values = {word.lower() for pool in (words.NAMES, words.WORDS, words.STEMS, words.FOLDERS) for word in pool}
    return train_tokenizer(texts, fixed_texts(), values, MERGES, BLANKS)


def arguments() -> argparse.Namespace:
    """The command line."""
    plan = Plan()
    parser = argparse.ArgumentParser(prog="python -m scripts.tiny_model", description=__doc__)
    parser.add_argument("--out", type=Path, default=MODEL, help="the GGUF to write")
    parser.add_argument("--work", type=Path, default=Path("build/tiny_model"), help="for checkpoint and tokenizer")
    parser.add_argument("--steps", type=int, default=plan.steps)
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--threads", type=int, default=plan.threads)
    return parser.parse_args()


def main() -> None:
    """Run all parts."""
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(options.seed)
    tokenizer.save(options.work / "tokenizer.json")
    shape = Shape(vocabulary=len(tokenizer.tokens))
    plan = Plan(steps=options.steps, seed=options.seed, threads=options.threads)
    report(f"{len(tokenizer.tokens)} tokens; {shape}; {plan}")
    model = train(shape, tokenizer, plan, options.work / "checkpoint.pt")
    export(model, tokenizer, options.out)
    report(f"{model.parameter_count()} parameters, {options.out.stat().st_size} bytes: {options.out}")


if __name__ == "__main__":
    main()
