"""Rows of a benchmark's table, and how often to measure what stands in them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

LEAST = 3


@dataclass(frozen=True)
class Row:
    """One comparison; ``value`` and ``against`` are medians in ``unit``, ``limit`` is what the goal allows."""

    engine: str
    name: str
    value: float
    unit: str = "s"
    n: int = 1
    compared: str = ""
    against: float | None = None
    goal: str = ""
    limit: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times what it is compared with."""
        return self.value / self.against if self.against else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        return None if self.limit is None else self.value <= self.limit

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"ratio": self.ratio, "met": self.met}

    def cells(self) -> list[str]:
        """The row of the table."""
        against = "" if self.against is None else f"{self.compared}: {figure(self.against, self.unit)}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        met = {None: "", True: "yes", False: "NO"}[self.met]
        return [self.engine, self.name, figure(self.value, self.unit), str(self.n), against, ratio, self.goal, met]


HEAD = ["engine", "what", "median", "n", "compared with", "ratio", "goal", "met"]


def figure(value: float, unit: str) -> str:
    """Three digits and the unit."""
    return f"{value:#.3g} {unit}".replace(". ", " ")


def table(rows: Sequence[Row]) -> str:
    """A Markdown table, notes below it."""
    lines = [HEAD, ["---"] * len(HEAD), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    notes = [f"- {row.engine}, {row.name}: {row.note}" for row in rows if row.note]
    return "\n".join([*text, "", *notes] if notes else text)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def rounds(n: int, until: float, least: int = LEAST, clock: Callable[[], float] = time.monotonic) -> Iterator[int]:
    """Count to ``n``; after ``least`` rounds no new one begins later than ``until``."""
    for number in range(n):
        if number >= least and clock() > until:
            return
        yield number
