"""What is added to a text or a question so that other words find it: parts of identifiers, names of months."""

from __future__ import annotations

import re

_IDENTIFIER = re.compile(r"\b(?=[^\W\d_])\w*[a-z\d][A-Z]\w*|\b[A-Z]{2,}[a-z]\w*")
# either of both holds this; most texts do not, and it is found out ten times as fast
_MAYBE = re.compile(r"[A-Z](?:(?<=[a-z\d][A-Z])|[A-Z][a-z])")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")
_DATE = re.compile(r"\b\d{4}-(\d{2})-(\d{2})\b")
_MOST = 200
_MONTHS = "january february march april may june july august september october november december".split()  # noqa: SIM905


def split(word: str) -> list[str]:
    """The parts of an identifier, in lower case: ``getUserName``, ``get_user_name`` and ``HTTPServer2`` alike."""
    return [part.lower() for part in _PART.findall(word)]


def parts_of(text: str) -> str:
    """The parts of the camelCase identifiers of a text, each once, at most 200: what its passage's context may hold.

    Those with underscores are not among them: the index cuts there anyway.
    """
    if not _MAYBE.search(text):
        return ""
    found: dict[str, None] = {}
    for word in dict.fromkeys(_IDENTIFIER.findall(text)):
        found.update(dict.fromkeys(split(word)))
        if len(found) >= _MOST:
            break
    return " ".join(list(found)[:_MOST])


def dates_of(text: str) -> list[str]:
    """Month and day of the dates in a text such as 2023-05-07, as the headings of turns have them: ``may``, ``7``."""
    found = []
    for month, day in _DATE.findall(text):
        if 1 <= int(month) <= len(_MONTHS):
            found += [_MONTHS[int(month) - 1], str(int(day))]
    return found
