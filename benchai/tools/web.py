"""The web_fetch tool: the text of one page of the public web.

`benchai.tools.net` decides what may be reached. Reading stops at 2 MiB of decoded data; HTML becomes Markdown in a
thread (`benchai.tools.page`). What a page says is untrusted: control and invisible characters never reach the model.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import cast

import anyio
import anyio.to_thread
import httpcore
import httpx
from pydantic import Field

from benchai.errors import ToolError
from benchai.tools.net import Access, exchange, parse_url, redirected, shown
from benchai.tools.page import MAX_LINE, html_text
from benchai.tools.tool import Tool, ToolArgs, ToolContext, shorten

__all__ = ["WEB_FETCH", "Body", "Page", "fetch", "html_text", "show", "to_page", "web_fetch"]

MAX_REDIRECTS = 5
MAX_CHARS = 12_000  # of one answer, header lines left out
_SLACK = 64 * 1024  # bytes that an encoding may add to a body
_MAX_TAGS = 60_000  # opening and closing ones; the largest articles of Wikipedia have as many

_HTML = frozenset({"text/html", "application/xhtml+xml"})
_TEXT = re.compile(r"text/.+|application/(json|xml|javascript|x-ndjson|yaml|toml|[^/]+\+(json|xml))|image/svg\+xml")
_LABEL = re.compile(r"[a-z0-9_:.-]{1,40}", re.IGNORECASE)
_DECLARED = re.compile(rb"""<(?:meta[^>]*charset|\?xml[^>]*encoding)\s*=\s*["']?\s*([\w:.-]{1,40})""", re.IGNORECASE)
# Codecs of text on the web; Python has others, some slow and some no text at all
_CODECS = re.compile(
    r"utf-(8|16(-[lb]e)?)|ascii|iso8859-\d+|cp(125\d|866|874|932|949|950)|koi8-[rut]|mac-(roman|cyrillic)"
    r"|gbk|gb2312|gb18030|big5(hkscs)?|shift_jis|euc_(jp|kr)|iso2022_jp"
)
_LINE_ENDS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufff9-\ufffb\ufffe\uffff]")
# Soft hyphens, marks of direction, blanks of no width, and the tags that spell out text nobody sees
_INVISIBLE = re.compile("[\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]")


class FetchArgs(ToolArgs):
    """Arguments of web_fetch."""

    url: str = Field(description="Address of the page, http or https")
    offset: int | None = Field(default=None, description="First line, from 1")


@dataclass(frozen=True)
class Kind:
    """What is fetched: media types that are taken, and what is said of others."""

    takes: Callable[[str], bool]
    otherwise: str


TEXTS = Kind(lambda kind: kind in _HTML or bool(_TEXT.fullmatch(kind)), "web_fetch reads only text")


@dataclass(frozen=True)
class Body:
    """What an address answered; `cut` tells that it was longer than the limit."""

    url: httpx.URL
    media_type: str
    charset: str
    data: bytes
    cut: bool


@dataclass(frozen=True)
class Page:
    """The text of a page, ready to be shown."""

    url: str
    title: str
    lines: list[str]
    cut: bool


async def fetch(url: str, access: Access, kind: Kind = TEXTS) -> Body:
    """Get a page, or what else ``kind`` is, over at most 5 redirects, each checked anew.

    Raises ToolError when an address is not allowed, does not answer well, or sends what is of no such kind.
    """
    target = parse_url(url, access)
    for _ in range(MAX_REDIRECTS + 1):
        async with exchange(target, access) as response:
            headers = _header_fields(response)
            if not (300 <= response.status < 400 and "location" in headers):
                return await _body(target, response, headers, access, kind)
        target = redirected(target, headers["location"], access)
    raise ToolError(f"{shorten(url, 200)} redirects more than {MAX_REDIRECTS} times")


def _header_fields(response: httpcore.Response) -> dict[str, str]:
    # Of repeated fields the first one counts
    return {name.decode("latin-1").lower(): _field(value) for name, value in reversed(response.headers)}


def _field(value: bytes) -> str:
    return value.decode("utf-8", "replace").strip()


async def _body(
    url: httpx.URL, response: httpcore.Response, headers: Mapping[str, str], access: Access, wanted: Kind
) -> Body:
    if not 200 <= response.status < 300:
        raise ToolError(f"{shown(url)} answered {_status(response.status)}")
    kind, _, parameters = headers.get("content-type", "").partition(";")
    media_type = kind.strip().lower()
    if media_type and not wanted.takes(media_type):
        raise ToolError(f"{shown(url)} is {shorten(media_type)}; {wanted.otherwise}")
    inflater = _Inflater(headers.get("content-encoding", ""), access.size)
    # aclosing: a stream that is not read to its end must end now, and not when it is collected
    async with aclosing(_chunks(response)) as chunks:
        async for chunk in chunks:
            if not inflater.feed(chunk):
                break
    charset = re.search(r"charset\s*=\s*[\"']?([^\s\"';]+)", parameters, re.IGNORECASE)
    return Body(url, media_type, charset[1] if charset else "", inflater.result(), inflater.cut)


def _chunks(response: httpcore.Response) -> AsyncGenerator[bytes, None]:
    assert isinstance(response.stream, AsyncIterable)
    return cast("AsyncGenerator[bytes, None]", aiter(response.stream))


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


