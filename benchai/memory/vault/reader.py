"""Notes as documents: what `ingest` reads a vault with."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field

from benchai.memory.cut import CUTTER, Cutting, cut
from benchai.memory.loaders import LOADERS, check_size
from benchai.memory.loaders.decode import text_of
from benchai.memory.sections import clean, line_of
from benchai.memory.types import Document, Link
from benchai.memory.vault.note import Note, parse_note

#: Goes up when the same note is read in another way.
NOTES = 1
#: Bytes of the largest note that is read.
CAP = 5_000_000
_CHARS = 1_000
_OURS = "note"


@dataclass(frozen=True, slots=True)
class NoteReader:
    """Reads the notes of one vault.

    Args:
        vault: Its folder, absolute, with forward slashes; stands in ``meta["vault"]``.
        cutting: How long pieces may get.
        cap: Bytes of the largest note.
    """

    vault: str
    cutting: Cutting = field(default_factory=Cutting)
    cap: int = CAP

    @property
    def version(self) -> str:
        """Of the parser and the cutter with its settings."""
        return f"{_OURS}{NOTES}.{LOADERS}.{CUTTER}-{self.cutting.size}-{self.cutting.overlap}"

    def __call__(self, source: str, data: bytes, mtime_ns: int = 0, *, media_type: str = "") -> Document:
        """The note that the bytes of a file are; an empty one has no pieces, but can be linked.

        Raises:
            SourceError: it is too large, or no text.
        """
        check_size(source, len(data) or 1, self.cap)
        text, notice = text_of(data, source)
        note = parse_note(clean(text), posixpath.splitext(posixpath.basename(source))[0])
        notices = [told for told in (note.meta.get("notice"), notice) if told]
        meta = note.meta | ({"notice": "; ".join(map(str, notices))} if notices else {}) | {"vault": self.vault}
        return Document(
            source=source,
            title=line_of(note.title),
            media="note",
            hash=hashlib.sha256(data).hexdigest(),
            size=len(data),
            mtime_ns=mtime_ns,
            version=self.version,
            meta=meta,
            pieces=tuple(cut(note.loaded(), self.cutting)),
            links=tuple(_bounded(note)),
        )


def _bounded(note: Note) -> Iterable[Link]:
    """Links as the memory keeps them: a target longer than a path can be leads nowhere."""
    return (link for link in note.links if len(link.target) + len(link.part) <= _CHARS)


def is_of_note(version: str) -> bool:
    """Whether a document was read by a `NoteReader`, of whatever version."""
    return version.startswith(_OURS)
