"""The vector index, in Chroma: in a folder of the memory, or on a server. Made anew from what is kept at any time.

Each namespace has a collection of its own. One collection with a filter reads all metadata it lets through from
SQLite first: 280 ms a question at 100,000 vectors, where a collection without a filter takes 1 ms.
"""

from __future__ import annotations

import functools
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchai.errors import CollectionGone, EmbedderError
from benchai.memory import chroma, marker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PAGE = 10_000
#: How the names of collections of all memories begin.
OURS = "benchai-"


class VectorIndex(Protocol):
    """Vectors by the numbers of passages, which are never given again and stay in their namespace."""

    def upsert(self, ids: Sequence[int], vectors: NDArray[np.float32], namespaces: Sequence[int]) -> None:
        """Keep a vector for each id, in place of the one that is there."""

    def delete(self, ids: Sequence[int]) -> None:
        """Drop these; those that are not there are no error."""

    def query(self, vector: NDArray[np.float32], namespaces: Sequence[int], k: int) -> list[tuple[int, float]]:
        """The nearest ``k`` of these namespaces with their cosine, best first."""

    def vectors(self, ids: Sequence[int], namespaces: Sequence[int] | None = None) -> dict[int, NDArray[np.float32]]:
        """The vectors of those that are there; looked for in these namespaces only, where they are named."""

    def ids(self) -> set[int]:
        """All."""

    def count(self) -> int:
        """How many."""

    def clear(self) -> None:
        """Drop all vectors of this embedder."""

    def close(self) -> None:
        """Give back files and threads; a second call does nothing."""


