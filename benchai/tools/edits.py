"""Search-and-replace edits of texts.

`apply` is strict about what it changes and lenient about how a model copied it: the exact text first, then whole
lines whose trailing blanks differ, then whole lines that are all indented by the same amount more or less. Only
one place may fit. Nothing here touches a disk.
"""

from __future__ import annotations

import bisect
import difflib
import heapq
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchai.errors import ToolError
from benchai.tools.tool import shorten

__all__ = ["Edit", "Splice", "apply", "locate"]

SHOWN_LINES = 12  # of the region that is nearest to a search text which is not there
SHOWN_WIDTH = 160
COUNTED = 20  # places that a message names
LENIENT = 100_000  # characters up to which a search text need not be exact: what bounds the time
NEAREST_LINES = 20_000  # lines of a file among which the nearest region is sought
NEAREST_RATIO = 0.4
_COMPARED = 600  # characters of a region that difflib compares
_FINALISTS = 6
_BLANKS = " \t\r"
_BOM = "\ufeff"


@dataclass(frozen=True)
class Edit:
    """In the file `path` the text `search`, which stands there once, becomes `replace`.

    A `search` that ends with a line end means whole lines. An empty one makes a new file.
    """

    path: str
    search: str
    replace: str


@dataclass(frozen=True)
class Splice:
    """A change of one text: `text[start:end]` becomes `new`."""

    start: int
    end: int
    new: str


def apply(text: str, edit: Edit) -> str:
    """Return `text` with the edit made; what is not matched stays as it is, line ends and all.

    Raises ToolError when the edit fits nowhere or in several places, or would change nothing.
    """
    splice = locate(text, edit)
    return text[: splice.start] + splice.new + text[splice.end :]


def locate(text: str, edit: Edit) -> Splice:
    """Return the change that `apply` would make. Raises ToolError as `apply` does."""
    search, new = _unix(edit.search), _unix(edit.replace)
    if search == new:
        raise _nothing(edit, "search and replace are the same text")
    skip = text.startswith(_BOM)
    if not search.strip():
        if text[skip:]:
            raise ToolError(
                f"search is empty, but {shorten(edit.path)} is not", hint="give the lines that are to be replaced"
            )
        if not edit.replace:
            raise _nothing(edit, "search and replace are empty")
        return Splice(len(text), len(text), edit.replace)
    if not text[skip:]:
        raise ToolError(f"{shorten(edit.path)} is empty or not there", hint="leave search empty to create it")
    body = text[skip:]
    splice = _mapped(body, _only_place(_unix(body), search, new, edit))
    if splice.new == body[splice.start : splice.end]:
        raise _nothing(edit, "the text reads so already")
    return Splice(splice.start + skip, splice.end + skip, splice.new)


def _nothing(edit: Edit, why: str) -> ToolError:
    return ToolError(f"the edit of {shorten(edit.path)} changes nothing: {why}")


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def _mapped(body: str, flat: Splice) -> Splice:
    """Carry a splice of the text with plain line ends over to the text as it is."""
    marks = [match.start() - number for number, match in enumerate(re.finditer("\r\n", body))]
    start, end = (offset + bisect.bisect_left(marks, offset) for offset in (flat.start, flat.end))
    region = body[start:end] if "\n" in body[start:end] else body
    windows = region.count("\r\n") * 2 > region.count("\n")
    return Splice(start, end, flat.new.replace("\n", "\r\n") if windows else flat.new)


def _only_place(flat: str, search: str, new: str, edit: Edit) -> Splice:
    ways = (_exact, _blanks_ignored, _indented) if len(search) <= LENIENT else (_exact,)
    for places in ways:
        found = places(flat, search, new)
        if len(found) > 1:
            raise _ambiguous(flat, found, edit)
        if found:
            return found[0]
    raise _unmatched(flat, search, new, edit)


def _exact(flat: str, search: str, new: str) -> list[Splice]:
    if not search.endswith("\n"):
        return [Splice(at, at + len(search), new) for at in _occurrences(flat, search)]
    ended = flat if flat.endswith("\n") else flat + "\n"
    places = _occurrences(f"\n{ended}", f"\n{search}")
    return [_ended(flat, at, at + len(search), new) for at in places]


def _ended(flat: str, start: int, end: int, new: str) -> Splice:
    # The last line of a file may lack the line end that a block always has
    return Splice(start, end, new) if end <= len(flat) else Splice(start, len(flat), new.removesuffix("\n"))


def _occurrences(text: str, wanted: str) -> list[int]:
    """Offsets at which `wanted` starts, overlapping ones too; one more than a message names at most."""
    found: list[int] = []
    at = text.find(wanted)
    while at >= 0 and len(found) <= COUNTED:
        found.append(at)
        at = text.find(wanted, at + 1)
    return found


