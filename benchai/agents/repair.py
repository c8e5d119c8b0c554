"""Reading what a model wrote as JSON, where its meaning is certain: pure functions.

A wrong mend is worse than none, because a refusal is followed by a re-ask: whatever could be read in two ways
is refused. Work is linear in the text, depth and size are bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from benchai.agents.fit import coerce
from benchai.agents.messages import clean
from benchai.agents.readers import MAX_CHARS, MAX_DEPTH, LenientReader, Unreadable, read_strict

__all__ = ["MAX_CHARS", "MAX_DEPTH", "Piece", "Read", "coerce", "read_object", "read_value", "without_thoughts"]

_MAX_PIECES: Final = 16
_THOUGHTS = re.compile(
    r"\s*(?:<(think|thinking|thought|reasoning|seed:think)>(?:.*?</\1>|.*)|\[THINK\](?:.*?\[/THINK\]|.*)"
    r"|<\|channel\|>analysis<\|message\|>.*?(?:<\|end\|>|\Z))",
    re.DOTALL,
)
_LONE_END = re.compile(r"(?:</(?:think|thinking|thought|reasoning)>|\[/THINK\])(?=\s|<|\[|\{|\Z)")
_DATA = re.compile(r"\s*(?:[{\[`]|<[|｜]?(?:tool|function)|$)", re.IGNORECASE)
_START = re.compile(r"""\{(?=\s*+(?:["'“‘}]|[A-Za-z_$][\w$-]{0,100}\s*+:|//|/\*|\#|\Z))""")
_WHOLE = re.compile(r"(?:```\w*\s*)?([{\[])\s*+(\S?)")
_LEFTOVER = re.compile(r"""["'”’]\s*+[}\]]""")


@dataclass(frozen=True)
class Read:
    """An object that a model wrote.

    `mended` says that the text was not plain JSON; `cut` that it ended inside an open string, array or object, so
    that the last value may be a half (never act on it); `torn` that it ended in the midst of a member, where
    `cut` without `torn` lacks nothing but closing braces.
    """

    value: dict[str, Any]
    mended: bool = False
    cut: bool = False
    torn: bool = False


@dataclass(frozen=True)
class Piece:
    """A JSON object or array inside a text, and the place where it ended; the rest as in `Read`."""

    value: Any
    end: int
    mended: bool
    cut: bool
    torn: bool


def without_thoughts(text: str) -> str:
    """The text without the thoughts at its start; a thought that never ends is all of it."""
    start = 0
    while found := _THOUGHTS.match(text, start):
        start = found.end()
    end = None if _DATA.match(text, start) else _LONE_END.search(text, start)
    return text[end.end() if end else start :]


def read_object(text: str) -> Read | None:
    """The JSON object that a model wrote, with prose or a fence around it, or as JSON text inside a JSON string.

    None when there is no object, when there are several, when a number is not finite, beyond `MAX_DEPTH` or
    `MAX_CHARS`, or when the text has no certain meaning.
    """
    if len(text) > MAX_CHARS:
        return None
    text = without_thoughts(text).strip()
    for encoded in range(3):
        found = read_strict(text, 0)
        if found is None or found[1] != len(text):
            break
        if isinstance(found[0], dict):
            return Read(clean(found[0]), mended=encoded > 0)
        if not isinstance(found[0], str):
            return None
        text = found[0].strip()
    return _only_object(text)


def read_value(text: str, start: int, limit: int | None = None) -> Piece | None:
    """The object or array that begins at `start`; what must be mended is read no farther than `limit`."""
    found = read_strict(text, start)
    if found is not None:
        return Piece(clean(found[0]), found[1], mended=False, cut=False, torn=False)
    reader = LenientReader(text[start:limit])
    try:
        value = reader.value(1, "")
    except Unreadable:
        return None
    torn = reader.torn or (reader.cut and reader.doubt)
    return Piece(clean(value), start + reader.pos, mended=True, cut=reader.cut, torn=torn)


def _only_object(text: str) -> Read | None:
    whole = _WHOLE.match(text)
    if whole and (whole[2] in ("{", "[", '"') if whole[1] == "[" else not _START.match(text, whole.start(1))):
        return None
    found: Read | None = None
    position = pieces = 0
    while start := _START.search(text, position):
        pieces += 1
        piece = read_value(text, start.start()) if pieces <= _MAX_PIECES else None
        if piece is None or _doubtful(text[position : start.start()], before=True):
            return None
        if found and found.value and piece.value and found.value != piece.value:
            return None
        if found is None or not found.value:
            found = Read(piece.value, mended=True, cut=piece.cut, torn=piece.torn)
        position = piece.end
    return None if found is None or _doubtful(text[position:]) else found


def _doubtful(outside: str, *, before: bool = False) -> bool:
    """Whether text outside an object looks like a part of one: a quote inside a string ended it too early."""
    opened = before and outside.rstrip().endswith(("[", "{"))
    return opened or _LEFTOVER.search(outside) is not None
