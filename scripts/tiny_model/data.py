"""The tasks, how often training shows each, and seeded conversations of them."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator

from scripts.tiny_model.conversation import Conversation
from scripts.tiny_model.split import Draw
from scripts.tiny_model.tasks import (
    calculate,
    clock,
    coding,
    files,
    other_tools,
    planning,
    react,
    talk,
    writing,
)

CHAT = {**react.SINGLE, **react.SEVERAL, react.refused: 1.2}


def _single(task: str, *makers: react.Maker) -> Callable[[Draw], Conversation]:
    return lambda draw: react.single(draw, task, draw.rng.choice(makers))


# What the benchmark reports, one row each.
TASKS: dict[str, Callable[[Draw], Conversation]] = {
    "calculator": _single("calculator", calculate.one_step),
    "two steps": lambda draw: react.thread(draw, "two steps", react.SEVERAL, 1, 1),
    "time": _single("time", clock.clock),
    "files": _single("files", files.files),
    "unseen tools": _single("unseen tools", other_tools.invented),
    "direct answer": _single("direct answer", talk.small_talk, talk.knowledge, react.refused),
    "thread": lambda draw: react.thread(draw, "thread", CHAT),
    "planner": planning.plan,
    "orchestrator": planning.orchestrate,
    "merge": planning.merge,
    "coder": coding.write,
    "tests": coding.write_tests,
    "repair": coding.repair,
    "reviewer": coding.review,
    "draft": writing.draft,
    "critic": writing.criticise,
    "reviser": writing.revise,
    "evaluator": writing.evaluate,
}

# What training shows: threads hold every kind of question, so they stand for most of the agent's rows.
MIXTURE: dict[Callable[[Draw], Conversation], float] = {
    lambda draw: react.thread(draw, "chat", CHAT, 1, 3): 10.0,
    react.without_tools: 0.6,
    planning.plan: 1.5,
    planning.orchestrate: 1.5,
    planning.merge: 1.0,
    coding.write: 1.5,
    coding.write_tests: 0.8,
    coding.repair: 1.2,
    coding.review: 1.8,
    writing.draft: 0.8,
    writing.criticise: 1.8,
    writing.revise: 1.3,
    writing.evaluate: 1.8,
}


def held_out(task: str, count: int, seed: int = 0) -> list[Conversation]:
    """The first `count` held-out conversations of a task; the same for the same seed."""
    draw = Draw(random.Random(zlib.crc32(f"{task}:{seed}".encode())), held_out=True)
    return [TASKS[task](draw) for _ in range(count)]


def training(seed: int) -> Iterator[Conversation]:
    """Conversations for training without end; the same for the same seed."""
    draw = Draw(random.Random(seed), held_out=False)
    makers, weights = list(MIXTURE), list(MIXTURE.values())
    while True:
        draw.forget()
        yield draw.rng.choices(makers, weights)[0](draw)
