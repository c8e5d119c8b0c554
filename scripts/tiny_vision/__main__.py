"""`python -m scripts.tiny_vision`: train and export the bundled vision model. The benchmark scores what comes out.

It begins with a checkpoint of the bundled text model (`python -m scripts.tiny_model`) and ends with two files: a text
model of its own, which may have forgotten its other tasks, and the mmproj.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from scripts.tiny_model import words
from scripts.tiny_model.export import export as export_text
from scripts.tiny_model.team import Plan, report, save, teach
from scripts.tiny_model.tokenizer import Tokenizer
from scripts.tiny_model.train import load
from scripts.tiny_vision.batches import picture_batches
from scripts.tiny_vision.export import export as export_tower
from scripts.tiny_vision.labels import SIZES
from scripts.tiny_vision.lessons import TalkLesson, TowerLesson
from scripts.tiny_vision.model import Student, TowerShape, count

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "benchai" / "models"
TEXT, MMPROJ = "tiny-vision.gguf", "tiny-vision-mmproj.gguf"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.tiny_vision", description=__doc__)
    parser.add_argument("--text-checkpoint", type=Path, default=ROOT / "build" / "tiny_model" / "checkpoint.pt")
    parser.add_argument("--out", type=Path, default=MODELS, help="folder for the two GGUF files")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "tiny_vision", help="folder for checkpoints")
    parser.add_argument("--tower-steps", type=int, default=3_000)
    parser.add_argument("--talk-steps", type=int, default=2_600)
    parser.add_argument("--tower-minutes", type=float, default=30.0, help="end earlier than the steps if need be")
    parser.add_argument("--talk-minutes", type=float, default=60.0, help="end earlier than the steps if need be")
    parser.add_argument("--tower", type=Path, help="begin with the tower of this checkpoint, without its phase")
    parser.add_argument("--workers", type=int, default=2, help="processes, one for each idle core")
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def main() -> None:
    """Run all parts."""
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    began = time.monotonic()
    tokenizer = Tokenizer.load(words.TOKENIZER)
    student = Student(TowerShape(), sum(SIZES.values()))
    report(f"{count(student.tower)} parameters of tower and projector")
    if options.tower:
        student.load_state_dict(torch.load(options.tower, weights_only=True))
    else:
        # The rates do not fall here: the second lesson goes on changing the tower, and lowers them at its end.
        plan = Plan(options.tower_steps, options.tower_minutes, 0.02, 4e-3, options.workers, flat=1.0)
        teach(student, TowerLesson(options.seed), plan, lambda: save(student.state_dict(), options.work / "tower.pt"))
    text = load(options.text_checkpoint)
    student.meet(text, next(picture_batches(options.seed, 64, 0)).pixels)
    plan = Plan(options.talk_steps, options.talk_minutes, 0.01, 2e-3, options.workers)
    lesson = TalkLesson(options.seed, tokenizer, student.tower.shape.patches)
    teach(student, lesson, plan, lambda: save(student.state_dict(), options.work / "checkpoint.pt"))
    export_tower(student.tower, options.out / MMPROJ)
    export_text(text, tokenizer, options.out / TEXT)
    sizes = " and ".join(f"{name} {(options.out / name).stat().st_size} bytes" for name in (TEXT, MMPROJ))
    report(f"{sizes} after {(time.monotonic() - began) / 60:.1f} min")


if __name__ == "__main__":
    main()
