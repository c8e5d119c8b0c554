"""Ids as people see them: a letter for the kind, and a number."""

from __future__ import annotations

from typing import Final

from benchai.errors import UnknownMemory
from benchai.memory.database import Database, marks
from benchai.memory.namespace import Namespace

#: What a letter stands for, and the table with those rows.
TABLES: Final = {"d": "documents", "t": "turns", "f": "facts", "h": "howtos", "s": "summaries", "p": "passages"}
_DIGITS = 18


def split(id: str) -> tuple[str, int]:
    """The letter and the number of an id.

    Raises:
        UnknownMemory: it is none.
    """
    letter, digits = id[:1], id[1:]
    if letter not in TABLES or not (digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS):
        raise UnknownMemory(
            f"{id[:100]!r} is no id of the memory",
            hint="ids are a letter and a number: d1 a document, t1 a turn, f1 a fact, h1 a how-to, s1 a summary",
        )
    return letter, int(digits)


def number_of(id: str, letter: str) -> int:
    """The number of an id of one kind.

    Raises:
        UnknownMemory: it is none of that kind.
    """
    found, number = split(id)
    if found != letter:
        raise UnknownMemory(f"{id!r} is no id of {TABLES[letter]}", hint=f"those begin with {letter!r}")
    return number


def unknown(id: str) -> UnknownMemory:
    """What to raise for an id that a call does not see."""
    return UnknownMemory(f"the memory has no {id!r} here", hint="`benchai memory search` shows the ids of a namespace")


def owner(database: Database, ns: Namespace, id: str) -> str:
    """What a passage is a part of; other ids are given back. Within ``looking`` or ``writing``.

    Raises:
        UnknownMemory: the call sees no such passage, or it is no id.
    """
    letter, number = split(id)
    if letter != "p":
        return id
    visible = database.visible(ns)
    row = database.connection.execute(
        f"SELECT kind, owner FROM passages WHERE id = ? AND ns IN ({marks(visible)})",  # noqa: S608 - question marks
        (number, *visible),
    ).fetchone()
    if row is None:
        raise unknown(id)
    return f"{row[0][0]}{row[1]}"
