"""Kept replies in SQLite: bounds, other processes, kills, damage, similar requests, the command."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchai.config.cache import SimilarConfig
from benchai.errors import BenchAIError
from benchai.runtime.router.cache import clearing, database
from benchai.runtime.router.cache.exact import ExactCache
from benchai.runtime.router.cache.identity import Identity, mark
from benchai.runtime.router.cache.overview import estimates, status
from benchai.runtime.router.cache.shadow import Verdict
from benchai.runtime.router.cache.similar import SimilarCache
from tests.integration.helpers import benchai, commands, write_config

__all__ = ["commands"]
MODEL = Identity("model.gguf", engine="e")
SECRET = "the-secret-words"


def body(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "temperature": 0} | fields


def reply(text: str = "Hi", **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"object": "chat.completion", "choices": [choice], "usage": {"total_tokens": 3}} | fields


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Home:
    """A folder for the file, what was told, and a cache that is opened as often as a test likes."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "cache" / "replies.sqlite"
        self.told: list[str] = []
        self.clock = Clock()
        self._opened: list[ExactCache] = []

    def open(self, *, size: int = 8, max_age: float = 3600, front: float = 1) -> ExactCache:
        """A cache; ``front`` in MiB, 0 reads everything from the file."""
        clock = self.clock
        cache = ExactCache(self.file, size=size, max_age=max_age, report=self.told.append, front=front, clock=clock)
        self._opened.append(cache)
        return cache

    def close(self) -> None:
        for cache in self._opened:
            cache.close()

    def text(self) -> bytes:
        """All bytes on the disk."""
        return b"".join(one.read_bytes() for one in self.file.parent.iterdir())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    found = Home(tmp_path)
    yield found
    found.close()


def put(cache: ExactCache, text: str, answer: str = "Hi", model: Identity = MODEL, **fields: Any) -> bytes:
    key = cache.key(model, body(text))
    assert key is not None
    assert cache.put(key, model, reply(answer, **fields))
    return key


def got(cache: ExactCache, text: str, model: Identity = MODEL, *, usage: bool = True) -> str | None:
    key = cache.key(model, body(text))
    assert key is not None
    found = cache.get(key, usage=usage)
    return None if found is None else json.loads(found)["choices"][0]["message"]["content"]


@pytest.mark.parametrize("front", [1, 0])
def test_a_reply_is_given_again_by_memory_and_by_the_file(home: Home, front: float) -> None:
    cache = home.open(front=front)
    assert got(cache, "Hello") is None
    key = put(cache, "Hello", "Grüß dich", benchai={"session": "of another request"})
    assert cache.flush()
    assert got(cache, "Hello") == "Grüß dich"
    assert json.loads(cache.get(key) or b"") == reply("Grüß dich")
    assert got(cache, "Hello there") is None
    cache.close()
    assert got(home.open(front=front), "Hello") == "Grüß dich"
    assert home.told == []


def test_the_file_is_for_this_user_alone(home: Home) -> None:
    cache = home.open()
    put(cache, "Hello")
    assert cache.flush()
    assert len(list(home.file.parent.iterdir())) == 3
    for file in home.file.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    cache.close()
    home.file.chmod(0o644)
    home.open()
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o600


def test_only_whole_replies_are_kept(home: Home) -> None:
    cache = home.open()
    key = cache.key(MODEL, body()) or b""
    cut = reply()
    cut["choices"][0]["finish_reason"] = "length"
    for refused in (None, cut, {"error": {"message": "no"}}, reply(""), reply("x" * 5_000_000)):
        assert not cache.put(key, MODEL, refused)
    assert cache.get(key) is None


def test_a_reply_without_usage_is_of_no_use_where_usage_is_wanted(home: Home) -> None:
    cache = home.open()
    put(cache, "Hello", usage=None)
    assert got(cache, "Hello", usage=True) is None
    assert got(cache, "Hello", usage=False) == "Hi"


def test_replies_grow_old(home: Home) -> None:
    cache = home.open(max_age=100)
    put(cache, "Hello")
    home.clock.now += 99
    assert got(cache, "Hello") == "Hi"
    home.clock.now += 2
    assert got(cache, "Hello") is None
    # a clock that was set back by hours
    home.clock.now -= 5000
    assert got(cache, "Hello") is None
    home.clock.now += 5000
    put(cache, "other")
    assert cache.flush()
    assert status(home.file).sources[0].replies == 1


