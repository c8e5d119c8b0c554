"""A memory with vectors in a process without a server: how long it stays open, and when what was said is embedded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from benchai.bench import Bench
from benchai.events import Result
from benchai.graphs import memories
from benchai.memory.memory import Memory
from benchai.memory.namespace import Namespace
from tests.integration.embedding_helpers import Embeds
from tests.integration.helpers import loaded

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
NS = Namespace()
EVER = 600.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    # Chroma takes a while to load on a machine that has much to do
    monkeypatch.setattr(memories, "BRIEF_SECONDS", 20)
    monkeypatch.setattr(memories, "END_SECONDS", 20)


@pytest.fixture
def far() -> Iterator[Embeds]:
    with Embeds() as server:
        yield server
        server.go.set()


@asynccontextmanager
async def opened(folder: Path, far: Embeds, **memory: Any) -> AsyncIterator[Bench]:
    settings = {"path": str(folder / "memory"), "embedder": "role", "recall": False} | memory
    async with Bench.open(loaded(folder, far.config(memory=settings)), workspace=folder) as bench:
        yield bench


async def said(bench: Bench, task: str) -> None:
    assert (await bench.run("react", task)).output == "Noted."
    await bench.kept()


async def left(folder: Path, wait: float = 0) -> tuple[int, int]:
    """How many turns are kept, and how many passages have no vector; opens it as another process would."""
    async with Memory.open(folder / "memory", wait=wait) as memory:
        stats = await memory.stats(NS)
        return stats.counts["turns"], stats.pending


async def test_it_stays_open_for_the_next_run_and_goes_to_who_wants_it(
    tmp_path: Path, far: Embeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memories, "KEPT_SECONDS", EVER)
    async with opened(tmp_path, far) as bench:
        await said(bench, "My dog is called Rex")
        first = bench._parts.memories._opened
        await said(bench, "Cats sleep on the stove")
        assert first is not None
        assert bench._parts.memories._opened is first
        # and who waits finds it embedded
        assert await left(tmp_path, wait=20) == (4, 0)
        assert bench._parts.memories._opened is None
        await said(bench, "Cows like grass")
        assert bench._parts.memories._opened not in (None, first)
    assert await left(tmp_path) == (6, 0)


async def test_who_waits_has_it_before_the_next_run_though_runs_come_without_a_break(
    tmp_path: Path, far: Embeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memories, "KEPT_SECONDS", EVER)
    async with opened(tmp_path, far) as bench:
        await said(bench, "My dog is called Rex")
        waiting = asyncio.create_task(left(tmp_path, wait=20))
        while not waiting.done():
            async with bench._parts.memories.use():
                await asyncio.sleep(0)
        assert (await waiting)[0] == 2


async def test_nobody_uses_it_for_a_while_and_it_is_closed(
    tmp_path: Path, far: Embeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memories, "KEPT_SECONDS", 0.0)
    async with opened(tmp_path, far) as bench:
        await said(bench, "My dog is called Rex")
        assert bench._parts.memories._staying is not None
        await asyncio.wait_for(bench._parts.memories._staying, 20)
        assert await left(tmp_path) == (2, 0)


async def test_words_alone_are_opened_fast_and_never_stay_open(tmp_path: Path, far: Embeds) -> None:
    async with opened(tmp_path, far, embedder="none") as bench:
        await said(bench, "My dog is called Rex")
        assert bench._parts.memories._opened is None
        assert (await left(tmp_path))[0] == 2


async def test_the_answer_does_not_wait_for_the_vectors_and_the_end_only_so_long(
    tmp_path: Path, far: Embeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memories, "END_SECONDS", 0.05)
    far.held = "Rex"
    async with opened(tmp_path, far) as bench:
        events = [event async for event in bench.stream("react", "My dog is called Rex")]
        assert isinstance(events[-1], Result)
        await bench.kept()
    assert not far.go.is_set()
    assert await left(tmp_path) == (2, 2)
    # the next one to keep something makes up for it
    far.go.set()
    monkeypatch.setattr(memories, "END_SECONDS", 20)
    async with opened(tmp_path, far) as bench:
        await said(bench, "Cats sleep on the stove")
    assert await left(tmp_path) == (4, 0)


async def test_an_embedder_that_fails_is_told_once_and_nothing_is_lost(
    tmp_path: Path, far: Embeds, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(memories, "KEPT_SECONDS", 0.0)
    far.broken = True
    async with opened(tmp_path, far) as bench:
        for task in ("My dog is called Rex", "Cats sleep on the stove"):
            await said(bench, task)
            assert bench._parts.memories._staying is not None
            await asyncio.wait_for(bench._parts.memories._staying, 20)
    assert caplog.text.count("has no vectors yet") == 1
    assert await left(tmp_path) == (4, 4)
    far.broken = False
    async with opened(tmp_path, far) as bench:
        await said(bench, "Cows like grass")
    assert await left(tmp_path) == (6, 0)
