"""The memory of a running server with another configuration: what counts at once, what follows, what is refused."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from benchai.errors import ConfigError
from benchai.memory.memory import Memory
from benchai.memory.namespace import Namespace
from benchai.memory.search import Found, Query
from benchai.memory.service import MemoryService
from benchai.memory.turns import Said
from benchai.runtime.background import in_background
from benchai.testing import contents
from tests.integration.embedding_helpers import Embeds
from tests.integration.helpers import Done, benchai, commands, loaded, until, write_config
from tests.integration.serve_helpers import clean, serving
from tests.integration.wire_helpers import Server, wire

__all__ = ["commands"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
NS = Namespace()
DOG = "My dog is called Rex and barks at the moon"
CATS = "Cats sleep on the stove"


@pytest.fixture
def far() -> Iterator[Embeds]:
    with Embeds() as server:
        yield server
        server.go.set()


class Here:
    """A server and its memory; ``reload`` changes what is under ``memory`` and ``roles``."""

    def __init__(self, folder: Path, far: Embeds) -> None:
        self.folder, self.far = folder, far
        self.server: Server
        self.settings: dict[str, Any] = {"path": str(folder / "memory"), "embedder": "role"}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with wire(self.loaded()) as self.server:
            yield

    @asynccontextmanager
    async def memory(self) -> AsyncIterator[MemoryService]:
        from benchai.memory.remote import remote_memory
        from benchai.runtime.attached import error_from, refusal

        async with remote_memory(self.server.url, "token", lambda text: error_from(refusal(text))) as memory:
            yield memory

    def loaded(self, embed: str = "one", **memory: Any) -> Any:
        config = self.far.config(memory=self.settings | memory)
        config["roles"]["embed"] = embed
        return loaded(self.folder, config)

    async def reload(self, embed: str = "one", **memory: Any) -> None:
        config = self.loaded(embed, **memory)
        takes = [one.prepare(config) for one in (self.server.face.memories, self.server.face)]
        await self.server.fleet.apply(config)
        for take in takes:
            take()

    async def keep(self, *texts: str, thread: str = "old") -> None:
        async with self.memory() as memory:
            await memory.record(NS, thread, "r", [Said(role="user", text=one) for one in texts])

    async def ask(self, question: str = "the moon") -> Found:
        async with self.memory() as memory:
            return await memory.search(NS, Query(text=question))

    async def run(self, task: str) -> str:
        """What the model was told before the task."""
        reply = await self.server.chat(task, model="workflow:react")
        assert reply.status_code == 200, reply.text
        return "\n".join(contents(self.far.requests[-1], "user")[:-1])

    async def embedded_by(self, model: str, count: int) -> None:
        """Wait until all is embedded by a model, and nothing else is in the index."""
        async with self.memory() as memory:
            while True:
                stats = await memory.stats(NS)
                if (stats.embedder or "").startswith(f"{model}:") and not stats.pending:
                    break
                await asyncio.sleep(0.01)
            verdict = await memory.verify()
            assert (verdict.problems, verdict.vectors) == ((), count)


@pytest.fixture
async def here(tmp_path: Path, far: Embeds) -> AsyncIterator[Here]:
    found = Here(tmp_path, far)
    async with found.running():
        yield found


# ---- at once


async def test_weights_and_legs_count_from_the_next_question_on(here: Here) -> None:
    await here.keep(DOG)
    assert (await here.ask()).weights == {"lexical": 0.8, "dense": pytest.approx(0.2)}
    opened = here.server.face.memories._opened
    await here.reload(lexical_weight=0.3, rerank="role")
    found = await here.ask()
    assert found.weights == {"lexical": 0.3, "dense": pytest.approx(0.7), "rerank": 1.0}
    assert {"lexical", "dense", "rerank"} == set(found.passages[0].legs)
    await here.reload(embedder="none")
    found = await here.ask()
    assert (set(found.weights), "no embedder is configured" in found.off["dense"]) == ({"lexical"}, True)
    await here.reload()
    await here.embedded_by("one", 1)
    assert set((await here.ask()).weights) == {"lexical", "dense"}
    # it was never closed for any of it
    assert here.server.face.memories._opened is opened


async def test_runs_recall_and_keep_as_the_present_configuration_says(here: Here) -> None:
    await here.keep(DOG)
    question = "How is my dog called?"
    assert DOG in await here.run(question)
    await here.reload(recall=False, project="other")
    assert await here.run(question) == ""
    async with here.server.face.workshop.bench() as bench:
        await bench.kept()
    await here.reload(enabled=False)
    assert await here.run(question) == ""
    # the server lets go of it
    async with Memory.open(here.folder / "memory", wait=20) as memory:
        other = Namespace(project="other")
        threads = [one.thread for one in await memory.threads(other) if one.namespace != str(NS)]
        assert [one.text for one in await memory.turns_of(other, threads[0])] == [question, "Noted."]
        assert len(threads) == 1


# ---- another embedder


async def test_another_embedder_comes_once_the_questions_under_way_are_answered(here: Here, far: Embeds) -> None:
    await here.keep(DOG)
    await here.embedded_by("one", 1)
    far.held = "question that is held"
    asking = asyncio.create_task(here.ask("the moon, a question that is held"))
    await in_background(far.waits.wait, 20)
    await here.reload("two")
    # what is written meanwhile is kept, and not lost
    await here.keep(CATS, thread="new")
    assert not asking.done()
    assert far.texts("two") == []
    far.go.set()
    found = await asking
    assert (found.off, set(found.passages[0].legs)) == ({}, {"lexical", "dense"})
    await here.embedded_by("two", 2)
    assert any(DOG in one for one in far.texts("two"))
    found = await here.ask("stove")
    assert (found.off, set(found.passages[0].legs)) == ({}, {"lexical", "dense"})


async def test_a_long_job_is_broken_off_and_goes_on_with_the_new_embedder(here: Here, far: Embeds) -> None:
    far.held = "held"
    await here.keep(*[f"Word{number} is the number {number}" for number in range(70)], "held")
    async with here.memory() as memory:
        await in_background(far.waits.wait, 20)
        indexing = asyncio.create_task(memory.index())
        await here.reload("two")
        far.go.set()
        report = await indexing
        assert report is not None
    await here.embedded_by("two", 71)


async def test_no_vector_of_a_model_that_has_just_come_is_kept_for_the_one_before(here: Here, far: Embeds) -> None:
    await here.keep(DOG)
    await here.embedded_by("one", 1)
    config = here.loaded("two")
    take = here.server.face.memories.prepare(config)
    await here.server.fleet.apply(config)
    # the fleet has the other model, the memory does not know it yet
    await here.keep(CATS, thread="new")
    found = await here.ask()
    assert "another model" in found.off["dense"]
    async with here.memory() as memory:
        assert (await memory.stats(NS)).pending == 1
    assert far.texts("two") == []
    take()
    await here.embedded_by("two", 2)


async def test_what_cannot_be_had_changes_nothing(here: Here, tmp_path: Path) -> None:
    await here.keep(DOG)
    before = here.server.face.memories.loaded
    with pytest.raises(ConfigError, match="only with a restart") as caught:
        await here.reload(path=str(tmp_path / "elsewhere"), lexical_weight=0.1)
    assert str(tmp_path / "elsewhere") in caught.value.message
    assert str(tmp_path / "memory") in caught.value.message
    config = here.loaded(rerank="role")
    del config.config.roles["rerank"]
    with pytest.raises(ConfigError, match="rerank"):
        here.server.face.memories.prepare(config)
    assert here.server.face.memories.loaded is before
    assert (await here.ask()).weights["lexical"] == 0.8


async def test_what_could_not_be_embedded_is_tried_again_with_the_next_configuration(here: Here, far: Embeds) -> None:
    far.broken = True
    await here.keep(DOG)
    assert "gave no vectors" in (await here.ask()).off["dense"]
    far.broken = False
    await here.reload(lexical_weight=0.5)
    await here.embedded_by("one", 1)


# ---- a process


@pytest.mark.timeout(60)
def test_a_server_reads_it_again_and_one_that_is_killed_meanwhile_loses_nothing(tmp_path: Path, far: Embeds) -> None:
    env = {"BENCHAI_HOME": str(tmp_path / "benchai-home")}

    def command(*args: str) -> Done:
        done = benchai(*args, cwd=tmp_path, env=env)
        assert done.code == 0, done
        return done

    config = far.config(memory={"embedder": "role"}, fleet={"core": []})
    write_config(tmp_path, config)
    with serving(tmp_path) as server:
        command("memory", "remember", DOG)
        write_config(tmp_path, config | {"memory": {"embedder": "role", "path": "elsewhere", "lexical_weight": 0.1}})
        server.process.send_signal(signal.SIGHUP)
        server.until_said("the configuration is kept as it was", "elsewhere", "only with a restart")
        far.held = DOG
        config["roles"]["embed"] = "two"
        write_config(tmp_path, config)
        server.process.send_signal(signal.SIGHUP)
        server.until_said("the configuration was read again")
        # it embeds by itself
        until(lambda: far.texts("two") != [] and far.waits.is_set())
        command("memory", "remember", CATS)
        server.end(signal.SIGKILL)
    clean(server.text)
    asyncio.run(all_kept(tmp_path / "benchai-home" / "data" / "memory"))


async def all_kept(folder: Path) -> None:
    async with Memory.open(folder) as memory:
        assert {one.text for one in await memory.facts(NS)} == {DOG, CATS}
        stats = await memory.stats(NS)
        assert (str(stats.embedder).partition(":")[0], stats.pending) == ("two", 2)
