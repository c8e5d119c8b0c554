"""The differences that are known: the table in docs/agent.md.

Its first two columns are patterns: which steps, and which places of their answers. ``*`` stands for anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from scripts.agent_conformance.compare import Difference

DOCS = Path(__file__).parents[2] / "docs" / "agent.md"
#: What no row may cover for a whole scene, or for all of them: that would be no list.
EVERYTHING = ("status", "body.x", "body.0.x", "headers.x", "events.0", "text")
HEAD = ("calls", "where", "the reference server", "BenchAI", "why")


@dataclass(frozen=True)
class Row:
    """One row; ``calls`` and ``where`` may hold several patterns."""

    calls: tuple[str, ...]
    where: tuple[str, ...]
    why: str

    @property
    def is_too_wide(self) -> bool:
        """Whether nothing of a scene would be compared any more."""
        scenes = any(call == "*" or call.endswith(": *") for call in self.calls)
        return scenes and any(_any(path, self.where) for path in EVERYTHING)

    def covers(self, difference: Difference) -> bool:
        """Whether the difference is one of those that the row tells of."""
        return _any(difference.step, self.calls) and _any(difference.path, self.where)


def _any(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def read_table(path: Path = DOCS) -> list[Row]:
    """The rows of the table.

    Raises:
        ValueError: the file has no such table, or a row of it gives no reason or covers a whole scene.
    """
    lines = [_cells(line) for line in path.read_text(encoding="utf-8").splitlines()]
    try:
        begin = lines.index(HEAD)
    except ValueError:
        raise ValueError(f"{path} has no table with the columns {', '.join(HEAD)}") from None
    rows = []
    for cells in lines[begin + 2 :]:
        if len(cells) != len(HEAD):
            break
        if not all(cells):
            raise ValueError(f"{path}: the row {cells[0]!r}, {cells[1]!r} has an empty cell")
        rows.append(Row(_patterns(cells[0]), _patterns(cells[1]), cells[4]))
        if rows[-1].is_too_wide:
            raise ValueError(f"{path}: the row {cells[0]!r}, {cells[1]!r} covers too much: name its calls")
    return rows


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in line.strip().strip("|").split("|")) if line.startswith("|") else ()


def _patterns(cell: str) -> tuple[str, ...]:
    """The patterns of a cell: what stands between backticks."""
    return tuple(cell.split("`")[1::2])
