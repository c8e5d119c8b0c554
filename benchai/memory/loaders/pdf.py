"""PDF: the text of each page; how long and how large it may get is bounded."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchai.errors import SourceError
from benchai.memory.loaders.base import Deadline, Raw
from benchai.memory.sections import Loaded, Section, clean_meta, line_of

if TYPE_CHECKING:
    from pypdf import PageObject, PdfReader

_SECONDS = 60.0
_SECONDS_PER_PAGE = 0.5
_PAGES = 20_000
_CONTENTS = 16 << 20  # bytes that draw one page, unpacked
_CHARACTERS = 64 << 20
_OCR = "a scan has to go through text recognition first, such as ocrmypdf"


def load(raw: Raw) -> Loaded:
    """Read a PDF.

    Raises:
        SourceError: it is broken, encrypted, holds no text, or takes too long.
    """
    # it tells of every oddity that it mends
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    reader = _reader(raw)
    count = _count(reader, raw)
    deadline = Deadline(_SECONDS + _SECONDS_PER_PAGE * count, repr(raw.source))
    pages, unread = _pages(reader, count, deadline)
    loaded = _joined(pages)
    if not loaded.text.strip():
        raise SourceError(f"{raw.source!r} is a PDF without text", hint=_OCR)
    told: Mapping[str, object] = reader.metadata or {}
    loaded.title = line_of(str(told.get("/Title") or ""))
    loaded.meta = clean_meta({"author": told.get("/Author"), "pages": count, "notice": _notice(unread)})
    return loaded


def _reader(raw: Raw) -> PdfReader:
    from pypdf import PasswordType, PdfReader
    from pypdf.errors import DependencyError

    try:
        reader = PdfReader(io.BytesIO(raw.data))
        # one that only forbids printing opens with the empty password
        locked = reader.is_encrypted and reader.decrypt("") is PasswordType.NOT_DECRYPTED
    except DependencyError as error:
        raise SourceError(f"{raw.source!r} is encrypted with AES", hint="pip install cryptography") from error
    except Exception as error:  # of a broken file it raises whatever it stumbles over
        raise _broken(raw, error) from error
    if locked:
        raise SourceError(
            f"{raw.source!r} is encrypted",
            hint="save a copy without the password: qpdf --decrypt --password=... IN OUT",
        )
    return reader


def _broken(raw: Raw, error: Exception) -> SourceError:
    return SourceError(
        f"{raw.source!r} is a broken PDF: {type(error).__name__}: {line_of(str(error))}",
        hint="fetch it anew, or repair it: qpdf IN OUT",
    )


def _count(reader: PdfReader, raw: Raw) -> int:
    try:
        count = len(reader.pages)
    except Exception as error:
        raise _broken(raw, error) from error
    if not 0 < count <= _PAGES:
        raise SourceError(f"{raw.source!r} has {count} pages", hint=f"1 to {_PAGES} can be read: split it")
    return count


def _pages(reader: PdfReader, count: int, deadline: Deadline) -> tuple[list[str], list[int]]:
    """The texts of the pages, and the numbers of those that can't be read."""
    found, unread, size = [], [], 0
    for number in range(count):
        deadline.check()
        try:
            text = _page(reader.pages[number], deadline)
        except SourceError:
            raise
        except Exception:  # the other pages may well be whole
            text = ""
            unread.append(number + 1)
        size += len(text)
        found.append(text if size <= _CHARACTERS else "")
    if len(unread) == count:
        raise SourceError("no page of the PDF can be read", hint="repair it: qpdf IN OUT")
    return found, unread


def _page(page: PageObject, deadline: Deadline) -> str:
    contents = page.get_contents()
    if contents is None:
        return ""
    if len(contents.get_data()) > _CONTENTS:
        raise ValueError("draws too much")
    return page.extract_text(visitor_operand_before=deadline.check).strip()


def _joined(pages: list[str]) -> Loaded:
    sections, start = [], 0
    for number, text in enumerate(pages, 1):
        sections.append(Section(start, start + len(text), page=number))
        start += len(text) + 2
    return Loaded("\n\n".join(pages), "pdf", sections, lined=False)


def _notice(unread: list[int]) -> str:
    return f"pages that can't be read: {', '.join(map(str, unread[:20]))}" if unread else ""
