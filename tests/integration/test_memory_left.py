"""Vectors that move to another place: the one that was left is emptied, whatever fails in between."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from benchai.errors import StoreError
from benchai.memory import chroma, chroma_client, left
from benchai.memory.chroma import DATABASE
from benchai.memory.forget import Target
from benchai.memory.left import LEFT, PLACE
from benchai.memory.memory import FILE, VECTORS, Memory
from tests.conftest import REPO
from tests.integration.chroma_server import chroma_server
from tests.integration.helpers import Done, benchai, commands, tiny_config, write_config
from tests.integration.test_memory import CATS, WORK, Letters
from tests.integration.test_memory_server import moon

__all__ = ["commands"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
#: Steps at which a move is killed, of each way: 1 by chance by default; ``MEMORY_CRASH_ROUNDS=100`` for all.
ROUNDS = int(os.environ.get("MEMORY_CRASH_ROUNDS", "1"))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chroma_server(tmp_path_factory.mktemp("server") / "data") as url:
        yield url


@contextmanager
def link(url: str) -> Iterator[chroma.Link]:
    opened = chroma.connect(url)
    yield opened
    opened.close()


def names(url: str) -> set[str]:
    with link(url) as opened:
        return set(opened.names())


async def filled(folder: Path, chroma: str | None) -> None:
    async with Memory.open(folder, embedder=Letters(), chroma=chroma) as memory:
        await memory.put(WORK, [CATS])
        await memory.index()


async def whole(memory: Memory) -> bool:
    verdict, found = await memory.verify(), await moon(memory)
    return (verdict.problems, verdict.vectors, found.off) == ((), 2, {}) and "dense" in found.passages[0].legs


async def test_what_was_left_is_emptied_and_what_others_keep_stays(tmp_path: Path, url: str) -> None:
    before = names(url)
    await filled(tmp_path / "other", url)
    with link(url) as opened:
        opened.make("somebody-elses", "")
    others = names(url)
    await filled(tmp_path / "memory", None)
    async with Memory.open(tmp_path / "memory", embedder=Letters(), chroma=url) as memory:
        await memory.index()
        assert await whole(memory)
        assert (memory.folder / VECTORS).exists() is False
        assert len(names(url)) == len(others) + 1
        # the same server by another name holds what is in use
        await memory.embed_with(Letters(), url.replace("127.0.0.1", "localhost"))
        await memory.index()
        assert (await whole(memory), await memory.left.places()) == (True, {})
        await memory.embed_with(Letters(), None)
        await memory.index()
        assert (await whole(memory), await memory.left.places()) == (True, {})
        assert names(url) == others
    async with Memory.open(tmp_path / "other", embedder=Letters(), chroma=url) as other:
        assert await whole(other)
        await other.embed_with(Letters(), None)
        await other.index()
    assert names(url) == before | {"somebody-elses"}


async def test_nothing_is_emptied_before_the_new_place_holds_everything(tmp_path: Path, url: str) -> None:
    folder = tmp_path / "memory" / VECTORS
    await filled(tmp_path / "memory", None)
    embedder = Letters()
    embedder.broken = True
    async with Memory.open(tmp_path / "memory", embedder=embedder, chroma=url) as memory:
        assert memory.vectors is not None
        assert len((await memory.vectors.catch_up()).failed) == 2
        assert ((await memory.stats(WORK)).left, (folder / DATABASE).exists()) == ({str(folder): ""}, True)
        # it is still to come, nothing is wrong
        assert (await memory.verify()).problems == ()
        embedder.broken = False
        # what went meanwhile, too, is stale in the folder
        await memory.drop(WORK, [CATS.source])
    async with Memory.open(tmp_path / "memory", embedder=Letters()) as back:
        await back.index()
        assert ((await back.verify()).vectors, (await moon(back)).off) == (0, {})
        await back.put(WORK, [CATS])
        await back.index()
        assert (await whole(back), (await back.stats(WORK)).left) == (True, {})


async def test_a_folder_that_was_left_before_there_were_notes(tmp_path: Path, url: str) -> None:
    await filled(tmp_path, None)
    settings(tmp_path, place=url)
    await filled(tmp_path, url)
    assert not (tmp_path / VECTORS).exists()


async def test_without_notes_and_an_embedder_a_proof_empties_the_folder(tmp_path: Path) -> None:
    await filled(tmp_path, None)
    settings(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE)) as rows, rows:
        rows.execute("DELETE FROM settings WHERE name = ?", (PLACE,))
    async with Memory.open(tmp_path) as memory:
        assert (await memory.forget_proved(WORK, Target(source=CATS.source))).proof.clean
        assert not (tmp_path / VECTORS).exists()


async def test_vectors_on_another_disk_are_made_anew_and_emptied_there(tmp_path: Path, url: str) -> None:
    vectors, disk = tmp_path / "memory" / VECTORS, tmp_path / "disk"
    await filled(tmp_path / "memory", None)
    vectors.rename(disk)
    vectors.symlink_to(disk)
    async with Memory.open(tmp_path / "memory", embedder=Letters()) as memory:
        assert memory.vectors is not None
        would = await memory.would_forget(WORK, Target(source=CATS.source))
        forgotten = [one.astype("<f4").tobytes() for one in (await memory.vectors.of(would.passages)).values()]
        assert len(forgotten) == 2
        assert bytes_in(disk, forgotten)
        assert (await memory.forget_proved(WORK, Target(source=CATS.source))).proof.clean
        assert not bytes_in(disk, forgotten)
        await memory.put(WORK, [CATS])
        await memory.embed_with(Letters(), url)
        await memory.index()
        assert (await memory.left.places(), list(disk.iterdir()), vectors.is_symlink()) == ({}, [], True)
        await memory.embed_with(Letters(), None)
        await memory.index()
        assert await whole(memory)
    disk.rename(tmp_path / "not-mounted")
    async with Memory.open(tmp_path / "memory", embedder=Letters()) as memory:
        assert "leads to no folder" in (await moon(memory)).off["dense"]


async def test_a_server_that_was_emptied_is_told_by_proofs_until_it_is_given_up(tmp_path: Path, url: str) -> None:
    await filled(tmp_path, url)
    async with Memory.open(tmp_path, embedder=Letters()) as memory:
        await memory.index()
        assert await memory.left.places() == {}
        proof = (await memory.forget_proved(WORK, Target(source="*/none"))).proof
        assert (proof.clean, list(proof.unread), f"--give-up {url}" in proof.unread[url]) == (False, [url], True)
        assert await memory.vacuum(give_up=url) == {}
        assert (await memory.forget_proved(WORK, Target(source="*/none"))).proof.clean


async def test_a_server_over_the_folder_keeps_it_without_an_embedder(tmp_path: Path) -> None:
    await filled(tmp_path / "memory", None)
    with chroma_server(tmp_path / "memory" / VECTORS) as own:
        await filled(tmp_path / "other", own)
        settings(tmp_path / "memory", place=own, left=json.dumps({"folder": {}}))
        async with Memory.open(tmp_path / "memory") as memory:
            assert list((await memory.forget_proved(WORK, Target(source="*/none"))).proof.unread) == [own]
        async with Memory.open(tmp_path / "other", embedder=Letters(), chroma=own) as other:
            assert await whole(other)


async def test_a_server_that_answers_its_heartbeat_alone_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left, "CLOSE_SECONDS", 0.1)
    await filled(tmp_path, None)
    with stuck() as (url, asked):
        settings(tmp_path, left=json.dumps({url: {}}))
        began = time.monotonic()
        async with Memory.open(tmp_path, embedder=Letters()) as memory:
            memory.catch_up_aside()
            await asyncio.to_thread(asked.wait)
            await memory.embed_with(Letters(), None)
            assert await moon_by_vectors(memory)
        # the thread still waits for an answer
        assert time.monotonic() - began < chroma_client.OPEN_SECONDS
        with closing(sqlite3.connect(tmp_path / FILE)) as rows:
            [kept] = rows.execute("SELECT value FROM settings WHERE name = ?", (LEFT,)).fetchone()
            assert list(json.loads(kept)) == [url]
        monkeypatch.setattr(chroma_client, "OPEN_SECONDS", 0.2)
        with pytest.raises(StoreError, match="timed out"):
            chroma.connect(url)


async def test_a_server_that_was_started_over_the_folder_keeps_its_data(tmp_path: Path) -> None:
    await filled(tmp_path, None)
    with chroma_server(tmp_path / VECTORS) as own:
        former = names(own)
        async with Memory.open(tmp_path, embedder=Letters(), chroma=own) as memory:
            await memory.index()
            assert (await whole(memory), await memory.left.places()) == (True, {})
            assert (len(former), len(names(own)), former & names(own)) == (1, 1, set())


async def test_a_server_that_is_away_is_noted_told_and_emptied_later(tmp_path: Path) -> None:
    with chroma_server(tmp_path / "server") as old:
        await filled(tmp_path / "memory", old)
    async with Memory.open(tmp_path / "memory", embedder=Letters()) as memory:
        await memory.index()
        assert await moon_by_vectors(memory)
    async with Memory.open(tmp_path / "memory", embedder=Letters()) as memory:
        assert f"{old!r} failed" in (await memory.stats(WORK)).left[old]
        [problem] = (await memory.verify()).problems
        assert (f"'{old}', which the vectors have left" in problem, f"--give-up {old}" in problem) == (True, True)
        proof = (await memory.forget_proved(WORK, Target(source="*/none"))).proof
        assert (proof.clean, proof.findings, list(proof.unread)) == (False, (), [old])
        assert "vectors may still be there" in proof.unread[old]
        with chroma_server(tmp_path / "server", int(old.rpartition(":")[2])):
            assert len(names(old)) == 1
            assert await memory.vacuum() == {}
            assert names(old) == set()
        assert await whole(memory)


async def test_without_an_embedder_a_proof_empties_all_places(tmp_path: Path) -> None:
    await filled(tmp_path, None)
    async with Memory.open(tmp_path) as memory:
        assert (await memory.forget_proved(WORK, Target(source="*/none"))).proof.clean
        assert not (tmp_path / VECTORS).exists()
    async with Memory.open(tmp_path, embedder=Letters()) as memory:
        await memory.index()
        assert await whole(memory)
    with refusing() as url:
        settings(tmp_path, left=json.dumps({url: {}}))
        async with Memory.open(tmp_path) as memory:
            # all was embedded when there was an embedder: what was left is not waited for
            assert "the key that it wants" in (await memory.vacuum())[url]
            assert (tmp_path / VECTORS).exists()
        settings(tmp_path, place=url)
        async with Memory.open(tmp_path) as memory:
            proof = (await memory.forget_proved(WORK, Target(source="*/none"))).proof
            assert "the key that it wants" in proof.unread[url]


def test_a_server_that_wants_a_key_can_be_given_up(tmp_path: Path) -> None:
    def run(*args: str) -> Done:
        return benchai("memory", *args, cwd=tmp_path, env={"BENCHAI_HOME": str(tmp_path)})

    write_config(tmp_path, tiny_config() | {"memory": {"path": str(tmp_path / "memory")}})
    run("remember", "Anna lives in Rome")
    with refusing() as url:
        settings(tmp_path / "memory", left=json.dumps({url: {"problem": "it refuses the key", "tried": 0}}))
        told = f"'{url}', which the vectors have left, may still hold some of what is forgotten: it refuses the key"
        assert told in run("stats").out
        kept = run("vacuum")
        assert (kept.code, told in kept.err) == (1, True)
        run("vacuum", "--give-up", "http://none:1").refused("'http://none:1'", url)
        assert run("vacuum", "--give-up", f"{url}/").code == 0
        assert "left" not in run("stats").out


@pytest.mark.skipif(not hasattr(os, "fork"), reason="movers are forked")
@pytest.mark.timeout(60 + 2 * ROUNDS)
def test_a_move_that_is_killed_at_any_step_goes_on(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.integration.memory_left_crash", str(tmp_path), str(ROUNDS)]
    argv.append(str(int.from_bytes(os.urandom(3))))
    done = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["kills"] == min(2 * ROUNDS, sum(json.loads(done.stdout)["steps"]))


def settings(folder: Path, **values: str) -> None:
    """Have a memory as it may be found: with these settings, and no notes but those named."""
    with closing(sqlite3.connect(folder / FILE)) as rows, rows:
        rows.execute("DELETE FROM settings WHERE name = ?", (LEFT,))
        rows.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", values.items())


def bytes_in(folder: Path, wanted: list[bytes]) -> set[bytes]:
    """Those that some file of a folder has."""
    files = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    return {one for one in wanted if any(one in file for file in files)}


async def moon_by_vectors(memory: Memory) -> bool:
    return "dense" in (await moon(memory)).passages[0].legs


@contextmanager
def stuck() -> Iterator[tuple[str, threading.Event]]:
    """The address of a server that answers nothing but its heartbeat, and what is set once it was asked more."""
    asked, ended = threading.Event(), threading.Event()

    class Stuck(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "heartbeat" in self.path:
                self.send_response(200)
                self.end_headers()
            else:
                asked.set()
                ended.wait()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stuck) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        ended.set()
        server.shutdown()
        thread.join()


@contextmanager
def refusing() -> Iterator[str]:
    """The address of a server that wants a key."""

    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
