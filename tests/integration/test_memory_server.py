"""The memory with its vectors on a Chroma server: the same contract, and what happens while the server is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchai.memory.forget import Target
from benchai.memory.memory import VECTORS, Memory
from benchai.memory.namespace import Namespace
from benchai.memory.search import Found, Query
from benchai.memory.turns import Said
from tests.integration.chroma_server import chroma_server
from tests.integration.test_memory import CATS, HOME, WORK, Letters, document

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


class Others(Letters):
    fingerprint = "others:64"


async def moon(memory: Memory, ns: Namespace = WORK) -> Found:
    return await memory.search(ns, Query(text="the moon"))


async def test_the_contract_on_a_server(tmp_path: Path) -> None:
    with chroma_server(tmp_path / "chroma") as url:
        async with Memory.open(tmp_path / "one", embedder=Letters(), chroma=url) as memory:
            await memory.put(WORK, [CATS])
            await memory.record(WORK, "t1", "r1", [Said(role="user", text="the moon is made of cheese")])
            await memory.index()
            found = await moon(memory)
            assert (found.off, {name for one in found.passages for name in one.legs}) == ({}, {"lexical", "dense"})
            assert (await moon(memory, HOME)).passages == ()
            # another memory on the same server sees nothing of it
            async with Memory.open(tmp_path / "two", embedder=Letters(), chroma=url) as other:
                assert (await moon(other)).passages == ()
                assert (await other.verify()).vectors == 0
            proven = await memory.forget_proved(WORK, Target(thread="t1"))
            assert proven.forgotten.counts["turn"] == 1
            assert (proven.proof.findings, list(proven.proof.unread), proven.proof.clean) == ((), [url], False)
            await memory.index()
            texts = [one.text for one in (await moon(memory)).passages]
            assert (texts[0], "the moon is made of cheese" in texts) == ("Dogs bark at the moon", False)
            assert ((await memory.verify()).problems, (await memory.verify()).vectors) == ((), 2)
        async with Memory.open(tmp_path / "one", embedder=Others(), chroma=url) as memory:
            await memory.index()
            assert ((await memory.verify()).problems, (await memory.verify()).vectors) == ((), 2)
            assert set((await moon(memory)).passages[0].legs) == {"lexical", "dense"}
        assert not (tmp_path / "one" / VECTORS).exists()
        async with Memory.open(tmp_path / "three", embedder=Letters()) as moved:
            await moved.put(WORK, [CATS])
            await moved.index()
            await moved.embed_with(Letters(), url)
            await moved.drop(WORK, [CATS.source])
            await moved.put(WORK, [document("/notes/cows.md", "Cows like grass", "The moon is a stone")])
            await moved.index()
            assert ((await moved.verify()).problems, (await moved.verify()).vectors) == ((), 2)
            # the folder has as many vectors, but of what is gone
            await moved.embed_with(Letters(), None)
            await moved.index()
            assert ((await moved.verify()).problems, (await moved.verify()).vectors) == ((), 2)
            assert {"lexical", "dense"} in [set(one.legs) for one in (await moon(moved)).passages]
        # the server still has as many of what is gone, and this process did not see it used
        async with Memory.open(tmp_path / "three", embedder=Letters(), chroma=url) as moved:
            await moved.drop(WORK, ["/notes/cows.md"])
            await moved.put(WORK, [CATS])
            await moved.index()
        async with Memory.open(tmp_path / "three", embedder=Letters()) as moved:
            await moved.index()
            assert ((await moved.verify()).problems, (await moved.verify()).vectors) == ((), 2)
            assert {"lexical", "dense"} in [set(one.legs) for one in (await moon(moved)).passages]


async def test_a_server_that_is_away_is_told_and_words_go_on(tmp_path: Path) -> None:
    with chroma_server(tmp_path / "chroma") as url:
        async with Memory.open(tmp_path / "memory", embedder=Letters(), chroma=url) as memory:
            await memory.put(WORK, [CATS])
            await memory.index()
    # as a run or a command finds it
    async with Memory.open(tmp_path / "memory", embedder=Letters(), chroma=url) as memory:
        found = await moon(memory)
        assert [one.text for one in found.passages] == ["Dogs bark at the moon"]
        assert url in found.off["dense"]
        await memory.drop(WORK, [CATS.source])
        assert (await moon(memory)).passages == ()


async def test_a_server_that_goes_and_comes_back_while_the_memory_is_open(tmp_path: Path) -> None:
    with chroma_server(tmp_path / "chroma") as url:
        opening = Memory.open(tmp_path / "memory", embedder=Letters(), chroma=url)
        memory = await opening.__aenter__()
        await memory.put(WORK, [CATS])
        await memory.index()
    try:
        found = await moon(memory)
        assert [one.text for one in found.passages] == ["Dogs bark at the moon"]
        assert "dense" in found.off
        await memory.record(WORK, "t1", "r1", [Said(role="user", text="the moon is made of cheese")])
        port = int(url.rpartition(":")[2])
        with chroma_server(tmp_path / "chroma", port) as back:
            assert back == url
            await memory.index()
            verdict = await memory.verify()
            assert (verdict.problems, verdict.vectors) == ((), 3)
            found = await moon(memory)
            assert found.off == {}
            assert {"lexical", "dense"} in [set(one.legs) for one in found.passages]
    finally:
        await opening.__aexit__(None, None, None)
