"""The OpenAI wire: a streamed chat completion over connections that are kept.

A request takes a tenth of the processor time that it takes through the SDK of OpenAI, which with httpx below it costs
more than everything else in a step of a run.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from functools import cache
from typing import Any
from urllib.request import getproxies

import aiohttp
import httpx

CONNECT_SECONDS = 10.0
#: An engine closes connections that are idle for 5 s; one of ours must not be used at that moment.
KEPT_SECONDS = 3.0
# the end of a stream usually comes right behind its last event; where it does not, the connection is not kept
END_SECONDS = 0.1
DONE = b"[DONE]"
NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)


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
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close all connections."""
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()

    def _session(self, remote: bool) -> aiohttp.ClientSession:
        if remote not in self._sessions:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS)
            # a proxy of the environment is for what is remote; aiohttp looks for one in a thread, at each request
            proxies = remote and bool(getproxies())
            self._sessions[remote] = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=proxies, timeout=NO_TIMEOUT
            )
        return self._sessions[remote]

    async def stream(
        self, base_url: str, body: Mapping[str, Any], *, api_key: str | None = None, remote: bool = False
    ) -> AsyncGenerator[Any, None]:
        """The pieces of a reply, each as its JSON says; the caller limits the time.

        Raises:
            ServerError: the server refused the call, or ended it with an error.
            aiohttp.ClientError: the connection did not come about, or broke off.
            ValueError: what came is no JSON.
        """
        async with self._posted(base_url, body, api_key, remote) as response:
            if not response.ok:
                raise await _refusal(response)
            async with aclosing(events(response.content.iter_any())) as found:
                async for data in found:
                    if data.startswith(DONE):
                        break
                    chunk = json.loads(data)
                    if isinstance(chunk, Mapping) and chunk.get("error"):
                        raise ServerError(chunk)
                    yield chunk
            await _read_to_end(response.content)

    @asynccontextmanager
    async def _posted(
        self, base_url: str, body: Mapping[str, Any], api_key: str | None, remote: bool
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response; a connection whose body was not read to its end is closed, which ends the server's work."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        url = base_url.rstrip("/") + "/chat/completions"
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        secure = _certificates() if url.startswith("https:") else True
        response = await self._session(remote).post(url, data=data, headers=headers, ssl=secure)
        try:
            yield response
        finally:
            response.close() if not response.content.at_eof() else response.release()


async def events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The data of server-sent events; comments, names and ids are left out."""
    rest = b""
    data: list[bytes] = []
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            field, _, value = line.rstrip(b"\r").partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif not field and not value and data:
                yield b"\n".join(data)
                data = []
    if data:
        yield b"\n".join(data)


async def _read_to_end(content: aiohttp.StreamReader) -> None:
    # a whole reply is none the worse for what comes after it
    with suppress(aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            while not content.at_eof():
                await content.readany()


async def _refusal(response: aiohttp.ClientResponse) -> ServerError:
    text = (await response.text(errors="replace")).strip()
    try:
        body = json.loads(text)
    except ValueError:
        body = text
    return ServerError(body, response.status, response.headers.get("Retry-After"))


@cache
def _certificates() -> ssl.SSLContext:
    # the same on all systems: those of Python's own installer for macOS know none
    return httpx.create_ssl_context()
