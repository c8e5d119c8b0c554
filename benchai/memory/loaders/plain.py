"""Plain text: one section, cut at its paragraphs and sentences."""

from __future__ import annotations

from benchai.memory.loaders.base import Raw
from benchai.memory.loaders.decode import text_of
from benchai.memory.sections import Loaded, Section

_LINED_SUFFIXES = """
    .json .jsonl .ndjson .yaml .yml .toml .ini .cfg .conf .properties .log .diff .patch .xml .svg .sql .css .scss
    .less .env .lock .mk .cmake .dockerfile .tf .bib
"""
#: Lines of these mean something each: pieces of them do not overlap.
LINED = frozenset(_LINED_SUFFIXES.split())


def load(raw: Raw) -> Loaded:
    """Read a text.

    Raises:
        SourceError: it is none.
    """
    text, notice = text_of(raw.data, raw.source, raw.charset)
    section = Section(0, len(text), prose=raw.suffix not in LINED)
    return Loaded(text, "text", [section], meta={"notice": notice} if notice else {})
