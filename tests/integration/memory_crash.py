"""A program that kills writers of a memory at random points and looks at what they leave.

``python -m tests.integration.memory_crash FOLDER ROUNDS SEED``; exit code 1 tells that something was lost. Children are
forked, which is safe, for this program has one thread, and saves the start of an interpreter for each round.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchai.errors import UnknownMemory
from benchai.memory.database import Database
from benchai.memory.facts import Fact, Facts
from benchai.memory.forget import Forgetting, Target
from benchai.memory.howtos import Howtos
from benchai.memory.pending import Pending
from benchai.memory.store import Store
from benchai.memory.turns import Said, Turns
from tests.integration.memory_helpers import A, check, document

#: Tells of what it has not done yet: a check that does not notice this is none.
LIES = os.environ.get("MEMORY_CRASH_LIES") == "1"


def work(database: Database, chance: random.Random, mark: str) -> Iterator[dict[str, Any]]:
    """Calls on a memory without end; each is told when it is done."""
    turns, facts, store = Turns(database), Facts(database), Store(database)
    Pending(database).use("fingerprint")
    number = 0
    while True:
        number += 1
        name = f"{mark}-{number}"
        texts = [f"{name} turn {place} " + "word " * chance.randint(1, 600) for place in range(chance.randint(1, 4))]
        lie = LIES and {"turns": texts}
        if lie:
            yield lie
        numbers = turns.record(A, f"thread{number % 3}", name, [Said(role="user", text=text) for text in texts])
        if not lie:
            yield {"turns": texts}
        city = Fact(subject="user", relation="lives_in", value=name, text=f"The user lives in {name}")
        facts.add(A, city, numbers[:1], "tiny/1")
        yield {"fact": name}
        pieces = [f"{name} piece {place}" for place in range(chance.randint(1, 30))]
        store.put(A, [document(f"/{number % 4}", *pieces)])
        yield {"document": f"/{number % 4}", "pieces": pieces}
        Howtos(database).learned(A, f"task {number % 3}", pieces[:3], "react", numbers[-1:])
        # the first one stays, and with it the fact
        if len(numbers) > 1 and chance.random() < 0.6:
            gone = chance.choice(numbers[1:])
            told = turns.show(A, f"t{gone}").text
            try:
                Forgetting(database).forget(A, Target(ids=(f"t{gone}",)))
            except UnknownMemory:
                continue
            yield {"gone": told}


def child(folder: Path, told: int, seed: str) -> None:
    """Write and tell, until somebody puts an end to it."""
    with Database(folder / "memory.sqlite") as database:
        for done in work(database, random.Random(seed), seed):
            os.write(told, json.dumps(done).encode() + b"\n")


def killed(folder: Path, chance: random.Random, seed: str) -> list[dict[str, Any]]:
    """What a writer told before it was killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            child(folder, writing, seed)
        finally:
            os._exit(3)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        wanted = chance.randint(0, 14)
        lines = [stream.readline() for _ in range(wanted)]
        until = time.perf_counter() + chance.random() * 0.02
        while time.perf_counter() < until:
            pass
        os.kill(pid, signal.SIGKILL)
        # half a line was not told
        lines += [line for line in stream if line.endswith(b"\n")]
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"the writer ended by itself: {status}"
    return [json.loads(line) for line in lines]


class Told:
    """What all writers told together, in their order."""

    def __init__(self) -> None:
        self.turns: dict[str, None] = {}
        self.documents: dict[str, list[str]] = {}
        self.last_fact = ""
        self.gone: set[str] = set()

    def hear(self, line: dict[str, Any]) -> None:
        self.turns |= dict.fromkeys(line.get("turns", ()))
        self.last_fact = line.get("fact", self.last_fact)
        if "document" in line:
            self.documents[line["document"]] = line["pieces"]
        if "gone" in line:
            self.gone.add(line["gone"])

    def check(self, database: Database, mark: str) -> None:
        """Every row that was told of is there; what nobody told of may be there, of the last writer alone."""
        connection = database.connection
        kept = {row[0] for row in connection.execute("SELECT text FROM turns")}
        missing = [text[:60] for text in self.turns if text not in kept and text not in self.gone]
        # of the writer's last call, nobody knows whether it forgot
        assert len(missing) <= 1, f"turns are lost: {missing}"
        assert not [text for text in missing if not text.startswith(mark)], f"turns are lost: {missing}"
        assert not kept & self.gone, "turns that were forgotten are there"
        untold = [text[:60] for text in kept if text not in self.turns and not text.startswith(mark)]
        assert not untold, f"turns that nobody told of, of a writer before the last one: {untold}"
        self.turns = dict.fromkeys(kept)
        holding = [fact.value for fact in Facts(database).holding(A)]
        expected = [self.last_fact] if self.last_fact else []
        late = len(holding) == 1 and holding[0].startswith(mark)
        assert holding == expected or late, f"{self.last_fact!r} was told, {holding} holds"
        self.last_fact = holding[0] if holding else ""
        for source, pieces in self.documents.items():
            rows = connection.execute(
                "SELECT p.text FROM passages p JOIN documents d ON p.kind = 'document' AND d.id = p.owner "
                "WHERE d.source = ? ORDER BY p.place",
                (source,),
            ).fetchall()
            found = [row[0] for row in rows]
            one_writer = len({text.split(" ")[0] for text in found}) == 1
            assert found == pieces or (one_writer and found[0].startswith(mark)), f"{source} is {found}"
            self.documents[source] = found


def main(folder: Path, rounds: int, seed: int) -> None:
    chance, told = random.Random(seed), Told()
    acknowledged = 0
    for number in range(rounds):
        mark = f"s{seed}r{number}"
        lines = killed(folder, chance, mark)
        acknowledged += len(lines)
        for line in lines:
            told.hear(line)
        with Database(folder / "memory.sqlite") as database:
            told.check(database, mark)
            check(database)
            rows = database.connection.execute("SELECT count(*) FROM passages").fetchone()[0]
    print(json.dumps({"rounds": rounds, "acknowledged": acknowledged, "passages": rows}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
