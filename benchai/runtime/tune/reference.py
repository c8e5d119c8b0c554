"""The model as it is, kept up beside the trials where the memory allows it.

Each step is asked of both. What else the machine does meets both, so the ratio of their costs says more than a cost
that was measured minutes after another; times the cost that the model as it is had in its own trial, it is comparable.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress

from benchai.config import ModelConfig
from benchai.errors import EndpointError, EngineError
from benchai.runtime.measure.rig import Rig
from benchai.runtime.placement.decide import Claim
from benchai.runtime.tune.paired_rounds import Pairing
from benchai.runtime.tune.trial import Step


class Reference:
    """An engine of the model as it is; ``rig`` is None while it is not up."""

    def __init__(self, pairing: Pairing, model: ModelConfig) -> None:
        self.rig: Rig | None = None
        self._pairing = pairing
        self._model = model
        self._stack = AsyncExitStack()
        self._base: dict[int, float] = {}

    async def start(self) -> Rig:
        """Start it.

        Raises:
            BenchAIError: it does not fit, start or answer.
        """
        self.rig = await self._stack.enter_async_context(self._pairing.engine(self._model))
        return self.rig

    async def start_again(self) -> None:
        """Start it where it is not up and may be: two engines may fit."""
        if self.rig is None and self._pairing.together is not False:
            with suppress(EngineError, EndpointError):
                await self.start()

    async def stop(self) -> None:
        """End it."""
        self.rig = None
        await self._stack.aclose()

    @property
    def claim(self) -> Claim:
        """What it holds of the memory."""
        return self.rig.claim if self.rig else {}

    def is_worth(self, costs: Mapping[int, float]) -> None:
        """Note the costs of the trial of the model as it is, by step."""
        steps = self._pairing.load.steps
        for place in range(steps):
            of_prompt = [cost for step, cost in costs.items() if step % steps == place]
            if of_prompt:
                self._base[place] = statistics.median(of_prompt)

    async def beside(self, rig: Rig, number: int) -> Step:
        """A step of another engine, its cost as if the machine were as it was in the trial of the model as it is.

        Raises:
            EndpointError: the other engine refuses or breaks off.
        """
        base = self._base.get(number % self._pairing.load.steps)
        if self.rig is None or base is None:
            return await self._pairing.step(rig, number)
        first = await self._own(number) if number % 2 else None
        step = await self._pairing.step(rig, number)
        own = first or await self._own(number)
        return step if own is None else Step(base * step.cost / own.cost, step.replies)

    async def _own(self, number: int) -> Step | None:
        if self.rig is None:
            return None
        try:
            return await self._pairing.step(self.rig, number)
        except EndpointError:
            # a trial must not be charged with what happened to this one
            await self.stop()
            return None
