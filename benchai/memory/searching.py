"""The way of a question through the memory: words, vectors, a reranker where there is one, and what is shown of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchai.errors import BenchAIError
from benchai.memory import tuning
from benchai.memory.database import Database, marks
from benchai.memory.ids import split, unknown
from benchai.memory.namespace import Namespace
from benchai.memory.neighbours import Neighbours
from benchai.memory.rerank import WEIGHT as RERANK_WEIGHT
from benchai.memory.rerank import rerank
from benchai.memory.search import Found, Query, Ranking, choose, depth, lexical_leg, read, texts
from benchai.memory.tuning import Metric, Tuned
from benchai.memory.types import Passage
from benchai.memory.uses import Uses
from benchai.memory.worker import Worker

if TYPE_CHECKING:
    from benchai.memory.rerank import Reranker
    from benchai.memory.vectors import Vectors

WEIGHTS = "weights"
KINDS = {"d": "document", "t": "turn", "f": "fact", "h": "howto", "s": "summary"}
LEXICAL, DENSE, RERANK = "lexical", "dense", "rerank"
UNHELPFUL = "its weight is 0: it did not help"


class Searching:
    """Searches on a connection that only reads.

    Args:
        reader: The thread of that connection.
        database: The connection.
        vectors: The vectors, or None.
        reranker: Scores the first passages anew, or None.
        lexical_weight: Weight of the words beside the vectors, where none was learned.

    Attributes:
        uses: Of the reranker, from the beginning of each question.
    """

    def __init__(
        self,
        reader: Worker,
        database: Database,
        vectors: Callable[[], Vectors | None],
        reranker: Reranker | None,
        lexical_weight: float,
    ) -> None:
        self.uses = Uses()
        self._reader = reader
        self._database = database
        self._vectors = vectors
        self._reranker = reranker
        self._default = {LEXICAL: lexical_weight, DENSE: 1 - lexical_weight, RERANK: RERANK_WEIGHT}
        self._neighbours = Neighbours(database)

    async def search(self, ns: Namespace, query: Query) -> Found:
        """See ``Memory.search``."""
        clock = Clock()
        async with self.uses:
            weights = await self._weights()
            words, legs, off = await self._legs(ns, query, weights, clock)
        used = {name: weights[name] for name in legs}
        # alone, a leg needs no weight
        used = used if any(used.values()) else dict.fromkeys(legs, 1.0)
        passages = await self._reader.run(choose, self._database, ns, query, legs, used)
        passages += await self._linked(ns, query, passages)
        clock.tick("choose")
        return Found(
            passages=tuple(passages),
            words=tuple(words),
            weights=used,
            off=off,
            candidates={name: len(leg) for name, leg in legs.items()},
            seconds=clock.seconds,
        )

    async def learned(self, ns: Namespace, metric: Metric) -> Tuned:
        """The weights that what was labelled asks for; see ``Memory.tune``."""
        examples = []
        async with self.uses:
            labelled = await self._reader.run(tuning.labelled, self._database, ns)
            weights = await self._weights()
            every = {name: weight or 1.0 for name, weight in weights.items()}
            for text, good in labelled.items():
                _, legs, _ = await self._legs(ns, Query(text=text, count=50), every, Clock())
                rankings = {name: [number for number, _ in leg] for name, leg in legs.items()}
                examples.append(tuning.Example(text, good, rankings))
        return tuning.learn(examples, weights, metric=metric)

    async def _legs(
        self, ns: Namespace, query: Query, weights: dict[str, float], clock: Clock
    ) -> tuple[list[str], dict[str, Ranking], dict[str, str]]:
        """The words that were looked for, what each leg found, and which legs are off with the reason."""
        off: dict[str, str] = {}
        words, lexical = await self._reader.run(lexical_leg, self._database, ns, query)
        legs: dict[str, Ranking] = {LEXICAL: lexical}
        clock.tick(LEXICAL)
        for name, leg in ((DENSE, self._dense), (RERANK, self._reranked)):
            if name == RERANK and self._reranker is None:
                continue
            if weights[name] <= 0:
                off[name] = UNHELPFUL
                continue
            ranking, reason = await leg(ns, query, dict(legs))
            clock.tick(name)
            if reason:
                off[name] = reason
            else:
                legs[name] = ranking
        return words, legs, off

    async def _weights(self) -> dict[str, float]:
        """Of all legs: those that were learned, else the defaults."""
        kept = await self._reader.run(self._database.setting, WEIGHTS)
        return self._default | (json.loads(kept) if kept else {})

    async def _dense(self, ns: Namespace, query: Query, _: dict[str, Ranking]) -> tuple[Ranking, str]:
        """What the vectors find, or why they were not asked."""
        vectors = self._vectors()
        if vectors is None:
            return [], "no embedder is configured (memory.embedder)"
        if not query.text.strip():
            return [], "the question is empty"
        visible = await self._reader.run(self._database.visible, ns)
        try:
            found = await vectors.search(query.text, visible, depth(query)) if visible else []
        except BenchAIError as error:
            return [], error.message
        # vectors that lack some passages still find the others
        return found, vectors.problem or "" if not found else ""

    async def _reranked(self, ns: Namespace, query: Query, legs: dict[str, Ranking]) -> tuple[Ranking, str]:
        """The reranker's order of the first passages, or why it was not asked."""
        assert self._reranker is not None
        weights = {name: self._default[name] for name in legs}
        candidates = await self._reader.run(texts, self._database, ns, query, legs, weights)
        return await rerank(self._reranker, query.text, candidates)

    async def _linked(self, ns: Namespace, query: Query, found: list[Passage]) -> list[Passage]:
        return await self._reader.run(self._neighbours.of, ns, found) if query.neighbours and found else []


def passages_of(database: Database, ns: Namespace, id: str) -> list[Passage]:
    """The passages of what an id stands for, in their order.

    Raises:
        UnknownMemory: the call sees nothing of that id.
        StoreError: the file can't be read.
    """
    letter, number = split(id)
    with database.looking() as connection:
        visible = database.visible(ns)
        asked, values = ("id = ?", [number]) if letter == "p" else ("kind = ? AND owner = ?", [KINDS[letter], number])
        rows = connection.execute(
            f"SELECT id FROM passages WHERE {asked} AND ns IN ({marks(visible)}) ORDER BY place",  # noqa: S608
            (*values, *visible),
        )
        numbers = [row[0] for row in rows]
        found = read(database, connection, ns, numbers)
    if not found:
        raise unknown(id)
    return [found[number] for number in numbers if number in found]


class Clock:
    """Seconds that each part took, one after the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def tick(self, name: str) -> None:
        """A part has ended."""
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now
