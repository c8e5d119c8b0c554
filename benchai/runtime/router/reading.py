"""What a text holds of the words that the tables know: found once, decided upon elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from benchai.runtime.router.speech import COURTESY, LEADS
from benchai.runtime.router.tables import ASK, JOIN, MAKE, OPENING, SIGNAL, TERM, Entry, Tables, phrases
from benchai.runtime.router.vocabulary import (
    FILE_VERBS,
    INTENTS,
    MADE_POINTS,
    PICTURE_ENDINGS,
    SOURCE_ENDINGS,
    SYNTAX,
    THING_ENDINGS,
)

#: Characters of the text that are searched, at its beginning and at its end; the rest is not looked at.
HEAD, TAIL = 700, 450
#: A score from which an intent is clear.
CLEAR = 1.5
#: Points that small talk loses where more than small talk is said.
SMALL_TALK = 2.5

_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_CURLY = tuple("“”„«»–—…\xa0¿¡")
_SIGNS = b'"`()[]{}<>*=|~^\\-%$&@'
_BLANK = bytes.maketrans(_SIGNS, b" " * len(_SIGNS))
_ERRORS = ("error", "exception")
_JOINED = frozenset(("and", "then", "und", "dann", ";", ","))
_POLITE = frozenset(("please", "also", "bitte"))
#: Words between a verb of making and what is made.
_REACH = 7


@dataclass(slots=True)
class Reading:
    """What was found in a text.

    ``said`` is what was searched: both ends, without fenced blocks. ``scores`` are points by intent, ``found`` the
    names of the signals that gave them, ``made`` the intent of what is to be made. ``terms``, ``joins``, ``clauses``
    and ``asked`` count technical terms, words that join a step on, clauses that ask, and question marks.
    """

    said: str
    tokens: list[str]
    scores: dict[str, float]
    found: dict[str, list[str]] = field(default_factory=dict)
    made: str | None = None
    terms: int = 0
    joins: int = 0
    clauses: int = 0
    asked: int = 0
    blocks: int = 0
    length: int = 0

    def add(self, intent: str, points: float, name: str) -> None:
        """Points for an intent."""
        self.scores[intent] += points
        names = self.found.setdefault(intent, [])
        if name not in names:
            names.append(name)

    def factors(self) -> dict[str, float]:
        """How much of each factor of complexity there is; unbounded, none negative."""
        return {
            "length": self.length / 1000,
            "code_blocks": self.blocks,
            "technical_terms": self.terms,
            "questions": max(0, self.asked - 1, self.clauses - 1) + 0.5 * self.joins,
        }


def ends(text: str, head: int = HEAD, tail: int = TAIL) -> tuple[str, str]:
    """Beginning and end of a text; the end is empty where the beginning holds all of it."""
    return (text, "") if len(text) <= head + tail else (text[:head], text[-tail:])


def said_of(first: str, last: str) -> str:
    """Both ends without their fenced blocks: what is quoted is no request."""
    if "```" not in first and "```" not in last:
        return f"{first}\n{last}" if last else first
    # an odd number of fences: the first one closes a block that began before
    inside = "```" * (last.count("```") % 2)
    return _unfenced(first) + ("\n" + _unfenced(inside + last) if last else "")


def _unfenced(text: str) -> str:
    return _FENCED.sub("\n", text)


def words_of(text: str) -> list[str]:
    """The words of a text in small letters; ``;`` stands where a sentence ends, ``,`` where a comma is."""
    low = text.lower().replace("'", "")
    if not low.isascii():
        low = low.replace("\u2019", "").replace("\u2018", "")
        for sign in _CURLY:
            low = low.replace(sign, " ")
    # a table for str is slow where one letter is not ASCII, and half a surrogate cannot be encoded
    low = low.encode("utf-8", "replace").translate(_BLANK).decode()
    low = low.replace("\n", " ; ").replace("?", " ; ").replace("!", " ; ")
    low = f"{low} ".replace(". ", " ; ").replace(": ", " ; ").replace("; ", " ; ").replace(",", " , ")
    return low.split()


def read(text: str, tables: Tables, *, head: int = HEAD, tail: int = TAIL) -> Reading:
    """Search a text; it never fails, whatever the text, and takes no longer for a longer one.

    Args:
        text: What was said.
        tables: What is known.
        head: Characters searched at the beginning.
        tail: Characters searched at the end.
    """
    first, last = ends(text, head, tail)
    said = said_of(first, last)
    reading = Reading(said, words_of(said), dict.fromkeys(INTENTS, 0.0), length=len(text))
    reading.asked = first.count("?") + last.count("?")
    reading.blocks = (first.count("```") + last.count("```") + 1) // 2
    _look_up(reading, tables)
    _search(reading, tables)
    _look_at_names(reading)
    _look_at_signs(reading)
    if reading.blocks:
        reading.add("code", CLEAR, "code block")
    if "small talk" in reading.found.get("general", ()) and without_courtesy(reading.tokens):
        # a greeting before a request says nothing about the request
        reading.scores["general"] -= SMALL_TALK
    if min(reading.scores.values()) < 0:
        # a sign against an intent takes points away, but leaves no debt
        reading.scores = {intent: max(0.0, points) for intent, points in reading.scores.items()}
    return reading


def matches(tokens: list[str], tables: Tables) -> list[tuple[int, Entry]]:
    """Every known phrase, and where it begins."""
    found = []
    lexicon = tables.lexicon
    for index, token in enumerate(tokens):
        known = lexicon.get(token)
        if known is None:
            continue
        for entry in known[0]:
            found.append((index, entry))
        following = known[1].get(tokens[index + 1]) if index + 1 < len(tokens) else None
        for entry in following or ():
            rest = entry.rest
            if len(rest) == 1 or tuple(tokens[index + 1 : index + 1 + len(rest)]) == rest:
                found.append((index, entry))
    return found


def _look_up(reading: Reading, tables: Tables) -> None:
    tokens = reading.tokens
    signs: dict[int, set[str]] = {}
    terms: set[str] = set()
    for index, entry in matches(tokens, tables):
        kind = entry.kind
        if kind == SIGNAL or (kind == OPENING and _opens(tokens, index)):
            signs.setdefault(entry.signal, set()).add(entry.phrase)
        elif kind == TERM:
            terms.add(entry.phrase)
        elif kind == JOIN:
            reading.joins += 1
        elif kind == ASK and _begins_clause(tokens, index):
            reading.clauses += 1
        elif kind == MAKE and reading.made is None:
            reading.made = _made(tokens, index + 1 + len(entry.rest), tables)
    reading.terms = len(terms)
    for signal, words in signs.items():
        one = tables.signals[signal]
        reading.add(one.intent, one.points * min(2, len(words)), one.name)
    if reading.made is not None:
        reading.add(reading.made, MADE_POINTS[reading.made], "what is to be made")


def _search(reading: Reading, tables: Tables) -> None:
    said = reading.said
    holds = said.lower().__contains__
    if tables.plain is not None and tables.plain.search(said) is None and not any(map(holds, tables.needs)):
        return
    for signal in tables.patterns:
        pattern, needs = signal.pattern, signal.needs
        if pattern is None or (needs and not any(map(holds, needs))):
            continue
        if pattern.search(said) is not None:
            words = {match[0].lower() for match in pattern.finditer(said)}
            reading.add(signal.intent, signal.points * min(2, len(words)), signal.name)


def _look_at_names(reading: Reading) -> None:
    """Names of files and of things in code."""
    tokens = reading.tokens
    if "." in reading.said:
        endings = {token.rpartition(".")[2] for token in tokens if "." in token}
        if endings & SOURCE_ENDINGS:
            reading.add("code", 1.5, "source file")
        if endings & PICTURE_ENDINGS:
            reading.add("vision", 3.0, "picture file")
        if any(one.isalpha() and len(one) <= 5 for one in endings) and not FILE_VERBS.isdisjoint(tokens):
            reading.add("general", 3.0, "files")
    if "_" in reading.said and any("_" in token[1:-1] for token in tokens):
        reading.add("code", 1.0, "name in code")


def _look_at_signs(reading: Reading) -> None:
    """Signs of code, found without a regex: most texts hold none."""
    said = reading.said
    signs = sum(map(said.__contains__, SYNTAX)) + said.endswith(";")
    if signs:
        reading.add("code", 1.5 * min(2, signs), "code syntax")
    if calls := _attached(said, "(", ")") + _attached(said, "[", "]"):
        reading.add("code", 1.5 * min(2, calls), "call or index")
    named = "rror" in said or "xception" in said
    if named and any(token.endswith(_ERRORS) and token not in _ERRORS for token in reading.tokens):
        reading.add("code", 2.0, "name of an error")


def _attached(said: str, opening: str, closing: str) -> int:
    """Brackets that follow a word without a space, at most 2; ``word(s)`` is none."""
    found, at = 0, said.find(opening)
    while at != -1 and found < 2:
        before = said[at - 1 : at]
        if (
            (before.isalnum() or before == "_")
            and at < (end := said.find(closing, at, at + 82))
            and said[at + 1 : end] != "s"
        ):
            found += 1
        at = said.find(opening, at + 1)
    return found


def _opens(tokens: Sequence[str], index: int) -> bool:
    """Whether a sentence begins there, but for polite words."""
    for before in range(index - 1, max(-1, index - 8), -1):
        if tokens[before] == ";":
            return True
        if tokens[before] not in LEADS:
            return False
    return True


def _begins_clause(tokens: Sequence[str], index: int) -> bool:
    before = index - 1
    while before >= 0 and (tokens[before] in _POLITE or tokens[before].rstrip(".").isdigit()):
        before -= 1
    return before < 0 or tokens[before] in _JOINED


def _made(tokens: list[str], start: int, tables: Tables) -> str | None:
    """The intent of the nearest thing after a verb of making: "a poem about Python" is no code."""
    for index in range(start, min(len(tokens), start + _REACH)):
        token = tokens[index]
        if token in {";"}:
            return None
        for rest, intent in tables.things.get(token, ()):
            if tuple(tokens[index + 1 : index + 1 + len(rest)]) == rest:
                return intent
        for ending, intent in THING_ENDINGS.items():
            if token.endswith(ending):
                return intent
    return None


def begins_with(tokens: Sequence[str], known: Mapping[str, tuple[tuple[str, ...], ...]]) -> bool:
    """Whether one of these phrases, by their first word, stands at the beginning."""
    start = next((index for index, token in enumerate(tokens) if token not in {";", ","}), len(tokens))
    several = known.get(tokens[start], ()) if start < len(tokens) else ()
    return any(tuple(tokens[start : start + len(words)]) == words for words in several)


@cache
def phrases_by_word(table: str) -> dict[str, tuple[tuple[str, ...], ...]]:
    """The phrases of a table by their first word."""
    by_word: dict[str, list[tuple[str, ...]]] = {}
    for phrase in phrases(table):
        words = tuple(phrase.split())
        by_word.setdefault(words[0], []).append(words)
    return {word: tuple(sorted(several, key=len, reverse=True)) for word, several in by_word.items()}


def without_courtesy(tokens: list[str]) -> list[str]:
    """A turn without the thanks and greetings that it begins with."""
    known = phrases_by_word(COURTESY)
    index = 0
    while index < len(tokens):
        if tokens[index] in {";", ","}:
            index += 1
            continue
        polite = next(
            (one for one in known.get(tokens[index], ()) if tuple(tokens[index : index + len(one)]) == one), None
        )
        if polite is None:
            break
        index += len(polite)
    return tokens[index:]
