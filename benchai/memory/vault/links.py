"""What a note points to and is pointed to by: links, tags and block ids in the prose of a note."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal
from urllib.parse import unquote

from benchai.memory.types import Link
from benchai.memory.vault.mask import Span, blank

WIKILINK = re.compile(r"(!?)\[\[([^\[\]\r\n]+)\]\]")
_MARKDOWN = re.compile(
    r"(!?)\[(?>(?:[^\[\]\\]|\\.|\[[^\[\]\n]*\]){0,500})\]"
    r"\((?>(<[^<>\n]*>|[^\s()<>]*(?:\([^\s()]*\)[^\s()<>]*)*))([^()\n]{0,500})\)"
)
_TITLE = re.compile(r"""[ \t]*|[ \t]+(?:"[^"\n]*"|'[^'\n]*')[ \t]*""")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")
# what Obsidian takes for the end of a tag
_TAG = r"#[^\u2000-\u206F\u2E00-\u2E7F'!\"#$%&()*+,.:;<=>?@^`{|}~\[\]\\\s]+"
_TAGS = re.compile(rf"(?<!\S)(?:{_TAG})+")
_BLOCK_ID = re.compile(r"(?:^|[ \t>])\^([A-Za-z0-9-]+)[ \t]*$")
_BEGINS_BLOCK = re.compile(r"[ \t>]*(?:$|[-*+][ \t]|\d{1,9}[.)][ \t]|#{1,6}[ \t]|`{3}|~{3})")


def find_links(prose: str) -> tuple[list[Link], list[Span]]:
    """The links of a text without code and comments, in order; and where links stand, those to elsewhere, too."""
    found: list[tuple[Span, Link | None]] = list(_wikilinks(prose))
    rest = blank(prose, [span for span, _ in found])
    found += _markdown_links(rest)
    found.sort(key=lambda one: one[0])
    return [link for _, link in found if link], [span for span, _ in found]


def links_of_text(text: str) -> list[Link]:
    """The wikilinks of a property."""
    return [link for _, link in _wikilinks(text)]


def find_tags(prose: str) -> list[str]:
    """The tags of a text without code, comments and links, as written without ``#``, each once."""
    found = (tag for chain in _TAGS.findall(prose) for tag in chain.split("#"))
    return unique_tags(tag.strip("/") for tag in found)


def unique_tags(tags: Iterable[str]) -> list[str]:
    """Tags without those that are digits alone, or were there already: case does not count."""
    kept: dict[str, str] = {}
    for tag in tags:
        if tag and not tag.replace("/", "").isdigit():
            kept.setdefault(tag.casefold(), tag)
    return list(kept.values())


def find_blocks(prose: str) -> list[str]:
    """Ids at the end of a paragraph or list item, or on a line of their own; without ``^``."""
    lines = prose.split("\n")
    blocks = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        found = _BLOCK_ID.search(line) if "^" in line else None
        if found and _BEGINS_BLOCK.match(following):
            blocks.append(found[1])
    return list(dict.fromkeys(blocks))


def _wikilinks(prose: str) -> Iterator[tuple[Span, Link]]:
    for found in WIKILINK.finditer(prose):
        if _escaped(prose, found.start()):
            continue
        # in a table the bar is escaped
        written, _, _ = found[2].replace("\\|", "|").partition("|")
        target, _, part = written.partition("#")
        link = _link(target, part, found[1])
        if link is not None:
            yield Span(*found.span()), link


def _markdown_links(prose: str) -> Iterator[tuple[Span, Link | None]]:
    for found in _MARKDOWN.finditer(prose):
        if _escaped(prose, found.start()) or not _TITLE.fullmatch(found[3]):
            continue
        target, mark, part = found[2].strip("<>").partition("#")
        own = found[1] or target.strip().lower().endswith(".md") or (mark and not target)
        leads_out = _SCHEME.match(target)
        yield Span(*found.span()), _link(unquote(target), unquote(part), found[1]) if own and not leads_out else None


def _link(target: str, part: str, embeds: str) -> Link | None:
    target, part = target.strip(), part.strip()
    kind: Literal["link", "embed"] = "embed" if embeds else "link"
    return Link(target=target, part=part, kind=kind) if target or part else None


def _escaped(text: str, start: int) -> bool:
    before = text[max(0, start - 50) : start]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1
