"""Reading documents: bytes of a source become a `Document`, its text cut into pieces with their places.

`Reader` is what `ingest` reads with; each format has a module with a function `load`.
"""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol
from urllib.parse import unquote, urlsplit

from benchai.errors import SourceError
from benchai.memory.cut import CUTTER, Cutting, cut
from benchai.memory.loaders import choose
from benchai.memory.loaders.base import Raw
from benchai.memory.loaders.choose import loader_of, suffix_of
from benchai.memory.sections import Loaded, clean, clean_meta, line_of
from benchai.memory.types import Document, Piece

__all__ = ["CAP", "LOADERS", "Read", "Reader", "is_risky", "load"]

#: Goes up when a loader makes another text of the same bytes: what is kept is read anew then.
LOADERS = 1
#: Bytes of the largest source that is read.
CAP = 64 << 20
#: Pieces of the largest document.
PIECES = 300_000


class Read(Protocol):
    """What makes documents of bytes.

    Attributes:
        version: Kept with each document; a document of another version is read anew.
        cap: Bytes of the largest source.
    """

    @property
    def version(self) -> str: ...  # noqa: D102
    @property
    def cap(self) -> int: ...  # noqa: D102

    def __call__(self, source: str, data: bytes, mtime_ns: int = 0, *, media_type: str = "") -> Document:
        """The document; raises SourceError."""
        ...


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads documents of all formats.

    Args:
        cutting: How long pieces may get.
        cap: Bytes of the largest source.
    """

    cutting: Cutting = field(default_factory=Cutting)
    cap: int = CAP

    @property
    def version(self) -> str:
        """Of the loaders and the cutter with its settings."""
        return f"{LOADERS}.{CUTTER}-{self.cutting.size}-{self.cutting.overlap}"

    def __call__(self, source: str, data: bytes, mtime_ns: int = 0, *, media_type: str = "") -> Document:
        """The document that the bytes of a source are.

        Args:
            source: As in `Document`.
            data: All of it.
            mtime_ns: When it was changed, nanoseconds since 1970; 0 where that is unknown.
            media_type: What HTTP says of it, with its parameters; "" where nothing does.

        Raises:
            SourceError: it is empty, too large, broken, encrypted, or of no format that is read.
        """
        loaded = read_text(source, data, self.cap, media_type)
        return Document(
            source=source,
            title=line_of(loaded.title) or _name(source) or line_of(source),
            media=loaded.media,
            hash=hashlib.sha256(data).hexdigest(),
            size=len(data),
            mtime_ns=mtime_ns,
            version=self.version,
            meta=clean_meta(loaded.meta),
            pieces=_cut(source, loaded, self.cutting),
        )


def load(source: str, data: bytes, mtime_ns: int = 0, *, media_type: str = "") -> Document:
    """As `Reader` with its defaults."""
    return Reader()(source, data, mtime_ns, media_type=media_type)


def read_text(source: str, data: bytes, cap: int = CAP, media_type: str = "") -> Loaded:
    """The text of a source and its sections, not yet cut.

    Raises:
        SourceError: as `Reader`.
    """
    check_size(source, len(data), cap)
    raw = _raw(source, data, media_type)
    loaded: Loaded | None
    try:
        loaded = loader_of(raw)(raw)
    except SourceError:
        raise
    except MemoryError:
        loaded = None  # as long as the error is there, so is what was too much
    except (Exception, RecursionError) as error:  # a bug of a parser must not end the reading of all others
        raise SourceError(
            f"{source!r} can't be read: {type(error).__name__}: {line_of(str(error))}", hint="save it anew, or as text"
        ) from error
    if loaded is None:
        hint = "split it, or save it as text"
        raise SourceError(f"{source!r} needs more memory to read than it may take", hint=hint)
    loaded.text = clean(loaded.text)
    return loaded


def is_risky(source: str, data: bytes, media_type: str = "") -> bool:
    """Whether a document is large for its format, or of one whose size tells little of what reading it takes."""
    return choose.is_risky(_raw(source, data, media_type))


def check_size(source: str, size: int, cap: int) -> None:
    """Refuse what is empty or too large.

    Raises:
        SourceError: it is.
    """
    if size == 0:
        raise SourceError(f"{source!r} is empty", hint="there is nothing to find in it; leave it out")
    if size > cap:
        raise SourceError(
            f"{source!r} has {size:,} bytes, more than the {cap:,} that are read",
            hint="split it, or add the parts of it that matter",
        )


def _raw(source: str, data: bytes, media_type: str) -> Raw:
    kind, _, parameters = media_type.partition(";")
    charset = next((part.partition("=")[2] for part in parameters.split(";") if "charset" in part.lower()), "")
    raw = Raw(source, posixpath.splitext(_name(source))[1].lower(), data, charset.strip())
    return replace(raw, suffix=suffix_of(raw, kind.strip().lower()))


def _name(source: str) -> str:
    """The last part of a path, or of the path of an address."""
    path = unquote(urlsplit(source).path) if source.startswith(("http://", "https://")) else source
    return line_of(posixpath.basename(path.rstrip("/")))


def _cut(source: str, loaded: Loaded, cutting: Cutting) -> tuple[Piece, ...]:
    pieces = tuple(islice(cut(loaded, cutting), PIECES + 1))
    if len(pieces) > PIECES:
        raise SourceError(f"{source!r} has more than {PIECES:,} passages", hint="split it")
    if not pieces:
        raise SourceError(f"{source!r} is empty: it holds nothing but blanks", hint="leave it out")
    return pieces
