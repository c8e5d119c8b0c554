"""The vectors' leg of a search: opened when it is first needed, and kept up with the passages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from benchai.memory.pending import Pending
from benchai.memory.worker import Worker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from benchai.memory.embed import Embedder
    from benchai.memory.index import VectorIndex
    from benchai.memory.reindex import Reindexed

Progress = Callable[[int, int], None]
#: Opens the index of an embedder's vectors, an empty one in place of a damaged one. Blocks.
OpenIndex = Callable[["Embedder"], "VectorIndex"]
_LIKENESS = 0.0


class Vectors:
    """Vectors of one embedder, in an index that holds nothing which SQLite does not say.

    Args:
        embedder: Makes the vectors.
        open_index: Opens the index.
        pending: What the index lacks, on the connection that writes.
        writer: The thread of that connection.
        remove: Removes all files of the index, which is closed.
    """

    def __init__(
        self,
        embedder: Embedder,
        open_index: OpenIndex,
        pending: Pending,
        writer: Worker,
        remove: Callable[[], None],
    ) -> None:
        self.embedder = embedder
        self._open_index = open_index
        self._pending = pending
        self._writer = writer
        self._remove = remove
        self._worker = Worker("benchai-vectors")
        self._index: VectorIndex | None = None
        self._opening = asyncio.Lock()
        self._indexing = asyncio.Lock()
        self._aside: asyncio.Task[None] | None = None
        self.problem: str | None = None

    async def close(self) -> None:
        """Stop what is done aside, and close the index."""
        if self._aside is not None:
            self._aside.cancel()
            await asyncio.gather(self._aside, return_exceptions=True)
        if self._index is not None:
            await self._worker.run(self._index.close)
            self._index = None
        await self.embedder.close()
        await self._worker.aclose()

    async def search(self, text: str, namespaces: Sequence[int], count: int) -> list[tuple[int, float]]:
        """Passages by number with the cosine of their vector and the question's, best first.

        Raises:
            StoreError: the index, or the embedder, failed.
            BenchAIError: the endpoint that embeds failed.
        """
        index = await self.index()
        vector = (await self.embedder.embed([text], query=True))[0]
        found = await self._worker.run(index.query, vector, list(namespaces), count)
        return [(number, cosine) for number, cosine in found if cosine > _LIKENESS]

    async def catch_up(self, progress: Progress | None = None) -> Reindexed:
        """Embed all that has no vector yet, and delete the vectors of what is gone.

        Raises:
            StoreError: the index, or the embedder, failed; what was done is done.
            BenchAIError: the endpoint that embeds failed.
        """
        from benchai.memory.reindex import reindex

        index = await self.index()
        async with self._indexing:
            return await reindex(self._pending, self.embedder, index, progress=progress, run=self._writer.run)

    def catch_up_aside(self) -> None:
        """The same beside everything else; a failure is told with the next search."""
        if self._aside is None or self._aside.done():
            self._aside = asyncio.create_task(self._try_to_catch_up())

    async def rebuild(self, progress: Progress | None = None) -> Reindexed:
        """Throw all vectors away and make them anew.

        Raises:
            StoreError: the index, or the embedder, failed; what was done is done.
            BenchAIError: the endpoint that embeds failed.
        """
        index = await self.index()
        async with self._indexing:
            await self._worker.run(index.clear)
            await self._writer.run(self._pending.forget_all)
        return await self.catch_up(progress)

    async def renew(self) -> None:
        """Make the index anew from nothing: of what was deleted no byte is left in it.

        Raises:
            StoreError: the index, or the embedder, failed; what was done is done.
            BenchAIError: the endpoint that embeds failed.
        """
        index = await self.index()
        async with self._indexing, self._opening:
            await self._worker.run(index.clear)
            await self._worker.run(index.close)
            self._index = None
            await self._worker.run(self._remove)
            await self._writer.run(self._pending.forget_all)
        await self.catch_up()

    async def differences(self) -> tuple[list[str], int]:
        """In what the index differs from what is kept, in words, and how many vectors it holds."""
        index = await self.index()
        held = await self._worker.run(index.ids)
        lacking, strange = await self._writer.run(self._pending.differences, held, self.embedder.fingerprint)
        problems = [f"the vectors of {lacking} passages are missing"] if lacking else []
        problems += [f"{strange} vectors belong to no passage"] if strange else []
        return problems, len(held)

    async def of(self, numbers: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """The vectors of passages."""
        return await self._worker.run((await self.index()).vectors, list(numbers))

    async def index(self) -> VectorIndex:
        """The index, open.

        Raises:
            StoreError: it can't be opened, or the embedder is none.
        """
        async with self._opening:
            if self._index is None:
                await self.embedder.prepare()
                index = await self._worker.run(self._open_index, self.embedder)
                await self._writer.run(self._pending.use, self.embedder.fingerprint)
                await self._check(index)
                self._index = index
            return self._index

    async def _check(self, index: VectorIndex) -> None:
        """Believe the index, not the notes on it, where they differ: it may have been deleted, or put back."""
        noted = await self._writer.run(self._pending.count_indexed, self.embedder.fingerprint)
        if await self._worker.run(index.count) != noted:
            held = await self._worker.run(index.ids)
            await self._writer.run(self._pending.reconcile, held, self.embedder.fingerprint)

    async def _try_to_catch_up(self) -> None:
        try:
            await self.catch_up()
            self.problem = None
        except Exception as error:
            self.problem = str(error) or type(error).__name__
