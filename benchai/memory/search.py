"""A search: both legs, fused, filtered, made different, cut to a budget of tokens; and how that was done."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import Field

from benchai.memory.database import Database, marks
from benchai.memory.fuse import diversify, fuse, within
from benchai.memory.lexical import Common, Scope, search_words, words_of
from benchai.memory.namespace import Namespace
from benchai.memory.rerank import FIRST
from benchai.memory.types import Kind, Leg, Meta, Passage, Value

#: Candidates of each leg, for each passage that is wanted and at least.
DEPTH, LEAST = 5, 50
#: The vectors know no filters: with one, more must be looked at before enough pass.
FILTERED = 2_000
CHARACTERS_A_TOKEN = 4
_COMMON: WeakKeyDictionary[Database, Common] = WeakKeyDictionary()


class Filter(Value):
    """What passages must be beside what they say; conditions that are not given hold for all.

    Attributes:
        kinds: Of one of these kinds.
        source: Of documents whose source matches this pattern (``*``, ``?``, ``[a-z]``; ``*`` goes beyond slashes).
        tags: Of documents with all of these tags.
        media: Of documents of this format.
        after, before: Said or added at these times or between them, seconds since 1970.
    """

    kinds: tuple[Kind, ...] = ()
    source: str | None = None
    tags: tuple[str, ...] = ()
    media: str | None = None
    after: float | None = None
    before: float | None = None

    @property
    def narrow(self) -> bool:
        """Whether it asks for more than kinds, which the index itself knows."""
        return any((self.source, self.tags, self.media, self.after is not None, self.before is not None))


class Query(Value):
    """What is asked.

    Attributes:
        text: The question, in words.
        count: How many passages are wanted at most.
        tokens: How many tokens they may take together; None for no limit.
        diversity: 0 orders by score alone, up to 1 by how much passages differ from those before them.
        neighbours: Whether notes that are linked with what was found may follow it.
    """

    text: str = Field(max_length=100_000)
    count: int = Field(10, ge=1, le=1000)
    tokens: int | None = Field(None, ge=1)
    diversity: float = Field(0.0, ge=0, le=1)
    neighbours: bool = False
    filter: Filter = Filter()


class Found(Value):
    """What was found, best first, and how.

    Attributes:
        passages: What was found.
        words: That were looked for.
        weights: Of the legs that took part.
        off: Legs that did not, with the reason.
        candidates: How many each leg found.
        seconds: What each part took.
    """

    passages: tuple[Passage, ...] = ()
    words: tuple[str, ...] = ()
    weights: dict[str, float] = Field(default_factory=dict)
    off: dict[str, str] = Field(default_factory=dict)
    candidates: dict[str, int] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)


Ranking = list[tuple[int, float]]


def depth(query: Query) -> int:
    """How many candidates a leg is asked for."""
    return FILTERED if query.filter.narrow else max(LEAST, DEPTH * query.count)


def lexical_leg(database: Database, ns: Namespace, query: Query) -> tuple[list[str], Ranking]:
    """The words that were looked for, and the passages that hold them.

    Raises:
        StoreError: the file can't be read.
    """
    words = words_of(query.text)
    with database.looking() as connection:
        visible = database.visible(ns)
        only = _passing(connection, visible, query.filter) if query.filter.narrow else None
        scope = Scope(visible, query.filter.kinds, only, _COMMON.setdefault(database, Common()))
        return words, search_words(connection, words, scope, max(LEAST, DEPTH * query.count))


def choose(
    database: Database, ns: Namespace, query: Query, legs: Mapping[str, Ranking], weights: Mapping[str, float]
) -> list[Passage]:
    """The passages that are shown, from what the legs found; only what a call in the namespace sees.

    Raises:
        StoreError: the file can't be read.
    """
    fused = _fused(legs, weights)
    with database.looking() as connection:
        known = _first(database, connection, ns, query, [number for number, _ in fused])
    ranking = [(known[number], score) for number, score in fused if number in known]
    places = {
        name: {number: Leg(rank=rank, score=score) for rank, (number, score) in enumerate(leg, 1)}
        for name, leg in legs.items()
    }
    shown = [(scored(passage, score, places), score) for passage, score in ranking]
    chosen = diversify(shown, Likeness(passage for passage, _ in shown), query.count, query.diversity)
    return within(chosen, tokens_of, query.tokens) if query.tokens else chosen


def texts(
    database: Database,
    ns: Namespace,
    query: Query,
    legs: Mapping[str, Ranking],
    weights: Mapping[str, float],
    count: int = FIRST,
) -> list[tuple[int, str]]:
    """What a reranker reads: numbers and texts, with their headings, of the first fused passages.

    Its ranking is one more leg for ``choose``.

    Raises:
        StoreError: the file can't be read.
    """
    numbers = [number for number, _ in _fused(legs, weights)]
    with database.looking() as connection:
        known = _first(database, connection, ns, query, numbers, count)
    found = [known[number] for number in numbers if number in known][:count]
    return [(int(one.id[1:]), "\n".join(filter(None, (one.title, one.heading, one.text)))) for one in found]


def _fused(legs: Mapping[str, Ranking], weights: Mapping[str, float]) -> Ranking:
    return fuse({name: [number for number, _ in leg] for name, leg in legs.items()}, weights)


def _first(
    database: Database,
    connection: sqlite3.Connection,
    ns: Namespace,
    query: Query,
    numbers: Sequence[int],
    count: int | None = None,
) -> dict[int, Passage]:
    """Enough of the first passages that may be shown: reading is most of the time, and most are not needed."""
    enough = count or query.count
    if count is None and (query.diversity > 0 or query.tokens is not None):
        enough = max(LEAST, DEPTH * query.count)
    found: dict[int, Passage] = {}
    for begin in range(0, len(numbers), enough):
        found |= read(database, connection, ns, numbers[begin : begin + enough], query.filter)
        if len(found) >= enough:
            break
    return found


def read(
    database: Database,
    connection: sqlite3.Connection,
    ns: Namespace,
    numbers: Sequence[int],
    wanted: Filter | None = None,
) -> dict[int, Passage]:
    """Passages by number: those that a call in the namespace sees and that pass the filter."""
    visible = database.visible(ns)
    conditions, values = _conditions(wanted or Filter())
    found = {}
    for begin in range(0, len(numbers), 500):
        part = list(numbers[begin : begin + 500])
        rows = connection.execute(
            "SELECT p.id, p.ns, p.kind, p.owner, p.text, p.title, p.heading, p.line, p.end_line, p.page, p.at, "  # noqa: S608
            f"d.source, d.meta, t.thread FROM {_OF} "
            # "+": by its id, a row is found at once; SQLite would rather walk through the index of the namespaces
            f"WHERE p.id IN ({marks(part)}) AND +p.ns IN ({marks(visible)}){conditions}",
            (*part, *visible, *values),
        )
        for row in rows:
            found[row[0]] = _passage(row, database.name(row[1]))
    return found


_OF = (
    "passages p LEFT JOIN documents d ON p.kind = 'document' AND d.id = p.owner "
    "LEFT JOIN turns t ON p.kind = 'turn' AND t.id = p.owner"
)


def _passing(connection: sqlite3.Connection, visible: Sequence[int], wanted: Filter) -> str:
    """The numbers of all passages that pass a filter, as JSON: however few they are, the best of them are found."""
    conditions, values = _conditions(wanted)
    of, ns = "passages p", "p.ns"
    if wanted.source is not None or wanted.media is not None or wanted.tags:
        # from the documents, which are few, to their passages by an index; the other way round takes ten times as long
        of, ns = "documents d CROSS JOIN passages p ON p.kind = 'document' AND p.owner = d.id", "d.ns"
    row = connection.execute(
        f"SELECT group_concat(p.id) FROM {of} WHERE {ns} IN ({marks(tuple(visible))}){conditions}",  # noqa: S608
        (*visible, *values),
    ).fetchone()
    return f"[{row[0] or ''}]"


def _conditions(wanted: Filter) -> tuple[str, list[Any]]:
    conditions: list[tuple[str, Any]] = []
    if wanted.source is not None:
        conditions.append(("d.source GLOB ?", wanted.source))
    if wanted.media is not None:
        conditions.append(("d.media = ?", wanted.media))
    if wanted.after is not None:
        conditions.append(("p.at >= ?", wanted.after))
    if wanted.before is not None:
        conditions.append(("p.at <= ?", wanted.before))
    for tag in wanted.tags:
        conditions.append(("EXISTS (SELECT 1 FROM json_each(d.meta, '$.tags') WHERE value = ?)", tag))
    text = "".join(f" AND {condition}" for condition, _ in conditions)
    values = [value for _, value in conditions]
    if wanted.kinds:
        text += f" AND p.kind IN ({marks(list(range(len(wanted.kinds))))})"
        values += wanted.kinds
    return text, values


def _passage(row: tuple[Any, ...], namespace: str) -> Passage:
    number, _, kind, owner, text, title, heading, line, end_line, page, at, source, meta, thread = row
    known: Meta = json.loads(meta) if meta else {}
    return Passage.model_construct(
        id=f"p{number}",
        kind=kind,
        owner=f"{kind[0]}{owner}",
        text=text,
        namespace=namespace,
        source=source or (f"thread:{thread}" if thread else ""),
        title=title,
        heading=heading,
        line=line,
        end_line=end_line,
        page=page,
        at=at,
        meta=known,
        score=0.0,
        legs={},
    )


def scored(passage: Passage, score: float, places: Mapping[str, Mapping[int, Leg]]) -> Passage:
    """A passage with its score, and its place in each leg that found it."""
    number = int(passage.id[1:])
    legs = {name: found[number] for name, found in places.items() if number in found}
    return passage.model_copy(update={"score": score, "legs": legs})


class Likeness:
    """The share of words that two passages have in common (Jaccard), from 0 to 1.

    Each word is a bit: two passages are compared in a tenth of a microsecond.
    """

    def __init__(self, passages: Iterable[Passage]) -> None:
        bits: dict[str, int] = {}
        self._words = {
            passage.id: sum(1 << bits.setdefault(word, len(bits)) for word in set(passage.text.lower().split()))
            for passage in passages
        }

    def __call__(self, one: Passage, other: Passage) -> float:
        """The share, of two of the passages."""
        first, second = self._words[one.id], self._words[other.id]
        every = (first | second).bit_count()
        return (first & second).bit_count() / every if every else 0.0


def tokens_of(passage: Passage) -> int:
    """About how many tokens a passage takes in a prompt, its source included."""
    return (len(passage.text) + len(passage.place) + len(passage.heading)) // CHARACTERS_A_TOKEN + 8
