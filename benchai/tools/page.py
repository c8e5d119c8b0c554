"""The text of an HTML page as Markdown.

Pages may be malformed by accident or made to take long: time, depth and the work of the converter are bounded.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from benchai.errors import ToolError

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

__all__ = ["MAX_LINE", "html_text"]

MAX_LINE = 2000  # characters; a longer line goes on in the next one
PARSE_SECONDS = 10.0
_CROWD = 500  # children of one tag
_BODIES = 50  # of one table
_MAX_DEPTH = 100
_MAX_INDENT = 8
_MAX_LINKS = 1024**2  # characters of all addresses in one page

# Of these bs4 makes strings that markdownify takes for text
_INSTRUCTIONS = re.compile(r"<\?[^>]{0,500}>|<!\[(?:end)?if[^>]{0,200}\]>", re.IGNORECASE)

_JUNK_TAGS = """
    script style nav footer aside template noscript iframe object embed svg math canvas audio video map dialog
    button input select textarea datalist progress meter head title
"""
_KNOWN_TAGS = """
    [document] html body main article section header hgroup div p h1 h2 h3 h4 h5 h6 ul ol li dl dt dd blockquote pre
    code kbd samp table caption thead tbody tr td th figure figcaption a b strong i em s del q sub sup br hr
"""
_JUNK = frozenset(_JUNK_TAGS.split())
_KNOWN = frozenset(_KNOWN_TAGS.split())
_INDENTS = frozenset({"blockquote", "li", "dd"})


def html_text(markup: str, url: str) -> tuple[str, str]:
    """Return the title and the text of an HTML page as Markdown, its links made absolute.

    The main part when the page names one; scripts, navigation and hidden parts left out. Raises ToolError when the
    parser gives up, or takes longer than 10 s.
    """
    from bs4 import Tag
    from markdownify import MarkdownConverter

    soup = _soup(markup, time.monotonic() + PARSE_SECONDS)
    title = soup.title.get_text() if soup.title else ""
    root = soup.find("main") or soup.find(role="main") or _only_article(soup) or soup.body or soup
    assert isinstance(root, Tag)
    _Tidy(urljoin(url, _base(soup))).tidy(root)
    converter = MarkdownConverter(
        autolinks=False, bullets="-", escape_asterisks=False, escape_underscores=False, heading_style="atx"
    )
    return title, converter.convert_soup(root)


def _soup(markup: str, deadline: float) -> BeautifulSoup:
    from bs4 import BeautifulSoup, ParserRejectedMarkup

    class Soup(BeautifulSoup):
        # Malformed markup can take html.parser the square of its length, piece by piece
        def handle_data(self, data: str) -> None:
            if time.monotonic() > deadline:
                raise ToolError(f"the page takes longer than {PARSE_SECONDS:g} s to read")
            super().handle_data(data)

    # A leading tag keeps bs4 from warning of what it takes for XML or for a file name
    try:
        return Soup(f"<html>{_INSTRUCTIONS.sub('', markup)}", "html.parser")
    except ParserRejectedMarkup as error:
        raise ToolError("the page is no HTML that can be read") from error


def _only_article(soup: BeautifulSoup) -> Tag | None:
    articles = soup.find_all("article", limit=2)
    return articles[0] if len(articles) == 1 else None


def _base(soup: BeautifulSoup) -> str:
    base = soup.find("base", href=True)
    href = str(base["href"]) if base else ""
    return href if len(href) < MAX_LINE else ""


class _Tidy:
    """Makes a tree safe and short enough for markdownify, whose work can grow with the square of odd input."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._links = _MAX_LINKS

    def tidy(self, root: Tag) -> None:
        """Change the tree below `root`."""
        from bs4 import Tag

        waiting = [(root, 0, 0)]
        while waiting:
            tag, depth, indent = waiting.pop()
            self._change(tag, depth, indent)
            indent += tag.name in _INDENTS
            waiting += [(child, depth + 1, indent) for child in tag.children if isinstance(child, Tag)]

    def _change(self, tag: Tag, depth: int, indent: int) -> None:
        attributes, tag.attrs = tag.attrs, {}
        if tag.name in _JUNK or _hidden(attributes):
            # markdownify leaves scripts out; taking a tag out of its parent takes time in proportion to its siblings
            tag.clear()
            tag.name = "script"
        elif tag.name == "img":
            tag.name = "span"
            tag.string = str(attributes.get("alt", ""))
        elif depth >= _MAX_DEPTH:
            tag.string = tag.get_text(" ", strip=True)
        elif tag.name == "a":
            self._link(tag, str(attributes.get("href", "")))
        elif tag.name not in _KNOWN or (tag.name in _INDENTS and indent >= _MAX_INDENT):
            tag.name = "span" if tag.name not in _KNOWN else "div"
        elif tag.name == "table" or len(tag.contents) > _CROWD:
            _simplify(tag)

    def _link(self, tag: Tag, href: str) -> None:
        try:
            target = urljoin(self._base, "".join(href.split())) if href else ""
        except ValueError:
            return
        self._links -= len(target)
        if self._links > 0 and target.startswith(("http://", "https://", "mailto:")) and not href.startswith("#"):
            tag["href"] = target


def _simplify(tag: Tag) -> None:
    # For each item of these, markdownify looks at all the others
    tag.name = {"ol": "ul", "thead": "tbody"}.get(tag.name, tag.name)
    if tag.name == "table":
        for body in tag.find_all("tbody", recursive=False)[_BODIES:]:
            body.name = "span"


def _hidden(attributes: Mapping[str, object]) -> bool:
    style = "".join(str(attributes.get("style", "")).lower().split())
    return "hidden" in attributes or "display:none" in style or attributes.get("aria-hidden") == "true"
