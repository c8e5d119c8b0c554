"""An export as Markdown: what people read, and behind it, in comments, all that is kept."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Final, NamedTuple, TypeVar

from benchai.errors import SourceError
from benchai.memory.lines import (
    FORMAT,
    DocumentLine,
    FactLine,
    HowtoLine,
    Kept,
    LabelLine,
    SummaryLine,
    TurnLine,
)

OneKind = TypeVar("OneKind", FactLine, HowtoLine, SummaryLine, DocumentLine, LabelLine)
_MARK: Final = re.compile(r"<!-- benchai-memory (\d{1,9}) -->")
_LEVEL: Final = re.compile(r"# .* <!-- benchai-namespace (\S*) -->")
_OPENS: Final = "<!-- benchai "
_COMMENT: Final = re.compile(r"<!-- benchai (\d{1,9}) ([0-9a-f]{12}) (\{.*\}) -->")


class Record(NamedTuple):
    """A row that a comment keeps: the line of the file, from 1, and the row as a line of an export."""

    line: int
    text: str


class Level(NamedTuple):
    """The lines of one namespace, by their numbers from 1; those of records are empty. None: before any heading."""

    namespace: str | None
    first: int
    lines: list[str]


class Paper(NamedTuple):
    """What a Markdown file that export wrote holds, and what people wrote into it."""

    records: list[Record]
    levels: list[Level]


def as_markdown(lines: Sequence[Kept], user: str) -> str:
    """Rows as Markdown, by namespace; "" where there are none."""
    if not lines:
        return ""
    names = sorted({line.namespace for line in lines})
    return f"<!-- benchai-memory {FORMAT} -->\n\n" + "".join(
        f"# {name or user} <!-- benchai-namespace {name} -->\n\n" + "\n".join(_parts(name, lines)) + "\n"
        for name in names
    )


def is_export(lines: Iterable[str]) -> bool:
    """Whether export wrote a Markdown file."""
    first = next((line.strip() for line in lines if line.strip()), "")
    return _MARK.fullmatch(first) is not None


def read_paper(lines: Sequence[str]) -> Paper:
    """The rows that a Markdown file keeps, and the lines beside them.

    Raises:
        SourceError: it is of another format, or what a comment keeps is not what is written before it; the message
            names the line.
    """
    records: list[Record] = []
    levels = [Level(None, 1, [])]
    number = 0
    while number < len(lines):
        line = lines[number].strip()
        found = _COMMENT.fullmatch(line, line.rfind(_OPENS)) if _OPENS in line else None
        count = 1
        if found is not None:
            count = int(found[1])
            _check(number + 1, lines[number : number + count], count, found)
            records.append(Record(number + 1, found[3]))
            levels[-1].lines.extend([""] * count)
        elif level := _LEVEL.fullmatch(line):
            levels.append(Level(level[1], number + 2, []))
        else:
            levels[-1].lines.append(_other(number + 1, lines[number]))
        number += count
    return Paper(records, levels)


def wrong(number: int, what: str, hint: str = "nothing was imported; mend the line, or leave it") -> SourceError:
    """The error of a line of an import, from 1."""
    return SourceError(f"line {number} of the import: {what}", hint=hint)


def _check(number: int, lines: Sequence[str], count: int, found: re.Match[str]) -> None:
    """People read what stands before the comment: it must not say something else."""
    block = [found.string[: found.start()], *lines[1:]]
    if len(block) == count and _digest(block) == found[2]:
        return
    raise wrong(
        number,
        f"{block[0].strip()[:80]!r} was changed, or a line below it, and the comment keeps what it said before",
        "nothing was imported; undo the change, or take the comment away: the line then comes in as a note",
    )


def _other(number: int, line: str) -> str:
    """A line beside the rows; that of the format is taken out."""
    mark = _MARK.fullmatch(line.strip())
    if mark is None:
        return line
    if int(mark[1]) != FORMAT:
        raise wrong(number, f"the format {mark[1]} is not {FORMAT}", "update benchai")
    return ""


def _digest(block: Sequence[str]) -> str:
    """Of the words: editors change white space at the ends of lines, and the ends of lines."""
    return hashlib.sha256("\n".join(_one_line(line) for line in block).encode("utf-8", "replace")).hexdigest()[:12]


def _kept(block: str, line: Kept) -> str:
    """What people read, with the comment that keeps the row behind its first line."""
    first, *others = block.removesuffix("\n").split("\n")
    # neither ends the comment nor looks like the beginning of one
    json = line.model_dump_json().replace("<", "\\u003c").replace(">", "\\u003e").replace("--", "-\\u002d")
    digest = _digest([first, *others])
    return "\n".join([f"{first} <!-- benchai {1 + len(others)} {digest} {json} -->", *others]) + "\n"


def _parts(name: str, lines: Sequence[Kept]) -> Iterator[str]:
    own = [line for line in lines if line.namespace == name]
    facts = [line for line in own if isinstance(line, FactLine)]
    yield from _part("## Facts", [one for one in facts if one.invalid_at is None], _fact)
    yield from _part("### No longer", [one for one in facts if one.invalid_at is not None], _fact)
    yield from _part("## How-tos", [line for line in own if isinstance(line, HowtoLine)], _howto, "\n")
    yield from _part("## Summaries", [line for line in own if isinstance(line, SummaryLine)], _summary, "\n")
    yield from _threads([line for line in own if isinstance(line, TurnLine)])
    yield from _part("## Documents", [line for line in own if isinstance(line, DocumentLine)], _document)
    yield from _part("## Relevance", [line for line in own if isinstance(line, LabelLine)], _label)


def _part(heading: str, lines: Sequence[OneKind], shown: Callable[[OneKind], str], between: str = "") -> Iterator[str]:
    if lines:
        yield f"{heading}\n\n" + between.join(_kept(shown(line), line) for line in lines)


def _fact(fact: FactLine) -> str:
    if fact.invalid_at is None:
        return f"- {_one_line(fact.text)} (since {_day(fact.valid_at)})"
    return f"- {_one_line(fact.text)} ({_day(fact.valid_at)} to {_day(fact.invalid_at)})"


def _howto(howto: HowtoLine) -> str:
    steps = "".join(f"{place}. {_one_line(step)}\n" for place, step in enumerate(howto.steps, 1))
    return f"### {_one_line(howto.task)}\n\n{steps}\nWorked {howto.successes} times ({howto.workflow})."


def _summary(summary: SummaryLine) -> str:
    said = "to be written anew" if summary.stale else "\n".join(summary.text.splitlines())
    return f"### {_one_line(summary.thread)}\n\n{said}"


def _threads(turns: Sequence[TurnLine]) -> Iterator[str]:
    # a thread stands where it begins
    begins = {turn.thread: place for place, turn in reversed([*enumerate(turns)])}
    ordered = sorted(turns, key=lambda turn: begins[turn.thread])
    found = [
        f"### {_one_line(thread)}\n\n" + "\n".join(_kept(_turn(turn), turn) for turn in said)
        for thread, said in groupby(ordered, key=lambda turn: turn.thread)
    ]
    if found:
        yield "## Threads\n\n" + "\n".join(found)


def _turn(turn: TurnLine) -> str:
    quoted = "\n".join(f"> {line}" for line in turn.text.splitlines()) or ">"
    return f"**{_one_line(turn.name or turn.role)}**, {_time(turn.at)}:\n\n{quoted}"


def _document(line: DocumentLine) -> str:
    return f"- {_one_line(line.document.title)}: `{_one_line(line.document.source)}`"


def _label(label: LabelLine) -> str:
    how = "answered" if label.good else "not answered"
    return f"- {_one_line(label.query)}: {how} by “{_one_line(label.text)[:80]}”"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _day(at: float | None) -> str:
    return datetime.fromtimestamp(at or 0).astimezone().strftime("%Y-%m-%d")


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")
