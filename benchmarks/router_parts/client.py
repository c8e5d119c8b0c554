"""A client that costs next to nothing, and the same for all: raw HTTP/1.1 on connections that stay open.

It runs as a process of its own: a job as JSON on stdin, what it found as JSON on stdout. The ways to the engine take
turns, burst by burst, so that a machine that slows down slows all of them. Times are milliseconds from the writing of
a request to its last byte, and to the first event of a stream.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

EVENT = b"data: {"
END = b"\r\n0\r\n\r\n"
LIMIT = 120.0
PLACE = "{number}"


@dataclass
class Reply:
    """One reply; ``first`` and ``total`` are milliseconds."""

    status: int
    first: float
    total: float
    events: int
    size: int
    head: bytes
    body: bytes


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self.closed = True
        self._transport: asyncio.WriteTransport | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._parts: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.closed = transport, False  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._finish()

    def data_received(self, data: bytes) -> None:
        if self._head is None:
            self._begin(data)
        else:
            self._take(data)

    async def ask(self, data: bytes) -> Reply:
        """Send a request and wait for its whole reply."""
        assert self._transport is not None
        self._head: bytes | None = None
        self._before, self._parts, self._left, self._first = b"", [], None, 0.0
        self._tail = b""
        self._waiting = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        self._transport.write(data)
        await self._waiting
        return self._reply(began, time.perf_counter())

    def close(self) -> None:
        """The connection is not needed any more."""
        self.closed = True
        if self._transport is not None:
            self._transport.close()

    def _begin(self, data: bytes) -> None:
        self._before += data
        head, found, rest = self._before.partition(b"\r\n\r\n")
        if not found:
            return
        self._head = head.lower()
        length = self._head.partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0]
        self._left: int | None = int(length) if length else None
        self._take(rest)

    def _take(self, data: bytes) -> None:
        if not self._first and EVENT in data:
            self._first = time.perf_counter()
        self._parts.append(data)
        if self._left is not None:
            self._left -= len(data)
            if self._left <= 0:
                self._finish()
            return
        self._tail = (self._tail + data)[-len(END) :]
        if self._tail == END:
            self._finish()

    def _finish(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _reply(self, began: float, ended: float) -> Reply:
        body, head = b"".join(self._parts), self._head or b""
        whole = bool(head) and (self._left == 0 or self._tail == END)
        return Reply(
            int(head.split(b" ", 2)[1]) if whole else 0,
            1000 * ((self._first or ended) - began),
            1000 * (ended - began),
            body.count(EVENT),
            len(body),
            head,
            body,
        )


class Way:
    """One way to the engine: its address, the bytes of its requests, and what came of them."""

    def __init__(self, name: str, url: str, body: dict[str, Any], pid: int = 0) -> None:
        self.name = name
        self.pid = pid
        parts = urlsplit(url)
        self.host, self.port, self.path = parts.hostname, parts.port, parts.path
        self.body = json.dumps(body)
        self.bursts: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self._idle: list[Connection] = []

    def request(self, number: int) -> bytes:
        """A request with a number in its text, so that no cache knows it."""
        body = self.body.replace(PLACE, str(number)).encode()
        head = f"POST {self.path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: application/json\r\n"
        # LiteLLM wants one, whatever it is
        head += f"Authorization: Bearer none\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    async def burst(self, numbers: list[int], at_once: int) -> None:
        """Send requests, so many at a time."""
        waiting = iter(numbers)
        connections = [await self._connection() for _ in range(at_once)]
        before, began = cpu_ms(self.pid), time.perf_counter()
        found = await asyncio.gather(*(self._work(one, waiting) for one in connections))
        wall = time.perf_counter() - began
        replies = [reply for part in found for reply in part]
        self.failures += [f"{one.status}: {one.body[:300]!r}" for one in replies if one.status != 200]
        good = [one for one in replies if one.status == 200]
        self.bursts.append(
            {
                "wall": wall,
                "cpu": cpu_ms(self.pid) - before,
                "total": [one.total for one in good],
                "first": [one.first for one in good],
                "events": sum(one.events for one in good),
                "bytes": sum(one.size for one in good),
                "hits": sum(b"x-benchai-cache: exact" in one.head for one in good),
            }
        )

    async def _work(self, connection: Connection, numbers: Any) -> list[Reply]:
        found = []
        for number in numbers:
            if connection.closed:
                connection = await self._connection()
            reply = await connection.ask(self.request(number))
            if reply.status == 0 and not reply.head:
                # closed at the moment of its reuse: any client asks again
                connection = await self._connection(kept=False)
                reply = await connection.ask(self.request(number))
            if b"connection: close" in reply.head:
                connection.close()
            found.append(reply)
        self._idle.append(connection)
        return found

    async def _connection(self, kept: bool = True) -> Connection:
        while kept and self._idle:
            found = self._idle.pop()
            if not found.closed:
                return found
        _, made = await asyncio.get_running_loop().create_connection(Connection, self.host, self.port)
        return made

    def close(self) -> None:
        """Close what is open."""
        for one in self._idle:
            one.close()


def cpu_ms(pid: int) -> float:
    """Milliseconds that a process has computed, its children left out; 0 for none, and where nothing tells."""
    if not pid:
        return 0.0
    try:
        return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e6
    except OSError:
        return 0.0


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """All bursts of a job.

    Args:
        job: ``ways`` (name -> url, body, pid), ``rounds``, ``requests`` of a burst, ``at_once``, ``warm`` (requests
            before), ``first`` (the first number), ``same`` (whether all requests are the same one).
    """
    ways = [Way(name, one["url"], one["body"], one["pid"]) for name, one in job["ways"].items()]
    counter = itertools.count(job["first"])

    def numbers(count: int) -> list[int]:
        return [job["first"]] * count if job.get("same") else list(itertools.islice(counter, count))

    for way in ways:
        await way.burst(numbers(max(job["warm"], 1)), min(job["at_once"], max(job["warm"], 1)))
        way.bursts.clear()
    gc.collect()
    gc.disable()
    order = list(ways)
    for _ in range(job["rounds"]):
        for way in order:
            await asyncio.wait_for(way.burst(numbers(job["requests"]), job["at_once"]), LIMIT)
        # nobody always comes after the same one
        order = [*order[1:], order[0]]
        gc.collect()
    for way in ways:
        way.close()
    return {way.name: {"bursts": way.bursts, "failures": way.failures} for way in ways}


def main() -> None:
    """Read a job, do it, write what was found."""
    job = json.load(sys.stdin)
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        json.dump(runner.run(run(job)), sys.stdout)


if __name__ == "__main__":
    main()
