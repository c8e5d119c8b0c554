"""What ours is measured beside, on the same data in the same run: plain FTS5, plain Chroma, LangChain's retrievers."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any

from benchai.memory.lexical import STOP_WORDS
from benchmarks.retrieval_parts.ours import DEPTH, Rankings
from benchmarks.retrieval_parts.sets import Collection, Question, Space

Texts = dict[str, str]


def texts_of(space: Space) -> Texts:
    """What a simple index keeps: title, heading and text in one; of a turn also the turns before and after it."""
    found = {}
    for document, ids in space.documents:
        for piece, id in zip(document.pieces, ids, strict=True):
            found[id] = "\n".join(filter(None, (document.title, piece.heading, piece.text)))
    for spoken in space.threads.values():
        lines = [f"{one.name}: {one.text}" for one in spoken]
        for place, one in enumerate(spoken):
            found[one.id] = "\n".join(lines[max(0, place - 1) : place + 2])
    return found


def plain_fts5(collection: Collection, questions: Sequence[Question]) -> Rankings:
    """The recipe that is to be beaten: one column, porter, stop words out, any of the words."""
    tables = {}
    for name, space in collection.spaces.items():
        table, texts = sqlite3.connect(":memory:"), texts_of(space)
        table.execute("CREATE VIRTUAL TABLE words USING fts5 (id UNINDEXED, text, tokenize='porter unicode61')")
        table.executemany("INSERT INTO words VALUES (?, ?)", texts.items())
        tables[name] = table
    found = [_asked(tables[one.space], one.text) for one in questions]
    for table in tables.values():
        table.close()
    return found


def _asked(table: sqlite3.Connection, text: str) -> list[str]:
    words = list(dict.fromkeys(re.findall(r"\w+", text.lower())))
    asked = " OR ".join(f'"{word}"' for word in words if word not in STOP_WORDS)
    if not asked:
        return []
    rows = table.execute("SELECT id FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?", (asked, DEPTH))
    return [row[0] for row in rows]


async def plain_chroma(collection: Collection, questions: Sequence[Question], embedder: Any) -> Rankings:
    """Chroma by itself, in this process, cosine, the same vectors."""
    import chromadb

    await embedder.prepare()
    client, kept = chromadb.EphemeralClient(), {}
    for place, (name, space) in enumerate(collection.spaces.items()):
        kept[name] = client.create_collection(f"plain-{place}", metadata={"hnsw:space": "cosine"})
        ids, texts = zip(*texts_of(space).items(), strict=True)
        for begin in range(0, len(ids), 1000):
            vectors = await embedder.embed(texts[begin : begin + 1000])
            kept[name].add(ids=list(ids[begin : begin + 1000]), embeddings=vectors)
    found = []
    for one in questions:
        vector = await embedder.embed([one.text], query=True)
        count = min(DEPTH, kept[one.space].count())
        found.append(kept[one.space].query(query_embeddings=vector, n_results=count, include=[])["ids"][0])
    for place in range(len(kept)):
        client.delete_collection(f"plain-{place}")
    return found


def langchain_bm25(collection: Collection, questions: Sequence[Question]) -> Rankings:
    """LangChain's BM25Retriever with its own way of cutting words (langchain-community, rank-bm25).

    Raises:
        ImportError: they are not installed.
    """
    from langchain_community.retrievers import BM25Retriever

    retrievers = {}
    for name, space in collection.spaces.items():
        texts = texts_of(space)
        retrievers[name] = BM25Retriever.from_texts(
            list(texts.values()), metadatas=[{"id": id} for id in texts], k=DEPTH
        )
    return [[one.metadata["id"] for one in retrievers[asked.space].invoke(asked.text)] for asked in questions]


async def langchain_chroma(collection: Collection, questions: Sequence[Question], embedder: Any) -> Rankings:
    """LangChain's Chroma as a retriever, the same vectors.

    Raises:
        ImportError: langchain-chroma is not installed.
    """
    from langchain_chroma import Chroma

    await embedder.prepare()
    found, retrievers = [], {}
    for place, (name, space) in enumerate(collection.spaces.items()):
        retrievers[name] = Chroma(f"chain-{place}", _Embeddings(embedder), collection_metadata={"hnsw:space": "cosine"})
        texts = texts_of(space)
        vectors = (await embedder.embed(list(texts.values()))).tolist()
        # by its own collection: add_texts would ask for the vectors one thread further
        retrievers[name]._collection.add(ids=list(texts), embeddings=vectors, documents=list(texts.values()))
    for one in questions:
        vector = (await embedder.embed([one.text], query=True))[0].tolist()
        found.append([hit.id for hit in retrievers[one.space].similarity_search_by_vector(vector, k=DEPTH)])
    return found


class _Embeddings:
    def __init__(self, embedder: Any) -> None:
        self.embedder = embedder