class _Lines:
    """The lines of a text, and of a search text, of which whole lines are compared."""

    def __init__(self, flat: str, search: str) -> None:
        self.flat, self.whole = flat, search.endswith("\n")
        self.lines = _split(flat)
        self.wanted = _split(search)
        self.starts = [0, *itertools.accumulate(len(line) + 1 for line in self.lines)]

    def places(self, alike: Callable[[str], str]) -> list[int]:
        """Numbers, from 0, of the lines from which on all are alike."""
        text = "\n".join(["", *map(alike, self.lines), ""])
        wanted = "\n".join(["", *map(alike, self.wanted), ""])
        return [text.count("\n", 0, at) for at in _occurrences(text, wanted)]

    def at(self, number: int) -> list[str]:
        return self.lines[number : number + len(self.wanted)]

    def splice(self, number: int, new: str) -> Splice:
        end = self.starts[number + len(self.wanted)]
        start = self.starts[number]
        return _ended(self.flat, start, end, new) if self.whole else Splice(start, end - 1, new)


def _split(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n")


def _blanks_ignored(flat: str, search: str, new: str) -> list[Splice]:
    lines = _Lines(flat, search)
    return [lines.splice(number, new) for number in lines.places(lambda line: line.rstrip(_BLANKS))]


def _indented(flat: str, search: str, new: str) -> list[Splice]:
    lines = _Lines(flat, search)
    found = []
    for number in lines.places(lambda line: line.strip(_BLANKS)):
        shifted = _shifted(lines.at(number), lines.wanted, new)
        if shifted is not None:
            found.append(lines.splice(number, shifted))
    return found


def _shifted(found: list[str], wanted: list[str], new: str) -> str | None:
    """Indent `new` as `found` differs from `wanted`; None when lines differ differently."""
    shifts = {_shift(have, want) for have, want in zip(found, wanted, strict=True) if want.strip(_BLANKS)}
    shift = shifts.pop() if len(shifts) == 1 else None
    if shift is None:
        return None
    less, more = shift
    lines = new.split("\n")
    if any(line.strip(_BLANKS) and not line.startswith(less) for line in lines):
        return None
    return "\n".join(more + line[len(less) :] if line.strip(_BLANKS) else line for line in lines)


def _shift(have: str, want: str) -> tuple[str, str] | None:
    """What to take from, and what to put at, the start of `want` to get the indentation of `have`."""
    has, wants = (line[: len(line) - len(line.lstrip(_BLANKS))] for line in (have, want))
    if has.endswith(wants):
        return "", has.removesuffix(wants)
    return (wants.removesuffix(has), "") if wants.endswith(has) else None


def _ambiguous(flat: str, found: list[Splice], edit: Edit) -> ToolError:
    numbers = [str(flat.count("\n", 0, splice.start) + 1) for splice in found[:COUNTED]]
    more = " and more" if len(found) > COUNTED else ""
    where = f"at lines {', '.join(numbers)}{more}"
    return ToolError(
        f"the search text stands in {shorten(edit.path)} more than once, {where}",
        hint="add lines before or after it until only one place fits",
    )


def _unmatched(flat: str, search: str, new: str, edit: Edit) -> ToolError:
    message = f"the search text is not in {shorten(edit.path)}"
    if len(new.strip()) >= 10 and new in flat:
        number = flat.count("\n", 0, flat.index(new)) + 1
        return ToolError(message, hint=f"the replacement stands at line {number} already")
    nearest = _nearest(_split(flat), [line.strip() for line in search.strip().split("\n")[:SHOWN_LINES]])
    if nearest is None:
        return ToolError(f"{message}, nor anything like it", hint="read the file and copy the lines from it")
    count = min(len(_split(search.strip("\n"))), SHOWN_LINES)
    shown = "\n".join(_numbered(flat, nearest, count))
    return ToolError(f"{message}; nearest to it:\n{shown}", hint="copy the lines exactly as they are in the file")


def _numbered(flat: str, first: int, count: int) -> Iterator[str]:
    for number, line in enumerate(_split(flat)[first : first + count], first + 1):
        yield f"{number}| {line[:SHOWN_WIDTH]}{'...' if len(line) > SHOWN_WIDTH else ''}"


def _nearest(lines: list[str], wanted: list[str]) -> int | None:
    """The line, from 0, from which on the text is most like `wanted`, or None.

    Shared trigrams choose a few windows of lines, in time linear in the text; difflib chooses among them.
    """
    stripped = [line.strip()[:200] for line in lines[:NEAREST_LINES]]
    width = min(len(wanted), len(stripped))
    grams = {gram for line in wanted for gram in _trigrams(line)}
    hits = [(len(own & grams), len(own)) for own in map(_trigrams, stripped)]
    totals = [(0, 0), *itertools.accumulate(hits, lambda one, two: (one[0] + two[0], one[1] + two[1]))]

    def likeness(at: int) -> float:
        shared, size = (totals[at + width][part] - totals[at][part] for part in (0, 1))
        return float(2 * shared / (size + len(grams) or 1))

    target = "\n".join(wanted)[:_COMPARED]
    matcher = difflib.SequenceMatcher(None, b=target, autojunk=False)

    def ratio(at: int) -> tuple[float, int]:
        matcher.set_seq1("\n".join(stripped[at : at + width])[:_COMPARED])
        return matcher.ratio(), -at

    best = heapq.nlargest(_FINALISTS, range(len(stripped) - width + 1), key=likeness)
    score, number = max(map(ratio, best), default=(0.0, 0))
    return -number if score >= NEAREST_RATIO else None


def _trigrams(line: str) -> set[str]:
    return {line[at : at + 3] for at in range(max(len(line) - 2, 1))} if line else set()
