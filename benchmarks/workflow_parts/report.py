"""What every part of the benchmark of workflows gives back, and how it is shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Part:
    """One part: plain rows for JSON, the lines of its Markdown table (the first is the head), and notes below it."""

    name: str
    rows: list[dict[str, Any]]
    table: list[list[Any]]
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    load_before: tuple[float, float, float] = (0.0, 0.0, 0.0)
    load_after: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        load = {"before": self.load_before, "after": self.load_after}
        return {"name": self.name, "rows": self.rows, "notes": self.notes, "seconds": self.seconds, "load": load}

    def markdown(self) -> str:
        """Title, table, notes."""
        load = " -> ".join("/".join(f"{one:.1f}" for one in loads) for loads in (self.load_before, self.load_after))
        title = f"## {self.name} ({self.seconds:.0f} s; load average {load}; {os.cpu_count()} cores)"
        return "\n".join([title, "", markdown(self.table), *[f"- {one}" for one in self.notes]])


def markdown(lines: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; the first line is its head."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    cells.insert(1, ["-" * max(width, 3) for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    )


def note(text: str) -> None:
    """Say on stderr what is under way."""
    print(text, file=sys.stderr, flush=True)
