"""Kill a process again and again while it works on a memory with vectors; each next one looks at what is left.

    python -m tests.integration.memory_index_crash FOLDER ROUNDS SEED

One import of Chroma serves all rounds: each is a fork. What a child is about to do and what it has done it tells its
parent, who keeps the sum of it in told.json. Writes the number of rounds and of acknowledged calls as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import chromadb  # noqa: F401 - before the forks
import numpy as np

from benchai.memory import index, probe
from benchai.memory.facts import Fact
from benchai.memory.forget import Target
from benchai.memory.memory import Memory
from benchai.memory.search import Query
from benchai.memory.turns import Said
from tests.integration.memory_helpers import A, document
from tests.integration.vector_source import WordEmbedder

assert index
State = dict[str, Any]
Op = dict[str, Any]
#: Acknowledges a drop that it has not done: a check that does not notice this is none.
LIES = os.environ.get("MEMORY_CRASH_LIES") == "1"
_EMBEDDED = "SELECT id, title, heading, text FROM passages"


def op_of(chance: random.Random, mark: str, state: State) -> Op:
    """Something to do; each text has a word of its own."""
    kinds = ("put", "put", "put", "turns", "turns", "drop", "forget", "index", "rebuild")
    kind = chance.choices(kinds, weights=(1, 1, 1, 1, 1, 1, 0.7, 0.7, 0.1))[0]
    source, thread = f"/{chance.randrange(6)}", f"thread{chance.randrange(4)}"
    if kind == "put":
        kept = [text for text in state["documents"].get(source, ()) if chance.random() < 0.5]
        texts = [*kept, *(f"{mark}p{place} of a document" for place in range(chance.randint(1, 40)))]
        return {"do": "put", "source": source, "title": f"title {chance.randrange(3)}", "texts": texts}
    if kind == "turns":
        return {"do": "turns", "thread": thread, "texts": [f"{mark}t{place} was said" for place in range(2)]}
    return {"do": kind, "source": source, "thread": thread}


async def do(memory: Memory, op: Op, mark: str) -> None:
    if op["do"] == "put":
        await memory.put(A, [document(op["source"], *op["texts"], title=op["title"])])
    elif op["do"] == "drop" and not LIES:
        await memory.drop(A, [op["source"]])
    elif op["do"] == "turns":
        said = [Said(role="user", text=text) for text in op["texts"]]
        numbers = await memory.record(A, op["thread"], mark, said)
        await memory.learn(A, Fact(subject=mark, relation="is", value=mark, text=f"{mark}f is learned"), numbers[:1])
    elif op["do"] == "forget":
        await memory.forget(A, Target(thread=op["thread"]))
    elif op["do"] == "index":
        await memory.index()
    elif op["do"] == "rebuild":
        await memory.rebuild()


def applied(state: State, op: Op) -> State:
    """What is kept once something was done."""
    documents, threads = dict(state["documents"]), dict(state["threads"])
    if op["do"] == "put":
        documents[op["source"]] = op["texts"]
    elif op["do"] == "drop":
        documents.pop(op["source"], None)
    elif op["do"] == "turns":
        threads[op["thread"]] = [*threads.get(op["thread"], ()), *op["texts"]]
    elif op["do"] == "forget":
        threads.pop(op["thread"], None)
    return {"documents": documents, "threads": threads}


async def kept(memory: Memory) -> State:
    rows = await memory._reader.run(
        lambda: memory._reading.connection.execute(
            "SELECT d.source, p.text FROM passages p JOIN documents d ON p.kind = 'document' AND d.id = p.owner "
            "ORDER BY p.place"
        ).fetchall()
    )
    documents: dict[str, list[str]] = {}
    for source, text in rows:
        documents.setdefault(source, []).append(text)
    threads = [thread.thread for thread in await memory.threads(A)]
    said = {thread: [turn.text for turn in await memory.turns_of(A, thread)] for thread in threads}
    return {"documents": documents, "threads": said}


async def check(memory: Memory, told: State, embedder: WordEmbedder) -> State:
    """Everything that was acknowledged is there, nothing else, and the indexes say the same; what is there."""
    found = await kept(memory)
    possible = [told["state"], *([applied(told["state"], told["begun"])] if told["begun"] else [])]
    assert found in possible, f"{told['begun']} was under way; kept: {found}; told: {told['state']}"
    await memory.index()
    verdict = await memory.verify()
    assert verdict.problems == (), verdict.problems
    assert verdict.vectors == verdict.passages
    await check_vectors(memory, embedder)
    texts = {text for each in (*found["documents"].values(), *found["threads"].values()) for text in each}
    for gone in [text for text in told["seen"] if text not in texts][-40:]:
        hits = (await memory.search(A, Query(text=gone, count=50))).passages
        assert gone not in [hit.text for hit in hits], f"{gone!r} is found"
    for text in sorted(texts)[:5]:
        # many are alike to an embedder of 16 dimensions
        hits = (await memory.search(A, Query(text=text, count=500))).passages
        legs = [set(hit.legs) for hit in hits if hit.text == text]
        assert legs == [{"lexical", "dense"}], f"{text!r} is found by {legs}"
    return found


async def check_vectors(memory: Memory, embedder: WordEmbedder) -> None:
    """The vector of each passage is that of its present text."""
    assert memory.vectors is not None
    rows = await memory._reader.run(lambda: memory._reading.connection.execute(_EMBEDDED).fetchall())
    found = await memory.vectors.of([row[0] for row in rows])
    for number, title, heading, text in rows:
        above = " > ".join(part for part in (title, heading) if part)
        [expected] = await embedder.embed([f"{above}\n{text}" if above else text])
        assert np.allclose(found[number], expected, atol=1e-4), f"the vector of {text!r} is that of another text"


async def work(folder: Path, say: int, mark: str) -> None:
    told = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    chance, embedder = random.Random(mark), WordEmbedder()
    async with Memory.open(folder / "memory", embedder=embedder, wait=10) as memory:
        state = await check(memory, told, embedder)
        _tell(say, {"checked": state})
        number = 0
        while True:
            number += 1
            name = f"{mark}n{number}"
            op = op_of(chance, name, state)
            _tell(say, {"begun": op})
            await do(memory, op, name)
            state = applied(state, op)
            _tell(say, {"done": op})


def _tell(say: int, line: dict[str, Any]) -> None:
    data = json.dumps(line).encode() + b"\n"
    while data:
        data = data[os.write(say, data) :]


def child(folder: Path, say: int, mark: str) -> None:
    # the same look at the folder, without a process for each round
    probe.probe = lambda at, timeout=0.0: probe._look(at) if (at / probe.DATABASE).exists() else None
    try:
        asyncio.run(work(folder, say, mark))
    except BaseException:
        traceback.print_exc()
        os._exit(3)


def one_round(folder: Path, chance: random.Random, mark: str) -> int:
    """Kill a child at a random moment, and keep what it told; the number of calls that it acknowledged."""
    listen, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(listen)
        child(folder, say, mark)
    os.close(say)
    with os.fdopen(listen, "rb") as stream:
        # some do not come as far as to work
        early = chance.random() < 0.15
        lines = [] if early else [stream.readline()]
        select.select([], [], [], chance.random() * (1.0 if early else 0.4))
        os.kill(pid, signal.SIGKILL)
        lines += [line for line in stream if line.endswith(b"\n")]
    status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"{mark}: ended with {status}"
    return hear(folder / "told.json", [json.loads(line) for line in lines if line])


def hear(file: Path, lines: list[dict[str, Any]]) -> int:
    told = json.loads(file.read_text(encoding="utf-8"))
    for line in lines:
        if "checked" in line:
            told |= {"state": line["checked"], "begun": None}
        elif "begun" in line:
            told["begun"] = line["begun"]
            told["seen"] = [*told["seen"], *line["begun"].get("texts", ())][-400:]
        else:
            told |= {"state": applied(told["state"], line["done"]), "begun": None}
    file.write_text(json.dumps(told), encoding="utf-8")
    return sum("done" in line for line in lines)


def main(folder: Path, rounds: int, seed: int) -> None:
    began = {"state": {"documents": {}, "threads": {}}, "begun": None, "seen": []}
    (folder / "told.json").write_text(json.dumps(began), encoding="utf-8")
    chance, clock = random.Random(seed), time.monotonic()
    acknowledged = sum(one_round(folder, chance, f"s{seed}r{number}") for number in range(rounds))
    print(json.dumps({"rounds": rounds, "acknowledged": acknowledged, "seconds": round(time.monotonic() - clock)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
