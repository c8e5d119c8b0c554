"""Markdown that others wrote, as notes: one for each bullet and each paragraph, with the headings it stands under."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from benchai.memory.markdown import wrong
from benchai.memory.turns import parts

#: Characters of a note, at most, as of any fact; a longer one becomes several.
LONGEST: Final = 4_000
#: Characters that what stands above a note may have to be put before it.
_LONGEST_ABOVE: Final = 200
_HEADING: Final = re.compile(r" {0,3}#{1,6}(?:[ \t]+(.*))?")
_RULE: Final = re.compile(r" {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*")
_UNDERLINE: Final = re.compile(r" {0,3}(=+|-+)[ \t]*")
_BULLET: Final = re.compile(r"([ \t]*)(?:[-*+]|\d{1,9}[.)])(?:[ \t]+(.*))?")
_FENCE: Final = re.compile(r"[ \t]*(`{3,}(?=[^`]*$)|~{3,})")
_QUOTE: Final = re.compile(r"(?: {0,3}> ?)+")


class Note(NamedTuple):
    """What a bullet or a paragraph says, and its line, from 1."""

    line: int
    text: str


@dataclass
class Notes:
    """The notes of a file, in order, and how much of each sort there was that says nothing on its own."""

    notes: list[Note] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def read_notes(lines: Sequence[str], first: int = 1, *, headings: bool = True) -> Notes:
    """The notes of Markdown.

    A bullet below another one, or below a line that ends with a colon, has that line before it, as every note has the
    heading right above it.

    Args:
        lines: Of the file, without their ends.
        first: Number of the first of them.
        headings: Whether those are put before the notes.

    Raises:
        SourceError: a comment has no end; the message names its line.
    """
    reader = _Reader(headings)
    begin = _front_matter(lines) if first == 1 else 0
    if begin:
        reader.found.skipped["lines of front matter"] += begin
    for place, line in enumerate(lines[begin:], first + begin):
        reader.line(place, line.rstrip("\r\n"))
    return reader.end()


def _front_matter(lines: Sequence[str]) -> int:
    """How many lines it has; 0 for none."""
    if not lines or lines[0].rstrip() != "---":
        return 0
    return next((number for number, line in enumerate(lines[1:], 2) if line.rstrip() in ("---", "...")), 0)


@dataclass
class _Block:
    """A bullet, paragraph, table or piece of code that is being read; the indent of what is no bullet is -1."""

    line: int
    indent: int
    said: list[str] = field(default_factory=list)
    verbatim: bool = False

    @property
    def text(self) -> str:
        lines = self.said if self.verbatim else [line.strip() for line in self.said]
        return ("\n" if self.verbatim else " ").join(lines).strip()


class _Above(NamedTuple):
    """What notes below stand under; ``note`` is its own place among the notes."""

    indent: int
    text: str
    note: int


class _Reader:
    def __init__(self, headings: bool) -> None:
        self.found = Notes()
        self._headings = headings
        self._heading = ""
        self._block: _Block | None = None
        self._above: list[_Above] = []
        self._fence = ""
        self._comment = 0

    def line(self, number: int, line: str) -> None:
        """Read the next line."""
        if self._fence and self._block is not None:
            self._in_fence(self._block, line)
            return
        if self._comment or line.lstrip().startswith("<!--"):
            self._in_comment(number, line)
            return
        quoted = _QUOTE.match(line)
        self._outside(number, line[quoted.end() :] if quoted else line)

    def end(self) -> Notes:
        """All of it."""
        if self._comment:
            raise wrong(self._comment, "the comment that begins here has no end")
        self._close()
        return self.found

    def _in_fence(self, block: _Block, line: str) -> None:
        block.said.append(line)
        if line.strip().startswith(self._fence) and not line.strip().strip(self._fence[0]):
            self._fence = ""
            if _FENCE.match(block.said[0]):
                self._close()

    def _in_comment(self, number: int, line: str) -> None:
        if not self._comment:
            self._comment = number
            self.found.skipped["comments"] += 1
            line = line.lstrip().removeprefix("<!--")
        _, ended, behind = line.partition("-->")
        if ended:
            self._comment = 0
            if behind.strip():
                self.line(number, behind)

    def _outside(self, number: int, line: str) -> None:
        if not line.strip():
            self._blank()
        elif heading := _HEADING.fullmatch(line):
            self._close()
            self._under((heading[1] or "").rstrip("# \t"))
        elif self._underlined(line):
            pass
        elif _RULE.fullmatch(line):
            self._close()
            self._above.clear()
            self.found.skipped["rules"] += 1
        else:
            self._words(number, line)

    def _words(self, number: int, line: str) -> None:
        fence, bullet = _FENCE.match(line), _BULLET.fullmatch(line)
        indent = _width(line[: len(line) - len(line.lstrip())])
        if fence is not None:
            self._fence = fence[1]
            if self._block is None or self._block.indent >= indent:
                self._open(number, self._below(indent))
            self._add(line, verbatim=True)
        elif bullet is not None:
            self._open(number, indent)
            self._add(bullet[2] or "")
        else:
            table = line.lstrip().startswith("|")
            if self._block is None or (table and not self._block.verbatim):
                self._open(number, self._below(indent))
            self._add(line, verbatim=table)

    def _below(self, indent: int) -> int:
        """The indent of what is no bullet: it counts where there is a bullet that it may belong to."""
        return indent if any(0 <= one.indent < indent for one in self._above) else -1

    def _blank(self) -> None:
        if self._block is not None and self._block.said:
            self._close()

    def _underlined(self, line: str) -> bool:
        """Whether this line makes the one before it a heading."""
        block = self._block
        found = _UNDERLINE.fullmatch(line)
        if found is None or block is None or block.indent >= 0 or block.verbatim:
            return False
        self._block = None
        self._under(block.text)
        return True

    def _under(self, heading: str) -> None:
        self._above.clear()
        if self._headings:
            self._heading = heading.strip()
            self.found.skipped["headings"] += 1

    def _open(self, number: int, indent: int) -> None:
        self._close()
        self._block = _Block(number, indent)

    def _add(self, line: str, verbatim: bool = False) -> None:
        assert self._block is not None
        self._block.verbatim |= verbatim
        self._block.said.append(line)

    def _close(self) -> None:
        block, self._block = self._block, None
        if block is None:
            return
        if not block.text:
            self.found.skipped["empty bullets"] += 1
            return
        while self._above and (block.indent < 0 or self._above[-1].indent >= block.indent):
            self._above.pop()
        self._introduced()
        self._note(block)
        if block.indent >= 0 or block.text.endswith(":"):
            self._above.append(_Above(block.indent, block.text, len(self.found.notes) - 1))

    def _introduced(self) -> None:
        """A line that ends with a colon is said with what it introduces, and not on its own."""
        if not self._above:
            return
        above = self._above[-1]
        if above.text.endswith(":") and _fits(above.text) and above.note == len(self.found.notes) - 1:
            self.found.notes.pop()
            self._above[-1] = above._replace(note=-1)

    def _note(self, block: _Block) -> None:
        heading = [self._heading] if self._headings and self._heading else []
        above = [one for one in (*heading, *(above.text for above in self._above)) if _fits(one)]
        before = "".join(f"{one.rstrip(':.; ')}: " for one in above)
        before = before if len(before) <= LONGEST // 2 else ""
        for part in parts(block.text, LONGEST - len(before)):
            self.found.notes.append(Note(block.line, before + part))


def _fits(text: str) -> bool:
    return len(text) <= _LONGEST_ABOVE and "\n" not in text


def _width(blanks: str) -> int:
    return len(blanks.expandtabs(4))
