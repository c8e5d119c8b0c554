"""The end of a tune: the few best beside the model as it is, single settings taken back, the proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchai.config import ModelConfig
from benchai.errors import EndpointError, EngineError
from benchai.runtime.tune.paired_rounds import Comparison, Pairing
from benchai.runtime.tune.recommend import percent
from benchai.runtime.tune.space import Change, Knob, changed, parts_of, said
from benchai.runtime.tune.study import Attempt
from benchai.runtime.tune.timing import Timing

#: What was so much dearer than the model as it is, at another time, may be cheaper beside it.
NEAR = 1.1
#: A single setting that brings less is taken back.
KEY_GAIN = 0.01
MOST_TAKEN_BACK = 6


@dataclass(frozen=True)
class Progress:
    """How far a tune has come: ``phase`` is "trials", "finalists", "keys" or "proof"."""

    phase: str
    done: int
    total: int
    text: str


Listen = Callable[[Progress], None]


@dataclass
class Finish:
    """From trials to a change that is proved, or is not. ``spent`` tells the seconds since the tune began."""

    pairing: Pairing
    model: ModelConfig
    space: Sequence[Knob]
    timing: Timing
    spent: Callable[[], float]
    listen: Listen

    async def best(self, attempts: Sequence[Attempt]) -> tuple[Change, Comparison | None]:
        """The change that is proved, and its proof; no change where none is worth one."""
        change = await self._chosen(finalists(attempts))
        if not change:
            return {}, None
        change = await self._without_idle_keys(change)
        return change, await self._proof(change)

    async def _chosen(self, finalists: Sequence[Change]) -> Change:
        """The best of the finalists, each measured beside the model as it is."""
        finalists = finalists[: self.timing.finalists(self.spent())]
        measured = []
        for number, change in enumerate(finalists, 1):
            ratio = await self._ratio(self.model, change)
            measured.append((ratio, number, change))
            text = f"{said(change)}: {percent(ratio)} beside the model as it is"
            self.listen(Progress("finalists", number, len(finalists), text))
        best = min(measured, default=(1.0, 0, {}))
        return best[2] if best[0] < 1 else {}

    async def _ratio(self, old: ModelConfig, change: Change) -> float:
        try:
            new = changed(self.model, change)
            return (await self.pairing.round(old, new, range(self.timing.round_steps))).ratio
        except (EngineError, EndpointError):
            # it ran once; what does not always run is no recommendation
            return float("inf")

    async def _without_idle_keys(self, change: Change) -> Change:
        """Take back the settings that bring nothing, each measured beside the change as it is by then."""
        parts = parts_of(change, self.space)[:MOST_TAKEN_BACK]
        for number, part in enumerate(parts if len(parts) > 1 else [], 1):
            fewer = {key: value for key, value in change.items() if key not in part}
            if not self.timing.may_take_back(self.spent()):
                break
            if not fewer or not _stands(self.model, fewer):
                continue
            ratio = await self._ratio(changed(self.model, change), fewer)
            taken = ratio < 1 + KEY_GAIN
            change = fewer if taken else change
            text = f"without {said(part)}: {percent(ratio)}, {'taken back' if taken else 'kept'}"
            self.listen(Progress("keys", number, len(parts), text))
        return change

    async def _proof(self, change: Change) -> Comparison:
        found = Comparison()

        def listen() -> bool:
            last = found.rounds[-1].ratio
            text = f"round {len(found.rounds)}: {percent(last)}"
            self.listen(Progress("proof", len(found.rounds), self.timing.rounds, text))
            # one round that is not faster, and the proof can't succeed any more
            return last < 1

        try:
            new = changed(self.model, change)
            await self.pairing.compare(found, self.model, new, self.timing.rounds, self.timing.round_steps, listen)
        except (EngineError, EndpointError) as error:
            found.failed = error.message
        return found


def finalists(attempts: Sequence[Attempt]) -> list[Change]:
    """The changes that may be faster than the model as it is, the best first."""
    base = next((one.cost for one in attempts if not one.change and one.cost is not None), None)
    ranked = sorted((one for one in attempts if one.change and one.cost is not None), key=_cost)
    return [one.change for one in ranked if base is None or _cost(one) < base * NEAR]


def _cost(attempt: Attempt) -> float:
    assert attempt.cost is not None
    return attempt.cost


def _stands(model: ModelConfig, change: Change) -> bool:
    try:
        changed(model, change)
    except ValueError:
        return False
    return True
