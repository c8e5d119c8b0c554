"""What a loader makes of bytes: one clean text, and the parts of it that are cut each for itself."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from benchai.memory.types import Meta

_BROKEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"
    # what turns the direction of writing, and letters that nobody sees
    "\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)
_SLICE = 1 << 20  # characters: a longer text is cleaned in parts, between which other threads run
_LONG = 1000  # characters of one value of the meta data
_MANY = 200  # values
_LOOKED = 2000  # values that are looked at: most of them may be empty
_DEEPEST = 3  # maps within maps


class Section(NamedTuple):
    """A part of a text.

    Attributes:
        start, end: Where it stands in the text; characters between two sections are blanks.
        heading: Of its pieces.
        prose: Whether its pieces may overlap, and be cut between sentences.
        page: From 1.
        breaks: Where it is best cut, ascending; without any, wherever it looks best.
        header: Repeated in front of each of its pieces but the first, with its line end.
    """

    start: int
    end: int
    heading: str = ""
    prose: bool = True
    page: int | None = None
    breaks: tuple[int, ...] = ()
    header: str = ""


@dataclass(slots=True)
class Loaded:
    """A document before it is cut.

    Attributes:
        lined: Whether the lines of the text are those of the source.
    """

    text: str
    media: str
    sections: list[Section]
    title: str = ""
    meta: Meta = field(default_factory=dict)
    lined: bool = True


def clean(text: str) -> str:
    """The text without what JSON, SQLite or a terminal can't take, or no reader sees: a blank for each of them."""
    if not _BROKEN.search(text):
        return text
    parts = (text[start : start + _SLICE] for start in range(0, len(text), _SLICE))
    return "".join(_BROKEN.sub(" ", part) for part in parts)


def line_of(text: str) -> str:
    """A title or heading as one clean line of at most 200 characters."""
    return " ".join(clean(text[:_LONG]).split())[:200]


def clean_meta(values: Mapping[str, object]) -> Meta:
    """What can be kept of meta data of any kind: texts, numbers, truth values and lists of texts.

    Maps become dotted keys; dates become texts; empty values go.
    """
    found: Meta = {}
    waiting = deque([("", values)])
    left = _LOOKED
    while waiting and left > 0 and len(found) < _MANY:
        prefix, level = waiting.popleft()
        for key, value in islice(level.items(), min(_MANY, left)):
            left -= 1
            name = line_of(f"{prefix}{_text(key)}")
            if isinstance(value, Mapping):
                if prefix.count(".") < _DEEPEST:
                    waiting.append((f"{name}.", value))
            elif name and (kept := _kept(value)) not in (None, "", []):
                found[name] = kept
    return found


def _kept(value: object) -> str | int | float | bool | list[str] | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else _text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple | set):
        texts = [_text(one) for one in islice(value, _MANY)]
        return [text for text in texts if text]
    return _text(value)


def _text(value: object) -> str:
    if value is None or isinstance(value, list | tuple | set | Mapping):
        return ""
    if isinstance(value, int) and abs(value) >= 1 << 512:  # Python refuses to write out the longest
        return ""
    text = value if isinstance(value, str) else str(value)
    return clean(text[:_LONG]).strip()
