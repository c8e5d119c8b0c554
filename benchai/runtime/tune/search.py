"""One trial after another, each on an engine of its own beside the model as it is."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from benchai.config import ModelConfig
from benchai.errors import ConfigError, DoesNotFit, EndpointError, EngineError
from benchai.runtime.measure.rig import Rig
from benchai.runtime.tune.paired_rounds import Pairing
from benchai.runtime.tune.reference import Reference
from benchai.runtime.tune.space import changed
from benchai.runtime.tune.study import Attempt, Trial
from benchai.runtime.tune.trial import Step


@dataclass
class Search:
    """Runs trials of ``steps`` steps each."""

    pairing: Pairing
    model: ModelConfig
    reference: Reference
    steps: int

    async def run(self, trial: Trial) -> Attempt:
        """Run a trial; settings that are refused, or do not fit, are given up with their reason.

        Raises:
            EngineError: the model as it is cannot be measured.
            BenchAIError: the trials cannot be kept.
        """
        try:
            model = changed(self.model, trial.change)
        except ValueError as error:
            return trial.given_up(f"not a valid setting: {error}")
        try:
            await self.reference.start_again()
            return await self._started(trial, model)
        except (EngineError, EndpointError, ConfigError) as error:
            if trial.change:
                return trial.given_up(error.message)
            # comes again: without its figures the others have nothing to be compared with
            trial.broken_off()
            told = f"the model as it is cannot be measured: {error.message}"
            raise EngineError(told, hint=error.hint or "see its log, and the prompts") from error
        except BaseException:
            trial.broken_off()
            raise

    async def _started(self, trial: Trial, model: ModelConfig) -> Attempt:
        reference = self.reference.rig
        if not trial.change and reference is not None:
            # the same engine twice would only take memory
            return await self._measured(trial, reference)
        try:
            return await self._alone(trial, model)
        except DoesNotFit:
            if self.reference.rig is None:
                raise
        # it may fit without the other one
        await self.reference.stop()
        attempt = await self._alone(trial, model)
        self.pairing.together = False
        return attempt

    async def _alone(self, trial: Trial, model: ModelConfig) -> Attempt:
        async with self.pairing.engine(model, self.reference.claim) as rig:
            return await self._measured(trial, rig)

    async def _measured(self, trial: Trial, rig: Rig) -> Attempt:
        steps: list[Step] = []
        for number in range(self.steps):
            steps.append(await self._step(trial, rig, number))
            if trial.report(number, steps[-1].cost) and trial.change:
                return trial.given_up(f"slower from the start ({len(steps)} steps)")
        if not trial.change:
            self.reference.is_worth({number: one.cost for number, one in enumerate(steps)})
        return trial.done(value(steps, self.pairing.load.steps))

    async def _step(self, trial: Trial, rig: Rig, number: int) -> Step:
        if not trial.change:
            return await self.pairing.step(rig, number)
        return await self.reference.beside(rig, number)


def value(steps: list[Step], prompts: int) -> float:
    """The cost of a trial: the mean over the prompts of the median of each one's steps."""
    by_prompt = [[one.cost for one in steps[first::prompts]] for first in range(prompts)]
    return statistics.fmean(statistics.median(costs) for costs in by_prompt if costs)
