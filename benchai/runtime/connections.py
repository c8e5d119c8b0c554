"""Connections to engines and remote endpoints: kept open, bytes as they come.

aiohttp, because a request takes a tenth of the processor time that it takes through httpx.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from urllib.request import getproxies

import aiohttp
import httpx

CONNECT_SECONDS = 10.0
#: An engine closes connections that are idle for 5 s; one of ours must not be used at that moment.
KEPT_SECONDS = 3.0
#: How a request for a stream looks, whoever wrote its JSON.
STREAMED = (b'"stream":true', b'"stream": true')


class Connections:
    """Close it when no request is under way."""

    def __init__(self) -> None:
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close all connections."""
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()

    @asynccontextmanager
    async def post(
        self,
        url: str,
        data: bytes,
        *,
        api_key: str | None = None,
        remote: bool = False,
        total: float | None = None,
        idle: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response; a connection whose body was not read to its end is closed, which ends the server's work.

        Args:
            url: Where to.
            data: JSON.
            api_key: Sent as bearer token.
            remote: Whether a proxy of the environment may be used.
            total: Seconds that all may take.
            idle: Seconds without a byte after which it is given up.

        Raises:
            aiohttp.ClientError: no connection came about, or it ended before an answer.
            TimeoutError: it took too long.
        """
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        if not remote and any(one in data for one in STREAMED):
            # llama-server closes after a stream without a word: the next request on that connection would be lost
            headers["Connection"] = "close"
        response = await self._session(remote).post(
            url,
            data=data,
            headers=headers,
            ssl=_certificates() if url.startswith("https:") else True,
            timeout=aiohttp.ClientTimeout(total=total, sock_connect=CONNECT_SECONDS, sock_read=idle),
            allow_redirects=False,
        )
        try:
            yield response
        finally:
            response.close() if not response.content.at_eof() else response.release()

    def _session(self, remote: bool) -> aiohttp.ClientSession:
        if remote not in self._sessions:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS)
            # a proxy of the environment is for what is remote; aiohttp looks for one in a thread, at each request
            proxies = remote and bool(getproxies())
            self._sessions[remote] = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=proxies
            )
        return self._sessions[remote]


@cache
def _certificates() -> ssl.SSLContext:
    # the same on all systems: those of Python's own installer for macOS know none
    return httpx.create_ssl_context()