class _Inflater:
    """Decodes a body piece by piece, and never beyond `limit` bytes."""

    def __init__(self, encoding: str, limit: int) -> None:
        name = encoding.lower()
        if name not in {"", "identity", "gzip", "x-gzip", "deflate"}:
            raise ToolError(f"the page came in the encoding {shorten(encoding)}, which was not asked for")
        self._limit = limit
        self._data = bytearray()
        self._received = 0
        self._raw = name == "deflate"  # some servers leave the header of zlib out
        self._zlib = None if name in {"", "identity"} else zlib.decompressobj(zlib.MAX_WBITS | 32)
        self.cut = False

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; False when no more are wanted."""
        self._received += len(data)
        room = self._limit - len(self._data)
        self._data += data[: room + 1] if self._zlib is None else self._inflate(data, room + 1)
        # Encoded data may also be without end and hold nothing
        self.cut = len(self._data) > self._limit or self._received > self._limit + _SLACK
        return not self.cut

    def result(self) -> bytes:
        """Return the decoded body. Raises ToolError when encoded data ended early."""
        if self._zlib is not None and self._received and not self._zlib.eof and not self.cut:
            raise ToolError("the page broke off before its end")
        return bytes(self._data[: self._limit])

    def _inflate(self, data: bytes, room: int) -> bytes:
        assert self._zlib is not None
        try:
            return self._zlib.decompress(data, room)
        except zlib.error as error:
            if not self._raw or self._data:
                raise ToolError(f"the page came as damaged compressed data ({error})") from error
        self._raw, self._zlib = False, zlib.decompressobj(-zlib.MAX_WBITS)
        return self._inflate(data, room)


def to_page(body: Body) -> Page:
    """Return the text of a body. Raises ToolError when it is binary data, whatever its media type says."""
    text = _decoded(body)
    if "\0" in text[:8192]:
        raise ToolError(f"{shown(body.url)} is binary data; web_fetch reads only text")
    title, cut = "", body.cut
    if body.media_type in _HTML or (not body.media_type and "<html" in text[:1024].lower()):
        end = next(islice(re.finditer("<", text), _MAX_TAGS, None), None)
        title, text = html_text(text[: end.start()] if end else text, str(body.url))
        cut = cut or end is not None
    return Page(str(body.url), " ".join(_clean(title).split())[:200], list(_lines(_clean(text))), cut)


def _decoded(body: Body) -> str:
    if body.data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return body.data.decode("utf-16", "replace")
    name = "" if body.data.startswith(codecs.BOM_UTF8) else _codec(body.charset)
    declared = _DECLARED.search(body.data[:4096])
    if not name and declared and ("html" in body.media_type or "xml" in body.media_type):
        name = _codec(declared[1].decode("ascii", "replace"))
        # The declaration itself could be read, so it is no UTF-16
        name = "" if name.startswith("utf-16") else name
    return body.data.decode(name or "utf-8", "replace")


def _codec(label: str) -> str:
    """Return the name of Python's codec for a label, "" for none that is known."""
    try:
        name = codecs.lookup(label).name if _LABEL.fullmatch(label) else ""
    except LookupError:
        return ""
    # Browsers read these two as Windows' superset
    name = {"ascii": "cp1252", "iso8859-1": "cp1252"}.get(name, name)
    return name if _CODECS.fullmatch(name) else ""


def _clean(text: str) -> str:
    return _CONTROL.sub("\ufffd", _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text)))


def _lines(text: str) -> Iterator[str]:
    """Yield the lines without runs of empty ones; long ones in pieces, so that paging reaches all of them."""
    empty = True
    for line in map(str.rstrip, text.rstrip().split("\n")):
        if line or not empty:
            yield from _pieces(line)
        empty = not line


def _pieces(line: str) -> Iterator[str]:
    start = 0
    while len(line) - start > MAX_LINE:
        blank = line.rfind(" ", start + MAX_LINE // 2, start + MAX_LINE)
        end = blank + 1 or start + MAX_LINE
        yield line[start:end]
        start = end
    yield line[start:]


def show(page: Page, offset: int = 1) -> str:
    """Title, URL, and at most 12,000 characters of a page, from line `offset` on.

    A last line in brackets tells how to go on. Raises ToolError when `offset` is beyond the end.
    """
    total = len(page.lines)
    if offset < 1 or offset > max(total, 1):
        raise ToolError(f"offset={offset} is not valid: {shorten(page.url, 200)} has {total} lines")
    last, room = offset - 1, MAX_CHARS
    while last < total and len(page.lines[last]) < room:
        room -= len(page.lines[last]) + 1
        last += 1
    header = [f"Title: {page.title}"] if page.title else []
    text = "\n".join(page.lines[offset - 1 : last]) or "[the page has no text; it may need JavaScript]"
    return "\n".join([*header, f"URL: {page.url}", "", text, *_rest(page, offset, last)])


def _rest(page: Page, first: int, last: int) -> Iterator[str]:
    total = len(page.lines)
    if last < total:
        yield f"[lines {first}-{last} of {total}{' or more' * page.cut}; go on with offset={last + 1}]"
    elif page.cut:
        yield "[the page goes on, but web_fetch reads no further]"


def web_fetch(access: Access) -> Tool:
    """Return the tool that fetches pages within `access`."""

    async def run(args: FetchArgs, ctx: ToolContext) -> str:
        try:
            with anyio.fail_after(access.total):
                body = await fetch(args.url, access)
                page = await anyio.to_thread.run_sync(partial(to_page, body), abandon_on_cancel=True)
        except TimeoutError as error:
            raise ToolError(f"{shorten(args.url, 200)} took longer than {access.total:g} s") from error
        return show(page, 1 if args.offset is None else args.offset)

    return Tool("web_fetch", "Read a page of the public web as text.", FetchArgs, run, permission="network")


WEB_FETCH = web_fetch(Access())
