"""A memory that is closed, or gets another embedder, while its vectors are being opened."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from benchai.memory.embed import Embedder
from benchai.memory.index import VectorIndex
from benchai.memory.memory import VECTORS, Memory
from benchai.memory.opening import IndexPlace
from benchai.memory.rerank import CallReranker
from benchai.memory.search import Query
from benchai.runtime.background import in_background
from tests.integration.test_memory import CATS, WORK, Letters
from tests.integration.test_memory_server import Others

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Slow(IndexPlace):
    """Opens an index, but not before ``go`` is set."""

    begun: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def under(cls, memory: Memory) -> Self:
        """Put where a memory has another."""
        assert memory.vectors is not None
        holder = memory.vectors._holder
        holder.place = slow = cls(holder.place.folder, holder.place.chroma, holder.place.store)
        return slow

    def open(self, embedder: Embedder) -> VectorIndex:
        self.begun.set()
        assert self.go.wait(20)
        return super().open(embedder)


@dataclass(frozen=True)
class SlowToWrite(Slow):
    """Its index keeps no vector before ``go`` is set; ``done`` says in which order what was done."""

    done: list[str] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)

    def open(self, embedder: Embedder) -> VectorIndex:
        index = IndexPlace.open(self, embedder)
        upsert, close = index.upsert, index.close

        def slowly(ids: Sequence[int], vectors: NDArray[np.float32], namespaces: Sequence[int]) -> None:
            self.begun.set()
            assert self.go.wait(20)
            upsert(ids, vectors, namespaces)
            self.done.append("upsert")

        def told() -> None:
            self.done.append("close")
            self.closed.set()
            close()

        index.upsert, index.close = slowly, told  # type: ignore[method-assign]
        return index


def open_files(folder: Path) -> list[str]:
    return [one.path for one in psutil.Process().open_files() if Path(one.path).is_relative_to(folder)]


async def test_closed_while_its_index_is_opened_it_leaves_nothing_open(tmp_path: Path) -> None:
    async with Memory.open(tmp_path, embedder=Letters()) as memory:
        slow = Slow.under(memory)
        await memory.put(WORK, [CATS])
        await in_background(slow.begun.wait, 20)
        asyncio.get_running_loop().call_later(0.01, slow.go.set)
    assert slow.go.is_set()
    assert open_files(tmp_path) == []
    # it was left in order: who opens it next need not look at it first
    assert (tmp_path / VECTORS / "closed.json").exists()


async def test_closed_while_its_index_is_written_it_waits_for_that(tmp_path: Path) -> None:
    async with Memory.open(tmp_path, embedder=Letters()) as memory:
        slow = SlowToWrite.under(memory)
        await memory.put(WORK, [CATS])
        await in_background(slow.begun.wait, 20)
        asyncio.get_running_loop().call_later(0.01, slow.go.set)
    assert slow.done == ["upsert", "close"]
    assert (tmp_path / VECTORS / "closed.json").exists()


async def test_what_waits_while_the_embedder_changes_goes_on_with_the_new_one(tmp_path: Path) -> None:
    async with Memory.open(tmp_path, embedder=Letters()) as memory:
        await memory.put(WORK, [CATS])
        slow = Slow.under(memory)
        # one after the other wants the same index, and its lock
        calls = [memory.index(), memory.rebuild(), memory.verify(), memory.search(WORK, Query(text="moon"))]
        tasks = [asyncio.create_task(one) for one in calls]
        await in_background(slow.begun.wait, 20)
        changing = asyncio.create_task(memory.embed_with(Others(), None))
        indexing = asyncio.create_task(memory.index())
        asking = asyncio.create_task(memory.search(WORK, Query(text="moon")))
        await asyncio.sleep(0)
        slow.go.set()
        await asyncio.wait_for(asyncio.gather(changing, indexing, asking, *tasks), 20)
        await memory.index()
        assert asking.result().off == {}
        stats, verdict = await memory.stats(WORK), await memory.verify()
        assert (stats.embedder, stats.pending, verdict.problems, verdict.vectors) == (Others.fingerprint, 0, (), 2)


async def test_what_ranks_is_used_until_the_questions_under_way_are_answered(tmp_path: Path) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def score(question: str, texts: Sequence[str]) -> list[float]:
        begun.set()
        await go.wait()
        return [0.5] * len(texts)

    async with Memory.open(tmp_path, reranker=CallReranker(score)) as memory:
        await memory.put(WORK, [CATS])
        asking = asyncio.create_task(memory.search(WORK, Query(text="moon")))
        # it has begun, and is not there yet
        await asyncio.sleep(0)
        uses = memory.rank_with(None, 0.5)
        ended = asyncio.create_task(uses.ended())
        assert set((await memory.search(WORK, Query(text="moon"))).weights) == {"lexical"}
        await begun.wait()
        assert not ended.done()
        go.set()
        await asyncio.wait_for(ended, 20)
        assert set((await asking).weights) == {"lexical", "rerank"}


async def test_without_an_embedder_who_still_waits_is_told(tmp_path: Path) -> None:
    async with Memory.open(tmp_path, embedder=Letters()) as memory:
        await memory.put(WORK, [CATS])
        slow = Slow.under(memory)
        asking = asyncio.create_task(memory.search(WORK, Query(text="moon")))
        await in_background(slow.begun.wait, 20)
        changing = asyncio.create_task(memory.embed_with(None, None))
        slow.go.set()
        await asyncio.wait_for(changing, 20)
        assert [one.text for one in (await asking).passages] == ["Dogs bark at the moon"]
        assert "no embedder is configured" in (await memory.search(WORK, Query(text="moon"))).off["dense"]
        assert await memory.index() is None
        await memory.embed_with(Letters(), None)
        await memory.index()
        assert (await memory.search(WORK, Query(text="moon"))).off == {}
    assert open_files(tmp_path) == []


class Waits(Letters):
    """Embeds nothing before ``go`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        self.begun.set()
        await self.go.wait()
        return await super().embed(texts, query=query)


async def test_the_index_is_made_anew_once_nobody_uses_it_and_who_waited_uses_the_new_one(tmp_path: Path) -> None:
    embedder = Waits()
    async with Memory.open(tmp_path, embedder=embedder) as memory:
        slow = SlowToWrite.under(memory)
        slow.go.set()
        assert memory.vectors is not None
        await memory.put(WORK, [CATS])
        await memory.index()
        embedder.begun.clear()
        embedder.go.clear()
        asking = asyncio.create_task(memory.search(WORK, Query(text="moon")))
        await embedder.begun.wait()
        renewing = asyncio.create_task(memory.vectors.renew())
        indexing = asyncio.create_task(memory.index())
        assert not await in_background(slow.closed.wait, 0.1)
        embedder.go.set()
        await asyncio.wait_for(asyncio.gather(asking, renewing, indexing), 20)
        assert asking.result().off == {}
        assert ((await memory.verify()).problems, (await memory.verify()).vectors) == ((), 2)
