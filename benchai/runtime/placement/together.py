"""Whether models can all run at the same time: a pure function of budget and needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchai.runtime.placement.decide import Claim, Place, Resident, Wanted, decide


@dataclass(frozen=True)
class Stays:
    """A model that runs now and is one of those asked about, or never leaves."""

    model: str
    claim: Claim


def fit_together(budget: Mapping[str, int], staying: Sequence[Stays], wanted: Sequence[Wanted]) -> bool:
    """Whether every model finds a place beside the others, where ``decide`` would put it, without one that leaves.

    Args:
        budget: MiB that our models may use in all, by device.
        staying: What runs and stays; other models that run now may leave once.
        wanted: The models that have yet to be placed.
    """
    placed = [_idle(one.model, one.claim) for one in staying]
    for one in wanted:
        decision = decide(budget, placed, one)
        if not isinstance(decision, Place) or decision.stop:
            return False
        placed.append(_idle(one.model, decision.claim))
    return True


def _idle(model: str, claim: Claim) -> Resident:
    return Resident(model, claim, pinned=False, busy=False, reload_seconds=0.0, last_used=0.0)
