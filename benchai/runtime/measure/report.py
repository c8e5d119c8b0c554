"""The models behind some roles, measured one after the other, kept in the history and set beside it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchai.config import LoadedConfig
from benchai.errors import BenchAIError, UsageError
from benchai.events import Emit
from benchai.runtime.background import in_background
from benchai.runtime.measure import history
from benchai.runtime.measure.history import Comparison, Row
from benchai.runtime.measure.machine import benchai_version, machine_name
from benchai.runtime.measure.rig import launched_model
from benchai.runtime.measure.speed import GENERATION, Level, ModelSpeed, Work, measure
from benchai.runtime.measure.targets import Judgement, judge
from benchai.runtime.placement.gpu import Gpu, list_gpus

#: Roles whose models are measured only where they are named.
NOT_TEXT = ("vision", "embed", "rerank")
SHOWN_RUNS = 20


@dataclass(frozen=True)
class Measured:
    """A model's speed, beside the last run (by number of requests at a time), the seed's table and earlier runs.

    ``past`` has earlier rows of the first level, the newest first.
    """

    speed: ModelSpeed
    beside: Mapping[int, Comparison]
    judgement: Judgement | None
    past: tuple[Row, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        speed = self.speed
        data = asdict(speed) | {"reference": self.judgement.as_json() if self.judgement else None}
        return data | {"levels": [_level(one, self.beside.get(one.concurrent)) for one in speed.levels]}


@dataclass(frozen=True)
class Report:
    """What was measured; ``failed`` has the models that could not be, ``unkept`` tells why the history has not all."""

    machine: str
    time: float
    work: Work
    measured: tuple[Measured, ...]
    failed: Mapping[str, BenchAIError]
    unkept: BenchAIError | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "benchai": benchai_version(),
            "machine": self.machine,
            "time": self.time,
            "prompts": {"source": self.work.prompts.source, "count": len(self.work.prompts.messages)},
            "max_tokens": self.work.max_tokens,
            "repeats": self.work.repeats,
            "models": [one.as_json() for one in self.measured],
            "failed": [{"model": name, "error": error.message} for name, error in self.failed.items()],
            "history_error": self.unkept.message if self.unkept else None,
        }


def _level(level: Level, beside: Comparison | None) -> dict[str, Any]:
    figures = {
        key: {"median": statistics.median(values), "values": list(values)} for key, values in level.figures.items()
    }
    return asdict(level) | {"figures": figures, "last_run": asdict(beside) if beside else None}


def choose(loaded: LoadedConfig, roles: Sequence[str], say: Callable[[str], None]) -> dict[str, list[str]]:
    """The models behind some roles, each with its roles; without any, of all roles that write text.

    Raises:
        ConfigError: there is no such role.
        UsageError: a role's model is a remote endpoint, or all are.
    """
    chosen: dict[str, list[str]] = {}
    for role in dict.fromkeys(roles) or _text_roles(loaded, say):
        chosen.setdefault(launched_model(loaded, role), []).append(role)
    if not chosen:
        hint = "name a role or a model: benchai bench code"
        raise UsageError(f"no role of {loaded.name} that writes text has a model that this machine starts", hint=hint)
    return chosen


def _text_roles(loaded: LoadedConfig, say: Callable[[str], None]) -> list[str]:
    found = []
    for role, name in loaded.config.role_map().items():
        model = loaded.config.models[name]
        if role in NOT_TEXT or model.embedding or model.rerank:
            continue
        if model.remote:
            say(f"{role}: left out, the model {name!r} is a remote endpoint")
        else:
            found.append(role)
    return found


async def measure_all(
    loaded: LoadedConfig, chosen: Mapping[str, Sequence[str]], work: Work, say: Callable[[str], None], emit: Emit
) -> Report:
    """Measure models one after the other; each is in the history as soon as it is done.

    Raises:
        BenchAIError: the history cannot be used, before anything was measured; or the only model could not be
            measured. One of several that could not is left out, and the report says why.
    """
    await in_background(history.prove, history.history_file())
    gpus = await in_background(list_gpus)
    machine, began = machine_name(gpus), time.time()
    measured, failed = [], {}
    unkept: BenchAIError | None = None
    for name, roles in chosen.items():
        try:
            speed = await measure(loaded, name, roles, work, say, emit)
        except BenchAIError as error:
            if len(chosen) == 1:
                raise
            say(f"{name}: not measured: {error.message}")
            failed[name] = error
        else:
            try:
                measured.append(await in_background(_kept, speed, machine, gpus, began))
            except BenchAIError as error:
                unkept = error
                measured.append(Measured(speed, {}, _judged(speed, gpus), ()))
    return Report(machine, began, work, tuple(measured), failed, unkept)


def _kept(speed: ModelSpeed, machine: str, gpus: Sequence[Gpu], began: float) -> Measured:
    file = history.history_file()
    beside: dict[int, Comparison] = {}
    for level in speed.levels:
        found = history.compare(speed, level, history.earlier(file, speed, machine, level.concurrent, began))
        if found is not None:
            beside[level.concurrent] = found
    past = history.earlier(file, speed, machine, speed.levels[0].concurrent, began, SHOWN_RUNS)
    history.save(file, speed, machine, began)
    return Measured(speed, beside, _judged(speed, gpus), tuple(past))


def _judged(speed: ModelSpeed, gpus: Sequence[Gpu]) -> Judgement | None:
    alone = next((level for level in speed.levels if level.concurrent == 1), None)
    if speed.kind != "text" or alone is None:
        return None
    used = [gpu for gpu in gpus if f"gpu{gpu.index}" in speed.devices]
    return judge(speed.parameters, alone.median(GENERATION), used)
