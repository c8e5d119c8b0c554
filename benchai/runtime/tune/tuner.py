"""A tune from beginning to end: trials, the few best beside the model as it is, single keys taken back, the proof."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchai.config import LoadedConfig, ModelConfig
from benchai.config.section import Section
from benchai.errors import UsageError
from benchai.runtime.background import in_background
from benchai.runtime.fleet.slots import fingerprint
from benchai.runtime.measure.machine import usable_cores, usable_threads
from benchai.runtime.measure.prompts import Prompts
from benchai.runtime.measure.rig import Rig, launched_model
from benchai.runtime.placement.model_info import read_model_info
from benchai.runtime.tune.finish import Finish, Listen, Progress
from benchai.runtime.tune.paired_rounds import Comparison, Pairing
from benchai.runtime.tune.recommend import Recommendation, verdict
from benchai.runtime.tune.reference import Reference
from benchai.runtime.tune.search import Search
from benchai.runtime.tune.space import (
    Change,
    Goal,
    Situation,
    first_tries,
    knobs,
    said,
    value_of,
)
from benchai.runtime.tune.study import Attempt, Study, opened, study_file
from benchai.runtime.tune.timing import Timing
from benchai.runtime.tune.trial import Load, load_of

#: What a figure means; another way to measure must not go on with the old figures.
MEASURE = 2
PROOF_ROUNDS = 7
#: A gain of less is not seen in use.
LEAST_GAIN = 0.02


@dataclass(frozen=True)
class Options:
    """What a tune was asked for; ``minutes`` are for search and proof, of which the proof is always ended.

    Fewer ``rounds`` than ``LEAST_PAIRS`` prove nothing: the settings are kept.
    """

    goal: Goal = "latency"
    trials: int = 30
    minutes: float = 10
    max_tokens: int = 64
    repeats: int = 2
    concurrent: int = 4
    seed: int = 1
    lossy: bool = False
    fresh: bool = False
    rounds: int = PROOF_ROUNDS


def _silent(progress: Progress) -> None:
    pass


@dataclass
class Tuner:
    """A tune of one role's model; what it has found so far can be read at any time."""

    loaded: LoadedConfig
    role: str
    prompts: Prompts
    options: Options
    listen: Listen = _silent
    attempts: list[Attempt] = field(default_factory=list)
    load: Load = field(init=False)
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = launched_model(self.loaded, self.role)
        self.model: ModelConfig = self.loaded.config.models[self.name]
        if self.model.embedding or self.model.rerank:
            kind = "embeddings" if self.model.embedding else "reranking"
            hint = f"give a role that writes text: {', '.join(_text_roles(self.loaded))}"
            raise UsageError(f"the model {self.name!r} of {self.role!r} serves {kind}: a tune asks for text", hint=hint)
        options = self.options
        self.load = load_of(self.prompts, options.goal, options.max_tokens, options.concurrent)
        self._pairing = Pairing(self.loaded, self.name, self.load)

    async def run(self) -> Recommendation:
        """Search, and prove what was found.

        Raises:
            DoesNotFit: there is no memory for the model as it is.
            Conflict: another tune works on the same trials.
            BenchAIError: the model as it is does not start or answer, or the trials cannot be kept.
        """
        self._began = time.monotonic()
        reference = Reference(self._pairing, self.model)
        try:
            # that the model as it is fits and answers has to be true before anything else
            await self._look(await reference.start())
            with opened(self._file, self._space, self.model, self.options.seed, fresh=self.options.fresh) as study:
                study.enqueue(first_tries(self._situation, self._space))
                self.attempts = study.attempts()
                self._tell_taken_up(study)
                reference.is_worth(study.costs_of({}))
                await self._search(study, reference)
                await reference.stop()
                # still under the lock: another tune of these trials would disturb the proof
                return await self._proved()
        finally:
            await reference.stop()

    async def _proved(self) -> Recommendation:
        finish = Finish(self._pairing, self.model, self._space, self._timing, self._spent, self.listen)
        change, comparison = await finish.best(self.attempts)
        return self._recommendation(change, comparison)

    async def _look(self, rig: Rig) -> None:
        ready = time.monotonic()
        await self._pairing.step(rig, 0)
        self._timing = self._timed(ready - self._began, time.monotonic() - ready)
        info = await in_background(read_model_info, _file(rig))
        self._situation = self._situated(rig, info.layers)
        self._space = knobs(self._situation)
        self._file = study_file(self.name, await in_background(self._key, rig))
        self._engine = rig.engine_version

    def _timed(self, start: float, step: float) -> Timing:
        steps, options = self.load.steps * self.options.repeats, self.options
        return Timing(options.minutes * 60, start, step, steps, options.rounds)

    def _spent(self) -> float:
        return time.monotonic() - self._began

    def _situated(self, rig: Rig, layers: int) -> Situation:
        return Situation(
            model=self.model,
            on_gpu=rig.plan.placement == "gpu",
            cores=usable_cores() or usable_threads(),
            logical=usable_threads(),
            layers=layers,
            slots=self.loaded.config.slots_of(self.name),
            goal=self.options.goal,
            lossy=self.options.lossy,
        )

    def _key(self, rig: Rig) -> dict[str, object]:
        return {
            "measure": MEASURE,
            "file": fingerprint(_file(rig)),
            "beside": files_beside(self.loaded, self.name),
            "engine": rig.engine_version,
            "settings": self.model.model_dump(exclude={"ttl", "keep", "port", "host"}),
            "slots": self._situation.slots,
            "claim": sorted(rig.claim),
            "space": [asdict(knob) for knob in self._space],
            "load": asdict(self.load),
            "repeats": self.options.repeats,
        }

    def _tell_taken_up(self, study: Study) -> None:
        if self.attempts or study.taken_up:
            again = f", to try again: {study.taken_up}" if study.taken_up else ""
            self._say(f"going on with an earlier tune, trials kept: {len(self.attempts)}{again} (--fresh begins anew)")

    def _say(self, text: str) -> None:
        self.listen(Progress("trials", len(self.attempts), self.options.trials, text))

    async def _search(self, study: Study, reference: Reference) -> None:
        search = Search(self._pairing, self.model, reference, self.load.steps * self.options.repeats)
        while len(self.attempts) < self.options.trials and self._timing.may_search(self._spent()):
            trial = study.next()
            if trial is None:
                self._say("nothing new is left to try")
                return
            attempt = await search.run(trial)
            self.attempts.append(attempt)
            self._say(f"{said(attempt.change)}: {_figure(attempt)}")

    def _recommendation(self, change: Change, comparison: Comparison | None) -> Recommendation:
        better, reason = verdict(change, comparison, LEAST_GAIN)
        if not any(one.change for one in self.attempts):
            reason = "nothing else was tried; more --minutes or --trials try more"
        return Recommendation(
            role=self.role,
            model=self.name,
            goal=self.options.goal,
            engine=self._engine,
            prompts=self.prompts.source,
            asked=len(self.load.prompts),
            max_tokens=self.load.max_tokens,
            concurrent=self.load.concurrent,
            change=change if better else {},
            tried=change,
            reason=reason,
            was={key: _plain(value_of(self.model, key)) for key in change},
            comparison=comparison,
            attempts=tuple(self.attempts),
            seconds=self._spent(),
            study=self._file,
        )


def _file(rig: Rig) -> Path:
    return Path(str(rig.plan.file))


def files_beside(loaded: LoadedConfig, name: str) -> list[str]:
    """Fingerprints of the files that a model has besides its own: draft, projector, adapters, template."""
    files = [loaded.resolve(file) for key, file in loaded.config.models[name].files() if key != "file"]
    return [fingerprint(file) for file in files if file.is_file()]


def _text_roles(loaded: LoadedConfig) -> list[str]:
    models = loaded.config.models
    ours = {name for name, one in models.items() if not (one.remote or one.embedding or one.rerank)}
    return [role for role, name in loaded.config.role_map().items() if name in ours]


def _plain(value: object) -> object:
    return value.model_dump() if isinstance(value, Section) else value


def _figure(attempt: Attempt) -> str:
    return f"{attempt.cost:.4g} s" if attempt.cost is not None else str(attempt.reason)
