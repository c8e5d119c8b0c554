"""Two settings side by side: rounds in which both are started anew and asked the same things in turns.

One start of an engine may be faster than the next of the very same (where its memory lies, which cores it got): the
requests of one start are no independent samples. So a round is the unit: its figure is the median ratio of its steps,
and ``compare`` sees one pair for each round. Of equal settings seven rounds all say "faster" once in 128 times. Chance
says which of both is started, and asked, first.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from benchai.config import LoadedConfig, ModelConfig
from benchai.errors import DoesNotFit
from benchai.runtime.measure.paired import Ratio, compare
from benchai.runtime.measure.rig import Rig, started, with_model
from benchai.runtime.placement.decide import Claim
from benchai.runtime.tune.trial import Load, Step, measure, same_replies, warm_up


@dataclass(frozen=True)
class Round:
    """Both settings on fresh engines: ``costs`` are (old, new) in seconds, by step."""

    costs: tuple[tuple[float, float], ...]
    same: int
    replies: int
    together: bool
    """Whether both engines were up at the same time."""

    @property
    def ratio(self) -> float:
        """New by old: the median over the steps; below 1 the new setting is faster."""
        return math.exp(statistics.median(math.log(new / old) for old, new in self.costs))


@dataclass
class Comparison:
    """The rounds of one comparison."""

    rounds: list[Round] = field(default_factory=list)
    failed: str | None = None
    """Why no further round could be measured."""

    @property
    def ratio(self) -> Ratio:
        """What the rounds say, each of them one pair."""
        return compare([1.0] * len(self.rounds), [one.ratio for one in self.rounds])

    def costs(self) -> tuple[float, float]:
        """The median cost of a step, old and new."""
        both = [pair for one in self.rounds for pair in one.costs]
        return statistics.median(old for old, _ in both), statistics.median(new for _, new in both)


@dataclass
class Pairing:
    """Where comparisons run: the configuration, the model, and what is asked.

    ``together`` is whether two engines fit at once, ``place`` the devices where the first engine was placed; None while
    that is not known.
    """

    loaded: LoadedConfig
    name: str
    load: Load
    together: bool | None = None
    place: frozenset[str] | None = None
    chance: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 - an order, no secret

    @asynccontextmanager
    async def engine(self, model: ModelConfig, beside: Claim | None = None) -> AsyncIterator[Rig]:
        """An engine of the model with these settings, warmed up; ``beside`` is what another one holds.

        Raises:
            DoesNotFit: it lacks memory, or has it only elsewhere than the first one: that compares places.
            BenchAIError: it does not start, or does not answer.
        """
        loaded = with_model(self.loaded, self.name, model)
        async with started(loaded, self.name, beside=beside, place=self.place) as rig:
            self.place = self.place or frozenset(rig.claim)
            await warm_up(rig, self.load)
            yield rig

    async def step(self, rig: Rig, number: int) -> Step:
        """One step of the load. Raises what ``measure`` raises."""
        return await measure(rig, self.load, number)

    async def round(self, old: ModelConfig, new: ModelConfig, steps: range) -> Round:
        """One round of some steps of the load.

        Raises:
            BenchAIError: one of both does not start or answer.
        """
        new_first = self.chance.random() < 0.5
        if self.together is not False:
            try:
                return await self._side_by_side(old, new, steps, new_first=new_first)
            except DoesNotFit:
                self.together = False
        return await self._in_turns(old, new, steps, new_first=new_first)

    async def _side_by_side(self, old: ModelConfig, new: ModelConfig, steps: range, *, new_first: bool) -> Round:
        order = (new, old) if new_first else (old, new)
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(self.engine(order[0]))
            second = await stack.enter_async_context(self.engine(order[1], first.claim))
            self.together = True
            rigs = (second, first) if new_first else (first, second)
            olds: list[Step] = []
            news: list[Step] = []
            turn = self.chance.randrange(2)
            for step in steps:
                # in turns, from where chance says
                begins = (step + turn) % 2 == 1
                for is_new in (begins, not begins):
                    (news if is_new else olds).append(await self.step(rigs[is_new], step))
        return _round(olds, news, together=True)

    async def _in_turns(self, old: ModelConfig, new: ModelConfig, steps: range, *, new_first: bool) -> Round:
        done: dict[bool, list[Step]] = {}
        for is_new in (True, False) if new_first else (False, True):
            async with self.engine(new if is_new else old) as rig:
                done[is_new] = [await self.step(rig, step) for step in steps]
        return _round(done[False], done[True], together=False)

    async def compare(
        self,
        found: Comparison,
        old: ModelConfig,
        new: ModelConfig,
        rounds: int,
        steps: int,
        listen: Callable[[], bool],
    ) -> None:
        """Add rounds to ``found`` until all are done, or ``listen`` says after one that it is enough (False).

        Each has so many steps and goes on with the prompts where the one before it ended.

        Raises:
            BenchAIError: one of both does not start or answer.
        """
        for number in range(rounds):
            part = range(number * steps, (number + 1) * steps)
            found.rounds.append(await self.round(old, new, part))
            if not listen():
                return


def _round(olds: Sequence[Step], news: Sequence[Step], *, together: bool) -> Round:
    same, replies = same_replies(olds, news)
    costs = tuple((old.cost, new.cost) for old, new in zip(olds, news, strict=True))
    return Round(costs, same, replies, together)
