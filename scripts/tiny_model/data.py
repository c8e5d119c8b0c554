"""The tasks, how often training shows each, and seeded conversations of them."""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Callable, Iterator

from scripts.tiny_model.conversation import Conversation
from scripts.tiny_model.split import Draw
from scripts.tiny_model.tasks import (
    calculate,
    clock,
    coding,
    drill,
    files,
    other_tools,
    picture,
    planning,
    react,
    subtask,
    talk,
    writing,
)
from scripts.tiny_model.tasks.turn import Maker

CHAT: dict[Maker, float] = {**react.SINGLE, **react.SEVERAL, react.refused: 1.4, subtask.subtask: 0.8}


def _single(task: str, *makers: Maker) -> Callable[[Draw], Conversation]:
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
    "sub-task": _single("sub-task", subtask.subtask),
    "repeat": drill.repeat,
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
    "picture": picture.picture,
}

# What training shows: threads hold every kind of question, so they stand for most of the agent's rows.
MIXTURE: dict[Callable[[Draw], Conversation], float] = {
    lambda draw: react.thread(draw, "chat", CHAT, 1, 3): 20.0,
    react.without_tools: 0.6,
    _single("files", files.files): 1.2,
    _single("tool", other_tools.invented): 3.4,
    _single("refused", react.refused): 1.0,
    planning.plan: 2.0,
    planning.orchestrate: 3.4,
    planning.merge: 1.6,
    _single("sub-task", subtask.subtask): 0.5,
    coding.write: 2.0,
    coding.write_tests: 1.6,
    coding.repair: 1.4,
    coding.review: 2.6,
    writing.draft: 1.2,
    writing.criticise: 5.6,
    writing.revise: 2.0,
    writing.evaluate: 4.6,
    picture.picture: 1.6,
}

# The share of drills at the start of training, the conversation at which it has fallen, and what is left of it.
DRILL_SHARE, DRILL_ENDS, DRILL_REST = 0.7, 20_000, 0.06


def _fresh(draw: Draw, make: Callable[[Draw], Conversation]) -> Conversation:
    draw.begin()
    return make(draw)


def held_out(task: str, count: int, seed: int = 0) -> list[Conversation]:
    """The first `count` held-out conversations of a task; the same for the same seed."""
    draw = Draw(random.Random(zlib.crc32(f"{task}:{seed}".encode())), held_out=True)
    return [_fresh(draw, TASKS[task]) for _ in range(count)]


def training(seed: int, drills: bool = True) -> Iterator[Conversation]:
    """Conversations for training without end; the same for the same seed. Without `drills` it begins with few."""
    draw = Draw(random.Random(seed), held_out=False)
    makers, weights = list(MIXTURE), list(MIXTURE.values())
    for number in itertools.count():
        draw.forget()
        share = max(DRILL_SHARE * (1 - number / DRILL_ENDS), DRILL_REST) if drills else DRILL_REST
        yield _fresh(draw, drill.repeat if draw.chance(share) else draw.rng.choices(makers, weights)[0])