@pytest.mark.parametrize("front", [1, 0])
def test_the_size_is_bounded_and_what_is_used_stays(home: Home, front: float) -> None:
    cache = home.open(size=1, front=front)
    kilobytes = 100
    put(cache, "used", "u" * kilobytes * 1024)
    for number in range(40):
        home.clock.now += 2
        put(cache, f"{number}", f"{number:03}" * (kilobytes * 1024 // 3))
        assert cache.flush()
        assert got(cache, "used") == "u" * kilobytes * 1024
        assert cache.flush()
    assert status(home.file).sources[0].size < 1024 * 1024
    assert status(home.file).sources[0].replies >= 8
    assert got(cache, "39") is not None
    assert got(cache, "0") is None
    assert home.file.stat().st_size < 2 * 1024 * 1024
    assert len(cache._front._entries) <= 10


def test_replies_of_a_changed_model_are_deleted_on_sight(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"first")
    first = Identity(str(file), (mark(file),))
    cache = home.open()
    key = put(cache, "Hello", SECRET, first)
    put(cache, "Hello", "of another model")
    os.utime(file, ns=(1, 1))
    # its engine still runs: nobody knows which file a reply comes from
    assert cache.key(first, body()) is None
    assert not cache.put(key, first, reply())
    second = Identity(str(file), (mark(file),))
    assert got(cache, "Hello", second) is None
    assert got(cache, "Hello") == "of another model"
    assert cache.flush()
    assert [one.source for one in status(home.file).sources] == ["model.gguf"]
    cache.close()
    assert SECRET.encode() not in home.text()


@pytest.mark.parametrize("kind", ["BLOB", "TEXT"])
def test_an_altered_row_is_no_reply(home: Home, kind: str) -> None:
    cache = home.open(front=0)
    put(cache, "Hello")
    assert cache.flush()
    with closing(sqlite3.connect(home.file)) as opened, opened:
        opened.execute(f"UPDATE replies SET reply = CAST(replace(CAST(reply AS TEXT), 'Hi', 'Ho') AS {kind})")
    assert got(cache, "Hello") is None
    assert cache.flush()
    assert status(home.file).sources == []


def test_counts(home: Home) -> None:
    cache = home.open()
    assert got(cache, "Hello") is None
    put(cache, "Hello")
    assert cache.flush()
    for _ in range(3):
        assert got(cache, "Hello")
    cache.close()
    found = status(home.file)
    assert (found.hits, found.misses, found.sources[0].hits) == (3, 1, 3)


def test_clearing_deletes_for_other_caches_too(home: Home) -> None:
    cache = home.open()
    put(cache, "Hello", SECRET * 50_000)
    assert cache.flush()
    database.damaged_file(home.file).write_bytes(b"old")
    assert SECRET.encode() in home.text()
    assert clearing.clear(home.file) == 1
    assert got(cache, "Hello") is None
    assert SECRET.encode() not in home.text()
    assert len(home.text()) < 200_000
    assert not database.damaged_file(home.file).exists()
    put(cache, "Hello", "again")
    assert got(cache, "Hello") == "again"
    assert cache.flush()
    assert got(home.open(), "Hello") == "again"
    assert clearing.clear(home.file.with_name("none")) == 0


def test_what_waits_for_the_disk_is_not_written_after_a_clear(home: Home) -> None:
    cache = home.open()
    holding = sqlite3.connect(home.file, isolation_level=None)
    with closing(holding):
        holding.execute("BEGIN IMMEDIATE")
        put(cache, "Hello", SECRET)
        cache.database._hurry.set()
        # a clear that comes in between
        holding.execute("UPDATE facts SET value = value + 1 WHERE name = 'generation'")
        holding.execute("COMMIT")
    assert cache.flush()
    assert got(cache, "Hello") is None
    assert status(home.file).sources == []


def test_a_file_that_is_no_database_is_set_aside(home: Home) -> None:
    home.file.parent.mkdir(parents=True)
    home.file.write_bytes(b"this is no database" * 400)
    cache = home.open()
    put(cache, "Hello")
    assert cache.flush()
    assert len(home.told) == 1
    assert "set aside" in home.told[0]
    assert database.damaged_file(home.file).read_bytes() == b"this is no database" * 400
    cache.close()
    assert got(home.open(), "Hello") == "Hi"


def test_a_file_that_is_damaged_while_it_is_used_is_set_aside(home: Home) -> None:
    cache = home.open(front=0)
    for number in range(200):
        put(cache, str(number), "x" * 1000)
    assert cache.flush()
    cache.close()
    content = bytearray(home.file.read_bytes())
    for at in range(4096, len(content)):
        content[at] = 0xAA
    home.file.write_bytes(content)
    cache = home.open(front=0)
    for number in range(200):
        got(cache, str(number))
    assert cache.flush()
    put(cache, "new")
    assert cache.flush()
    assert got(cache, "new") == "Hi"
    assert [line for line in home.told if "set aside" in line] == home.told
    assert len(home.told) == 1


def test_a_file_that_another_process_has_begun_anew_is_not_set_aside(home: Home) -> None:
    cache = home.open(front=0)
    put(cache, "Hello")
    assert cache.flush()
    damage = sqlite3.DatabaseError("malformed")
    cache.database._set_aside(home.file.stat().st_ino + 1, damage)
    assert got(cache, "Hello") == "Hi"
    cache.database._set_aside(home.file.stat().st_ino, damage)
    assert got(cache, "Hello") is None
    assert len(home.told) == 1


def test_a_file_that_is_deleted_is_made_anew_and_memory_is_emptied(home: Home) -> None:
    cache = home.open()
    put(cache, "Hello")
    assert cache.flush()
    for file in home.file.parent.iterdir():
        file.unlink()
    assert got(cache, "Hello") is None
    put(cache, "Hello", "again")
    assert cache.flush()
    assert got(home.open(), "Hello") == "again"
    assert home.told == []


def test_without_a_disk_memory_is_left(home: Home) -> None:
    home.file.parent.write_bytes(b"a file where the folder should be")
    cache = home.open()
    put(cache, "Hello")
    assert cache.flush()
    assert got(cache, "Hello") == "Hi"
    assert len(home.told) == 1
    assert "memory alone" in home.told[0]


def test_a_disk_that_does_not_keep_up_does_not_fill_the_memory(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PENDING", 1_000_000)
    cache = home.open()
    with closing(sqlite3.connect(home.file, isolation_level=None)) as holding:
        holding.execute("BEGIN IMMEDIATE")
        for number in range(20):
            put(cache, str(number), "x" * 100_000)
        holding.execute("ROLLBACK")
    assert cache.flush()
    assert status(home.file).sources[0].replies == 9
    assert ["keep up" in line for line in home.told] == [True]


WRITER = """
import sys
from pathlib import Path
from benchai.runtime.router.cache.exact import ExactCache
from benchai.runtime.router.cache.identity import Identity
model = Identity("model.gguf", engine="e")
cache = ExactCache(Path(sys.argv[1]), size=8, max_age=3600, report=print)
for number in range(int(sys.argv[3])):
    message = {"role": "user", "content": f"{sys.argv[2]} {number}"}
    key = cache.key(model, {"messages": [message], "temperature": 0})
    choice = {"index": 0, "message": {"role": "assistant", "content": f"{number}" * 50}, "finish_reason": "stop"}
    cache.put(key, model, {"object": "chat.completion", "choices": [choice], "usage": {}})
    if number % 50 == 49:
        cache.flush()
        print(number, flush=True)
cache.close()
"""


def writer(home: Home, name: str, count: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", WRITER, str(home.file), name, str(count)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_two_processes_write_one_file(home: Home) -> None:
    with writer(home, "a", 100) as one, writer(home, "b", 100) as two:
        said = [process.communicate(timeout=28)[0].split() for process in (one, two)]
    assert said == [["49", "99"]] * 2
    assert status(home.file).sources[0].replies == 200
    assert got(home.open(max_age=10**10), "never") is None


def test_what_is_written_after_another_process_has_closed_the_file_is_not_lost(home: Home) -> None:
    home.clock.now = time.time()
    cache = home.open()
    put(cache, "before")
    assert cache.flush()
    with writer(home, "other", 1) as other:
        assert other.wait(28) == 0
    put(cache, "after")
    assert cache.flush()
    assert status(home.file).sources[0].replies == 3


def test_a_kill_costs_nothing_that_was_on_the_disk(home: Home) -> None:
    with writer(home, "a", 1_000_000) as process:
        assert process.stdout is not None
        for _ in range(3):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
    home.clock.now = time.time()
    cache = home.open()
    assert all(got(cache, f"a {number}") == f"{number}" * 50 for number in range(last + 1))
    put(cache, "Hello")
    assert cache.flush()
    assert home.told == []
    with closing(sqlite3.connect(home.file)) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


class Embedder:
    """Embeddings by the words of a text, so that a test can say how near two texts are."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken = False

    async def embed(self, text: str) -> list[float]:
        self.asked.append(text)
        if self.broken:
            raise BenchAIError("no model of the role embed")
        vector = [0.0] * 256
        for word in text.lower().replace("?", "").split():
            vector[random.Random(word).randrange(256)] += 1
        return vector


def similar(cache: ExactCache, home: Home, *, chance: float = 0.5, **settings: Any) -> SimilarCache:
    config = SimilarConfig(enabled=True, **{"threshold": 0.8, "shadow": 0.1} | settings)
    return SimilarCache(
        cache, EMBEDDER, config, model="e", report=home.told.append, chance=lambda: chance, clock=home.clock
    )


EMBEDDER = Embedder()
ASKED, AGAIN, OTHER = (
    "How do I install NumPy on Linux?",
    "how can I install NumPy on Linux",
    "How do I install NumPy on Windows?",
)


async def learnt(cache: ExactCache, known: SimilarCache, text: str, answer: str, **fields: Any) -> None:
    asked = body(text, **fields)
    key = cache.key(MODEL, asked)
    assert key is not None
    assert cache.put(key, MODEL, reply(answer))
    await known.add(MODEL, asked, key)
    assert cache.flush()


async def trusted(known: SimilarCache) -> None:
    """As many shadow runs that agree as it takes until hits are given."""
    for _ in range(80):
        hit = await known.find(MODEL, body(AGAIN))
        assert hit is not None
        known.judge(hit, reply("Use pip."))
    assert known.verdict == "on"


@pytest.mark.anyio
async def test_a_similar_request_is_found_and_first_of_all_only_compared(home: Home) -> None:
    cache = home.open()
    known = similar(cache, home)
    assert await known.find(MODEL, body(ASKED)) is None
    await learnt(cache, known, ASKED, "Use pip.")
    hit = await known.find(MODEL, body(AGAIN))
    assert hit is not None
    assert json.loads(hit.reply) == reply("Use pip.")
    assert (hit.text, hit.shadow) == (ASKED, True)
    assert 0.8 <= hit.similarity <= 1.0001
    # near, but of another meaning
    assert await known.find(MODEL, body(OTHER)) is None
    assert await known.find(MODEL, body("What is the weather?")) is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    "changed",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"seed": 3},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": AGAIN}]},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "user", "content": AGAIN}]},
        {"messages": [{"role": "user", "name": "n", "content": AGAIN}]},
        {"messages": [{"role": "user", "content": AGAIN}, {"role": "assistant", "content": "pip"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": AGAIN}] * 2}]},
        {"messages": []},
    ],
)
async def test_nothing_but_the_last_words_may_differ(home: Home, changed: dict[str, Any]) -> None:
    cache = home.open()
    known = similar(cache, home)
    await learnt(cache, known, ASKED, "Use pip.")
    assert await known.find(MODEL, body(AGAIN)) is not None
    assert await known.find(MODEL, body(AGAIN) | changed) is None
    assert await known.find(Identity("model.gguf", engine="f"), body(AGAIN)) is None


@pytest.mark.anyio
async def test_hits_are_given_once_enough_shadow_runs_agreed(home: Home) -> None:
    cache = home.open()
    known = similar(cache, home, max_false=0.05)
    await learnt(cache, known, ASKED, "Use pip.")
    await trusted(known)
    hit = await known.find(MODEL, body(AGAIN))
    assert hit is not None
    assert not hit.shadow
    assert "trial -> on" in home.told[-1]
    # what is known outlives the process; the share of shadow runs goes on
    cache.close()
    again = similar(home.open(), home, max_false=0.05, chance=0.09)
    assert again.verdict == "on"
    hit = await again.find(MODEL, body(AGAIN))
    assert hit is not None
    assert hit.shadow


@pytest.mark.anyio
async def test_it_switches_itself_off(home: Home) -> None:
    cache = home.open()
    known = similar(cache, home, max_false=0.05)
    await learnt(cache, known, ASKED, "Use pip.")
    await trusted(known)
    hit = await known.find(MODEL, body(AGAIN))
    assert hit is not None
    verdicts: list[Verdict] = []
    while known.verdict != "off":
        assert known.judge(hit, reply("Use conda.")) is False
        verdicts.append(known.verdict)
    assert verdicts[0] == "trial"
    assert len(verdicts) < 20
    asked = len(EMBEDDER.asked)
    assert await known.find(MODEL, body(AGAIN)) is None
    assert len(EMBEDDER.asked) == asked
    assert "trial -> off" in home.told[-1]
    cache.close()
    assert similar(home.open(), home, max_false=0.05).verdict == "off"
    # other settings are another thing
    assert similar(home.open(), home, threshold=0.99).verdict == "trial"
    [found] = estimates(home.file)
    assert (found.runs, found.false) == (80 + len(verdicts), len(verdicts))


@pytest.mark.anyio
async def test_clearing_wakes_one_that_switched_itself_off(home: Home) -> None:
    cache = home.open()
    known = similar(cache, home, max_false=0.05)
    await learnt(cache, known, ASKED, "Use pip.")
    hit = await known.find(MODEL, body(AGAIN))
    assert hit is not None
    while known.verdict != "off":
        known.judge(hit, reply("Use conda."))
    assert cache.flush()
    assert await known.find(MODEL, body(AGAIN)) is None
    assert clearing.clear(home.file) == 1
    # a reply to what was asked before the clear comes behind it
    assert known.judge(hit, reply("Use conda.")) is False
    await learnt(cache, known, ASKED, "Use pip.")
    assert known.verdict == "trial"
    assert await known.find(MODEL, body(AGAIN)) is not None
    assert (known.estimate.runs, estimates(home.file)) == (0, [])


@pytest.mark.anyio
async def test_without_an_embedding_nothing_is_found_and_nothing_fails(home: Home) -> None:
    cache = home.open()
    known = similar(cache, home)
    await learnt(cache, known, ASKED, "Use pip.")
    EMBEDDER.broken = True
    try:
        assert await known.find(MODEL, body("Another question")) is None
        assert await known.find(MODEL, body("A third question")) is None
    finally:
        EMBEDDER.broken = False
    assert ["no embedding" in line for line in home.told] == [True]


@pytest.mark.anyio
async def test_a_reply_that_is_gone_is_not_given(home: Home) -> None:
    cache = home.open()
    known = similar(cache, home)
    await learnt(cache, known, ASKED, "Use pip.")
    home.clock.now += 4000
    assert await known.find(MODEL, body(AGAIN)) is None


@pytest.mark.anyio
async def test_the_command(home: Home, tmp_path: Path, own_home: Path) -> None:
    home.file = own_home / "cache" / "replies.sqlite"
    write_config(tmp_path, {"models": {"tiny": {"file": "builtin:tiny"}}})
    empty = benchai("cache", "status", cwd=tmp_path)
    assert (empty.code, empty.err) == (0, "")
    assert not home.file.exists()
    assert "no shadow runs" in benchai("cache", "report", cwd=tmp_path).err
    cache = home.open()
    known = similar(cache, home, max_false=0.05)
    await learnt(cache, known, ASKED, SECRET)
    hit = await known.find(MODEL, body(AGAIN))
    assert hit is not None
    known.judge(hit, reply("Use conda."))
    assert cache.flush()
    shown = benchai("cache", "status", cwd=tmp_path)
    assert "model.gguf: replies 1" in shown.out
    data = json.loads(benchai("cache", "status", "--json", cwd=tmp_path).out)
    assert (data["similar"], data["sources"][0]["replies"], data["settings"]["size"]) == (1, 1, 256)
    line = benchai("cache", "report", cwd=tmp_path).out
    assert "false 1 of 1 (20.7% to 100.0%, allowed 5.0%): off" in line
    [one] = json.loads(benchai("cache", "report", "--json", cwd=tmp_path).out)
    assert (one["runs"], one["false"], one["verdict"]) == (1, 1, "off")
    cleared = benchai("cache", "clear", cwd=tmp_path)
    assert (cleared.code, cleared.out, cleared.err) == (0, "", "deleted 1 reply\n")
    assert cache.get(cache.key(MODEL, body(ASKED)) or b"") is None
    assert SECRET.encode() not in home.text()
    assert ASKED.encode() not in home.text()


def test_the_command_with_a_damaged_file(tmp_path: Path, own_home: Path) -> None:
    file = own_home / "cache" / "replies.sqlite"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"this is no database" * 400)
    write_config(tmp_path, {"models": {"tiny": {"file": "builtin:tiny"}}})
    benchai("cache", "status", cwd=tmp_path).refused(str(file), "benchai cache clear", code=1)
    assert benchai("cache", "clear", cwd=tmp_path).code == 0
    assert not file.exists()
