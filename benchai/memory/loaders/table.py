"""CSV and its like: pieces of whole rows, each with the header row."""

from __future__ import annotations

import csv
from itertools import accumulate

from benchai.memory.loaders.base import Raw
from benchai.memory.loaders.decode import text_of
from benchai.memory.sections import Loaded, Section


def load(raw: Raw) -> Loaded:
    """Read a table; its first row is its header.

    Raises:
        SourceError: it is no text.
    """
    text, notice = text_of(raw.data, raw.source, raw.charset)
    breaks = _rows([f"{line}\n" for line in text.split("\n")])
    header = text[: breaks[0]] if breaks else ""
    section = Section(0, len(text), prose=False, breaks=tuple(breaks), header=header)
    return Loaded(text, "csv", [section], meta={"notice": notice} if notice else {})


def _rows(lines: list[str]) -> list[int]:
    """Where the rows behind the header begin; one with line ends in quotes is a single row."""
    starts = list(accumulate(map(len, lines), initial=0))
    reader = csv.reader(lines, delimiter=_delimiter(lines[0]))
    found = []
    try:
        for _ in reader:
            found.append(starts[reader.line_num])
    except csv.Error:  # a field beyond the module's bound: from there on each line is a row
        found += starts[reader.line_num :]
    return found[:-1]


def _delimiter(header: str) -> str:
    return max(",;\t|", key=header.count)
