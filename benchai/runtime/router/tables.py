"""The tables of the rules, compiled for look-up: our words, and those that the config adds."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

from benchai.config.routing import RoutingConfig
from benchai.runtime.router import speech, vocabulary
from benchai.runtime.router.vocabulary import INTENTS, Signal

#: Role -> the roles that may answer in its place, each with the seconds that its own answer is worth waiting for.
#: Small where the other does nearly as well. Vision has none: who cannot see cannot answer.
FALLBACKS: Mapping[str, Mapping[str, float]] = {
    "code": {"planner": 20.0, "research": 30.0, "general": 40.0},
    "planner": {"research": 15.0, "general": 30.0, "code": 40.0},
    "research": {"planner": 15.0, "general": 30.0},
    "vision": {},
    "general": {"planner": 10.0, "code": 15.0, "research": 20.0},
}


#: What a phrase is known as; plain numbers, since looking up a member of an enum takes as long as the phrase.
SIGNAL, OPENING, TERM, JOIN, ASK, MAKE = range(6)


@dataclass(frozen=True, slots=True)
class Entry:
    """A phrase behind its first word: ``rest`` must follow; ``signal`` is an index into ``Tables.signals``."""

    rest: tuple[str, ...]
    kind: int
    phrase: str
    signal: int = -1


#: First word -> the phrases of that word alone, and the longer ones by their second word.
Lexicon = Mapping[str, tuple[tuple[Entry, ...], Mapping[str, tuple[Entry, ...]]]]
Things = Mapping[str, tuple[tuple[tuple[str, ...], str], ...]]


@dataclass(frozen=True)
class Thresholds:
    """Complexities: below ``simple`` weak signs are not looked at, above ``planner`` and ``research`` those answer."""

    simple: float = 0.3
    planner: float = 0.4
    research: float = 0.7


@dataclass(frozen=True)
class Tables:
    """All that the rules know.

    ``lexicon`` and ``things`` lead from a first word to phrases, ``patterns`` are the signals with a regex. Of these no
    text has one that neither ``plain`` is found in nor one of ``needs``; ``plain`` is None where that is not known.
    ``roles`` is intent -> role, ``fallbacks`` role -> other roles with their penalty in seconds.
    """

    signals: tuple[Signal, ...]
    lexicon: Lexicon
    things: Things
    thresholds: Thresholds = field(default_factory=Thresholds)
    roles: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({one: one for one in INTENTS}))
    fallbacks: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: FALLBACKS)
    patterns: tuple[Signal, ...] = ()
    plain: re.Pattern[str] | None = None
    needs: tuple[str, ...] = ()
    _allowed: dict[str, Mapping[str, float]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def allowed(self, kind: str) -> Mapping[str, float]:
        """Role -> seconds of penalty, the best first, for what the standard role ``kind`` should answer."""
        if kind not in self._allowed:
            found = {self.roles.get(kind, kind): 0.0}
            for other, seconds in self.fallbacks.get(kind, {}).items():
                found.setdefault(self.roles.get(other, other), seconds)
            self._allowed[kind] = MappingProxyType(found)
        return self._allowed[kind]


def expand(phrase: str) -> list[str]:
    """``query(s)`` -> query, querys; ``optimi[ze|se]`` -> optimize, optimise."""
    match = re.search(r"([(\[])([^)\]]*)[)\]]", phrase)
    if match is None:
        return [phrase]
    before, after = phrase[: match.start()], phrase[match.end() :]
    endings = match[2].split("|") + ([""] if match[1] == "(" else [])
    return [one for ending in endings for one in expand(before + ending + after)]


def phrases(table: str) -> list[str]:
    """All phrases of a table in which they are parted by ``|``."""
    return [one for part in re.split(r"\|(?![^(\[]*[)\]])", table) if part for one in expand(part)]


def entries(table: Iterable[str], kind: int, signal: int = -1) -> list[tuple[str, Entry]]:
    """Phrases by their first word."""
    split = [phrase.split() for phrase in table]
    return [(words[0], Entry(tuple(words[1:]), kind, " ".join(words), signal)) for words in split if words]


def _lexicon(signals: tuple[Signal, ...], terms: Iterable[str]) -> Lexicon:
    found = [
        *entries(itertools.chain(phrases(speech.TERMS), terms), TERM),
        *entries(phrases(speech.CONJUNCTION), JOIN),
        *entries(phrases(speech.ASKING), ASK),
        *entries(phrases(vocabulary.MAKE), MAKE),
    ]
    for index, signal in enumerate(signals):
        found += entries(phrases(signal.words), OPENING if signal.opening else SIGNAL, index)
    by_word: dict[str, list[Entry]] = {}
    for word, entry in found:
        by_word.setdefault(word, []).append(entry)
    return {word: _by_length(dict.fromkeys(several)) for word, several in by_word.items()}


def _by_length(several: Iterable[Entry]) -> tuple[tuple[Entry, ...], Mapping[str, tuple[Entry, ...]]]:
    alone: list[Entry] = []
    longer: dict[str, list[Entry]] = {}
    for entry in several:
        (longer.setdefault(entry.rest[0], []) if entry.rest else alone).append(entry)
    return tuple(alone), {word: tuple(listed) for word, listed in longer.items()}


@cache
def _things() -> Things:
    by_word: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for intent, table in vocabulary.THINGS.items():
        for phrase in phrases(table):
            first, *rest = phrase.split()
            by_word.setdefault(first, []).append((tuple(rest), intent))
    # the longest first: a podcast script is no script
    return {word: tuple(sorted(several, key=lambda one: -len(one[0]))) for word, several in by_word.items()}


def tables(config: RoutingConfig | None = None) -> Tables:
    """The built-in tables, with what the section ``routing:`` of benchai.yaml adds to them."""
    return _default() if config is None or config == RoutingConfig() else _extended(config)


@cache
def _default() -> Tables:
    return _build(vocabulary.SIGNALS, ())


def _build(signals: tuple[Signal, ...], terms: Iterable[str]) -> Tables:
    patterns = tuple(signal for signal in signals if signal.pattern is not None)
    plain, needs = _signs(patterns)
    return Tables(signals, _lexicon(signals, terms), _things(), patterns=patterns, plain=plain, needs=needs)


def _signs(signals: Iterable[Signal]) -> tuple[re.Pattern[str] | None, tuple[str, ...]]:
    """What tells at once that no pattern can be found: all without ``needs`` as one, and the needs of the others."""
    alone = [one.pattern for one in signals if one.pattern is not None and not one.needs]
    needs = tuple(dict.fromkeys(need for one in signals for need in one.needs))
    if any(one.flags != re.UNICODE or one.groups for one in alone):
        return None, needs
    return re.compile("|".join(f"(?:{one.pattern})" for one in alone)), needs


def _extended(config: RoutingConfig) -> Tables:
    from benchai.runtime.router.reading import words_of

    def spoken(given: Iterable[str]) -> list[str]:
        return [" ".join(words_of(one)) for one in given]

    added = tuple(
        Signal(
            one.intent,
            one.name or "the config",
            one.points,
            "|".join(spoken(one.words)),
            one.opening,
            re.compile(one.regex, re.IGNORECASE) if one.regex is not None else None,
        )
        for one in config.signals
    )
    built = _build(vocabulary.SIGNALS + added, spoken(config.technical_terms))
    limits = config.thresholds
    fallbacks: dict[str, Mapping[str, float]] = dict(FALLBACKS)
    fallbacks.update({str(intent): others for intent, others in config.fallbacks.items()})
    roles: dict[str, str] = {one: one for one in INTENTS}
    roles.update({str(intent): role for intent, role in config.roles.items()})
    return Tables(
        built.signals,
        built.lexicon,
        built.things,
        Thresholds(limits.simple, limits.planner, limits.research),
        MappingProxyType(roles),
        fallbacks,
        built.patterns,
        built.plain,
        built.needs,
    )