class ChromaIndex:
    """The vectors of one embedder in Chroma, for any thread.

    Args:
        link: Where they are.
        fingerprint, dimension: Of the embedder.
        store: Id of the memory, where several share a server: each counts its passages by itself.
    """

    def __init__(self, link: chroma.Link, fingerprint: str, dimension: int, store: str = "") -> None:
        self.dimension = dimension
        self._link = link
        self._mine = prefix_of(store)
        self._prefix = f"{self._mine}{_short(fingerprint)}-"
        self._fingerprint = fingerprint

    @classmethod
    def in_folder(cls, folder: Path, fingerprint: str, dimension: int) -> ChromaIndex:
        """The index in a folder that this process owns (`Owner`), made if it is not there.

        The folder is opened as it is: after a crash look with `probe` first, a damaged one can end the process.

        Raises:
            StoreDamaged: it can't be read: delete it, and embed everything anew.
            StoreFull: the disk is full.
        """
        marker.remove(folder)
        return cls(chroma.open_folder(folder), fingerprint, dimension)

    @classmethod
    def on_server(cls, url: str, fingerprint: str, dimension: int, store: str = "") -> ChromaIndex:
        """The index on a Chroma server.

        Raises:
            StoreError: the server can't be reached.
        """
        return cls(chroma.connect(url), fingerprint, dimension, store)

    def upsert(self, ids: Sequence[int], vectors: NDArray[np.float32], namespaces: Sequence[int]) -> None:
        """As `VectorIndex.upsert`.

        Raises:
            EmbedderError: the vectors are of another dimension.
            StoreFull: the disk may not take them all; some may be kept already.
            StoreError: Chroma failed; some may be kept already.
        """
        self._fits(vectors.shape[1] if len(ids) else self.dimension)
        rows: dict[int, list[int]] = defaultdict(list)
        # of one that is named twice the last: Chroma refuses such a batch
        for row in {number: row for row, number in enumerate(ids)}.values():
            rows[namespaces[row]].append(row)
        for namespace, own in rows.items():
            for start in range(0, len(own), self._link.batch):
                part = own[start : start + self._link.batch]
                self._upsert(namespace, [str(ids[row]) for row in part], vectors[part])

    def delete(self, ids: Sequence[int]) -> None:
        """As `VectorIndex.delete`."""
        for namespace in self._namespaces():
            for part in _parts(ids, self._link.batch):
                self._through(namespace, functools.partial(self._delete, part))

    def query(self, vector: NDArray[np.float32], namespaces: Sequence[int], k: int) -> list[tuple[int, float]]:
        """As `VectorIndex.query`.

        Raises:
            EmbedderError: the vector is of another dimension.
            StoreError: Chroma failed.
        """
        self._fits(vector.shape[-1])
        found: list[tuple[int, float]] = []
        for namespace in dict.fromkeys(namespaces):
            found += self._nearest(namespace, vector.reshape(-1), k)
        found.sort(key=lambda hit: (-hit[1], hit[0]))
        return found[:k]

    def vectors(self, ids: Sequence[int], namespaces: Sequence[int] | None = None) -> dict[int, NDArray[np.float32]]:
        """As `VectorIndex.vectors`."""
        import numpy as np

        found: dict[int, NDArray[np.float32]] = {}
        for namespace in self._namespaces() if namespaces is None else dict.fromkeys(namespaces):
            for part in _parts(ids, self._link.batch):
                got = self._through(namespace, functools.partial(_embeddings, part))
                if got is not None:
                    rows = np.asarray(got["embeddings"], dtype=np.float32)
                    found |= dict(zip(map(int, got["ids"]), rows, strict=True))
        return found

    def ids(self) -> set[int]:
        """As `VectorIndex.ids`."""
        return {number for namespace in self._namespaces() for number in self._numbers(namespace)}

    def count(self) -> int:
        """As `VectorIndex.count`."""
        return sum(self._through(namespace, _count) or 0 for namespace in self._namespaces())

    def clear(self, *, others: bool = False) -> None:
        """Drop all vectors of this embedder; ``others``: those of all other embedders of this memory instead."""
        names = [name for name in self._link.names() if name.startswith(self._mine)]
        for name in names:
            if name.startswith(self._prefix) != others:
                self._link.drop(name)

    def close(self) -> None:
        """As `VectorIndex.close`; a folder is marked as left in order."""
        if self._link.close() and self._link.folder is not None:
            marker.write(self._link.folder)

    def _upsert(self, namespace: int, ids: list[str], vectors: NDArray[np.float32]) -> None:
        def put(collection: Any) -> None:
            self._link.see_room(len(ids), self.dimension)
            collection.upsert(ids=ids, embeddings=vectors)

        self._through(namespace, put, make=True)

    def _delete(self, ids: list[str], collection: Any) -> None:
        # Chroma writes down the deletion of what is not there too
        there = collection.get(ids=ids, include=[])["ids"]
        if there:
            self._link.see_room(len(there))
            collection.delete(ids=there)

    def _nearest(self, namespace: int, vector: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        def ask(collection: Any) -> Any:
            return collection.query(query_embeddings=[vector], n_results=k, include=["distances"])

        got = self._through(namespace, ask)
        if got is None:
            return []
        return [(int(name), 1.0 - distance) for name, distance in zip(got["ids"][0], got["distances"][0], strict=True)]

    def _numbers(self, namespace: int) -> Iterator[int]:
        def page(collection: Any) -> Any:
            return collection.get(include=[], limit=_PAGE, offset=start)["ids"]

        start = 0
        while names := self._through(namespace, page):
            yield from map(int, names)
            start += len(names)

    def _through(self, namespace: int, use: Callable[[Any], Any], *, make: bool = False) -> Any:
        """Use a collection, None where there is none; one that somebody else has dropped is looked for again."""
        name = f"{self._prefix}{namespace}"
        for _ in range(2):
            try:
                with self._link.told():
                    collection = self._link.collection(name)
                    if collection is None and make:
                        self._link.see_room(1)
                        collection = self._link.make(name, self._fingerprint)
                    return None if collection is None else use(collection)
            except CollectionGone:
                self._link.lose(name)
        raise CollectionGone(f"the collection of the namespace {namespace} is dropped again and again")

    def _namespaces(self) -> list[int]:
        names = [name for name in self._link.names() if name.startswith(self._prefix)]
        return [int(name.removeprefix(self._prefix)) for name in names]

    def _fits(self, dimension: int) -> None:
        if dimension != self.dimension:
            raise EmbedderError(
                f"a vector has {dimension} dimensions, those of the index have {self.dimension}",
                hint="`benchai memory rebuild` embeds everything anew with the embedder of now",
            )


def prefix_of(store: str = "") -> str:
    """How the names of all collections of a memory begin; in a folder it has no id."""
    return f"{OURS}{_short(store)}-"


def _count(collection: Any) -> int:
    return int(collection.count())


def _embeddings(ids: list[str], collection: Any) -> Any:
    return collection.get(ids=ids, include=["embeddings"])


def _parts(ids: Sequence[int], size: int) -> Iterator[list[str]]:
    # Chroma refuses a batch that names one twice
    names = list(dict.fromkeys(map(str, ids)))
    for start in range(0, len(names), size):
        yield names[start : start + size]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
