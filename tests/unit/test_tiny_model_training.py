"""The training's own parts, where its packages are installed (the extra `train`)."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from scripts.tiny_model import words  # noqa: E402
from scripts.tiny_model.attention import BLOCK, attend  # noqa: E402
from scripts.tiny_model.batches import Batch, batches, samples, work  # noqa: E402
from scripts.tiny_model.model import Shape, TinyModel  # noqa: E402
from scripts.tiny_model.team import Plan, Team, Update, factor  # noqa: E402
from scripts.tiny_model.tokenizer import Tokenizer  # noqa: E402
from scripts.tiny_model.train import TextLesson  # noqa: E402

SIZE = 2_500


@pytest.fixture(scope="module", autouse=True)
def _tidy() -> Iterator[None]:
    """PyTorch's optimizers make a folder for compiled code, which stays empty."""
    yield
    for folder in Path(tempfile.gettempdir()).glob("torchinductor_*"):
        shutil.rmtree(folder)


def masked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Causal attention as written in a textbook, in full precision."""
    future = torch.full((q.shape[2], q.shape[2]), float("-inf")).triu(1)
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5 + future, dim=-1) @ v


@pytest.mark.parametrize("time", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 40])
def test_attention_in_blocks_is_attention(time: int) -> None:
    torch.manual_seed(time)
    inputs = [torch.randn(2, 3, time, 16) for _ in range(3)]
    wanted = torch.randn(2, 3, time, 16)
    found = []
    for attention in (attend, masked):
        leaves = [each.clone().requires_grad_() for each in inputs]
        out = attention(*leaves)
        (out.float() * wanted).sum().backward()
        found.append([out.detach().float(), *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).norm() <= 0.02 * theirs.norm() + 1e-6


def test_hidden_states_of_some_places_are_those_of_all() -> None:
    torch.manual_seed(1)
    model = TinyModel(Shape(vocabulary=50, width=32, layers=2, heads=2, feed_forward=48))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    tokens = torch.randint(50, (3, 20))
    positions = torch.arange(20).expand(3, 20)
    every, some = torch.arange(60), torch.tensor([59, 3, 22])
    assert torch.allclose(model(tokens, positions, every)[some], model(tokens, positions, some), atol=1e-5)


def test_batches_are_of_about_one_size() -> None:
    tokenizer = Tokenizer.load(words.TOKENIZER)
    every = samples(tokenizer, 7, 0, drills=False)
    for batch in islice(batches(random.Random(7), every, SIZE, 4096, lambda _: None), 30):
        rows, length = batch.tokens.shape
        assert rows * work(length) <= SIZE or rows == 1
        assert (rows + 1) * work(length) > SIZE


def test_what_is_hard_is_learnt_and_little_else() -> None:
    every = samples(Tokenizer.load(words.TOKENIZER), 7, 0, drills=False)
    looked = {True: 0, False: 0}

    def hard(batch: Batch) -> bool:
        return batch.tokens.shape[1] % 64 == 0

    def doubts(batch: Batch) -> list[float]:
        looked[hard(batch)] += len(batch.tokens)
        return [float(hard(batch))] * len(batch.tokens)

    taken = {True: 0, False: 0}
    for batch in islice(batches(random.Random(7), every, 500, 4096, doubts), 150):
        taken[hard(batch)] += len(batch.tokens)
    assert taken[True] > 0.9 * looked[True]
    assert 0 < taken[False] < 0.1 * looked[False]


def test_doubts_are_those_of_each_row() -> None:
    tokenizer = Tokenizer.load(words.TOKENIZER)
    model = TinyModel(Shape(len(tokenizer.tokens), width=32, layers=2, heads=2, feed_forward=48))
    lesson = TextLesson(7, tokenizer, 4096, drills=False)
    batch = next(lesson.batches(0, model, lambda: 0.0))
    chances = torch.log_softmax(model.logits(model(batch.tokens, batch.positions, batch.places)).float(), dim=-1)
    said = chances.gather(1, batch.targets[:, None])[:, 0]
    for row, doubt in enumerate(lesson.doubts(model, batch)):
        mine = (batch.places // batch.tokens.shape[1] == row) & (batch.weights > 0)
        assert doubt == pytest.approx(1 - said[mine].sum().exp().item(), abs=1e-3)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_processes_change_every_weight_once(workers: int) -> None:
    model = TinyModel(Shape(vocabulary=50, width=32, layers=3, heads=2, feed_forward=48))
    gradients = torch.randn(workers, model.parameter_count())

    class Value:
        value = 1.0

    lesson = TextLesson(1, Tokenizer.load(words.TOKENIZER), 64, drills=False)
    team = Team(model, lesson, gradients, Plan(1, 1, workers=workers), None, Value(), Value(), None)
    changed = dict.fromkeys((name for name, _ in model.named_parameters()), 0)
    for number in range(workers):
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        Update(team, number).step()
        for name, weight in model.named_parameters():
            changed[name] += not torch.equal(before[name], weight)
            if not lesson.is_matrix(name, weight):
                assert torch.equal(before[name], weight) == (number > 0)
    assert set(changed.values()) == {1}


def test_the_rates_rise_stay_and_fall() -> None:
    plan = Plan(steps=1000, minutes=1)
    shares = [factor(plan, step, step / plan.steps) for step in range(plan.steps)]
    assert shares[: plan.warm_up] == sorted(shares[: plan.warm_up])
    assert set(shares[plan.warm_up : int(plan.flat * plan.steps)]) == {1.0}
    falling = shares[int(plan.flat * plan.steps) :]
    assert falling == sorted(falling, reverse=True)
    assert factor(plan, plan.steps, 1.0) == pytest.approx(plan.last)
