"""Whether an answer is held up by what it cites: plain functions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from benchai.tools.memory import Recalled

#: A shorter quote stands nearly everywhere.
SHORTEST_QUOTE = 4
_MARK = re.compile(r"\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_BLANK = re.compile(r"[\s*_`>#|\"'\u2018\u2019\u201c\u201d]+")


class Quote(BaseModel):
    """Words of a passage, by its number."""

    source: int
    text: str = Field(max_length=4000)


class Grounded(BaseModel):
    """An answer behind what holds it up."""

    # what may be left out would come last under an engine's grammar: the quotes must come before the answer
    model_config = ConfigDict(json_schema_extra={"required": ["quotes", "found", "answer"]})

    quotes: list[Quote] = Field(default_factory=list, max_length=50)
    found: bool
    answer: str = ""


def marks_of(answer: str) -> set[int]:
    """The numbers of the passages that an answer cites."""
    return {int(number) for found in _MARK.findall(answer) for number in found.split(",")}


def complaint(found: Grounded, passages: Sequence[Recalled], question: str = "") -> str | None:
    """What of an answer is not held up by the passages; None where all of it is."""
    if not found.found:
        return None
    if not found.quotes or not found.answer.strip():
        return "found is true, so a quote and an answer are needed"
    for quote in found.quotes:
        if (wrong := _not_quoted(quote, passages)) is not None:
            return wrong
    return _unmarked(found, passages) or _invented(found, passages, question)


def shown(answer: str, passages: Sequence[Recalled]) -> str:
    """An answer with the places of the passages that it cites."""
    cited = [f"[{number}] {passages[number - 1].place}" for number in sorted(marks_of(answer))]
    return "\n".join([answer.strip(), "", "Sources:", *cited])


def _not_quoted(quote: Quote, passages: Sequence[Recalled]) -> str | None:
    if not 1 <= quote.source <= len(passages):
        return f"there is no passage {quote.source}, only 1 to {len(passages)}"
    words = _plain(quote.text)
    if len(words) < SHORTEST_QUOTE:
        return f"the quote {quote.text!r} is too short"
    if words not in _plain(passages[quote.source - 1].text):
        return f"{quote.text[:200]!r} does not stand in passage {quote.source}: quote it word for word"
    return None


def _unmarked(found: Grounded, passages: Sequence[Recalled]) -> str | None:
    marked, quoted = marks_of(found.answer), {quote.source for quote in found.quotes}
    if not marked:
        return "the answer cites nothing: put the number of the passage behind each statement, as in [1]"
    if strange := sorted(marked - quoted):
        return f"the answer cites [{strange[0]}], of which nothing is quoted"
    return None


def _invented(found: Grounded, passages: Sequence[Recalled], question: str) -> str | None:
    """A number in the answer that neither the cited passages nor the question hold."""
    known = " ".join([question, *(passages[number - 1].text for number in marks_of(found.answer))])
    numbers = set(_NUMBER.findall(known))
    for number in _NUMBER.findall(_MARK.sub(" ", found.answer)):
        if number not in numbers:
            return f"the answer says {number}, which stands in none of the passages that it cites"
    return None


def _plain(text: str) -> str:
    """A text without what a model rarely copies: case, kinds of blanks and quotes, marks of Markdown."""
    return _BLANK.sub(" ", text.casefold()).strip(" .,;:")
