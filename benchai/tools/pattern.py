"""Regular expressions of a model, matched in time linear in the text.

A model's pattern is never given to `re` to match: a pattern such as `(a+)+$` would hold the process, which
nothing can interrupt, for hours. `Pattern` follows all ways through the pattern at once, as RE2 does, so that its
time grows with the length of a line alone; look-around, back-references and the like are beyond it, and refused.
`re`'s own parser reads the pattern.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Callable, Iterable
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from benchai.errors import ToolError
from benchai.tools.tool import shorten

__all__ = ["MAX_PATTERN", "Pattern"]

MAX_PATTERN = 1_000  # characters
MAX_STEPS = 2_000  # of a compiled pattern
MAX_KEPT = 500_000  # steps in the states that a pattern keeps at a time

_one_at_a_time = threading.Lock()  # catch_warnings changes what all threads share

# One step of a pattern is (kind, value, next steps). Kinds: "char" takes one for which value(c) is true;
# "at" holds or not between two characters, value(before, after); "split" goes on at once; "end" is a match.
_Test = Callable[[str], bool]
_START, _WORD, _OTHER = range(3)  # what a state has before it


class Pattern:
    """A regular expression that is matched in time linear in the text.

    Args:
        pattern: In the syntax of `re`, less look-around, back-references, conditions, atomic groups,
            possessive repeats and the flags `a` and `L`.
        check: Called now and then while it matches; may raise to end it.

    Raises re.error when it does not compile, ToolError when it needs what is left out, or is too large.
    """

    def __init__(self, pattern: str, check: Callable[[], None] = lambda: None) -> None:
        self.check = check
        self.steps: list[tuple[str, Any, tuple[int, ...]]] = [("end", None, ())]
        try:
            tree, flags = _parsed(pattern)
            self.needed = _needed(tree, flags)
            self.first = self._sequence(tree, 0, flags)
        except RecursionError as error:
            raise ToolError("the pattern is nested too deeply", hint="search for a plainer pattern") from error
        self.states: dict[tuple[frozenset[int], int], dict[str, Any]] = {}
        self.kept = 0
        self.start = self._state(frozenset([self.first]), _START)

    def find(self, line: str) -> int:
        """Return the end of the match that ends first, or -1 when there is none."""
        state = self.start
        for at, char in enumerate(line):
            following = state.get(char)
            if following is None:
                following = self._follow(state, char)
            if following is True:
                return at
            state = following
        last = state.get("")
        if last is None:
            last = self._follow(state, "")
        return len(line) if last is True else -1

    def _state(self, waiting: frozenset[int], before: int) -> dict[str, Any]:
        key = (waiting, before)
        if key not in self.states:
            self.kept += len(waiting)
            self.states[key] = {"key": key}
        return self.states[key]

    def _forget(self) -> None:
        self.states.clear()
        self.kept = 0
        self.start = self._state(frozenset([self.first]), _START)

    def _follow(self, state: dict[str, Any], char: str) -> Any:
        """Return the state after `char` ("" for the end of the line), or True when the pattern ended before it."""
        self.check()
        self.kept += 1
        if self.kept > MAX_KEPT:
            self._forget()
        waiting, before = state["key"]
        reached = self._reached(waiting, before, char)
        if reached is None:
            state[char] = True
            return True
        taken = {after for number in reached for after in self._taken(number, char)} if char else set()
        following = self._state(frozenset([*taken, self.first]), _WORD if _is_word(char) else _OTHER)
        state[char] = following
        return following

    def _taken(self, number: int, char: str) -> tuple[int, ...]:
        kind, value, after = self.steps[number]
        return after if kind == "char" and value(char) else ()

    def _reached(self, waiting: Iterable[int], before: int, char: str) -> set[int] | None:
        """All steps that can be reached before `char` is taken, or None when the end is among them."""
        seen, pending = set(waiting), list(waiting)
        while pending:
            kind, value, after = self.steps[pending.pop()]
            if kind == "end":
                return None
            if kind == "split" or (kind == "at" and value(before, char)):
                fresh = set(after) - seen
                seen |= fresh
                pending += fresh
        return seen

    def _add(self, kind: str, value: Any, *after: int) -> int:
        if len(self.steps) >= MAX_STEPS:
            raise ToolError("the pattern is too large", hint="search for a shorter one, with smaller repeats")
        self.steps.append((kind, value, after))
        return len(self.steps) - 1

    def _sequence(self, items: Iterable[tuple[Any, Any]], after: int, flags: int) -> int:
        """Add steps for items that stand one after another, and go on to `after`; return the first."""
        for code, value in reversed(list(items)):
            after = self._item(code, value, after, flags)
        return after

    def _item(self, code: Any, value: Any, after: int, flags: int) -> int:
        if code is codes.BRANCH:
            return self._add("split", None, *[self._sequence(option, after, flags) for option in value[1]])
        if code is codes.SUBPATTERN:
            _, added, removed, items = value
            return self._sequence(items, after, (flags | added) & ~removed)
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            least, most, items = value
            return self._repeat((least, most), items, after, flags)
        if code is codes.AT and value in _PLACES:
            return self._add("at", _PLACES[value], after)
        return self._add("char", _test(code, value, flags), after)

    def _repeat(self, times: tuple[int, Any], items: Any, after: int, flags: int) -> int:
        least, most = times
        if most is codes.MAXREPEAT:
            again = self._add("split", None)
            body = self._sequence(items, again, flags)
            self.steps[again] = ("split", None, (body, after))
            after = again
        else:
            done = after
            for _ in range(most - least):
                after = self._add("split", None, self._sequence(items, after, flags), done)
        for _ in range(least):
            size = len(self.steps)
            after = self._sequence(items, after, flags)
            if size == len(self.steps):
                break
        return after


def _parsed(pattern: str) -> tuple[Any, int]:
    if len(pattern) > MAX_PATTERN:
        raise ToolError(f"pattern {shorten(pattern)} is longer than {MAX_PATTERN} characters")
    try:
        # What `re` may mean by [[ some day is of no use to a model
        with _one_at_a_time, warnings.catch_warnings(action="ignore"):
            tree = parser.parse(pattern)
    except OverflowError as error:
        raise re.error(str(error)) from error
    if tree.state.flags & re.ASCII:
        raise _unsupported("the flag a")
    return tree, tree.state.flags


def _needed(items: Iterable[tuple[Any, Any]], flags: int) -> str:
    """Return the longest text that must stand in each match, as far as that is plain to see."""
    if flags & re.IGNORECASE:
        return ""
    found = run = ""
    for code, value in items:
        if code is codes.LITERAL:
            run += chr(value)
            found = max(found, run, key=len)
            continue
        run = ""
        if code is codes.SUBPATTERN:
            found = max(found, _needed(value[3], flags | value[1]), key=len)
        elif code in (codes.MAX_REPEAT, codes.MIN_REPEAT) and value[0]:
            found = max(found, _needed(value[2], flags), key=len)
    return found


def _unsupported(what: str) -> ToolError:
    return ToolError(f"the pattern uses {what}, which search_files does not know", hint="search for a plainer pattern")


def _test(code: Any, value: Any, flags: int) -> _Test:
    """Return whether one character is what a part of a pattern takes."""
    if code is codes.ANY:
        return lambda char: True
    if code is codes.LITERAL:
        return _in([(code, value)], flags, False)
    if code is codes.NOT_LITERAL:
        return _in([(codes.LITERAL, value)], flags, True)
    if code is codes.IN:
        negated = value[0][0] is codes.NEGATE
        return _in(value[negated:], flags, negated)
    raise _unsupported(str(code).lower().replace("_", " "))


def _in(items: Iterable[tuple[Any, Any]], flags: int, negated: bool) -> _Test:
    tests = [_CATEGORIES[value] if code is codes.CATEGORY else _range(code, value) for code, value in items]
    if not flags & re.IGNORECASE:
        return lambda char: any(test(char) for test in tests) != negated

    def test_cases(char: str) -> bool:
        return any(test(case) for case in {char, char.lower(), char.upper()} for test in tests) != negated

    return test_cases


def _range(code: Any, value: Any) -> _Test:
    low, high = value if code is codes.RANGE else (value, value)
    # lower() and upper() of a character may be several
    return lambda char: len(char) == 1 and low <= ord(char) <= high


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


def _not(test: _Test) -> _Test:
    return lambda char: not test(char)


def _boundary(before: int, after: str) -> bool:
    return (before == _WORD) != _is_word(after)


_CATEGORIES: dict[Any, _Test] = {
    codes.CATEGORY_DIGIT: str.isdecimal,
    codes.CATEGORY_SPACE: str.isspace,
    codes.CATEGORY_WORD: _is_word,
    codes.CATEGORY_NOT_DIGIT: _not(str.isdecimal),
    codes.CATEGORY_NOT_SPACE: _not(str.isspace),
    codes.CATEGORY_NOT_WORD: _not(_is_word),
}
_PLACES: dict[Any, Callable[[int, str], bool]] = {
    codes.AT_BEGINNING: lambda before, after: before == _START,
    codes.AT_BEGINNING_STRING: lambda before, after: before == _START,
    codes.AT_END: lambda before, after: not after,
    codes.AT_END_STRING: lambda before, after: not after,
    codes.AT_BOUNDARY: _boundary,
    codes.AT_NON_BOUNDARY: lambda before, after: not _boundary(before, after),
}
