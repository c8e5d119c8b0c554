"""Kill a process at one step after the other while it moves the vectors of a memory to another place.

    python -m tests.integration.memory_left_crash FOLDER ROUNDS SEED

They go from the memory's folder to a Chroma server and back, again and again; a step is a transaction, a call that
changes Chroma, or a file that goes. After each kill all places that hold vectors must be noted, and one of the two must
hold everything; then another process moves on to the end. ROUNDS steps by chance of each way, or all where there are
fewer. Writes the number of kills and of steps as JSON.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import chromadb  # noqa: F401 - before the forks
import httpx

from benchai.memory import index, probe
from benchai.memory.chroma import DATABASE, Link
from benchai.memory.database import Database
from benchai.memory.index import ChromaIndex
from benchai.memory.left import LEFT, PLACE
from benchai.memory.memory import FILE, VECTORS, Memory
from benchai.memory.opening import FOLDER, ID
from tests.integration.chroma_server import chroma_server
from tests.integration.memory_helpers import A, document
from tests.integration.vector_source import WordEmbedder

TEXTS = [f"text{number} of a document" for number in range(5)]
_REMOVES = ("os.remove", "os.rmdir")


class Steps:
    """Counts the steps of this process, and ends it as `kill -9` does before the one that is named."""

    def __init__(self, last: int) -> None:
        self.count, self._last = 0, last

    def take(self) -> None:
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def watch(self) -> None:
        """From now on each change of a file or of Chroma is a step."""
        for owner, name in ((Link, "make"), (Link, "drop"), (ChromaIndex, "upsert"), (ChromaIndex, "delete")):
            setattr(owner, name, self._before(getattr(owner, name)))
        Database.writing = self._before(Database.writing)  # type: ignore[method-assign]
        sys.addaudithook(lambda event, _: self.take() if event in _REMOVES else None)

    def _before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.take()
            return function(*args, **kwargs)

        return counted


class Look:
    """What stands in the files and on the server, without Chroma."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        with closing(sqlite3.connect(folder / FILE)) as rows:
            settings = dict(rows.execute("SELECT name, value FROM settings"))
            self.pending = rows.execute("SELECT count(*) FROM passages WHERE vector IS NULL").fetchone()[0]
        self.place, self.left = settings.get(PLACE), set(json.loads(settings.get(LEFT, "{}")))
        self.store = index.prefix_of(settings.get(ID, ""))

    def held(self) -> dict[str, int]:
        """How many vectors each place holds; those that hold none are left out."""
        return {name: count for name, count in ((FOLDER, self._in_folder()), (self.url, self._on_server())) if count}

    def _in_folder(self) -> int:
        file = self.folder / VECTORS / DATABASE
        if not file.exists():
            return 0
        with closing(sqlite3.connect(file)) as rows:
            return int(rows.execute("SELECT count(*) FROM embeddings").fetchone()[0])

    def _on_server(self) -> int:
        base = f"{self.url}/api/v2/tenants/default_tenant/databases/default_database/collections"
        found = [one for one in httpx.get(base).json() if one["name"].startswith(self.store)]
        return sum(int(httpx.get(f"{base}/{one['id']}/count").text) for one in found)


async def move(folder: Path, chroma: str | None, steps: Steps) -> None:
    steps.watch()
    async with Memory.open(folder, embedder=WordEmbedder(), chroma=chroma, wait=10) as memory:
        await memory.put(A, [document("/a", *TEXTS)])
        await memory.vacuum()
        await memory.index()
        verdict = await memory.verify()
        assert (verdict.problems, verdict.vectors) == ((), len(TEXTS)), verdict
        assert await memory.left.places() == {}


def child(folder: Path, chroma: str | None, last: int) -> int | None:
    """Move in a process of its own; how many steps that took, None where it was killed before the last."""
    listen, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        # the same look at the folder, without a process for each round
        probe.probe = lambda at, timeout=0.0: (
            probe._look(at) if (at / DATABASE).exists() else probe._without_database(at)
        )
        steps = Steps(last)
        try:
            asyncio.run(move(folder, chroma, steps))
            os.write(say, str(steps.count).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(3)
    os.close(say)
    with os.fdopen(listen) as stream:
        said = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL), f"step {last} to {chroma}: ended with {status}"
    return int(said) if status == 0 else None


def check(folder: Path, url: str, former: str, last: int) -> None:
    """Each place with vectors is noted, and what is left holds everything while the new one does not."""
    look = Look(folder, url)
    held = look.held()
    assert held.keys() <= {look.place, *look.left}, f"step {last}: {held} is held, noted {look.place} and {look.left}"
    whole = look.place != former and not look.pending and held.get(str(look.place)) == len(TEXTS)
    assert whole or held.get(former) == len(TEXTS), f"step {last}: {held}, {look.pending} to come, from {former}"


@contextmanager
def moved(folder: Path, url: str) -> Iterator[tuple[int, int]]:
    """A memory whose vectors are in its folder; how many steps it takes to the server, and back."""
    child(folder, None, -1)
    there, back = child(folder, url, -1), child(folder, None, -1)
    assert there is not None
    assert back is not None
    yield there, back


def main(folder: Path, rounds: int, seed: int) -> None:
    chance, kills = random.Random(seed), 0
    with chroma_server(folder / "server") as url, moved(folder / "memory", url) as counts:
        ways = ((counts[0], url, FOLDER), (counts[1], None, url))
        chosen = [chance.sample(range(count), min(count, rounds)) for count, _, _ in ways]
        for pair in zip(*(each + [-1] * (max(map(len, chosen)) - len(each)) for each in chosen), strict=True):
            for last, (_, chroma, former) in zip(pair, ways, strict=True):
                if child(folder / "memory", chroma, last) is None:
                    kills += 1
                    check(folder / "memory", url, former, last)
                    if chance.random() < 0.5:
                        # half of what was left may be gone
                        assert child(folder / "memory", None if former == FOLDER else former, -1)
                    assert child(folder / "memory", chroma, -1)
                held = Look(folder / "memory", url).held()
                assert held == {chroma or FOLDER: len(TEXTS)}, f"step {last}: {held} in the end"
    print(json.dumps({"kills": kills, "steps": list(counts)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
