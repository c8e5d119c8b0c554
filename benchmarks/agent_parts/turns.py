"""Conversations on one server, many at a time, over connections that stay open."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import psutil

from benchmarks.agent_parts.lives import Life
from benchmarks.router_parts.client import Connection


@dataclass
class Talk:
    """What was found: milliseconds of each turn in order of their ends, with its number in its thread; MiB."""

    turns: list[tuple[int, float]] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def of(self, begin: int, end: int) -> list[float]:
        """The turns between two places."""
        return [taken for _, taken in self.turns[begin:end]]

    def nth(self, number: int) -> list[float]:
        """That turn of all threads."""
        return [taken for at, taken in self.turns if at == number]


async def converse(life: Life, threads: int, turns: int, at_once: int, every: int) -> Talk:
    """Hold conversations, thread by thread, so many at a time; look at the memory after ``every`` turns."""
    talk, waiting = Talk(), iter(range(threads))
    _weigh(talk, life)

    async def hold() -> None:
        client = Client(life.port)
        for _ in waiting:
            thread = (await client.post("/threads", {}))["thread_id"]
            for number in range(turns):
                began = time.perf_counter()
                said = await client.post(f"/threads/{thread}/runs/wait", asked(f"turn {number}"))
                talk.turns.append((number, 1000 * (time.perf_counter() - began)))
                if len(said.get("messages", ())) != 2 * number + 2:
                    talk.failures.append(f"turn {number} of {thread}: {said!r:.300}")
                if len(talk.turns) % every == 0:
                    _weigh(talk, life)
        client.close()

    await asyncio.gather(*(hold() for _ in range(at_once)))
    return talk


def asked(text: str) -> dict[str, Any]:
    """The body of an instant run."""
    return {"assistant_id": "instant", "input": {"messages": [{"role": "user", "content": text}]}}


def _weigh(talk: Talk, life: Life) -> None:
    talk.after.append(len(talk.turns))
    talk.rss.append(psutil.Process(life.pid).memory_info().rss / 2**20)


class Client:
    """One connection, made again when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: Connection | None = None

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON of the answer."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: application/json\r\n"
        reply = await (await self._open()).ask(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        if reply.status != 200:
            raise RuntimeError(f"{path}: {reply.status} {reply.body[:300]!r}")
        text = reply.body
        # of a reply in pieces, which may begin with white space that keeps the connection, the JSON
        found: dict[str, Any] = json.loads(text[text.index(b"{") : text.rindex(b"}") + 1])
        return found

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    async def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            made = asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self._port)
            self._connection = (await made)[1]
        return self._connection
