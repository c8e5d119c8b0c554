"""The vector index, opened and closed: looked at before, made anew where it is damaged, never left open."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from benchai.errors import StoreDamaged
from benchai.memory.database import Database
from benchai.memory.emptying import delete, see_link, see_ours
from benchai.memory.left import Left
from benchai.memory.pending import Pending
from benchai.memory.worker import Worker

if TYPE_CHECKING:
    from benchai.memory.embed import Embedder
    from benchai.memory.index import VectorIndex

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)
ID = "id"
FOLDER = "folder"


@dataclass(frozen=True)
class IndexPlace:
    """Where the vectors of a memory are kept; its calls block.

    Attributes:
        folder: Of the vectors, where no server has them.
        chroma: Address of a Chroma server.
        store: Id of the memory, where several share a server.
    """

    folder: Path
    chroma: str | None
    store: str

    @property
    def name(self) -> str:
        """Tells it from others; the memory's folder may be moved."""
        return FOLDER if self.chroma is None else self.chroma.rstrip("/")

    @property
    def shown(self) -> str:
        """For people."""
        return str(self.folder) if self.chroma is None else self.name

    @property
    def prefix(self) -> str:
        """How the names of its collections begin."""
        from benchai.memory.index import prefix_of

        return prefix_of() if self.chroma is None else prefix_of(self.store)

    def at(self, name: str = FOLDER) -> IndexPlace:
        """Another place of the same memory, by its name."""
        return replace(self, chroma=None if name == FOLDER else name)

    def open(self, embedder: Embedder) -> VectorIndex:
        """The index of an embedder, which was prepared. What a damaged one held is embedded anew later.

        Raises:
            StoreError: the folder can't be made, or the server can't be reached.
        """
        if self.chroma is None:
            return _in_folder(self.folder, embedder)
        from benchai.memory.index import ChromaIndex

        index = ChromaIndex.on_server(self.chroma, embedder.fingerprint, embedder.dimension, self.store)
        index.clear(others=True)
        return index

    def remove(self) -> None:
        """Remove the folder, whose index is closed; a server has no files of ours.

        Raises:
            StoreError: it can't be removed, or others keep collections there.
        """
        if self.chroma is None:
            see_ours(self.folder, self.store)
            delete(self.folder)


class IndexHolder:
    """Holds an index open, from when it is first needed, in a thread of its own.

    Args:
        place: Where it is.
        pending: What it lacks, on the connection that writes.
        writer: The thread of that connection, in which the index is written, too.
        left: Empties places that were left.
    """

    def __init__(self, place: IndexPlace, pending: Pending, writer: Worker, left: Left) -> None:
        self.place = place
        self._left = left
        self._pending = pending
        self._writer = writer
        self._thread = Worker("benchai-vectors")
        self._turn = asyncio.Lock()
        self._index: VectorIndex | None = None
        # of this thread: also one that was opened when nobody waited for it any more
        self._made: VectorIndex | None = None

    async def index(self, embedder: Embedder) -> VectorIndex:
        """The index, open; until it is closed all calls name the same embedder.

        Raises:
            StoreError: it can't be opened, or the embedder is none.
        """
        async with self._turn:
            if self._index is None:
                await embedder.prepare()
                self._index = await self._opened(embedder)
            return self._index

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call of the index; one that is found damaged is made anew with the next."""
        try:
            return await self._thread.run(function, *args, **kwargs)
        except StoreDamaged:
            self.lose()
            raise

    def lose(self) -> None:
        """Have the next call open the index anew: it was found damaged."""
        self._index = None

    async def close(self) -> None:
        """Close the index, which nobody uses any more; the next call opens it again."""
        self._index = None
        # what was broken off may still be writing to it
        await self._writer.run(_nothing)
        await self._thread.run(self._close)

    async def remove(self) -> None:
        """Close it, and remove its files."""
        await self.close()
        await self._thread.run(self.place.remove)

    async def aclose(self) -> None:
        """End the thread."""
        await self._thread.aclose()

    async def _opened(self, embedder: Embedder) -> VectorIndex:
        async with self._left.turn:
            await self._left.done_with(self.place)
            index = await self._thread.run(self._open, self.place, embedder)
            await self._check(index, embedder.fingerprint)
            return index

    def _open(self, place: IndexPlace, embedder: Embedder) -> VectorIndex:
        self._close()
        self._made = place.open(embedder)
        return self._made

    def _close(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            made.close()

    async def _check(self, index: VectorIndex, fingerprint: str) -> None:
        """Believe the index, not the notes on it, where they may differ.

        It may have been deleted, or put back; one in another place was not kept up while this one was used.
        """
        await self._writer.run(self._pending.use, fingerprint)
        place, noted = await self._writer.run(self._pending.noted, fingerprint)
        if place != self.place.name or await self._thread.run(index.count) != noted:
            held = await self._thread.run(index.ids)
            await self._writer.run(self._pending.reconcile, held, fingerprint, self.place.name)


def store_id(database: Database) -> str:
    """Tells this memory from others on one Chroma server; made where it has none yet.

    Raises:
        StoreError: it can't be written.
    """
    known = database.setting(ID)
    if known is None:
        known = uuid.uuid4().hex
        with database.writing():
            database.set(ID, known)
    return known


def _in_folder(folder: Path, embedder: Embedder) -> VectorIndex:
    from benchai.memory.probe import probe

    see_link(folder)
    damage = probe(folder)
    if damage is None:
        try:
            return _opened(folder, embedder)
        except StoreDamaged as error:
            damage = error.message
    logger.warning("the vectors in %s are damaged and made anew: %s", folder, damage)
    delete(folder)
    return _opened(folder, embedder)


def _opened(folder: Path, embedder: Embedder) -> VectorIndex:
    from benchai.memory.index import ChromaIndex

    index = ChromaIndex.in_folder(folder, embedder.fingerprint, embedder.dimension)
    # those of an earlier embedder take room and find nothing
    index.clear(others=True)
    return index


def _nothing() -> None:
    pass
