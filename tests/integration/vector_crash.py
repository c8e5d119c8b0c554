"""Kill a process again and again while it brings the vector index up to what is kept; then see what is there.

    python -m tests.integration.vector_crash FOLDER ROUNDS [SEED]

One import of Chroma serves all rounds: each is a fork that takes the folder, mends it, checks it, and works on until
the parent kills it. Writes the number of rounds, of folders made anew and of passages in the end as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import chromadb  # noqa: F401 - before the forks
import numpy as np

from benchai.memory import probe
from benchai.memory.index import ChromaIndex
from benchai.memory.owner import Owner
from benchai.memory.reindex import reindex
from tests.integration.vector_source import DIMENSION, Rows, WordEmbedder

WORDS = [f"word{number}" for number in range(200)]


def change(rows: Rows, random_: random.Random) -> None:
    """Add some passages, and drop some."""
    rows.add([(random_.randrange(3), " ".join(random_.choices(WORDS, k=5))) for _ in range(random_.randrange(400))])
    kept = list(rows.all())
    rows.drop(random_.sample(kept, min(len(kept), random_.randrange(200))))


async def check(rows: Rows, index: ChromaIndex, embedder: WordEmbedder) -> None:
    """What is kept and what the index holds are the same, vector by vector, and can be found."""
    kept = rows.all()
    assert index.ids() == set(kept), f"{len(index.ids())} vectors of {len(kept)} passages"
    expected = await embedder.embed([text for _, text in kept.values()])
    found = index.vectors(list(kept))
    assert len(found) == len(kept), f"{len(found)} vectors can be read of {len(kept)}"
    for number, vector in zip(kept, expected, strict=True):
        assert np.allclose(found[number], vector, atol=1e-4), f"passage {number} has a vector of another"
    for number in list(kept)[:: max(1, len(kept) // 20)]:
        hits = index.query(found[number], [kept[number][0]], 50)
        assert hits[0][1] > 0.99, f"passage {number} can't be found"


async def work(folder: Path, say: int, seed: int) -> None:
    random_ = random.Random(seed)
    embedder = WordEmbedder()
    with Owner.take(folder, wait=10):
        rows, vectors = Rows(folder / "rows.sqlite"), folder / "vectors"
        if (vectors / probe.DATABASE).exists() and probe._look(vectors) is not None:
            shutil.rmtree(vectors)
            rows.forget_all()
            os.write(say, b"a")
        index = ChromaIndex.in_folder(vectors, embedder.fingerprint, DIMENSION)
        await reindex(rows, embedder, index)
        await check(rows, index, embedder)
        os.write(say, b"c")
        while True:
            change(rows, random_)
            await reindex(rows, embedder, index, batch=50)


def child(folder: Path, say: int, seed: int) -> None:
    try:
        asyncio.run(work(folder, say, seed))
    except BaseException:
        traceback.print_exc()
        os._exit(3)


def one_round(folder: Path, seed: int) -> int:
    """Kill the child a random while after it has checked what the last one left; whether that was made anew."""
    listen, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(listen)
        child(folder, say, seed)
    os.close(say)
    said = b""
    while not said.endswith(b"c") and (more := os.read(listen, 1)):
        said += more
    if said.endswith(b"c"):
        # the moment is what is tried here: anywhere in the work
        time.sleep(random.Random(seed).uniform(0, 0.5))
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    os.close(listen)
    assert os.WIFSIGNALED(status), f"round {seed}: the process ended with status {os.waitstatus_to_exitcode(status)}"
    assert os.WTERMSIG(status) == signal.SIGKILL, f"round {seed}: the process ended by signal {os.WTERMSIG(status)}"
    return said.count(b"a")


def main(folder: Path, rounds: int, first: int) -> None:
    anew = sum(one_round(folder, seed) for seed in range(first, first + rounds))
    print(json.dumps({"rounds": rounds, "anew": anew, "passages": len(Rows(folder / "rows.sqlite").all())}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
