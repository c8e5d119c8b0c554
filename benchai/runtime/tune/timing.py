"""How the minutes of a tune are shared out: what the proof will take is kept back from the search."""

from __future__ import annotations

from dataclasses import dataclass

#: The search has at least this share, whatever the proof takes.
SEARCH_SHARE = 0.4
#: The proof takes no more than this share where fewer steps a round can help it; each round has LEAST_STEPS.
PROOF_SHARE = 0.5
LEAST_STEPS = 2
FINALISTS = 3


@dataclass(frozen=True)
class Timing:
    """Seconds: ``whole`` for all, ``start`` of an engine, ``step`` of one step. ``steps`` are those of a trial."""

    whole: float
    start: float
    step: float
    steps: int
    rounds: int

    @property
    def round_steps(self) -> int:
        """Steps of one engine in one round of a comparison: those of a trial, fewer where they take long."""
        room = PROOF_SHARE * self.whole / (2 * self.rounds) - self.start
        return min(self.steps, max(LEAST_STEPS, int(room / self.step)))

    @property
    def round_seconds(self) -> float:
        """What one round takes: two engines."""
        return 2 * (self.start + self.round_steps * self.step)

    @property
    def proof_seconds(self) -> float:
        """What the proof takes, if no round ends it."""
        return self.rounds * self.round_seconds

    def may_search(self, spent: float) -> bool:
        """Whether another trial may begin after so many seconds."""
        kept = self.proof_seconds + FINALISTS * self.round_seconds
        return spent < max(SEARCH_SHARE * self.whole, self.whole - kept)

    def finalists(self, spent: float) -> int:
        """How many changes may be measured beside the model as it is: one at least."""
        room = self.whole - spent - self.proof_seconds
        return max(1, min(FINALISTS, int(room / self.round_seconds)))

    def may_take_back(self, spent: float) -> bool:
        """Whether there is time to measure without one of the settings."""
        return spent + self.round_seconds + self.proof_seconds <= self.whole
