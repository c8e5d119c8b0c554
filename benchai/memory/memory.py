"""The memory: documents, turns, facts, how-tos, and what finds them. One process owns it at a time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from benchai.config.paths import MEMORY_FILE
from benchai.errors import StoreInUse
from benchai.memory import tuning, upkeep
from benchai.memory.careful import Place, Proven, forget_proved, held
from benchai.memory.database import Database
from benchai.memory.forget import Target
from benchai.memory.labels import label
from benchai.memory.left import Left
from benchai.memory.longterm import LongTerm
from benchai.memory.namespace import Namespace
from benchai.memory.opening import IndexPlace, store_id
from benchai.memory.owner import Owner
from benchai.memory.pending import Pending
from benchai.memory.search import Found, Query
from benchai.memory.searching import WEIGHTS, Searching, passages_of
from benchai.memory.store import Put, Store
from benchai.memory.tuning import Metric, Tuned
from benchai.memory.types import Document, Passage, Stamp
from benchai.memory.upkeep import Stats, Verdict
from benchai.memory.uses import Uses
from benchai.memory.vectors import Progress, Vectors
from benchai.memory.worker import Worker

if TYPE_CHECKING:
    from benchai.memory.embed import Embedder
    from benchai.memory.reindex import Reindexed
    from benchai.memory.rerank import Reranker

FILE = MEMORY_FILE
VECTORS = "vectors"
AGAIN_SECONDS = 0.05


class Memory(LongTerm):
    """Open one with ``async with Memory.open(folder) as memory``; each call is of one namespace."""

    def __init__(
        self, folder: Path, writing: Database, reading: Database, lexical_weight: float, reranker: Reranker | None
    ) -> None:
        super().__init__(writing, reading)
        self.folder = folder
        self.vectors: Vectors | None = None
        self.left = Left(writing, self._writer, self._place)
        self._store = Store(writing)
        self._ranking = partial(Searching, self._reader, reading, lambda: self.vectors)
        self._searching = self._ranking(reranker, lexical_weight)
        self._closing = AsyncExitStack()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        *,
        embedder: Embedder | None = None,
        chroma: str | None = None,
        reranker: Reranker | None = None,
        lexical_weight: float = 0.8,
        wait: float = 0.0,
    ) -> AsyncIterator[Self]:
        """Own the memory of a folder, which is made if it is not there, for as long as the context is open.

        Args:
            folder: Of the memory.
            embedder: Makes vectors; None: only words are searched.
            chroma: Address of a Chroma server for the vectors; default: a folder within ``folder``.
            reranker: Scores the first passages anew; None: they stay as the other legs have them.
            lexical_weight: Weight of the words beside that of the vectors, 0 to 1, where none was learned.
            wait: Seconds to wait for another process that owns it.

        Raises:
            StoreInUse: another process owns it.
            StoreError: it can't be opened.
        """
        async with AsyncExitStack() as stack:
            stack.callback((await _own(folder, wait)).close)
            writing = stack.enter_context(Database(folder / FILE))
            reading = stack.enter_context(Database(folder / FILE, reading=True))
            memory = cls(folder, writing, reading, lexical_weight, reranker)
            stack.push_async_callback(memory._end)
            stack.push_async_exit(memory._closing)
            if embedder is not None:
                memory.vectors = await memory._vectors(embedder, chroma)
            yield memory

    # ---- documents

    async def known(self, ns: Namespace, prefix: str = "") -> dict[str, Stamp]:
        """See ``Store.known``."""
        return await self._writer.run(self._store.known, ns, prefix)

    async def put(self, ns: Namespace, documents: Sequence[Document]) -> Put:
        """See ``Store.put``; their vectors follow aside."""
        put = await self._writer.run(self._store.put, ns, documents)
        self._changed()
        return put

    async def drop(self, ns: Namespace, sources: Sequence[str]) -> int:
        """See ``Store.drop``."""
        dropped = await self._writer.run(self._store.drop, ns, sources)
        self._changed()
        return dropped

    async def move(self, ns: Namespace, old: str, new: str) -> bool:
        """See ``Store.move``."""
        return await self._writer.run(self._store.move, ns, old, new)

    # ---- search

    async def search(self, ns: Namespace, query: Query) -> Found:
        """What the memory holds on a question, of this namespace and those above it, best first.

        Raises:
            StoreError: the memory can't be read; a leg that fails is left out, with the reason in ``off``.
        """
        return await self._searching.search(ns, query)

    async def passages(self, ns: Namespace, id: str) -> list[Passage]:
        """See ``passages_of``."""
        return await self._reader.run(passages_of, self._reading, ns, id)

    # ---- weights

    async def label(self, ns: Namespace, query: str, passage: str, good: bool = True) -> None:
        """Note that a passage answers a question, or does not: from such notes ``tune`` learns.

        Raises:
            UnknownMemory: the call sees no such passage.
            StoreError: it can't be written.
        """
        await self._writer.run(label, self._writing, ns, query, passage, good=good)

    async def tune(self, ns: Namespace, metric: Metric = "ndcg") -> Tuned:
        """Learn the legs' weights from what was labelled.

        Raises:
            UsageError: there are too few labelled questions.
            StoreError: the memory can't be read or written.
        """
        tuned = await self._searching.learned(ns, metric)
        await self._writer.run(tuning.keep, self._writing, tuned)
        return tuned

    def rank_with(self, reranker: Reranker | None, lexical_weight: float) -> Uses:
        """Have the next question ranked so; the uses of what ranked until now, which may be closed when they end."""
        before, self._searching = self._searching, self._ranking(reranker, lexical_weight)
        return before.uses

    # ---- vectors

    async def index(self, progress: Progress | None = None) -> Reindexed | None:
        """Embed all that has no vector of the present embedder; None where there is none.

        Raises:
            StoreError, BenchAIError: it can't be done now; what was done is done.
        """
        return None if self.vectors is None else await self.vectors.catch_up(progress)

    def catch_up_aside(self) -> None:
        """Embed what has no vector, beside everything else."""
        if self.vectors is not None:
            self.vectors.catch_up_aside()

    async def embed_with(self, embedder: Embedder | None, chroma: str | None) -> None:
        """Have vectors made by this embedder and kept there, once the questions under way are answered.

        What is kept is embedded anew, beside everything else.

        Raises:
            StoreError: the vectors until now could not be closed in order; it goes on with the others all the same.
        """
        if embedder is None:
            former, self.vectors = self.vectors, None
            if former is not None:
                await former.retire()
        elif self.vectors is None:
            self.vectors = await self._vectors(embedder, chroma)
            self.vectors.catch_up_aside()
        else:
            await self.vectors.change(embedder, await self._place(chroma))

    @property
    def embeds(self) -> bool:
        """Whether something is embedded aside now."""
        return self.vectors is not None and self.vectors.embeds

    @property
    def failed(self) -> bool:
        """Whether what was embedded aside last has failed."""
        return self.vectors is not None and self.vectors.problem is not None

    async def settled(self, seconds: float) -> str | None:
        """Wait for what is embedded aside, so many seconds at most; why that failed, None where it did not."""
        return None if self.vectors is None else await self.vectors.settled(seconds)

    # ---- upkeep

    async def stats(self, ns: Namespace) -> Stats:
        """What is kept of a namespace and those below it, and what all of it takes.

        Raises:
            StoreError: the memory can't be read.
        """
        counts, namespaces = await self._reader.run(upkeep.count, self._reading, ns)
        kept = await self._reader.run(self._reading.setting, WEIGHTS)
        fingerprint, pending = await self._reader.run(upkeep.embedded, self._reading)
        return Stats(
            counts=counts,
            namespaces=namespaces,
            bytes=await self._reader.run(upkeep.sizes, self.folder),
            embedder=fingerprint,
            pending=pending,
            weights=json.loads(kept) if kept else {},
            left=await self.left.places(),
        )

    async def verify(self) -> Verdict:
        """Look at every page and every row, and whether the vectors are those of the passages.

        Raises:
            StoreError: the memory can't be read at all.
        """
        verdict = await self._writer.run(upkeep.verify, self._writing)
        problems, held = await self.left.problems(), None
        if self.vectors is not None:
            differences, held = await self.vectors.differences()
            problems += differences
        return verdict.model_copy(update={"problems": (*verdict.problems, *problems), "vectors": held})

    async def rebuild(self, progress: Progress | None = None) -> Reindexed | None:
        """Make the full-text index and all vectors anew from what is kept.

        Raises:
            StoreError, BenchAIError: it can't be done now; a call later goes on there.
        """
        await self._writer.run(upkeep.rebuild_words, self._writing)
        return None if self.vectors is None else await self.vectors.rebuild(progress)

    async def forget_proved(self, ns: Namespace, target: Target, elsewhere: Sequence[Place] = ()) -> Proven:
        """Forget, write all files anew, and look for what was forgotten in all their bytes.

        Args:
            ns: Whose.
            target: What is to be forgotten.
            elsewhere: Files and folders outside the memory that are looked through, too.

        Raises:
            UnknownMemory: an id is none; nothing is forgotten.
            StoreError: the files can't be written anew; what was forgotten is.
        """
        return await forget_proved(self, ns, target, elsewhere)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[tuple[Worker, Database]]:
        """The thread and the connection that write, while nobody reads."""
        async with held(self._reader):
            yield self._writer, self._writing

    async def vacuum(self, give_up: str | None = None) -> dict[str, str]:
        """See ``upkeep.vacuum``; and empty the places that the vectors have left, once all is embedded in the new one.

        Args:
            give_up: Such a place that is to stay as it is.

        Returns:
            What could not be emptied, see ``Left.places``.

        Raises:
            UsageError: ``give_up`` is none; nothing is done.
            StoreFull: there is no room for it.
            StoreError, BenchAIError: the file can't be written, or vectors can't be made.
        """
        if give_up is not None:
            await self.left.give_up(give_up)
        await self._writer.run(upkeep.vacuum, self._writing)
        if self.vectors is None:
            _, pending = await self._writer.run(upkeep.embedded, self._writing)
            if not pending:
                await self.left.empty_all(used=False)
        elif await self.left.places():
            await self.vectors.catch_up(insist=True)
        return await self.left.places()

    async def _vectors(self, embedder: Embedder, chroma: str | None) -> Vectors:
        vectors = Vectors(embedder, await self._place(chroma), Pending(self._writing), self._writer, self.left)
        self._closing.push_async_callback(vectors.close)
        return vectors

    async def _place(self, chroma: str | None = None) -> IndexPlace:
        return IndexPlace(self.folder / VECTORS, chroma, await self._writer.run(store_id, self._writing))

    def _changed(self) -> None:
        self.catch_up_aside()

    async def _end(self) -> None:
        await self.left.aclose()
        await self._writer.aclose()
        await self._reader.aclose()


async def _own(folder: Path, wait: float) -> Owner:
    """The lock, asked for again and again: a thread that waits for it could get it when nobody wants it any more."""
    until = time.monotonic() + wait
    while True:
        try:
            return Owner.take(folder)
        except StoreInUse:
            if time.monotonic() >= until:
                raise
            await asyncio.sleep(AGAIN_SECONDS)
