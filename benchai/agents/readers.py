"""Readers of one JSON value inside a text: `read_strict` of JSON, `LenientReader` of what is nearly JSON.

Work is linear in the text; size and depth are bounded.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

__all__ = ["MAX_CHARS", "MAX_DEPTH", "LenientReader", "Unreadable", "read_strict"]

MAX_CHARS: Final = 1_000_000
"""Longest text that is read, in characters."""
MAX_DEPTH: Final = 100
"""Deepest nesting that is read, in levels."""

_QUOTES: Final = {'"': '"', "'": "'", "“": "”", "‘": "’", "`": "`"}
_LITERALS: Final = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_MISSING: Final = object()

_SKIP = re.compile(r"(?:\s++|//[^\n]*+|\#[^\n]*+|/\*(?:[^*]++|\*(?!/))*+(?:\*/)?)*+")
_BARE_KEY = re.compile(r"[A-Za-z_$][\w$-]{0,100}(?=\s*+(?::|\Z))")
_WORD = re.compile(r"[^\s,:{}\[\]\"'#/]++")
_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d{0,99})?(?:\.\d{0,99})?(?:[eE][+-]?\d{1,4})?")
_ESCAPE = re.compile(r'\\(u[0-9a-fA-F]{4}|.)?|"', re.DOTALL)
# one comment at most: more would be read again for each quote
_AFTER = re.compile(r"\s*+(?:(?://|\#)[^\n]{0,200}\n\s*+)?")
_JOINED = re.compile(r"""\+\s*+["'`]""")
_NEXT_KEY = re.compile(
    r"""\s*+(?:(?:["'“‘][^"'”’\n]{1,100}["'”’]|[A-Za-z_$][\w$-]{0,100})\s*+(?::|\Z)|["'“‘][^"'”’\n]{0,100}\Z)"""
)


class Unreadable(ValueError):
    """The text has no certain meaning."""


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Unreadable(text)
    return number


def _no_constant(text: str) -> float:
    raise Unreadable(text)


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)


