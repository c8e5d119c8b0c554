"""HTTP/1.1 to engines on this machine, on bare sockets: a request costs a fifth of what it costs through aiohttp.

An engine closes its connection after each stream, so such a request has one of its own: it goes out with the connect,
and no transport is made for it. Other connections are kept, and watched by the event loop all the while.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque

import aiohttp

from benchai.runtime.plain_connection import Address, Connection

#: An engine closes connections that are idle for 5 s; one of ours must not be used at that moment.
KEPT_SECONDS = 3.0


def usable() -> bool:
    """Whether event loops of this system can watch sockets: those of Windows cannot."""
    return sys.platform != "win32"


class PlainHttp:
    """Connections to servers at IP addresses; belongs to one event loop."""

    def __init__(self) -> None:
        self._kept: dict[Address, deque[Connection]] = {}
        self._asked: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0

    def close(self) -> None:
        """Close the connections that are kept."""
        if self._timer is not None:
            self._timer.cancel()
        for kept in self._kept.values():
            for one in kept:
                one.shut()
        self._kept.clear()

    async def post(self, to: Address, request: bytes, total: float | None, idle: float | None) -> Connection:
        """Send a request and wait for the head of its answer; to be given back with ``leave``.

        Args:
            to: An IP address and a port.
            request: Head and body as they go out.
            total: Seconds that all may take.
            idle: Seconds without a byte after which it is given up.

        Raises:
            aiohttp.ClientError: no connection came about, or it ended before an answer.
            TimeoutError: it took too long.
        """
        kept = self._take(to)
        if kept is not None:
            try:
                return await self._ask(kept, request, total, idle)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # closed at the moment of its reuse: nobody has read the request
                pass
        return await self._ask(Connection(to), request, total, idle)

    def leave(self, one: Connection) -> None:
        """Nothing more is read: a connection whose answer was not read to its end is closed at once."""
        self._asked.discard(one)
        if not one.free:
            one.shut()
            return
        one.since = one.loop.time()
        self._kept.setdefault(one.to, deque()).append(one)
        self._look_at(one.since + KEPT_SECONDS)

    async def _ask(self, one: Connection, request: bytes, total: float | None, idle: float | None) -> Connection:
        self._asked.add(one)
        try:
            one.begin(request, total, idle)
            self._look_at(one.due_at())
            while not one.status:
                await one.news()
        except BaseException:
            self._asked.discard(one)
            one.shut()
            raise
        return one

    def _take(self, to: Address) -> Connection | None:
        kept = self._kept.get(to)
        while kept:
            found = kept.pop()
            if found.free and found.loop.time() - found.since < KEPT_SECONDS:
                return found
            found.shut()
        return None

    # ---- one timer for all: each request's own would cost more than its parsing

    def _look_at(self, when: float | None) -> None:
        if when is None or (self._timer is not None and self._due_at <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due_at = when
        self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for one in list(self._asked):
            one.check(now)
            self._look_at(one.due_at())
        for to, kept in list(self._kept.items()):
            while kept and now - kept[0].since >= KEPT_SECONDS:
                kept.popleft().shut()
            if kept:
                self._look_at(kept[0].since + KEPT_SECONDS)
            else:
                del self._kept[to]


class Asking:
    """A request as a context, whose value is the answer; a class, because a generator takes three times as long."""

    def __init__(self, client: PlainHttp, to: Address, request: bytes, total: float | None, idle: float | None) -> None:
        self._client, self._given = client, (to, request, total, idle)

    async def __aenter__(self) -> Connection:
        self._one = await self._client.post(*self._given)
        return self._one

    async def __aexit__(self, *error: object) -> None:
        self._client.leave(self._one)
