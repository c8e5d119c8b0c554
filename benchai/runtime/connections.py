"""Connections to engines and remote endpoints: kept open, bytes as they come.

Engines on this machine are asked on bare sockets, all else through aiohttp, which knows TLS, proxies and names. Both
give the same ``Response`` and raise the same errors.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache, lru_cache
from urllib.parse import urlsplit
from urllib.request import getproxies

import aiohttp
import httpx

from benchai.runtime.plain_connection import CONNECT_SECONDS, Address
from benchai.runtime.plain_http import KEPT_SECONDS, Asking, PlainHttp, usable
from benchai.runtime.responses import Response, ThroughAiohttp

#: How a request for a stream looks, whoever wrote its JSON.
STREAMED = (b'"stream":true', b'"stream": true')


class Connections:
    """Close it when no request is under way."""

    def __init__(self) -> None:
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._plain = PlainHttp()

    async def close(self) -> None:
        """Close all connections."""
        self._plain.close()
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()

    def post(
        self,
        url: str,
        data: bytes,
        *,
        api_key: str | None = None,
        remote: bool = False,
        total: float | None = None,
        idle: float | None = None,
    ) -> AbstractAsyncContextManager[Response]:
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
        # llama-server closes after a stream without a word: the next request on that connection would be lost
        last = not remote and any(one in data for one in STREAMED)
        place = None if remote or not usable() or not (api_key or "").isprintable() else _place(url)
        if place is not None:
            return Asking(self._plain, place[0], _request(place, data, api_key, last), total, idle)
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=CONNECT_SECONDS, sock_read=idle)
        return self._through_aiohttp(url, data, _headers(api_key, last), timeout, remote)

    @asynccontextmanager
    async def _through_aiohttp(
        self, url: str, data: bytes, headers: dict[str, str], timeout: aiohttp.ClientTimeout, remote: bool
    ) -> AsyncIterator[Response]:
        response = await self._session(remote).post(
            url,
            data=data,
            headers=headers,
            ssl=_certificates() if url.startswith("https:") else True,
            timeout=timeout,
            allow_redirects=False,
        )
        try:
            yield ThroughAiohttp(response)
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


#: An address, and the first lines of a request to it.
Place = tuple[Address, bytes]


@lru_cache(64)
def _place(url: str) -> Place | None:
    """Where a URL leads; None where that takes more than a bare socket."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.username is not None or parts.hostname is None:
        return None
    try:
        host = str(ipaddress.ip_address(parts.hostname))
    except ValueError:
        return None
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    if not path.isascii() or not path.isprintable() or " " in path:
        return None
    lines = (f"POST {path or '/'} HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: application/json", "")
    return (host, parts.port or 80), "\r\n".join(lines).encode()


def _request(place: Place, data: bytes, api_key: str | None, last: bool) -> bytes:
    key = b"Authorization: Bearer %s\r\n" % api_key.encode() if api_key else b""
    close = b"Connection: close\r\n" if last else b""
    return b"%s%s%sContent-Length: %d\r\n\r\n%s" % (place[1], key, close, len(data), data)


def _headers(api_key: str | None, last: bool) -> dict[str, str]:
    key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return {"Content-Type": "application/json"} | key | ({"Connection": "close"} if last else {})


@cache
def _certificates() -> ssl.SSLContext:
    # the same on all systems: those of Python's own installer for macOS know none
    return httpx.create_ssl_context()
