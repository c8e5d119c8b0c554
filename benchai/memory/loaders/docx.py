"""DOCX: its text by way of HTML; nothing in it is run, fetched, or unpacked beyond a bound."""

from __future__ import annotations

import io
import re
import zipfile
import zlib

from benchai.errors import SourceError
from benchai.memory.loaders.base import Raw
from benchai.memory.loaders.html import from_html
from benchai.memory.sections import Loaded, clean_meta, line_of

_ENTRIES = 10_000
_UNPACKED = 512 << 20  # bytes of all entries, pictures too
_XML = 48 << 20  # bytes of all that is read: the tree of it takes a multiple
_RATIO = 200  # what Word writes is packed 5 to 30 times
_SMALL = 1 << 20  # bytes that may be packed as well as they like
_CHUNK = 1 << 16
_PROPERTY = r"<{0}(?:\s[^>]*)?>([^<]*)</{0}>"
_SAVE = "open it in an office program and save it anew as .docx"


def load(raw: Raw) -> Loaded:
    """Read a document of Word.

    Raises:
        SourceError: it is broken, encrypted, or unpacks to more than is read.
    """
    title, author = _checked(raw)
    loaded = from_html(_html(raw), raw.source)
    loaded.media, loaded.title = "docx", line_of(title) or loaded.title
    loaded.meta |= clean_meta({"author": author})
    return loaded


def _html(raw: Raw) -> str:
    import mammoth  # type: ignore[import-untyped]

    picture = mammoth.images.img_element(lambda _: {})  # its alternative text stays
    try:
        return str(
            mammoth.convert_to_html(
                io.BytesIO(raw.data),
                convert_image=picture,
                include_embedded_style_map=False,
                external_file_access=False,
            ).value
        )
    except Exception as error:  # of a broken file it raises whatever it stumbles over
        raise _broken(raw, error) from error


def _broken(raw: Raw, error: Exception) -> SourceError:
    return SourceError(f"{raw.source!r} is a broken DOCX: {type(error).__name__}: {line_of(str(error))}", hint=_SAVE)


def _checked(raw: Raw) -> tuple[str, str]:
    """Title and author, once it is sure that unpacking stays within the bounds."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw.data)) as archive:
            entries = archive.infolist()
            _plausible(raw, entries)
            return _properties(archive, [entry for entry in entries if entry.filename.endswith((".xml", ".rels"))], raw)
    # RuntimeError: it is packed with a password, or in a way that zipfile does not know
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise _broken(raw, error) from error


def _plausible(raw: Raw, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse by the sizes that the archive tells of itself, before anything is unpacked."""
    if len(entries) > _ENTRIES:
        raise SourceError(f"{raw.source!r} packs {len(entries)} files, more than {_ENTRIES}", hint=_SAVE)
    for entry in entries:
        if entry.file_size > _SMALL and entry.file_size > _RATIO * max(1, entry.compress_size):
            raise _bomb(raw, f"{entry.filename!r} unpacks to more than {_RATIO} times its size")
    if sum(entry.file_size for entry in entries) > _UNPACKED:
        raise _bomb(raw, f"it unpacks to more than {_UNPACKED >> 20} MiB")
    if sum(entry.file_size for entry in entries if entry.filename.endswith((".xml", ".rels"))) > _XML:
        raise _bomb(raw, f"its text unpacks to more than {_XML >> 20} MiB")


def _bomb(raw: Raw, why: str) -> SourceError:
    return SourceError(f"{raw.source!r} is not read: {why}", hint="it seems made to fill the memory; if not, split it")


def _properties(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], raw: Raw) -> tuple[str, str]:
    """Unpack each entry once in small steps: one that is longer than it says fails here, by its check sum."""
    told = ""
    for entry in entries:
        with archive.open(entry) as file:
            begin = file.read(_CHUNK)
            if b"<!DOCTYPE" in begin or b"<!ENTITY" in begin:
                raise _bomb(raw, f"{entry.filename!r} defines entities")
            while file.read(_CHUNK):
                pass
        if entry.filename == "docProps/core.xml":
            told = begin.decode("utf-8", "replace")
    title, author = (re.search(_PROPERTY.format(name), told) for name in ("dc:title", "dc:creator"))
    return title[1] if title else "", author[1] if author else ""
