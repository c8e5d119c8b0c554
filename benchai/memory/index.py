"""The vector index, in Chroma: in a folder of the memory, or on a server. Made anew from what is kept at any time.

Each namespace has a collection of its own. One collection with a filter reads all metadata it lets through from
SQLite first: 280 ms a question at 100,000 vectors, where a collection without a filter takes 1 ms.
"""

from __future__ import annotations

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
    """The vectors of one embedder in Chroma. Used from one thread at a time.

    Args:
        link: Where they are.
        fingerprint, dimension: Of the embedder.
        store: Id of the memory, where several share a server: each counts its passages by itself.
    """

    def __init__(self, link: chroma.Link, fingerprint: str, dimension: int, store: str = "") -> None:
        self.dimension = dimension
        self._link = link
        self._mine = f"benchai-{_short(store)}-"
        self._prefix = f"{self._mine}{_short(fingerprint)}-"
        self._fingerprint = fingerprint
        self._known: dict[int, Any] = {}

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
        for collection in self._collections():
            for part in _parts(ids, self._link.batch):
                with self._link.told():
                    # Chroma writes down the deletion of what is not there too
                    there = collection.get(ids=part, include=[])["ids"]
                    if there:
                        collection.delete(ids=there)

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
        for collection in self._collections(namespaces):
            for part in _parts(ids, self._link.batch):
                with self._link.told():
                    got = collection.get(ids=part, include=["embeddings"])
                rows = np.asarray(got["embeddings"], dtype=np.float32)
                found |= dict(zip(map(int, got["ids"]), rows, strict=True))
        return found

    def ids(self) -> set[int]:
        """As `VectorIndex.ids`."""
        return {number for collection in self._collections() for number in self._numbers(collection)}

    def count(self) -> int:
        """As `VectorIndex.count`."""
        with self._link.told():
            return sum(collection.count() for collection in self._collections())

    def clear(self, *, others: bool = False) -> None:
        """Drop all vectors of this embedder; ``others``: those of all other embedders of this memory instead."""
        names = [name for name in self._link.names() if name.startswith(self._mine)]
        for name in names:
            if name.startswith(self._prefix) != others:
                self._link.drop(name)
        if not others:
            self._known.clear()

    def close(self) -> None:
        """As `VectorIndex.close`; a folder is marked as left in order."""
        self._known.clear()
        if self._link.close() and self._link.folder is not None:
            marker.write(self._link.folder)

    def _upsert(self, namespace: int, ids: list[str], vectors: NDArray[np.float32]) -> None:
        def put(collection: Any) -> None:
            collection.upsert(ids=ids, embeddings=vectors)

        self._through(lambda: self._collection(namespace) or self._made(namespace), namespace, put)

    def _nearest(self, namespace: int, vector: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        def ask(collection: Any) -> Any:
            return collection.query(query_embeddings=[vector], n_results=k, include=["distances"])

        got = self._through(lambda: self._collection(namespace), namespace, ask)
        if got is None:
            return []
        return [(int(name), 1.0 - distance) for name, distance in zip(got["ids"][0], got["distances"][0], strict=True)]

    def _through(self, find: Callable[[], Any], namespace: int, use: Callable[[Any], Any]) -> Any:
        """Use a collection; one that somebody else on the server has dropped meanwhile is looked for again."""
        for _ in range(2):
            collection = find()
            if collection is None:
                return None
            try:
                with self._link.told():
                    return use(collection)
            except CollectionGone:
                self._known.pop(namespace, None)
        raise CollectionGone(f"the collection of the namespace {namespace} is dropped again and again")

    def _numbers(self, collection: Any) -> Iterator[int]:
        start = 0
        with self._link.told():
            while names := collection.get(include=[], limit=_PAGE, offset=start)["ids"]:
                yield from map(int, names)
                start += len(names)

    def _collection(self, namespace: int) -> Any:
        """The collection of a namespace, None if there is none."""
        if namespace not in self._known:
            found = self._link.collection(f"{self._prefix}{namespace}")
            if found is None:
                return None
            self._known[namespace] = found
        return self._known[namespace]

    def _made(self, namespace: int) -> Any:
        self._known[namespace] = self._link.make(f"{self._prefix}{namespace}", self._fingerprint)
        return self._known[namespace]

    def _collections(self, namespaces: Sequence[int] | None = None) -> list[Any]:
        with self._link.told():
            if namespaces is None:
                names = [name for name in self._link.names() if name.startswith(self._prefix)]
                namespaces = [int(name.removeprefix(self._prefix)) for name in names]
            found = (self._collection(namespace) for namespace in dict.fromkeys(namespaces))
            return [collection for collection in found if collection is not None]

    def _fits(self, dimension: int) -> None:
        if dimension != self.dimension:
            raise EmbedderError(
                f"a vector has {dimension} dimensions, those of the index have {self.dimension}",
                hint="`benchai memory rebuild` embeds everything anew with the embedder of now",
            )


def _parts(ids: Sequence[int], size: int) -> Iterator[list[str]]:
    # Chroma refuses a batch that names one twice
    names = list(dict.fromkeys(map(str, ids)))
    for start in range(0, len(names), size):
        yield names[start : start + size]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
