"""Which parts of a note are code or comments: there no link, tag or block id counts.

What begins first wins: ``%%`` inside of code is code, a backtick inside of a comment is comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_PREFIX = r"[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+[ \t>]*)*"
_MARK = re.compile(
    rf"(?P<fence>^{_PREFIX}(?P<bar>`{{3,}}|~{{3,}})(?P<info>[^\n]*)$)|(?P<ticks>`+)|(?P<comment>%%)|\\[^\n]",
    re.MULTILINE,
)
_TICKS = re.compile(r"`+")
_PARAGRAPH_END = re.compile(r"\n[ \t>]*(?:\n|$)")
_LIST = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)")
_QUOTED = re.compile(r"[ \t]*>")
_NOT_LINE_END = re.compile(r"[^\r\n]")


class Span(NamedTuple):
    """Characters from ``start`` up to, without, ``end``."""

    start: int
    end: int


class Hidden(NamedTuple):
    """The parts of a note that are no prose, in order."""

    code: list[Span]
    comments: list[Span]


@dataclass(slots=True)
class _Seen:
    """Where the paragraph ends, and up to where no code begins with so many ticks: nothing is searched twice."""

    paragraph: int = 0
    hopeless: dict[int, int] = field(default_factory=dict)


def find_hidden(text: str) -> Hidden:
    """Code blocks, code in a line and ``%%`` comments; a comment that is not closed is text."""
    code: list[Span] = []
    comments: list[Span] = []
    indented, start = _indented(text), 0
    seen = _Seen()
    while (mark := _MARK.search(text, start)) is not None:
        block = _first_from(indented, start)
        if block is not None and block.start <= mark.start():
            code.append(block)
            start = block.end
        elif mark["comment"]:
            end = text.find("%%", mark.end()) + 2
            comments += [Span(mark.start(), end)] if end > 1 else []
            start = max(end, mark.end())
        elif (span := _code_at(text, mark, seen)) is not None:
            code.append(span)
            start = span.end
        else:
            start = _behind(mark)
    code += [block for block in indented if block.start >= start]
    return Hidden(code, comments)


def blank(text: str, spans: Iterable[Span]) -> str:
    """The text with spaces in place of what the spans hold; every line and every offset stays."""
    parts, start = [], 0
    for span in sorted(spans):
        parts += [text[start : span.start], _NOT_LINE_END.sub(" ", text[max(start, span.start) : span.end])]
        start = max(start, span.end)
    return "".join([*parts, text[start:]])


def _behind(mark: re.Match[str]) -> int:
    # what looked like a fence may be code in a line
    return mark.end("bar") if mark["fence"] else mark.end()


def _code_at(text: str, mark: re.Match[str], seen: _Seen) -> Span | None:
    if mark["fence"] and not (mark["bar"][0] == "`" and "`" in mark["info"]):
        return Span(mark.start(), _fence_end(text, mark))
    first = mark.start("bar") if mark["fence"] else mark.start()
    ticks = mark["bar"] if mark["fence"] else mark["ticks"]
    if not ticks or ticks[0] != "`":
        return None
    return _code_in_line(text, first, len(ticks), seen)


def _code_in_line(text: str, first: int, ticks: int, seen: _Seen) -> Span | None:
    """Code ends at as many ticks as it began with, in its paragraph."""
    if first < seen.hopeless.get(ticks, 0):
        return None
    if first >= seen.paragraph:
        end = _PARAGRAPH_END.search(text, first)
        seen.paragraph = end.start() if end else len(text)
    for found in _TICKS.finditer(text, first + ticks, seen.paragraph):
        if len(found[0]) == ticks:
            return Span(first, found.end())
    seen.hopeless[ticks] = seen.paragraph
    return None


def _fence_end(text: str, mark: re.Match[str]) -> int:
    """Behind the line that closes a fence, or where its quote ends, or at the end of the text."""
    bar = mark["bar"]
    closing = re.compile(rf"[ \t>]*{re.escape(bar[0])}{{{len(bar)},}}[ \t]*\r?")
    quoted = _QUOTED.match(mark[0]) is not None
    start = mark.end() + 1
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if quoted and not _QUOTED.match(text, start, end):
            return start
        if closing.fullmatch(text, start, end):
            return end
        start = end + 1
    return len(text)


def _indented(text: str) -> list[Span]:
    """Lines of code that four spaces or a tab make such: behind an empty line, and not of a list."""
    if not re.search(r"^(?: {4}| {0,3}\t)", text, re.MULTILINE):
        return []
    found: list[Span] = []
    after_empty, in_list, in_code = True, False, False
    for span in _lines(text):
        line = text[span.start : span.end]
        if not line.strip():
            after_empty = True
            continue
        deep = line.startswith(("    ", "\t", " \t", "  \t", "   \t"))
        stays = in_list and (deep or not after_empty or line[0] in " \t")
        in_list = stays or (not deep and _LIST.match(line) is not None)
        in_code = deep and not in_list and (after_empty or in_code)
        if in_code:
            found.append(span)
        after_empty = False
    return found


def _lines(text: str) -> Iterator[Span]:
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield Span(start, end)
        start = end + 1


def _first_from(spans: list[Span], start: int) -> Span | None:
    while spans and spans[0].start < start:
        spans.pop(0)
    return spans[0] if spans else None
