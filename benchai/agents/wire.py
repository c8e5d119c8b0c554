"""The OpenAI wire: a streamed chat completion over connections that are kept.

Past the SDK of OpenAI, which with httpx below it costs more than everything else in a step of a run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any

import aiohttp

from benchai.runtime.connections import Connections
from benchai.runtime.responses import Response
from benchai.runtime.sse import DONE, events

# the end of a stream usually comes right behind its last event; where it does not, the connection is not kept
END_SECONDS = 0.1
#: From this status on an answer is an error.
BAD = 400


class ServerError(Exception):
    """A server says that the call failed: in place of a reply, or in the middle of it.

    Attributes:
        status: HTTP status; None in the middle of a reply.
        body: What the server says, its ``error`` where it has one.
        retry_after: Seconds after which to come again, as the server wrote them.
    """

    def __init__(self, body: object, status: int | None = None, retry_after: str | None = None) -> None:
        error = body.get("error") or body if isinstance(body, Mapping) else body
        self.body: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
        words = str(self.body.get("message") or error or "it does not say why")
        super().__init__(words if status is None else f"HTTP {status}: {words}")
        self.status = status
        self.retry_after = retry_after


class Wire:
    """Connections to servers; close it when no request is under way."""

    def __init__(self) -> None:
        self._connections = Connections()

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()

    async def stream(
        self, base_url: str, body: Mapping[str, Any], *, api_key: str | None = None, remote: bool = False
    ) -> AsyncGenerator[Any, None]:
        """The pieces of a reply, each as its JSON says; the caller limits the time.

        Raises:
            ServerError: the server refused the call, or ended it with an error.
            aiohttp.ClientError: the connection did not come about, or broke off.
            ValueError: what came is no JSON.
        """
        url = base_url.rstrip("/") + "/chat/completions"
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        async with self._connections.post(url, data, api_key=api_key, remote=remote) as response:
            if response.status >= BAD:
                raise await _refusal(response)
            async with aclosing(events(aiter(response))) as found:
                async for event in found:
                    if event.startswith(DONE):
                        break
                    chunk = json.loads(event)
                    if isinstance(chunk, Mapping) and chunk.get("error"):
                        raise ServerError(chunk)
                    yield chunk
            await _read_to_end(response)


async def _read_to_end(response: Response) -> None:
    # a whole reply is none the worse for what comes after it
    with suppress(aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            await response.read()


async def _refusal(response: Response) -> ServerError:
    text = (await response.read()).decode(errors="replace").strip()
    try:
        body = json.loads(text)
    except ValueError:
        body = text
    return ServerError(body, response.status, response.headers.get("retry-after"))
