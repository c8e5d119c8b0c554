"""What the caches cost and save, without an engine: keys, hits and misses in a full file, streams, coalescing.

    python benchmarks/cache.py [--entries 10000] [--n 2000] [--json]

A hit is measured as a server has it: key of the parsed request, look-up, reply as bytes. "File" reads every reply from
SQLite, "memory" from the front; between two rounds 200 replies are written, so that the writing thread has work.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchai.runtime.router.cache.chunks import as_chunks, fresh  # noqa: E402
from benchai.runtime.router.cache.coalesce import Coalescer  # noqa: E402
from benchai.runtime.router.cache.collector import Collector  # noqa: E402
from benchai.runtime.router.cache.exact import ExactCache  # noqa: E402
from benchai.runtime.router.cache.identity import Identity, mark  # noqa: E402
from benchai.runtime.router.cache.key import cacheable, key_of  # noqa: E402
from benchmarks.rows import Row, percentile, table  # noqa: E402

GOAL = 2.0
REPLY_CHARS = 2000
TASKS, PIECES = 16, 500


def conversation(kilobytes: int, number: int = 0) -> dict[str, Any]:
    """A request of so many kilobytes in messages of one each."""
    messages = [
        {"role": ("user", "assistant")[at % 2], "content": f"{number} {at} " + "word " * 195} for at in range(kilobytes)
    ]
    return {"model": "auto", "messages": messages, "temperature": 0, "max_tokens": 500}


def reply(number: int) -> dict[str, Any]:
    """A reply of about 500 tokens."""
    choice = {"index": 0, "finish_reason": "stop"}
    message = {"role": "assistant", "content": f"{number} " + "w" * REPLY_CHARS}
    usage = {"prompt_tokens": 9, "completion_tokens": 500, "total_tokens": 509}
    about = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "usage": usage}
    return about | {"choices": [choice | {"message": message}]}


def times(work: Callable[[int], object], n: int) -> list[float]:
    """Milliseconds of each of ``n`` calls."""
    found = []
    for number in range(n):
        begin = time.perf_counter()
        work(number)
        found.append((time.perf_counter() - begin) * 1000)
    return found


def row(part: str, name: str, values: Sequence[float], limit: float | None = None, note: str = "") -> Row:
    p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
    goal = "" if limit is None else f"p50 {limit:g} ms"
    more = f"p99 {p99:.3g} ms" + (f"; {note}" if note else "")
    return Row(part, name, p50, "ms", len(values), goal=goal, limit=limit, note=more)


def keys(identity: Identity, n: int) -> list[Row]:
    """What the path of every request pays, hit or not."""
    found = []
    for kilobytes in (1, 10, 100):
        body = conversation(kilobytes)
        both = times(lambda _, body=body: cacheable(body, {}, {}) and key_of(identity, body), n)
        found.append(row("key", f"may it be cached, and its key: {kilobytes} kB", both))
    return found


def look_ups(folder: Path, identity: Identity, entries: int, n: int) -> list[Row]:
    """Hits and misses in a file of ``entries`` replies."""
    found = []
    for name, front in (("memory", 64.0), ("file", 0.0)):
        cache = ExactCache(folder / "replies.sqlite", size=256, max_age=1e6, report=print, front=front)
        fill(cache, identity, entries)
        spread = entries // n or 1
        whole = times(lambda at, cache=cache, by=spread: answer(cache, identity, conversation(1, at * by)), n)
        fill(cache, identity, 200, first=entries)
        gets = times_of_gets(cache, identity, n, spread)
        missed = times_of_gets(cache, identity, n, spread, first=10 * entries)
        found += [
            row("exact", f"hit from {name}: look-up alone", gets),
            row("exact", f"miss ({name}): look-up alone", missed),
        ]
        found.append(row("exact", f"hit from {name}: key, look-up and reply", whole, GOAL))
        cache.close()
    return found


def fill(cache: ExactCache, identity: Identity, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        key = cache.key(identity, conversation(1, number))
        assert key is not None
        cache.put(key, identity, reply(number))
        if number % 5000 == 4999:
            cache.flush()
    cache.flush()


def answer(cache: ExactCache, identity: Identity, body: dict[str, Any]) -> bytes:
    key = cache.key(identity, body)
    assert key is not None
    kept = cache.get(key)
    assert kept is not None, "a reply is missing"
    return orjson.dumps(fresh(orjson.loads(kept), benchai={"cache": "hit"}))


def times_of_gets(cache: ExactCache, identity: Identity, n: int, spread: int, first: int = 0) -> list[float]:
    found = [cache.key(identity, conversation(1, first + at * spread)) or b"" for at in range(n)]
    return times(lambda at: cache.get(found[at]), n)


def streams(n: int) -> list[Row]:
    """A hit as a stream, and the reading of a stream of one token a chunk."""
    stored = orjson.dumps(reply(1))
    sent = times(lambda _: b"".join(as_chunks(fresh(orjson.loads(stored)), include_usage=True)), n)
    part = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
    chunk = part + b'"delta":{"content":"word "},"finish_reason":null}]}\n\n'

    def collect(_: int) -> None:
        collector = Collector()
        for _ in range(PIECES):
            collector.feed(chunk)

    each = [value / PIECES for value in times(collect, max(n // 100, 5))]
    return [
        row("stream", f"a hit of {REPLY_CHARS} characters as a stream", sent),
        row("stream", "collector: each chunk", each),
    ]


class Upstream:
    """A model that says ``PIECES`` pieces, letting others run between them."""

    head = 200

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Upstream]:
        yield self

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(PIECES):
            await asyncio.sleep(0)
            yield b"data: {}\n\n" * 10


async def coalescing(n: int) -> list[Row]:
    """One reader through the coalescer against none, and 16 of one call."""
    direct, alone, many = [], [], []
    for _ in range(n):
        direct.append(await timed(read_directly()))
        alone.append(await timed(read(Coalescer[int](), 1)))
        many.append(await timed(read(Coalescer[int](), TASKS)))
    base = percentile(direct, 0.5)
    rows = []
    for name, values in (("1 request", alone), (f"{TASKS} requests, 1 call", many)):
        value = percentile(values, 0.5)
        note = f"p99 {percentile(values, 0.99):.3g} ms; {(value - base) / PIECES * 1000:.2g} us more for each piece"
        rows.append(Row("coalescer", f"{PIECES} pieces: {name}", value, "ms", n, "direct", base, note=note))
    return rows


async def timed(work: Any) -> float:
    begin = time.perf_counter()
    await work
    return (time.perf_counter() - begin) * 1000


async def read_directly() -> None:
    async with Upstream().call() as upstream:
        async for _ in upstream:
            pass


async def read(coalescer: Coalescer[int], tasks: int) -> None:
    async def one() -> int:
        async with coalescer.join(b"k", Upstream().call) as shared:
            await shared.head()
            return sum([len(piece) async for piece in shared])

    assert len(set(await asyncio.gather(*(one() for _ in range(tasks))))) == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--n", type=int, default=2000, help="calls of each kind")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model.gguf"
        model.write_bytes(b"GGUF" * 1000)
        identity = Identity(str(model), (mark(model),), "engine")
        gc.disable()
        rows = [
            *keys(identity, options.n),
            *look_ups(folder, identity, options.entries, options.n),
            *streams(options.n),
        ]
        rows += asyncio.run(coalescing(max(options.n // 100, 5)))
    if options.json:
        print(json.dumps([one.as_json() for one in rows], indent=2))
        return
    print(f"{platform.machine()}, Python {platform.python_version()}, {options.entries} replies\n")
    print(table(rows))


if __name__ == "__main__":
    main()
