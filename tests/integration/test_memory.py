"""The memory as a whole: in this process and of a server, with words alone and with vectors."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchai.errors import EndpointError, StoreDamaged, StoreInUse, UnknownMemory
from benchai.memory.facts import Fact
from benchai.memory.forget import Target
from benchai.memory.memory import FILE, VECTORS, Memory
from benchai.memory.namespace import Namespace
from benchai.memory.search import Filter, Query
from benchai.memory.service import MemoryService, calls
from benchai.memory.turns import Said
from benchai.memory.types import Document, Link, Piece
from tests.integration.helpers import loaded, tiny_config
from tests.integration.wire_helpers import wire

pytestmark = pytest.mark.anyio
WORK, HOME = Namespace(project="work"), Namespace(project="home")


class Letters:
    """An embedder that counts words by their hash: alike are texts that share words."""

    dimension = 64
    fingerprint = "letters:64"
    truncated = 0

    def __init__(self) -> None:
        self.broken = False

    async def prepare(self) -> None:
        pass

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        if self.broken:
            raise EndpointError("the embedder is away")
        found = np.full((len(texts), self.dimension), 1e-3, np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                found[row, int(hashlib.md5(word.encode()).hexdigest(), 16) % self.dimension] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    async def close(self) -> None:
        pass


def document(source: str, *texts: str, **more: object) -> Document:
    pieces = tuple(Piece(text=text, line=line, end_line=line) for line, text in enumerate(texts, 1))
    hashed = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return Document(source=source, title="notes", media="text", hash=hashed, size=1, pieces=pieces, **more)  # type: ignore[arg-type]


CATS = document("/notes/cats.md", "Tom the cat sleeps on the stove", "Dogs bark at the moon", meta={"tags": ["pets"]})


@asynccontextmanager
async def local(folder: Path) -> AsyncIterator[MemoryService]:
    async with Memory.open(folder) as memory:
        yield memory


@asynccontextmanager
async def remote(folder: Path) -> AsyncIterator[MemoryService]:
    from benchai.memory.remote import remote_memory
    from benchai.runtime.attached import error_from, refusal

    config = tiny_config() | {"memory": {"path": str(folder)}}
    async with wire(loaded(folder.parent, config)) as server:
        async with remote_memory(server.url, "token", lambda text: error_from(refusal(text))) as memory:
            yield memory


@pytest.fixture(params=["local", "remote"])
async def memory(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MemoryService]:
    async with {"local": local, "remote": remote}[request.param](tmp_path / "memory") as opened:
        yield opened


async def texts(memory: MemoryService, ns: Namespace, text: str, **filters: object) -> list[str]:
    found = await memory.search(ns, Query(text=text, filter=Filter(**filters)))  # type: ignore[arg-type]
    return [passage.text for passage in found.passages]


async def test_documents_are_found_replaced_moved_and_dropped(memory: MemoryService) -> None:
    put = await memory.put(WORK, [CATS])
    assert (put.added, put.passages) == (1, 2)
    assert (await memory.put(WORK, [CATS])).unchanged == 1
    assert await texts(memory, WORK, "where does the cat sleep?") == ["Tom the cat sleeps on the stove"]
    assert list(await memory.known(WORK, "/notes/")) == ["/notes/cats.md"]
    changed = document("/notes/cats.md", "Tom the cat is gone", "Dogs bark at the moon")
    assert (await memory.put(WORK, [changed])).changed == 1
    assert await texts(memory, WORK, "cat stove") == ["Tom the cat is gone"]
    assert await memory.move(WORK, "/notes/cats.md", "/notes/tom.md")
    found = await memory.search(WORK, Query(text="cat"))
    assert [passage.place for passage in found.passages] == ["/notes/tom.md:1"]
    assert await memory.drop(WORK, ["/notes/tom.md", "/none"]) == 1
    assert await texts(memory, WORK, "cat") == []


async def test_a_passage_that_stays_keeps_its_id(memory: MemoryService) -> None:
    await memory.put(WORK, [CATS])
    before = (await memory.search(WORK, Query(text="dogs"))).passages[0]
    await memory.put(WORK, [document("/notes/cats.md", "A new beginning", "Dogs bark at the moon")])
    after = (await memory.search(WORK, Query(text="dogs"))).passages[0]
    await memory.put(WORK, [document("/notes/cats.md", "A new beginning", "Dogs bark at the sun")])
    last = (await memory.search(WORK, Query(text="dogs"))).passages[0]
    assert (before.id, before.line) == (after.id, after.line)
    assert last.id != after.id


async def test_filters(memory: MemoryService) -> None:
    await memory.put(WORK, [CATS, document("/code/cat.py", "def cat(): return 1", meta={"language": "python"})])
    await memory.record(WORK, "t1", "r1", [Said(role="user", text="my cat is called Tom")])
    assert len(await texts(memory, WORK, "cat")) == 3
    assert await texts(memory, WORK, "cat", source="/code/*") == ["def cat(): return 1"]
    assert await texts(memory, WORK, "cat", tags=("pets",)) == ["Tom the cat sleeps on the stove"]
    assert await texts(memory, WORK, "cat", tags=("pets", "wild")) == []
    assert await texts(memory, WORK, "cat", kinds=("turn",)) == ["my cat is called Tom"]
    assert await texts(memory, WORK, "cat", before=1.0) == []


async def test_namespaces_do_not_see_each_other(memory: MemoryService) -> None:
    await memory.put(WORK, [CATS])
    await memory.put(Namespace(), [document("/mine", "the cat of the user")])
    assert len(await texts(memory, WORK, "cat")) == 2
    assert await texts(memory, HOME, "cat") == ["the cat of the user"]
    assert await texts(memory, Namespace("other", "work"), "cat") == []
    assert await memory.drop(HOME, ["/notes/cats.md"]) == 0
    assert len(await texts(memory, WORK, "cat")) == 2


async def test_what_was_said_and_learned(memory: MemoryService) -> None:
    turns = await memory.record(WORK, "t1", "r1", [Said(role="user", text="My cat is called Tom")])
    added = await memory.learn(WORK, Fact(subject="cat", relation="name", value="Tom", text="The cat is Tom"), turns)
    told = await memory.why(WORK, added.id)
    assert [turn.text for turn in told.sources] == ["My cat is called Tom"]
    assert [fact.text for fact in await memory.facts(WORK)] == ["The cat is Tom"]
    would = await memory.would_forget(WORK, Target(thread="t1"))
    assert would.counts["turn"] == would.counts["fact"] == 1
    await memory.forget(WORK, Target(thread="t1"))
    assert await texts(memory, WORK, "cat Tom") == []
    with pytest.raises(UnknownMemory, match=added.id):
        await memory.fact(WORK, added.id)


async def test_upkeep(memory: MemoryService) -> None:
    await memory.put(WORK, [CATS])
    await memory.remember(Namespace(), "water the plants")
    assert (await memory.stats(WORK)).counts["passages"] == 2
    assert (await memory.stats(Namespace())).namespaces == {"work": 2, "": 1}
    assert (await memory.verify()).problems == ()
    assert await memory.rebuild() is None
    await memory.vacuum()
    assert await texts(memory, WORK, "plants") == ["water the plants"]


async def test_every_call_goes_over_http_as_it_is(tmp_path: Path) -> None:
    """What ``MemoryService`` says is what ``Memory`` has."""
    import inspect

    for name in calls():
        said = list(inspect.signature(getattr(MemoryService, name)).parameters)
        has = [one for one in inspect.signature(getattr(Memory, name)).parameters if one != "progress"]
        assert said == has, name


async def test_a_malformed_call_is_refused(tmp_path: Path) -> None:
    config = tiny_config() | {"memory": {"path": str(tmp_path / "memory")}}
    async with wire(loaded(tmp_path, config)) as server, server.client() as client:
        key = {"Authorization": "Bearer token"}
        assert (await client.post("/fleet/memory/search", json={})).status_code == 401
        wrong = await client.post("/fleet/memory/search", json={"ns": {"user": "../x"}}, headers=key)
        assert "'../x'" in wrong.json()["error"]["message"]
        lacking = await client.post("/fleet/memory/search", json={"ns": {}}, headers=key)
        assert (wrong.status_code, lacking.status_code) == (400, 400)
        assert "query: Field required" in lacking.json()["error"]["message"]
        unknown = await client.post("/fleet/memory/drop_all", json={}, headers=key)
        assert "drop_all" in unknown.json()["error"]["message"]


async def test_one_owner(tmp_path: Path) -> None:
    async with Memory.open(tmp_path):
        with pytest.raises(StoreInUse, match="in use"):
            async with Memory.open(tmp_path):
                pass
        waiting = asyncio.create_task(open_and_close(tmp_path))
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def open_and_close(folder: Path) -> None:
    async with Memory.open(folder, wait=20):
        pass


# ---- vectors


async def test_vectors_find_what_words_do_not_and_follow_what_is_kept(tmp_path: Path) -> None:
    async with Memory.open(tmp_path, embedder=Letters(), lexical_weight=0.5) as memory:
        await memory.put(WORK, [CATS])
        await memory.index()
        found = await memory.search(WORK, Query(text="the moon"))
        assert set(found.passages[0].legs) == {"lexical", "dense"}
        assert found.off == {}
        await memory.drop(WORK, [CATS.source])
        await memory.index()
        assert (await memory.verify()).vectors == 0
        assert (await memory.search(WORK, Query(text="the moon"))).passages == ()


async def test_an_embedder_that_fails_is_told_and_left_out(tmp_path: Path) -> None:
    embedder = Letters()
    async with Memory.open(tmp_path, embedder=embedder) as memory:
        await memory.put(WORK, [CATS])
        await memory.index()
        embedder.broken = True
        found = await memory.search(WORK, Query(text="moon"))
        assert found.off == {"dense": "the embedder is away"}
        assert [passage.text for passage in found.passages] == ["Dogs bark at the moon"]


async def test_what_has_no_vector_is_counted_before_the_embedder_ever_worked(tmp_path: Path) -> None:
    class Away(Letters):
        async def prepare(self) -> None:
            raise EndpointError("the embedder is away")

    async with Memory.open(tmp_path) as memory:
        await memory.put(WORK, [CATS])
    async with Memory.open(tmp_path, embedder=Away()) as memory:
        with pytest.raises(EndpointError, match="away"):
            await memory.index()
        stats = await memory.stats(WORK)
        assert (stats.embedder, stats.pending) == (None, 2)
    async with Memory.open(tmp_path, embedder=Letters()) as memory:
        await memory.index()
        assert (await memory.stats(WORK)).pending == 0


@pytest.mark.parametrize("damage", ["gone", "garbled"])
async def test_a_damaged_index_is_made_anew(tmp_path: Path, damage: str) -> None:
    async with Memory.open(tmp_path, embedder=Letters()) as memory:
        await memory.put(WORK, [CATS])
        await memory.index()
    for file in (tmp_path / VECTORS).rglob("*"):
        if file.is_file():
            file.unlink() if damage == "gone" else file.write_bytes(b"\x00garbled" * 100)
    async with Memory.open(tmp_path, embedder=Letters()) as memory:
        await memory.index()
        verdict = await memory.verify()
        assert (verdict.problems, verdict.vectors) == ((), 2)


async def test_another_embedder_embeds_anew(tmp_path: Path) -> None:
    class Others(Letters):
        fingerprint = "others:64"

    for embedder in (Letters(), Letters(), Others(), Letters()):
        async with Memory.open(tmp_path, embedder=embedder) as memory:
            await memory.put(WORK, [CATS])
            await memory.index()
            stats = await memory.stats(WORK)
            assert (stats.embedder, stats.pending) == (embedder.fingerprint, 0)
            assert (await memory.verify()).vectors == 2


async def test_links_are_kept_with_their_document(tmp_path: Path) -> None:
    async with Memory.open(tmp_path) as memory:
        await memory.put(WORK, [document("/a.md", "see b", links=(Link(target="b"),))])
        await memory.drop(WORK, ["/a.md"])
        assert (await memory.verify()).problems == ()


async def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 1000)
    with pytest.raises(StoreDamaged, match="file is not a database") as raised:
        async with Memory.open(tmp_path):
            pass
    assert "verify" in (raised.value.hint or "")
