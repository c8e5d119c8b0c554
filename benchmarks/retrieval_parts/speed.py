"""Time of putting and asking at a size, and how often the two steps of the words' leg find what one step would."""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchai.memory.database import Database
from benchai.memory.lexical import WEIGHTS, words_of
from benchai.memory.namespace import Namespace
from benchai.memory.search import Query, choose, lexical_leg
from benchai.memory.store import Store
from benchai.memory.types import Document
from benchmarks.retrieval_parts.machine import documents

QUESTIONS = Path(__file__).parents[1] / "data" / "retrieval_speed.txt"
AT_ONCE, ROUNDS = 500, 5
NS = Namespace(project="speed")
Percentiles = dict[str, float]


def measure(chunks: int, rounds: int = ROUNDS) -> dict[str, Any]:
    """Chunks a second, milliseconds of a search by its parts, recall of the two steps, size of file and process."""
    questions = QUESTIONS.read_text("utf-8").splitlines()
    with tempfile.TemporaryDirectory(prefix="benchai-retrieval-") as folder:
        file = Path(folder) / "memory.sqlite"
        with Database(file) as database:
            put = _put(database, chunks)
        began = time.perf_counter()
        with Database(file, reading=True) as database:
            first = _search(database, questions[0])
            opened = time.perf_counter() - began
            found = {
                "chunks": chunks,
                "chunks/s": put,
                "open and first question, s": round(opened, 4),
                "one step, ms": percentiles(lambda one: _exact(database, one), questions, 1),
                "lexical leg, ms": percentiles(
                    lambda one: lexical_leg(database, NS, Query(text=one)), questions, rounds
                ),
                "search, ms": percentiles(lambda one: _search(database, one), questions, rounds),
                "search, processor ms": percentiles(
                    lambda one: _search(database, one), questions, rounds, time.process_time
                ),
                "recall of the first ten": _agreement(database, questions),
                "found by the first question": len(first),
            }
        found["file, MB"] = round(file.stat().st_size / 1e6, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found["process at most, MB"] = round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
    return found


def table(found: dict[str, Any]) -> str:
    """For people."""
    lines = [f"At {found['chunks']:,} chunks of the manuals and sources of this machine"]
    for name, value in found.items():
        shown = " ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else value
        lines.append(f"  {name:30} {shown}")
    return "\n".join(lines)


def percentiles(
    asked: Callable[[str], Any],
    questions: Sequence[str],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Percentiles:
    """Milliseconds of calls."""
    taken = []
    for question in list(questions) * rounds:
        began = clock()
        asked(question)
        taken.append(clock() - began)
    return spread(taken)


def spread(seconds: Sequence[float]) -> Percentiles:
    """Percentiles in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": round(cuts[49] * 1e3, 2), "p90": round(cuts[89] * 1e3, 2), "p99": round(cuts[98] * 1e3, 2)}


def _put(database: Database, chunks: int) -> float:
    store, taken = Store(database), 0.0
    for batch in _batches(chunks):
        began = time.perf_counter()
        store.put(NS, batch)
        taken += time.perf_counter() - began
    return round(chunks / taken)


def _batches(chunks: int) -> Iterator[list[Document]]:
    batch: list[Document] = []
    for document in documents(chunks):
        batch.append(document)
        if sum(len(one.pieces) for one in batch) >= AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _search(database: Database, question: str) -> list[Any]:
    query = Query(text=question)
    return choose(database, NS, query, {"lexical": lexical_leg(database, NS, query)[1]}, {"lexical": 1.0})


def _exact(database: Database, question: str) -> list[int]:
    asked = " OR ".join(f'"{word}"' for word in words_of(question))
    columns = ", ".join(map(str, WEIGHTS))
    rows = database.connection.execute(
        f"SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words, {columns}), rowid LIMIT 10", (asked,)
    )
    return [row[0] for row in rows]


def _agreement(database: Database, questions: Sequence[str]) -> float:
    parts = []
    for question in questions:
        exact = set(_exact(database, question))
        found = {number for number, _ in lexical_leg(database, NS, Query(text=question))[1][:10]}
        parts.append(len(exact & found) / len(exact) if exact else 1.0)
    return round(statistics.mean(parts), 4)
