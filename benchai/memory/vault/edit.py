"""The text of a note with something appended: at its end, or at the end of what stands under a heading; pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from benchai.errors import UsageError
from benchai.memory.loaders.markdown import Heading, headings
from benchai.memory.vault.frontmatter import read_front
from benchai.memory.vault.mask import Span, blank, find_hidden
from benchai.memory.vault.resolve import heading_key

_HASHES = re.compile(r"(#{1,6})[ \t]+")
_DEFAULT_LEVEL = 2


class _Wanted(NamedTuple):
    level: int
    path: tuple[str, ...]


def appended(text: str, addition: str, heading: str | None = None) -> str:
    """A note with lines added; its line ends and all that it says stay.

    Under a heading they come behind what stands there before the next heading of any level, which a line between keeps
    apart; a heading that is not there is made at the end of the note.

    Args:
        text: Of the note.
        addition: One or more lines.
        heading: As it reads, ``## `` in front or not; ``A#B`` is B under A.

    Raises:
        UsageError: the heading is none.
    """
    end = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    added = addition.replace("\r\n", "\n").rstrip("\n") + "\n"
    if heading is None or not heading.strip():
        return _put(text, len(text), added, end)
    wanted = _wanted(heading)
    found = _headings(text.replace("\r\n", "\n"))
    place = _find(found, wanted.path)
    if place is None:
        return _put(text, len(text), f"{_gap(text)}{'#' * wanted.level} {wanted.path[-1]}\n\n{added}", end)
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    following = found[place + 1].line if place + 1 < len(found) else len(lines)
    last = _last(lines, found[place].line, following)
    gap = "\n" if last == following < len(lines) else ""
    return _put(text, sum(map(len, lines[:last])), added + gap, end)


def _put(text: str, position: int, added: str, end: str) -> str:
    """The text with whole lines put in; nothing else of it changes."""
    before = text[:position]
    break_ = end if before.strip("\ufeff") and not before.endswith("\n") else ""
    return before + break_ + added.replace("\n", end) + text[position:]


def _gap(text: str) -> str:
    """What parts a new heading from the text before it; the line end of the last line comes by itself."""
    return "" if not text.strip() or re.search(r"\n[ \t\r]*\n\Z", text) else "\n"


def _last(lines: list[str], heading: int, following: int) -> int:
    """The line behind the last one that says something, of those under a heading."""
    last = following
    while last > heading + 1 and not lines[last - 1].strip():
        last -= 1
    return last


def _wanted(heading: str) -> _Wanted:
    hashes = _HASHES.match(heading.strip())
    said = heading.strip()[hashes.end() if hashes else 0 :]
    path = tuple(part.strip() for part in said.split("#") if heading_key(part))
    if not path or "\n" in heading or "\r" in heading:
        raise UsageError(f"{heading[:100]!r} is no heading", hint="give its text on one line, as it stands in the note")
    return _Wanted(len(hashes[1]) if hashes else _DEFAULT_LEVEL, path)


def _headings(text: str) -> list[Heading]:
    """The headings outside of the frontmatter and of comments."""
    body = read_front(text).end
    comments = [Span(start + body, end + body) for start, end in find_hidden(text[body:]).comments]
    return headings(blank(text, comments), body)


def _find(found: list[Heading], path: tuple[str, ...]) -> int | None:
    """The first heading of that name below those named before it."""
    keys = [heading_key(part) for part in path]
    above: list[Heading] = []
    for place, heading in enumerate(found):
        above = [*(one for one in above if one.level < heading.level), heading]
        if [heading_key(one.text) for one in above[-len(keys) :]] == keys:
            return place
    return None
