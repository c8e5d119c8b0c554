"""An MCP server behind a URL, by streamable HTTP, with bounds on what it may send."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
from mcp.client.streamable_http import streamable_http_client

from benchai.tools.mcp.stdio import MAX_MESSAGE

__all__ = ["Remote"]


@dataclass
class Remote:
    """How to reach one server. `headers` go with each request; `timeout` is in seconds, for connecting and sending.

    Redirects are followed within the origin of the URL only, so that the headers go nowhere else.
    """

    url: str
    headers: Mapping[str, str]
    timeout: float
    _status: int = field(default=0, init=False)

    @contextlib.asynccontextmanager
    async def open(self, on_end: Callable[[], None]) -> AsyncIterator[tuple[Any, Any]]:
        """Yield the streams for a session; that the server is gone shows at the next request only."""
        self._status = 0
        client = httpx2.AsyncClient(
            headers={**self.headers, "Accept-Encoding": "identity"},
            # No limit on reading: each call has its own, and the stream of events may be silent for hours
            timeout=httpx2.Timeout(self.timeout, read=None),
            event_hooks={"response": [self._bound]},
        )
        async with client:
            async with streamable_http_client(self.url, http_client=client, max_sse_event_size=MAX_MESSAGE) as streams:
                yield streams

    @property
    def forgotten(self) -> bool:
        """Whether the server no longer knows the session, as one does that was started anew."""
        return self._status == 404

    def note(self) -> str:
        """The status of the last answer when it was an error, for an error; else empty."""
        return f"HTTP {self._status}" if self._status >= 400 else ""

    async def _bound(self, response: httpx2.Response) -> None:
        if response.request.method == "POST":
            self._status = response.status_code
        kind = response.headers.get("content-type", "").lower()
        packed = response.headers.get("content-encoding", "identity").lower() != "identity"
        if packed or not kind.startswith("text/event-stream"):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _Bounded(response.stream, packed)


class _Bounded(httpx2.AsyncByteStream):
    """A body of at most MAX_MESSAGE bytes; compressed ones, which nobody asked for, are refused."""

    def __init__(self, stream: httpx2.AsyncByteStream, packed: bool) -> None:
        self._stream = stream
        self._packed = packed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._packed:
            raise httpx2.StreamError("the answer is compressed, which was not asked for")
        total = 0
        async for piece in self._stream:
            total += len(piece)
            if total > MAX_MESSAGE:
                raise httpx2.StreamError(f"the answer is longer than {MAX_MESSAGE // 1024**2} MiB")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
