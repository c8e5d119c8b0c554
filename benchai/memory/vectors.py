"""The vectors' leg of a search: kept up with the passages, with an embedder and a place that may change meanwhile.

What is kept is in SQLite, which no change touches: where one is broken off, by a crash too, the next process to open
the memory embeds what is still pending.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from benchai.errors import BenchAIError, StoreDamaged, StoreError
from benchai.memory.left import Left
from benchai.memory.opening import IndexHolder, IndexPlace
from benchai.memory.pending import Pending
from benchai.memory.reindex import Reindexed, reindex
from benchai.memory.uses import Uses
from benchai.memory.worker import Worker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from benchai.memory.embed import Embedder
    from benchai.memory.index import VectorIndex

Progress = Callable[[int, int], None]
_LIKENESS = 0.0


class Vectors:
    """Vectors of one embedder, in an index that holds nothing which SQLite does not say.

    Args:
        embedder: Makes the vectors.
        place: Where the index is.
        pending: What the index lacks, on the connection that writes.
        writer: The thread of that connection.
        left: Empties the places in which the index was before.
    """

    def __init__(self, embedder: Embedder, place: IndexPlace, pending: Pending, writer: Worker, left: Left) -> None:
        self.embedder = embedder
        self.problem: str | None = None
        self._holder = IndexHolder(place, pending, writer, left)
        self._left = left
        self._pending = pending
        self._writer = writer
        self._uses = Uses()
        self._changing = asyncio.Lock()
        self._indexing = asyncio.Lock()
        self._aside: asyncio.Task[None] | None = None
        self._more = self._closed = False

    # ---- use

    async def search(self, text: str, namespaces: Sequence[int], count: int) -> list[tuple[int, float]]:
        """Passages by number with the cosine of their vector and the question's, best first.

        Raises:
            StoreError: the index, or the embedder, failed.
            BenchAIError: the endpoint that embeds failed.
        """
        async with self._uses:
            index = await self._index()
            vector = (await self.embedder.embed([text], query=True))[0]
            found = await self._holder.run(index.query, vector, list(namespaces), count)
        return [(number, cosine) for number, cosine in found if cosine > _LIKENESS]

    async def differences(self) -> tuple[list[str], int]:
        """In what the index differs from what is kept, in words, and how many vectors it holds."""
        async with self._uses:
            held = await self._holder.run((await self._index()).ids)
            lacking, strange = await self._writer.run(self._pending.differences, held, self.embedder.fingerprint)
        problems = [f"the vectors of {lacking} passages are missing"] if lacking else []
        problems += [f"{strange} vectors belong to no passage"] if strange else []
        return problems, len(held)

    async def of(self, numbers: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """The vectors of passages."""
        async with self._uses:
            return await self._holder.run((await self._index()).vectors, list(numbers))

    # ---- keeping up

    async def catch_up(self, progress: Progress | None = None, *, insist: bool = False) -> Reindexed:
        """Embed all that has no vector yet, and delete the vectors of what is gone; then empty what was left.

        A change breaks it off after a batch, and it goes on for the new embedder.

        Args:
            progress: See ``reindex``.
            insist: Try to empty what could not be emptied a moment ago, too.

        Raises:
            StoreError: the index, or the embedder, failed; what was done is done.
            BenchAIError: the endpoint that embeds failed.
        """
        report = Reindexed()
        while True:
            async with self._uses:
                report.add(await self._embed(progress))
                if self._uses.may_begin():
                    await self._empty_left(report, insist)
                    return report

    def catch_up_aside(self) -> None:
        """The same beside everything else; a failure is told with the next search."""
        # what is kept while the last one ends is seen to, too
        self._more = True
        if not self.embeds:
            self._aside = asyncio.create_task(self._try_to_catch_up())

    @property
    def embeds(self) -> bool:
        """Whether something is embedded aside now."""
        return self._aside is not None and not self._aside.done()

    async def settled(self, seconds: float) -> str | None:
        """Wait for what is embedded aside, so many seconds at most; why that failed, None where it did not."""
        if self._aside is not None:
            await asyncio.wait((self._aside,), timeout=seconds)
        return self.problem

    async def rebuild(self, progress: Progress | None = None) -> Reindexed:
        """Throw all vectors away and make them anew.

        Raises:
            StoreError: the index, or the embedder, failed; what was done is done.
            BenchAIError: the endpoint that embeds failed.
        """
        async with self._uses, self._indexing:
            await self._holder.run((await self._index()).clear)
            await self._writer.run(self._pending.forget_all)
        return await self.catch_up(progress, insist=True)

    async def renew(self) -> None:
        """Make the index anew from nothing: of what was deleted no byte is left in it.

        Raises:
            StoreError: the index, or the embedder, failed; what was done is done.
            BenchAIError: the endpoint that embeds failed.
        """
        async with self._alone():
            await self._holder.run((await self._index()).clear)
            await self._holder.remove()
            await self._writer.run(self._pending.forget_all)
        await self.catch_up(insist=True)

    # ---- changes

    async def change(self, embedder: Embedder, place: IndexPlace) -> None:
        """Go on with another embedder, or place, once the questions under way are answered; begins to embed for it.

        Raises:
            StoreError: the index until now could not be closed in order; it goes on with the other all the same.
        """
        async with self._alone():
            former, self.embedder, self.problem = self.embedder, embedder, None
            self._holder.place = place
            try:
                await self._holder.close()
            finally:
                await former.close()

    async def retire(self) -> None:
        """As ``close``, once the questions under way are answered; later ones are told that there are no vectors."""
        async with self._alone():
            await self.close()

    async def close(self) -> None:
        """Stop what is done aside, and close the index; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        await self._stop_aside()
        try:
            await self._holder.close()
        finally:
            await self.embedder.close()
            await self._holder.aclose()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Nobody uses the index while the context is open; who wants to waits. What was stopped goes on afterwards."""
        async with self._changing:
            try:
                with self._uses.held():
                    # an embedder that hangs must not hold up a change; what a caller waits for ends with its batch
                    await self._stop_aside()
                    await self._uses.ended()
                    yield
            finally:
                if not self._closed:
                    self.catch_up_aside()

    async def _index(self) -> VectorIndex:
        if self._closed:
            raise StoreError("no embedder is configured any more", hint="memory.embedder in benchai.yaml names one")
        return await self._holder.index(self.embedder)

    async def _embed(self, progress: Progress | None) -> Reindexed:
        async with self._indexing:
            index, run = await self._index(), self._writer.run
            goes_on = self._uses.may_begin
            try:
                return await reindex(self._pending, self.embedder, index, progress=progress, run=run, goes_on=goes_on)
            except StoreDamaged:
                self._holder.lose()
                raise

    async def _empty_left(self, done: Reindexed, insist: bool) -> None:
        """Empty what was left, unless what was done has not made all vectors that can be made."""
        if done.failed and await self._left.places():
            try:
                # texts that are refused alone will never have one
                await self.embedder.embed(["word"])
            except BenchAIError:
                return
        await self._left.empty(self._holder.place, insist=insist)

    async def _try_to_catch_up(self) -> None:
        while self._more:
            self._more = False
            try:
                await self.catch_up()
                self.problem = None
            except Exception as error:
                self.problem = str(error) or type(error).__name__

    async def _stop_aside(self) -> None:
        if self._aside is not None:
            self._aside.cancel()
            await asyncio.gather(self._aside, return_exceptions=True)
