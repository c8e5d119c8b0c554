"""Time of a search with vectors, beside Chroma by itself and through LangChain: made-up vectors, time alone is told."""

from __future__ import annotations

import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchai.memory.database import Database
from benchai.memory.memory import FILE, Memory
from benchai.memory.search import Query
from benchai.memory.store import Store
from benchmarks.retrieval_parts.machine import documents
from benchmarks.retrieval_parts.speed import NS, QUESTIONS, spread

DIMENSION, BATCH = 384, 1_000


class MadeUp:
    """An embedder that takes no time: a vector by the checksum of the text."""

    fingerprint, dimension, truncated = f"made up for timing, {DIMENSION}", DIMENSION, 0

    async def prepare(self) -> None:
        """Nothing is to be found out."""

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """One for each text."""
        made = [np.random.default_rng(zlib.crc32(text.encode())).standard_normal(DIMENSION) for text in texts]
        found = np.array(made, np.float32).reshape(len(texts), DIMENSION)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    async def close(self) -> None:
        """Nothing is kept."""


async def measure(chunks: int, rounds: int) -> dict[str, Any]:
    """Vectors a second and milliseconds of a search, of ours and of others on the same vectors."""
    questions, embedder = QUESTIONS.read_text("utf-8").splitlines() * rounds, MadeUp()
    found: dict[str, Any] = {"chunks": chunks}
    with tempfile.TemporaryDirectory(prefix="benchai-retrieval-") as folder:
        texts = _put(Path(folder), chunks)
        async with Memory.open(Path(folder), embedder=embedder) as memory:
            began = time.perf_counter()
            await memory.index()
            found["ours, vectors/s"] = round(chunks / (time.perf_counter() - began))
            taken, dense = [], []
            for question in questions:
                began = time.perf_counter()
                shown = await memory.search(NS, Query(text=question))
                taken.append(time.perf_counter() - began)
                dense.append(shown.seconds["dense"])
        found |= {"ours, both legs, ms": spread(taken), "ours, vectors' leg, ms": spread(dense)}
    vectors = await embedder.embed(texts)
    asked = await embedder.embed(questions, query=True)
    return found | _plain(texts, vectors, asked) | _langchain(texts, vectors, asked)


def _put(folder: Path, chunks: int) -> list[str]:
    found = list(documents(chunks))
    with Database(folder / FILE) as database:
        for begin in range(0, len(found), 100):
            Store(database).put(NS, found[begin : begin + 100])
    return [piece.text for one in found for piece in one.pieces]


def _plain(texts: list[str], vectors: NDArray[np.float32], asked: NDArray[np.float32]) -> dict[str, Any]:
    import chromadb

    with tempfile.TemporaryDirectory(prefix="benchai-retrieval-", ignore_cleanup_errors=True) as folder:
        kept = chromadb.PersistentClient(folder).create_collection("plain", metadata={"hnsw:space": "cosine"})
        added = _added(kept, texts, vectors)
        taken = _timed(asked, lambda one: kept.query(query_embeddings=one[None], n_results=10))
    return {"plain Chroma, vectors/s": added, "plain Chroma, ms": spread(taken)}


def _langchain(texts: list[str], vectors: NDArray[np.float32], asked: NDArray[np.float32]) -> dict[str, Any]:
    try:
        from langchain_chroma import Chroma
    except ImportError as error:
        return {"LangChain Chroma": f"left out, {error}"}
    with tempfile.TemporaryDirectory(prefix="benchai-retrieval-", ignore_cleanup_errors=True) as folder:
        kept = Chroma("chain", persist_directory=folder, collection_metadata={"hnsw:space": "cosine"})
        _added(kept._collection, texts, vectors)
        taken = _timed(asked, lambda one: kept.similarity_search_by_vector(one.tolist(), k=10))
    return {"LangChain Chroma, ms": spread(taken)}


def _added(kept: Any, texts: list[str], vectors: NDArray[np.float32]) -> int:
    began = time.perf_counter()
    for begin in range(0, len(texts), BATCH):
        part = slice(begin, begin + BATCH)
        numbers = [str(number) for number in range(begin, min(begin + BATCH, len(texts)))]
        kept.add(ids=numbers, embeddings=vectors[part], documents=texts[part])
    return round(len(texts) / (time.perf_counter() - began))


def _timed(asked: NDArray[np.float32], ask: Callable[[NDArray[np.float32]], Any]) -> list[float]:
    taken = []
    for one in asked:
        began = time.perf_counter()
        ask(one)
        taken.append(time.perf_counter() - began)
    return taken
