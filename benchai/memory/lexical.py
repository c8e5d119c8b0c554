"""The words' leg of a search: what a question asks of the full-text index, ranked by BM25.

BM25 costs a microsecond for each row that holds any of the words. So the rows are looked up first, word by word, which
costs a fiftieth of that; only those whose words weigh most together are ranked. What the ranking of all rows would show
among the first ten is nearly always among them: docs/benchmarks.md tells how often.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchai.memory.types import Kind
from benchai.memory.wording import dates_of, split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

#: BM25 weights of the columns text, context, title, heading; the marks count nothing.
WEIGHTS = (1.0, 0.5, 1.0, 0.8, 0.0)
#: Words of a question that are looked up, and that rank, the rarest first.
MOST_WORDS, RANKING_WORDS = 64, 24
#: Rows that are ranked: at least, for each that is wanted, and about how many where many weigh the same.
CANDIDATES, CANDIDATES_EACH, MOST_EQUAL = 500, 2, 4_000
#: Above this share of all rows, namespaces are looked at after the words.
MOST_ROWS, SAMPLE = 0.5, 64
#: A word of more than this part of the rows says little, where there are many rows: BM25 weighs it 0.7 at most.
COMMON, LARGE = 1 / 3, 10_000
#: Rows from the first to the last that are counted in an array of their own length, 8 bytes each.
_DENSE_SPAN = 4_000_000
_WORD = re.compile(r"\w+")
STOP_WORDS = frozenset(
    (  # noqa: SIM905 - as a text it can be read
        "a about above after again all also am an and any are as at be because been before being below between both "
        "but by can could did do does doing down during each few for from further had has have having he her here "
        "hers him his how i if in into is it its itself just me more most my myself no nor not now of off on once "
        "only or other our ours out over own same she should so some such than that the their theirs them then there "
        "these they this those through to too under until up very was we what when where which while who whom "
        "why will with would you your yours s t"
    ).split()
)


class Common:
    """Words that a third of all rows have, as far as they were met: the stop words of any language."""

    def __init__(self) -> None:
        self._newest = 0
        self._words: set[str] = set()

    def known(self, newest: int) -> set[str]:
        """What was met, for as long as the store has not doubled; to be added to."""
        if newest > 2 * self._newest:
            self._newest, self._words = newest, set()
        return self._words


@dataclass(frozen=True)
class Scope:
    """Where to look.

    Attributes:
        namespaces: Numbers of those that are seen.
        kinds: Of passages; none for all.
        numbers: Of the only passages that may be found, as JSON; None for all.
        common: What is known of this store's words.
    """

    namespaces: Sequence[int]
    kinds: Sequence[Kind] = ()
    numbers: str | None = None
    common: Common = field(default_factory=Common)


def words_of(query: str) -> list[str]:
    """The words that count in a question, each once, at most 64; all of them where nothing else is left.

    Identifiers come whole and in parts, dates as they stand and with the name of the month.
    """
    found: dict[str, None] = {}
    for word in _WORD.findall(query):
        parts = split(word)
        found[word.lower()] = None
        # single letters stand everywhere
        found.update(dict.fromkeys(part for part in parts if len(parts) > 1 and (len(part) > 1 or part.isdigit())))
    found.update(dict.fromkeys(dates_of(query)))
    return ([word for word in found if word not in STOP_WORDS] or list(found))[:MOST_WORDS]


def search_words(
    connection: sqlite3.Connection, words: Sequence[str], scope: Scope, limit: int, candidates: int = CANDIDATES
) -> list[tuple[int, float]]:
    """Passages by number with their BM25 score, best first; higher is better.

    Args:
        connection: Of the memory's file.
        words: As ``words_of`` gives them; any of them.
        scope: Where to look; no other rows are returned.
        limit: How many at most.
        candidates: About how many are ranked.
    """
    newest = connection.execute("SELECT max(id) FROM passages").fetchone()[0]
    if not words or not scope.namespaces or not newest:
        return []
    seen = _seen(connection, scope, newest)
    lists = _lists(connection, words, seen.marks, scope.common.known(newest), newest)
    if not lists:
        return []
    chosen = _heaviest(connection, lists, scope.numbers, newest, max(candidates, CANDIDATES_EACH * limit))
    return _rank(connection, list(lists), chosen, seen.condition, limit)


def _lists(
    connection: sqlite3.Connection, words: Sequence[str], marks: str, common: set[str], newest: int
) -> dict[str, Numbers]:
    """The rows of each word that ranks, the rarest first."""
    within = f"{marks} AND " if marks else ""
    asked = [word for word in words if word not in common] or words
    found = {word: _numbers(connection, f"{within}{_quoted(word)}") for word in asked}
    order = sorted((word for word in asked if len(found[word])), key=lambda word: len(found[word]))
    if newest > LARGE:
        common.update(word for word in order if len(found[word]) > COMMON * newest)
        order = [word for word in order if word not in common] or order[:1]
    return {word: found[word] for word in order[:RANKING_WORDS]}


@dataclass(frozen=True)
class _Seen:
    """How the namespaces are kept to: as words of the index that a row must hold, or as a condition of its row."""

    marks: str = ""
    condition: str = ""


def _seen(connection: sqlite3.Connection, scope: Scope, newest: int) -> _Seen:
    # both at once: a condition that is always there can't be forgotten
    numbers = ",".join(str(int(number)) for number in scope.namespaces)
    condition = f"+p.ns IN ({numbers})"
    if not scope.kinds and _share(connection, numbers, newest) > MOST_ROWS:
        return _Seen("", condition)
    marks = [f"mark : ({' OR '.join(mark('ns', number) for number in scope.namespaces)})"]
    if scope.kinds:
        marks.append(f"mark : ({' OR '.join(mark('kind', kind) for kind in scope.kinds)})")
    return _Seen(" AND ".join(f"({one})" for one in marks), condition)


def _share(connection: sqlite3.Connection, numbers: str, newest: int) -> float:
    """About which part of all rows is seen, by a sample: to count them would take longer than to rank."""
    sample = ",".join(str(newest * part // SAMPLE) for part in range(1, SAMPLE + 1))
    share = connection.execute(f"SELECT avg(ns IN ({numbers})) FROM passages WHERE id IN ({sample})").fetchone()[0]  # noqa: S608
    return float(share or 0.0)


def mark(name: str, value: object) -> str:
    """The word by which the index knows a namespace or a kind: no text has it, it begins with a private character."""
    return f'"\ue000{name}{value}"'


def _quoted(word: str) -> str:
    # a word of the question is never an operator of FTS5
    return '"' + word.replace('"', '""') + '"'


def _numbers(connection: sqlite3.Connection, asked: str) -> Numbers:
    import numpy as np

    # as one text: a row each would take ten times as long
    text = connection.execute("SELECT group_concat(rowid) FROM words WHERE words MATCH ?", (asked,)).fetchone()[0]
    return np.fromstring(text, sep=",", dtype=np.int64) if text else np.zeros(0, np.int64)


def _heaviest(
    connection: sqlite3.Connection, lists: dict[str, Numbers], only: str | None, newest: int, count: int
) -> Numbers:
    """The rows whose words are rarest together, about so many."""
    import numpy as np

    weights = [max(0.01, math.log((newest - len(one) + 0.5) / (len(one) + 0.5))) for one in lists.values()]
    rows, sums = _added(list(lists.values()), weights)
    if only is not None:
        keep = np.isin(rows, np.array(json.loads(only), np.int64))
        rows, sums = rows[keep], sums[keep]
    if len(rows) <= count:
        return rows
    last = np.partition(sums, len(rows) - count)[len(rows) - count]
    above, equal = rows[sums > last], rows[sums == last]
    if len(equal) > MOST_EQUAL:
        equal = _titled(connection, list(lists), equal)
    return np.concatenate([above, equal])


def _added(lists: list[Numbers], weights: list[float]) -> tuple[Numbers, NDArray[np.float64]]:
    """The rows of all lists, each once, and the sum of the weights of the lists that have it."""
    import numpy as np

    first, last = min(int(np.min(one)) for one in lists), max(int(np.max(one)) for one in lists)
    if last - first > _DENSE_SPAN:
        rows, where = np.unique(np.concatenate(lists), return_inverse=True)
        return rows, np.bincount(where, np.repeat(weights, [len(one) for one in lists])).astype(np.float64)
    sums = np.zeros(last - first + 1)
    for one, weight in zip(lists, weights, strict=True):
        sums[one - first] += weight
    found = np.flatnonzero(sums)
    return found + first, sums[found]


def _titled(connection: sqlite3.Connection, words: list[str], equal: Numbers) -> Numbers:
    """Of many rows that weigh the same those that have a word in the title or heading, and the newest."""
    import numpy as np

    named = _numbers(connection, f"{{title heading}} : ({' OR '.join(map(_quoted, words))})")
    return np.union1d(np.intersect1d(equal, named)[-MOST_EQUAL:], equal[-MOST_EQUAL // 2 :])


def _rank(
    connection: sqlite3.Connection, words: Sequence[str], chosen: Numbers, condition: str, limit: int
) -> list[tuple[int, float]]:
    columns = ", ".join(str(weight) for weight in WEIGHTS)
    # with the plus FTS5 goes through the rows once, which is what it counts words by; without it once for each row
    asked: tuple[Any, ...] = (" OR ".join(map(_quoted, words)), json.dumps(chosen.tolist()), limit)
    rows = connection.execute(
        f"SELECT rowid, -bm25(words, {columns}) AS score FROM words WHERE words MATCH ? AND +rowid IN "  # noqa: S608
        f"(SELECT p.id FROM json_each(?) CROSS JOIN passages p ON p.id = value WHERE {condition}) "
        "ORDER BY score DESC, rowid LIMIT ?",
        asked,
    )
    return [(int(number), float(score)) for number, score in rows]
