"""HTML: what a reader of the page sees, as Markdown, so that its headings make sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from benchai.errors import SourceError
from benchai.memory.loaders.base import Deadline, Raw
from benchai.memory.loaders.decode import text_of
from benchai.memory.loaders.markdown import markdown
from benchai.memory.sections import Loaded, clean_meta, line_of
from benchai.memory.types import Meta

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

_SECONDS = 20.0
_JUNK_TAGS = """
    script style template noscript iframe object svg math canvas audio video map button select
"""
_JUNK = frozenset(_JUNK_TAGS.split())
_UNSEEN_TAGS = """
    head title nav footer textarea datalist progress meter dialog
"""
_UNSEEN = frozenset(_UNSEEN_TAGS.split()) | _JUNK
_BLOCK_TAGS = """
    address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure footer form
    h1 h2 h3 h4 h5 h6 header hr html li main nav ol p pre section summary table tbody tfoot thead tr ul
"""
_BLOCKS = frozenset(_BLOCK_TAGS.split())
_SPACED_TAGS = """
    h1 h2 h3 h4 h5 h6 p pre table ul ol blockquote div section article figure
"""
_SPACED = frozenset(_SPACED_TAGS.split())
_DECLARED = re.compile(rb"""<(?:meta[^>]*charset|\?xml[^>]*encoding)\s*=\s*["']?\s*([\w:.-]{1,40})""", re.IGNORECASE)
# Of these bs4 makes strings of the text
_INSTRUCTIONS = re.compile(r"<\?[^>]{0,500}>|<!\[(?:end)?if[^>]{0,200}\]>", re.IGNORECASE)
_BLANKS = re.compile(r"\s+")
_TOLD = {"author": "author", "description": "description", "keywords": "tags"}


def load(raw: Raw) -> Loaded:
    """Read a page.

    Raises:
        SourceError: it is no text, no HTML, or takes longer than 20 s.
    """
    found = None if raw.charset else _DECLARED.search(raw.data, 0, 2048)
    charset = found[1].decode("ascii") if found else raw.charset
    page, notice = text_of(raw.data, raw.source, charset)
    loaded = from_html(page, raw.source)
    if notice:
        loaded.meta["notice"] = notice
    return loaded


def from_html(page: str, source: str) -> Loaded:
    """Sections, title and meta data of a page.

    Raises:
        SourceError: the parser gives up, or takes longer than 20 s.
    """
    deadline = Deadline(_SECONDS, repr(source))
    soup = _soup(page, source, deadline)
    text = re.sub(r"\n{3,}", "\n\n", "".join(_text(soup, deadline))).strip()
    loaded = markdown(text)
    loaded.media, loaded.lined, loaded.meta = "html", False, _meta(soup)
    loaded.title = line_of(soup.title.get_text()) if soup.title else loaded.title
    return loaded


def _soup(page: str, source: str, deadline: Deadline) -> BeautifulSoup:
    from bs4 import BeautifulSoup, ParserRejectedMarkup

    class Soup(BeautifulSoup):
        # Malformed markup can take html.parser the square of its length, piece by piece
        def handle_data(self, data: str) -> None:
            deadline.check()
            super().handle_data(data)

        def handle_starttag(self, *args: Any, **kwargs: Any) -> Tag | None:
            deadline.check()
            return super().handle_starttag(*args, **kwargs)

        def handle_endtag(self, *args: Any, **kwargs: Any) -> None:
            deadline.check()
            super().handle_endtag(*args, **kwargs)

    # A leading tag keeps bs4 from warning of what it takes for XML or for a file name
    try:
        return Soup(f"<html>{_INSTRUCTIONS.sub('', page)}", "html.parser")
    except (ParserRejectedMarkup, AssertionError) as error:
        raise SourceError(f"{source!r} is no HTML that can be read", hint="save the page anew, or as text") from error


def _text(root: Tag, deadline: Deadline) -> Iterator[str]:
    """What is seen, in order; a stack in place of recursion, for pages may be nested deeply."""
    from bs4 import Tag
    from bs4.element import NavigableString, PreformattedString

    waiting: list[object] = [root]
    verbatim = 0
    while waiting:
        deadline.check()
        node = waiting.pop()
        if isinstance(node, str) and not isinstance(node, NavigableString):
            verbatim -= node.startswith("\n```")
            yield node
        elif isinstance(node, Tag):
            if node.name in _UNSEEN or _hidden(node):
                continue
            verbatim += node.name == "pre"
            before, after = _around(node)
            yield before
            waiting += [after, *reversed(node.contents)]
        elif isinstance(node, NavigableString) and not isinstance(node, PreformattedString):
            yield str(node) if verbatim else _BLANKS.sub(" ", node)


def _around(tag: Tag) -> tuple[str, str]:
    """What Markdown writes before and behind a tag."""
    name = tag.name
    if len(name) == 2 and name[0] == "h" and name[1] in "123456":
        return f"\n\n{'#' * int(name[1])} ", "\n\n"
    if name == "pre":
        return "\n\n```\n", "\n```\n\n"
    if name == "img":
        return str(tag.get("alt") or ""), ""
    if name in ("td", "th"):
        return " ", " |"
    if name == "li":
        return "\n- ", "\n"
    if name == "br":
        return "\n", ""
    space = "\n\n" if name in _SPACED else "\n" if name in _BLOCKS else ""
    return space, space


def _hidden(tag: Tag) -> bool:
    if not tag.attrs:
        return False
    style = "".join(str(tag.get("style", "")).lower().split())
    unseen = "display:none" in style or "visibility:hidden" in style or "font-size:0" in style.replace("px", "")
    return unseen or "hidden" in tag.attrs or str(tag.get("aria-hidden", "")).lower() == "true"


def _meta(soup: BeautifulSoup) -> Meta:
    found: dict[str, object] = {}
    for tag in soup.find_all("meta", limit=100):
        key = _TOLD.get(str(tag.get("name", "")).lower())
        content = str(tag.get("content", ""))
        if key:
            found[key] = [word.strip() for word in content.split(",")] if key == "tags" else content
    page = soup.find("html", lang=True)
    return clean_meta({**found, "lang": page.get("lang") if page else None})
