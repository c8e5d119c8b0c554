"""The seed's table of expected speeds ("RTX 3060 Specific Settings"), and what a measured speed is beside it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchai.runtime.placement.gpu import Gpu

Verdict = Literal["pass", "below", "for comparison"]
#: The table is about the card of 12 GB; the Ti and the laptop's have less memory and other speeds.
CARD, LEAST_MIB = re.compile(r"RTX 3060\b(?! *(Ti|Laptop))"), 11_000


@dataclass(frozen=True)
class Reference:
    """A row of the table: tokens generated per second by models of a size; ``high`` is None where it is open."""

    size: str
    low: float
    high: float | None

    @property
    def text(self) -> str:
        """As the table writes it."""
        return f"{self.low:g}+" if self.high is None else f"{self.low:g}-{self.high:g}"


@dataclass(frozen=True)
class Judgement:
    """A row of the table for a model, and a verdict: ``pass`` and ``below`` only on the card that it is about."""

    reference: Reference
    verdict: Verdict

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self.reference) | {"verdict": self.verdict}


# parameters below which a row holds; the seed names sizes, the borders lie between them
_ROWS = (
    (5e9, Reference("3B", 60, None)),
    (10e9, Reference("7B", 30, 40)),
    (20e9, Reference("13B", 15, 25)),
    (float("inf"), Reference("30B+", 2, 5)),
)
SMALLEST = 1e9


def reference_of(parameters: int) -> Reference | None:
    """The row for a model of so many parameters; None for one that is far smaller than any of the table."""
    if parameters < SMALLEST:
        return None
    return next(row for limit, row in _ROWS if parameters < limit)


def judge(parameters: int, rate: float, gpus: Collection[Gpu]) -> Judgement | None:
    """A measured speed beside the table.

    Args:
        parameters: Of the model.
        rate: Tokens generated per second by one request alone.
        gpus: Those that the model was measured on; none on the CPU.
    """
    reference = reference_of(parameters)
    if reference is None:
        return None
    if len(gpus) != 1 or not all(CARD.search(gpu.name) and gpu.total_mib >= LEAST_MIB for gpu in gpus):
        return Judgement(reference, "for comparison")
    return Judgement(reference, "pass" if rate >= reference.low else "below")
