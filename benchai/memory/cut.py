"""Cutting: the sections of a text become pieces of bounded length, each with its place."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from benchai.memory.sections import Loaded, Section, line_of
from benchai.memory.types import Piece

#: Goes up when the same text is cut in another way.
CUTTER = 1
_LINES = re.compile("\n")
_WORD = re.compile(r"\S")
_DEEPEST = 40  # blanks of an indent
_SENTENCE = re.compile(r"[.!?…][\"'”’)\]]*\s+(?=[\w\"'“‘(\[#*-])|[。！？]")
_SMALLEST = 64


@dataclass(frozen=True, slots=True)
class Cutting:
    """How text is cut.

    Args:
        size: Characters of the longest piece, at least 64.
        overlap: Characters of the end of a piece of prose with which the next one may begin, at most.
    """

    size: int = 1200
    overlap: int = 150

    def __post_init__(self) -> None:
        if self.size < _SMALLEST or not 0 <= self.overlap <= self.size // 4:
            raise ValueError(f"size {self.size!r} must be at least {_SMALLEST}, overlap {self.overlap!r} 0 to size / 4")


def cut(loaded: Loaded, cutting: Cutting) -> Iterator[Piece]:
    """The pieces of a document, in order: nothing but blanks is left out, and only prose is said twice."""
    text = loaded.text
    ends = array("q", (found.start() for found in _LINES.finditer(text)) if loaded.lined else ())
    for section in loaded.sections:
        heading = line_of(section.heading)
        for start, end in _spans(text, section, cutting):
            header = _header(text, section, start, cutting)
            yield Piece(
                text=header + text[start:end],
                heading=heading,
                line=bisect_left(ends, start) + 1 if loaded.lined else None,
                end_line=bisect_left(ends, end - 1) + 1 if loaded.lined else None,
                page=section.page,
            )


def _header(text: str, section: Section, start: int, cutting: Cutting) -> str:
    """What is repeated in front of a piece: not where it begins with it, nor where it would fill half the piece."""
    if not section.header or len(section.header) > cutting.size // 2:
        return ""
    return section.header if start >= section.start + len(section.header) else ""


def _spans(text: str, section: Section, cutting: Cutting) -> Iterator[tuple[int, int]]:
    position, end = _begin(text, section.start, section.end), _stripped(text, section.start, section.end)
    while position < end:
        room = cutting.size - len(_header(text, section, position, cutting))
        stop = end if end - position <= room else _boundary(text, section, position, end, room)
        last = _stripped(text, position, stop)
        if last > position:
            yield position, last
        if stop >= end:
            return
        again = _overlapping(text, position, stop, cutting.overlap) if section.prose else stop
        position = again if again < stop else _begin(text, stop, end)


def _begin(text: str, start: int, end: int) -> int:
    """Behind the blank lines; blanks in front of the first word may mean something, and stay if they are few."""
    found = _WORD.search(text, start, end)
    if found is None:
        return end
    line = text.rfind("\n", start, found.start()) + 1 or start
    return line if found.start() - line <= _DEEPEST else found.start()


def _stripped(text: str, start: int, end: int) -> int:
    return start + len(text[start:end].rstrip())


def _boundary(text: str, section: Section, position: int, end: int, room: int) -> int:
    """Where to cut: as late as it can be done well, but not so late that a crumb is left."""
    left = end - position
    highest = position + min(room, left * 3 // 5)
    lowest = position + (highest - position) // 2
    if section.breaks:
        place = bisect_right(section.breaks, highest) - 1
        if place >= 0 and section.breaks[place] > position:
            return section.breaks[place]
    return _natural(text, lowest, highest, section.prose)


def _natural(text: str, lowest: int, highest: int, prose: bool) -> int:
    if (found := text.rfind("\n\n", lowest, highest)) >= 0:
        return found + 2
    if prose:
        ends = [found.end() for found in _SENTENCE.finditer(text, lowest, highest)]
        line = text.rfind("\n", lowest, highest) + 1
        if ends or line:
            return max(line, ends[-1] if ends else 0)
    elif (found := text.rfind("\n", lowest, highest)) >= 0:
        return found + 1
    if (found := max(text.rfind(blank, lowest, highest) for blank in " \t")) >= 0:
        return found + 1
    return highest


def _overlapping(text: str, position: int, stop: int, overlap: int) -> int:
    """Where the next piece of prose begins: with the last whole sentence of this one, if that is short."""
    lowest = max(stop - overlap, position + 1)
    begins = [found.end() for found in _SENTENCE.finditer(text, lowest, stop) if found.end() < stop]
    return begins[0] if begins else stop
