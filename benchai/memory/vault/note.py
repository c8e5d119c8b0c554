"""One note of a vault, read: its properties, tags, aliases, block ids and links, and its text without comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from benchai.memory.loaders.markdown import Heading, headings, line_starts
from benchai.memory.sections import Loaded, Section
from benchai.memory.types import Link, Meta
from benchai.memory.vault.frontmatter import read_front
from benchai.memory.vault.links import find_blocks, find_links, find_tags, links_of_text, unique_tags
from benchai.memory.vault.mask import Hidden, Span, blank, find_hidden

_NO_LINE_ENDS = re.compile(r"[^\n]+")


class Note(NamedTuple):
    r"""A note.

    Attributes:
        text: What is searched, without comments; as many lines as the note has.
        title: The property ``title``, else the file's name.
        meta: The properties, and ``tags``, ``aliases``, ``blocks``; ``notice`` where the frontmatter can't be read.
        links: Each once, those of the properties last.
        body: Where the text behind the frontmatter begins.
    """

    text: str
    title: str
    meta: Meta
    tags: tuple[str, ...]
    aliases: tuple[str, ...]
    blocks: tuple[str, ...]
    links: tuple[Link, ...]
    body: int

    def loaded(self) -> Loaded:
        """The note as it is cut: a section for each heading."""
        sections = list(_sections(self.text, headings(self.text, self.body)))
        return Loaded(self.text, "note", sections, self.title, self.meta)


def parse_note(text: str, name: str) -> Note:
    r"""Read a note; never raises.

    Args:
        text: With \n as line ends, without a byte order mark.
        name: Of its file, without the suffix.
    """
    front = read_front(text)
    body = text[front.end :]
    hidden = find_hidden(body)
    prose = blank(body, [*hidden.code, *hidden.comments])
    links, spans = find_links(prose)
    links += [link for value in front.texts if "[[" in value for link in links_of_text(value)]
    tags = unique_tags([*front.tags, *find_tags(blank(prose, spans))])
    blocks = find_blocks(prose)
    own: Meta = {"tags": tags, "aliases": list(front.aliases), "blocks": blocks, "notice": front.notice}
    title = front.meta.get("title")
    return Note(
        text=text[: front.end] + _searched(body, hidden),
        title=title if isinstance(title, str) and title.strip() else name,
        meta={**front.meta, **{key: value for key, value in own.items() if value}},
        tags=tuple(tags),
        aliases=front.aliases,
        blocks=tuple(blocks),
        links=tuple(dict.fromkeys(links)),
        body=front.end,
    )


def _sections(text: str, found: list[Heading]) -> Iterator[Section]:
    starts = [*line_starts(text), len(text)]
    path: list[Heading] = []
    begun = said = 0
    heading = ""
    for one in found:
        # a heading directly below another: what follows stands under both
        if text[said : starts[one.line]].strip():
            yield Section(begun, starts[one.line], heading)
            begun = starts[one.line]
        said = starts[one.line + 1]
        path = [*(above for above in path if above.level < one.level), one]
        heading = " > ".join(above.text for above in path if above.text)
    yield Section(begun, len(text), heading)


def _searched(body: str, hidden: Hidden) -> str:
    """The text without comments, whose line ends stay: lines keep their numbers."""
    parts, start = [], 0
    for comment in hidden.comments:
        parts += [body[start : comment.start], _line_ends(body, comment)]
        start = comment.end
    return "".join([*parts, body[start:]])


def _line_ends(body: str, span: Span) -> str:
    return _NO_LINE_ENDS.sub("", body[span.start : span.end])