def read_strict(text: str, start: int) -> tuple[Any, int] | None:
    """The JSON value that begins at `start`, and its end; None for anything else, deeper or not finite."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return (value, end) if _shallow(value) else None


def _shallow(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        if not level:
            return True
        inner = [one for one in level if isinstance(one, dict | list)]
        level = [item for one in inner for item in (one.values() if isinstance(one, dict) else one)]
    return False


class LenientReader:
    """Reads what is nearly JSON, in one pass."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0
        self.cut = False
        self.torn = False
        self.doubt = False

    def value(self, depth: int, closer: str) -> Any:
        """The value at the present place, inside a container that `closer` ends."""
        first = self._peek()
        if not first:
            return self._tear()
        if first in "{[":
            if depth > MAX_DEPTH:
                raise Unreadable("too deep")
            self.pos += 1
            return self._object(depth) if first == "{" else self._array(depth)
        return self._string(depth - 1, closer) if first in _QUOTES else self._scalar()

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._goes_on("}"):
            key = self._key()
            if key in found:
                raise Unreadable(f"{key!r} twice")
            value = _MISSING if key is _MISSING else self.value(depth + 1, "}")
            if value is not _MISSING:
                found[key] = value
        return found

    def _array(self, depth: int) -> list[Any]:
        found = []
        while self._goes_on("]"):
            value = self.value(depth + 1, "]")
            if value is not _MISSING:
                found.append(value)
        return found

    def _goes_on(self, closer: str) -> bool:
        """Whether another member comes; steps over commas and over the end of the container."""
        while (char := self._peek()) == ",":
            self.pos += 1
        self.cut = self.cut or not char
        if char in (closer, ""):
            self.pos += len(char)
            return False
        return True

    def _key(self) -> Any:
        """The key at the present place, with its colon."""
        bare = _BARE_KEY.match(self.text, self.pos)
        if bare:
            key, self.pos = bare[0], bare.end()
        elif self.text[self.pos] in _QUOTES:
            key = self._quoted_key(_QUOTES[self.text[self.pos]])
        else:
            raise Unreadable("no key")
        if not (char := self._peek()):
            return self._tear()
        if char != ":":
            raise Unreadable("no colon")
        self.pos += 1
        return key

    def _quoted_key(self, quote: str) -> str:
        end = self.text.find(quote, self.pos + 1, self.pos + 202)
        if end < 0 and len(self.text) > self.pos + 201:
            raise Unreadable("endless key")
        start, end = self.pos + 1, end if end >= 0 else len(self.text)
        self.pos = min(end + 1, len(self.text))
        return _decoded(self.text[start:end])

    def _string(self, depth: int, closer: str) -> str:
        quote = _QUOTES[self.text[self.pos]]
        triple = quote * 3
        if quote in "\"'" and self.text.startswith(triple, self.pos):
            end = self.text.find(triple, self.pos + 3)
            return self._until(self.pos + 3, end, 3)
        end = self.pos
        inner = False
        while (end := self._next_quote(quote, end + 1)) >= 0 and not self._closes(end + 1, depth, closer, inner):
            self.doubt = inner = True
        return self._until(self.pos + 1, end, 1)

    def _until(self, start: int, end: int, width: int) -> str:
        """The string from `start` to `end`, which is -1 where the text ends first."""
        if end < 0:
            self._tear()
            return _decoded(self.text[start:])
        self.pos = end + width
        return _decoded(self.text[start:end])

    def _next_quote(self, quote: str, start: int) -> int:
        found = _unescaped(quote).match(self.text, start)
        return found.end() - 1 if found else -1

    def _closes(self, position: int, depth: int, closer: str, inner: bool) -> bool:
        """Whether the quote before `position` ends the string, which holds an `inner` quote, by what follows."""
        at, char = self._step(position)
        if char == ",":
            return self._next_member(at + 1, closer, inner)
        if char == closer:
            after = self._step(at + 1)[1]
            return after not in ('"', "'", ",") if depth == 1 else after in (",", "}", "]", "")
        if _JOINED.match(self.text, at):
            raise Unreadable("strings joined by an operator")
        if not char or char not in _QUOTES:
            return not char
        if closer == "}" and _NEXT_KEY.match(self.text, at):
            return True
        if at > position:
            raise Unreadable("two strings without a comma")
        return False

    def _next_member(self, position: int, closer: str, inner: bool) -> bool:
        if self._step(position)[1] in (closer, ""):
            return True
        if closer == "}":
            return _NEXT_KEY.match(self.text, position) is not None
        if inner:
            raise Unreadable("a comma that separates, or one inside a string")
        return True

    def _step(self, position: int) -> tuple[int, str]:
        """The place and the character after blanks and one comment."""
        found = _AFTER.match(self.text, position)
        position = found.end() if found else position
        return position, self.text[position : position + 1]

    def _scalar(self) -> Any:
        found = _WORD.match(self.text, self.pos)
        word = found[0] if found else ""
        self.pos += len(word)
        if self.pos == len(self.text):
            return self._tear()
        if word in _LITERALS:
            return _LITERALS[word]
        if not _NUMBER.fullmatch(word) or not re.search(r"\d", word):
            raise Unreadable(word[:40])
        return int(word) if re.fullmatch(r"[+-]?\d+", word) else _finite(word)

    def _peek(self) -> str:
        """The next character that is neither blank nor comment, or nothing at the end."""
        found = _SKIP.match(self.text, self.pos)
        self.pos = found.end() if found else self.pos
        return self.text[self.pos : self.pos + 1]

    def _tear(self) -> Any:
        self.pos = len(self.text)
        self.cut = self.torn = True
        return _MISSING


def _unescaped(quote: str) -> re.Pattern[str]:
    return re.compile(rf"(?:[^\\{quote}]++|\\.)*+{quote}", re.DOTALL)


def _decoded(raw: str) -> str:
    # a control character and a wrong escape stand for themselves
    return str(json.loads(f'"{_ESCAPE.sub(_escape, raw)}"', strict=False))


def _escape(found: re.Match[str]) -> str:
    code = found[1]
    if code is None:
        return '\\"' if found[0] == '"' else ""
    if code in "'`“”‘’":
        return code
    return found[0] if len(code) > 1 or code in '"\\/bfnrt' else f"\\\\{code}"
