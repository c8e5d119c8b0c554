"""What a running server does with another configuration, and with threads that it cannot use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from benchai.config import LoadedConfig
from benchai.config.paths import threads_file
from benchai.errors import ConfigError, Unavailable
from benchai.runtime.fleet.fleet import Fleet
from benchai.server.workshop import Workshop
from tests.integration.helpers import TINY_MODEL, benchai, commands, loaded, tiny_config
from tests.integration.wire_helpers import Server, about, wire

__all__ = ["commands"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
EMBED = {"vectors": TINY_MODEL | {"embedding": True, "pooling": "mean", "context": 512}}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with wire(loaded(tmp_path, tiny_config())) as found:
        yield found


def with_cache(folder: Path, **cache: Any) -> LoadedConfig:
    return loaded(folder, tiny_config() | {"cache": cache})


async def reload(server: Server, config: LoadedConfig) -> None:
    take = server.face.prepare(config)
    await server.fleet.apply(config)
    take()


async def state(server: Server) -> str:
    """Where the reply to one and the same request comes from."""
    return str(about(await server.chat("Hello", model="tiny"))["cache"])


# ---- caches


async def test_the_cache_goes_off_and_on_with_the_configuration(server: Server, tmp_path: Path) -> None:
    while await state(server) == "none":
        # identities are taken beside the first requests
        pass
    await reload(server, with_cache(tmp_path, exact=False))
    assert await state(server) == "none"
    await reload(server, with_cache(tmp_path, exact=True))
    while await state(server) == "none":
        pass


async def test_replies_are_as_old_as_the_configuration_lets_them(server: Server, tmp_path: Path) -> None:
    while await state(server) == "none":
        pass
    await reload(server, with_cache(tmp_path, max_age=0.001))
    assert await state(server) == "none"


async def test_similar_requests_are_looked_for_once_they_are_on(server: Server, tmp_path: Path) -> None:
    both = tiny_config()
    both["models"] |= EMBED
    both |= {"roles": {"general": "tiny", "embed": "vectors"}, "cache": {"similar": {"enabled": True}}}
    await reload(server, loaded(tmp_path, both))
    assert server.replies.similar is not None
    await reload(server, loaded(tmp_path, tiny_config()))
    assert server.replies.similar is None


async def test_what_cannot_be_had_changes_nothing(server: Server, tmp_path: Path) -> None:
    router = server.face.decider.router
    wrong = with_cache(tmp_path, exact=False, similar={"enabled": True})
    with pytest.raises(ConfigError, match="embed"):
        await reload(server, wrong)
    assert server.fleet.loaded is not wrong
    assert server.face.decider.router is router
    while await state(server) == "none":
        pass


# ---- workflows


async def test_workflows_run_with_the_present_configuration_and_end_with_their_own(
    server: Server, tmp_path: Path
) -> None:
    workshop = server.face.workshop
    async with workshop.bench() as old:
        [first] = workshop._open
        await reload(server, loaded(tmp_path, tiny_config() | {"budgets": {"steps": 3}}))
        async with workshop.bench() as new:
            assert (new.loaded, new.default_budget().steps) == (server.fleet.loaded, 3)
        assert await old.threads.threads() == []
    async with workshop.bench() as again:
        assert again is new
    await asyncio.wait_for(first.keeper, 10)
    [kept] = workshop._open
    assert kept.loaded is server.fleet.loaded


async def test_a_bench_that_nobody_uses_is_closed_with_its_configuration(server: Server, tmp_path: Path) -> None:
    async with server.face.workshop.bench():
        pass
    [kept] = server.face.workshop._open
    await reload(server, loaded(tmp_path, tiny_config()))
    await asyncio.wait_for(kept.keeper, 10)


async def test_nobody_waits_for_a_bench_that_is_not_opened_any_more(tmp_path: Path) -> None:
    async with Fleet(loaded(tmp_path, tiny_config()), lambda event: None) as fleet, Workshop(fleet) as workshop:
        asking = asyncio.create_task(anext(aiter(workshop.stream("react", "Hello"))))
        await asyncio.sleep(0)
        [kept] = workshop._open
        kept.keeper.cancel()
        with pytest.raises(Unavailable, match="ends"):
            await asyncio.wait_for(asking, 10)


# ---- threads


def no_threads(kind: str) -> Path:
    file = threads_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        file.mkdir()
    else:
        file.write_bytes(b"no database" * 100)
    return file


@pytest.mark.parametrize("kind", ["folder", "text"])
async def test_threads_that_cannot_be_opened_are_told_with_their_place(server: Server, kind: str) -> None:
    file = no_threads(kind)
    for stream in (False, True):
        refused = await server.chat("Hello", model="workflow:react", stream=stream)
        assert refused.status_code == 503
        message = refused.json()["error"]["message"]
        assert str(file) in message
        assert "move the file away" in message


@pytest.mark.parametrize("kind", ["folder", "text"])
def test_a_run_says_which_threads_it_cannot_open(tmp_path: Path, own_home: Path, kind: str) -> None:
    file = no_threads(kind)
    done = benchai("run", "react", "Hello", "--json", cwd=tmp_path, env={"BENCHAI_HOME": str(own_home)})
    assert done.code == 1
    assert str(file) in done.err
    assert "move the file away" in done.err
    assert "Traceback" not in done.err
    assert not done.out or "error" in json.loads(done.out.splitlines()[-1])
