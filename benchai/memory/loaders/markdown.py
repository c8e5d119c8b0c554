"""Markdown: a section for each heading, with all headings above it."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from benchai.memory.loaders.base import Raw
from benchai.memory.loaders.decode import text_of
from benchai.memory.loaders.frontmatter import frontmatter
from benchai.memory.sections import Loaded, Section, line_of

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_PARSED = 1 << 20  # characters; a longer text is searched for lines with # alone
_HASHES = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_MARKUP = re.compile(r"!?\[\[(?:[^\]|]*\|)?([^\]]*)\]\]|!?\[([^\]]*)\]\([^)]*\)|(\*\*|__|`+|~~)")


class Heading(NamedTuple):
    """A heading: its line from 0, its level from 1, and what it says."""

    line: int
    level: int
    text: str


def load(raw: Raw) -> Loaded:
    """Read Markdown.

    Raises:
        SourceError: it is no text.
    """
    text, notice = text_of(raw.data, raw.source, raw.charset)
    loaded = markdown(text)
    if notice:
        loaded.meta["notice"] = notice
    return loaded


def markdown(text: str) -> Loaded:
    """Sections, title and meta data of a text in Markdown."""
    meta, body = frontmatter(text)
    found = headings(text, body)
    named = meta.get("title")
    title = named if isinstance(named, str) else next((one.text for one in found if one.text), "")
    return Loaded(text, "markdown", list(_sections(text, found)), title, meta)


def headings(text: str, body: int = 0) -> list[Heading]:
    r"""The headings that stand at the outermost level, in order.

    Args:
        text: With \n as line ends.
        body: Where the text behind the frontmatter begins.
    """
    before = text.count("\n", 0, body)
    found = _parsed(text[body:]) if len(text) - body <= _PARSED else _searched(text[body:])
    return [Heading(line + before, level, line_of(_MARKUP.sub(r"\1\2", said[:1000]))) for line, level, said in found]


def _parsed(text: str) -> Iterator[Heading]:
    for token, content in pairwise(_parser().parse(text)):
        if token.type == "heading_open" and token.level == 0 and token.map:
            yield Heading(token.map[0], int(token.tag[1:]), content.content)


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").disable(["inline", "text_join"])


def _searched(text: str) -> Iterator[Heading]:
    fence = ""
    for number, line in enumerate(text.split("\n")):
        if found := _FENCE.match(line):
            if not fence:
                fence = found[1]
            elif found[1].startswith(fence):
                fence = ""
        elif not fence and (found := _HASHES.match(line)):
            yield Heading(number, len(found[1]), found[2])


def _sections(text: str, found: list[Heading]) -> Iterator[Section]:
    starts = line_starts(text)
    path: list[Heading] = []
    begun, heading = 0, ""
    for one in found:
        start = starts[one.line]
        # a heading directly below another one: what follows stands under both
        if text[begun:start].strip() and not _only_heading(text[begun:start], path):
            yield Section(begun, start, heading)
            begun = start
        path = [*(above for above in path if above.level < one.level), one]
        heading = " > ".join(above.text for above in path if above.text)
    yield Section(begun, len(text), heading)


def _only_heading(part: str, path: list[Heading]) -> bool:
    lines = part.strip().split("\n")
    return len(lines) == 1 and bool(path) and _HASHES.match(lines[0]) is not None


def line_starts(text: str) -> array[int]:
    r"""Where each line begins; lines end with \n."""
    starts = array("q", [0])  # a list of millions would take four times as much
    starts.extend(found.end() for found in re.finditer("\n", text))
    return starts
