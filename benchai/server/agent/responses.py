"""Responses that last: a run's events as they come, or its result once it is there; the client is watched meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from benchai.server.agent.log import Logged

#: Seconds without an event after which a client is told that somebody is there.
KEEP_ALIVE = 15.0
SSE = "text/event-stream; charset=utf-8"
ALIVE = b": heartbeat\n\n"


class ServerEnds(Exception):
    """The server ends: what is sent breaks off."""


class Lasting(Response):
    """Sends pieces as they come.

    Args:
        pieces: The body.
        headers: Beside the content type.
        media_type: Of the body.
        gone: Called when the client goes away before the end.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        headers: Mapping[str, str],
        media_type: str,
        gone: Callable[[], Any] | None = None,
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)
        del self.headers["content-length"]
        self._pieces = pieces
        self._gone = gone

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """See Starlette; the length is not known."""
        self.body = b""
        super().init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        leaving = asyncio.create_task(_left(receive))
        sending = asyncio.create_task(self._send(send))
        try:
            await asyncio.wait((leaving, sending), return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                if self._gone is not None:
                    self._gone()
                return
            await sending
        finally:
            for task in (leaving, sending):
                task.cancel()
            await asyncio.gather(leaving, sending, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async with aclosing(self._pieces) as pieces:
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except ServerEnds:
            # no last piece: the connection is closed in the middle
            return
        await send({"type": "http.response.body", "body": b""})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def as_sse(events: AsyncIterator[Logged | None], wanted: Callable[[str], bool]) -> AsyncGenerator[bytes, None]:
    """Events as server-sent ones, those that are wanted; several that come at once in one piece."""
    async for event in events:
        if event is None:
            yield ALIVE
        elif wanted(event.name):
            yield b"event: %b\ndata: %b\nid: %d\n\n" % (event.name.encode(), event.data, event.id)
