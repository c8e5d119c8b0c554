"""Bring the vector index up to what is kept: embed what it lacks, delete what is gone.

Everything may be done twice, and nothing is marked before it is done: a crash anywhere is mended by doing it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from benchai.errors import BenchAIError, ContextExceeded, EmbedderError, EndpointError, EndpointLost, EndpointNotReady

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from benchai.memory.embed import Embedder
    from benchai.memory.index import VectorIndex

#: Texts that failed alone, after which the embedder itself is asked whether it works.
SUSPICIOUS = 8
Row = tuple[int, int, str]
#: Runs a blocking function where it belongs: ``Worker.run``.
Runner = Callable[..., Awaitable[Any]]


class Source(Protocol):
    """What is kept, and what the index is known to hold of it."""

    def pending(self, fingerprint: str, limit: int, after: int = 0) -> list[Row]:
        """Passages without a vector of this embedder: number, number of the namespace, text; by number, above it."""

    def count_pending(self, fingerprint: str) -> int:
        """How many there are."""

    def indexed(self, numbers: Sequence[int], fingerprint: str) -> None:
        """The index holds these."""

    def gone(self, limit: int) -> list[int]:
        """Passages that were deleted, whose vectors the index may still hold."""

    def gone_done(self, numbers: Sequence[int]) -> None:
        """The index holds these no longer."""


@dataclass
class Reindexed:
    """What was done: passages embedded, vectors deleted, texts that the model cut, and what failed by number."""

    embedded: int = 0
    deleted: int = 0
    truncated: int = 0
    failed: dict[int, str] = field(default_factory=dict)

    def add(self, more: Reindexed) -> None:
        """Count what was done after this, too; what failed then failed."""
        self.embedded += more.embedded
        self.deleted += more.deleted
        self.truncated += more.truncated
        self.failed = dict(more.failed)


async def reindex(
    source: Source,
    embedder: Embedder,
    index: VectorIndex,
    *,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
    run: Runner | None = None,
    goes_on: Callable[[], bool] | None = None,
) -> Reindexed:
    """Embed all passages that lack a vector of this embedder, and delete the vectors of those that are gone.

    One at a time for an index: of two, one could put back what the other has deleted. A passage whose text the
    embedder refuses stays pending and is in the report; the others go on.

    Args:
        source: What is kept.
        embedder: Whose vectors the index holds.
        index: Of this embedder's fingerprint.
        batch: Passages at once.
        progress: Told (done, total) after each batch, failed ones counted as done.
        run: Runs the calls of ``source`` and ``index``; default: here, which blocks the event loop for each.
        goes_on: Asked before each batch; once it says no, the rest is left to a later call.

    Raises:
        StoreError, EmbedderError, EngineError, EndpointError: nothing can be embedded or kept now; what was done is
            done, and the next call goes on there.
    """
    await embedder.prepare()
    return await _Job(source, embedder, index, batch, progress, run or _here, goes_on or _always).do()


def _always() -> bool:
    return True


async def _here(function: Callable[..., Any], *args: Any) -> Any:
    await asyncio.sleep(0)
    return function(*args)


class _Job:
    def __init__(
        self,
        source: Source,
        embedder: Embedder,
        index: VectorIndex,
        batch: int,
        progress: Callable[[int, int], None] | None,
        run: Runner,
        goes_on: Callable[[], bool],
    ) -> None:
        self.source, self.embedder, self.index = source, embedder, index
        self.batch, self.progress, self.run = batch, progress, run
        self.goes_on = goes_on
        self.report = Reindexed()

    async def do(self) -> Reindexed:
        fingerprint, after, done = self.embedder.fingerprint, 0, 0
        total: int = await self.run(self.source.count_pending, fingerprint)
        await self._sweep()
        while self.goes_on() and (rows := await self.run(self.source.pending, fingerprint, self.batch, after)):
            await self._keep(rows, fingerprint)
            after, done = rows[-1][0], done + len(rows)
            if self.progress is not None:
                self.progress(done, max(done, total))
        # those that were deleted while they were embedded
        await self._sweep()
        return self.report

    async def _sweep(self) -> None:
        while gone := await self.run(self.source.gone, self.batch * 4):
            await self.run(self.index.delete, gone)
            await self.run(self.source.gone_done, gone)
            self.report.deleted += len(gone)

    async def _keep(self, rows: list[Row], fingerprint: str) -> None:
        kept, vectors = await self._embed(rows)
        if vectors is None:
            return
        numbers = [number for number, _, _ in kept]
        await self.run(self.index.upsert, numbers, vectors, [namespace for _, namespace, _ in kept])
        await self.run(self.source.indexed, numbers, fingerprint)
        self.report.embedded += len(kept)

    async def _embed(self, rows: list[Row]) -> tuple[list[Row], NDArray[np.float32] | None]:
        cut = self.embedder.truncated
        try:
            vectors = await self.embedder.embed([text for _, _, text in rows])
            self.report.truncated += self.embedder.truncated - cut
            return rows, vectors
        except BenchAIError as error:
            if not _about_the_text(error):
                raise
            if len(rows) == 1:
                self.report.failed[rows[0][0]] = error.message
                return [], None
        return await self._embed_each(rows)

    async def _embed_each(self, rows: list[Row]) -> tuple[list[Row], NDArray[np.float32] | None]:
        import numpy as np

        kept: list[Row] = []
        found: list[NDArray[np.float32]] = []
        for row in rows:
            one, vectors = await self._embed([row])
            if vectors is not None:
                kept += one
                found.append(vectors)
            elif not kept and len(self.report.failed) % SUSPICIOUS == 0:
                # nothing works so far: ask for a word that any embedder takes, and give its error to the caller
                await self.embedder.embed(["word"])
        return kept, np.concatenate(found) if found else None


def _about_the_text(error: BenchAIError) -> bool:
    """Whether another text may succeed: an endpoint that is away refuses all of them."""
    if isinstance(error, EndpointLost | EndpointNotReady):
        return False
    return isinstance(error, ContextExceeded | EmbedderError | EndpointError)
