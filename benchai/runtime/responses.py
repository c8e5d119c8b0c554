"""What a server answered, whichever client asked it: status, headers, and the bytes of the body as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import aiohttp


class Response(Protocol):
    """One answer, while its connection is held.

    Attributes:
        status: HTTP status.
    """

    status: int

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; asked for in small letters."""
        ...

    @property
    def at_eof(self) -> bool:
        """Whether the whole body was read."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body, in pieces as they come.

        Raises:
            aiohttp.ClientError: it broke off.
            TimeoutError: nothing came for too long, or all took too long.
        """
        ...

    async def read(self) -> bytes:
        """What is left of the body; raises as reading in pieces does."""
        ...


class ThroughAiohttp:
    """An answer that came through aiohttp."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self._response = response

    @property
    def headers(self) -> Mapping[str, str]:
        """See ``Response``."""
        return self._response.headers

    @property
    def at_eof(self) -> bool:
        """See ``Response``."""
        return self._response.content.at_eof()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._response.content.iter_any())

    async def read(self) -> bytes:
        """See ``Response``."""
        return await self._response.read()
