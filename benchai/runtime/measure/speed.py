"""How fast a model is on this machine: tokens per second, time to the first token, at several requests at a time.

Prompts are evaluated anew in each request (no KV cache), and replies go on to their full length, past their end:
so that each repeat does the same work, whatever the model would rather say.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from benchai.config import LoadedConfig, ModelConfig
from benchai.errors import EndpointError, EndpointLost
from benchai.events import Emit
from benchai.runtime.background import in_background
from benchai.runtime.fleet.slots import fingerprint
from benchai.runtime.measure.prompts import Prompts
from benchai.runtime.measure.request import Sample, ask, ask_together
from benchai.runtime.measure.rig import Rig, started
from benchai.runtime.measure.texts import Answered, ask_texts, text_of
from benchai.runtime.placement.model_info import read_model_info
from benchai.runtime.usage.statistics import percentile

T = TypeVar("T")
Kind = Literal["text", "embedding", "rerank"]
WARM_UP_TOKENS = 8
#: What does not change the speed of an engine, or stands in the key of a run anyway.
_INDIFFERENT = {"file", "hf", "host", "port", "keep", "ttl", "metrics", "slot_save_path", "max_tokens", "temperature"}


@dataclass(frozen=True)
class FigureName:
    """A figure: its key, which tells the unit, its title, and whether more is better."""

    key: str
    title: str
    more: bool = True


PROMPT = FigureName("prompt_tokens_per_second", "prompt tok/s")
GENERATION = FigureName("generation_tokens_per_second", "generation tok/s")
TOGETHER = FigureName("together_tokens_per_second", "together tok/s")
TEXTS = FigureName("texts_per_second", "texts/s")
FIRST = FigureName("first_token_seconds", "first token", more=False)
ANSWER = FigureName("answer_seconds", "answer", more=False)
FIGURES: Mapping[Kind, tuple[FigureName, ...]] = {
    "text": (PROMPT, GENERATION, TOGETHER, FIRST),
    "embedding": (TEXTS, PROMPT, ANSWER),
    "rerank": (TEXTS, PROMPT, ANSWER),
}


@dataclass(frozen=True)
class Work:
    """What is measured: the prompts, how many at a time, how often, and the tokens of a reply."""

    prompts: Prompts
    concurrent: tuple[int, ...] = (1, 2, 4)
    repeats: int = 3
    max_tokens: int = 64

    @property
    def key(self) -> str:
        """Tells two pieces of work apart that cannot be compared; repeats only make it surer."""
        text = json.dumps([self.prompts.messages, self.max_tokens], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Level:
    """The figures at so many requests at a time.

    ``waiting`` of them have no slot and wait for one. ``figures`` holds a value for each repeat: rates are those that
    one request meets, ``together`` is what all of them got. ``slow_seconds`` is the 95th percentile of the time to the
    first token (to the answer, where no text is generated) over all requests.
    """

    concurrent: int
    waiting: int
    requests: int
    figures: Mapping[str, tuple[float, ...]]
    slow_seconds: float

    def median(self, name: FigureName) -> float:
        """The median over the repeats."""
        return statistics.median(self.figures[name.key])


@dataclass(frozen=True)
class ModelSpeed:
    """A measured model. ``settings`` and ``work`` are keys: equal ones mean equal settings and prompts.

    ``memory_mib`` is what the engine held at the end, by device; ``devices`` are those it was placed on. ``refused``
    tells why there are fewer levels than were asked for, "" where all are there.
    """

    model: str
    roles: tuple[str, ...]
    kind: Kind
    fingerprint: str
    parameters: int
    settings: str
    engine: str
    work: str
    devices: tuple[str, ...]
    memory_mib: Mapping[str, int]
    load_seconds: float
    slots: int
    context: int
    levels: tuple[Level, ...]
    refused: str = ""


def kind_of(model: ModelConfig) -> Kind:
    """What a model is asked for."""
    return "embedding" if model.embedding else "rerank" if model.rerank else "text"


async def measure(
    loaded: LoadedConfig, name: str, roles: Sequence[str], work: Work, say: Callable[[str], None], emit: Emit
) -> ModelSpeed:
    """Start a model's engine and measure it.

    Args:
        loaded: The configuration.
        name: A model that this machine launches.
        roles: Those it is measured for.
        work: What to send.
        say: Gets a line at each step.
        emit: Gets what a download tells.

    Raises:
        DoesNotFit: there is no memory for it beside what runs.
        EngineError, ModelFileError, EndpointError: it does not start, or does not answer. What it refuses only at
            several requests at a time, as they share its context, ends the levels there.
    """
    say(f"{name}: starting")
    async with started(loaded, name, emit) as rig:
        kind = kind_of(rig.settings)
        levels, refused = await _levels(rig, kind, work, say)
        file = Path(rig.plan.file or "")
        return ModelSpeed(
            model=name,
            roles=tuple(roles),
            kind=kind,
            fingerprint=await in_background(fingerprint, file),
            parameters=(await in_background(read_model_info, file)).parameters,
            settings=settings_key(rig),
            engine=rig.engine_version,
            work=work.key,
            devices=tuple(device for device, mib in rig.claim.items() if mib),
            memory_mib=await in_background(rig.memory_mib),
            load_seconds=rig.ready.seconds,
            slots=rig.ready.slots,
            context=rig.ready.n_ctx,
            levels=tuple(levels),
            refused=refused,
        )


async def _levels(rig: Rig, kind: Kind, work: Work, say: Callable[[str], None]) -> tuple[list[Level], str]:
    levels: list[Level] = []
    for concurrent in work.concurrent:
        try:
            if not levels:
                await _warm_up(rig, kind, work)
            say(f"{rig.model}: {concurrent} at a time")
            levels.append(await _level(rig, kind, work, concurrent))
        except EndpointLost:
            raise
        except EndpointError as error:
            if not levels:
                raise
            return levels, f"{concurrent} at a time: {error.message}; all requests share the context"
    return levels, ""


def settings_key(rig: Rig) -> str:
    """Tells two ways apart to run a model: its settings, its slots, and where it lives."""
    settings: Any = rig.settings.model_dump(mode="json", exclude=_INDIFFERENT)
    text = json.dumps([settings, rig.ready.slots, sorted(rig.claim)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


async def _warm_up(rig: Rig, kind: Kind, work: Work) -> None:
    first = work.prompts.messages[0]
    if kind == "text":
        await ask(rig.ready.root, first, WARM_UP_TOKENS, cache_prompt=False)
    else:
        await ask_texts(rig.ready.root, kind, [text_of(first)])


async def _level(rig: Rig, kind: Kind, work: Work, concurrent: int) -> Level:
    rounds: list[dict[str, float]] = []
    waits: list[float] = []
    for _ in range(work.repeats):
        figures, seconds = await _round(rig, kind, work, concurrent)
        rounds.append(figures)
        waits += seconds
    return Level(
        concurrent=concurrent,
        waiting=max(0, concurrent - rig.ready.slots),
        requests=len(waits),
        figures={key: tuple(one[key] for one in rounds) for key in rounds[0]},
        slow_seconds=percentile(waits, 0.95) or 0.0,
    )


async def _round(rig: Rig, kind: Kind, work: Work, concurrent: int) -> tuple[dict[str, float], list[float]]:
    """All prompts once: the figures, and how long each request waited for its first token, or its answer."""
    if kind == "text":
        return await _text_round(rig, work, concurrent)
    return await _vector_round(rig, kind, work, concurrent)


async def _text_round(rig: Rig, work: Work, concurrent: int) -> tuple[dict[str, float], list[float]]:
    samples: list[Sample] = []
    began = time.perf_counter()
    for batch in batches(work.prompts.messages, concurrent):
        samples += await ask_together(rig.ready.root, batch, work.max_tokens, cache_prompt=False, ignore_eos=True)
    seconds = time.perf_counter() - began
    waits = [one.first_token for one in samples]
    generated = sum(one.generated_tokens for one in samples)
    return {
        PROMPT.key: _rate(sum(one.prompt_tokens for one in samples), sum(one.prompt_seconds for one in samples)),
        GENERATION.key: _rate(generated, sum(one.generation_seconds for one in samples)),
        TOGETHER.key: _rate(generated, seconds),
        FIRST.key: statistics.median(waits),
    }, waits


async def _vector_round(
    rig: Rig, kind: Literal["embedding", "rerank"], work: Work, concurrent: int
) -> tuple[dict[str, float], list[float]]:
    answers: list[Answered] = []
    began = time.perf_counter()
    for batch in batches([text_of(one) for one in work.prompts.messages], concurrent):
        answers += await ask_texts(rig.ready.root, kind, batch)
    seconds = time.perf_counter() - began
    waits = [one.seconds for one in answers]
    return {
        TEXTS.key: _rate(len(answers), seconds),
        PROMPT.key: _rate(sum(one.tokens for one in answers), seconds),
        ANSWER.key: statistics.median(waits),
    }, waits


def batches(items: Sequence[T], size: int) -> list[list[T]]:
    """All items in batches of one size; the last is filled up from the beginning."""
    count = -(-len(items) // size) * size
    filled = list(itertools.islice(itertools.cycle(items), count))
    return [filled[start : start + size] for start in range(0, count, size)]


def _rate(count: float, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
