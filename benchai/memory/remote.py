"""The memory of a running server: the same calls, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from benchai.errors import SourceError, StoreError
from benchai.memory.service import MemoryService, arguments_of, calls

if TYPE_CHECKING:
    import httpx

PATH = "/fleet/memory"
#: A call may wait for an embedder that loads.
SECONDS = 600.0


@asynccontextmanager
async def remote_memory(url: str, token: str, raised: Callable[[str], Exception]) -> AsyncIterator[MemoryService]:
    """The memory of the server at an address, for as long as the context is open.

    Args:
        url: Of the server.
        token: From its state file.
        raised: Makes the error that a refusal's body tells of.
    """
    import httpx

    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=SECONDS, trust_env=False) as client:
        yield cast(MemoryService, _Remote(client, raised))


class _Remote:
    def __init__(self, client: httpx.AsyncClient, raised: Callable[[str], Exception]) -> None:
        self._client = client
        self._raised = raised

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name not in calls():
            raise AttributeError(name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._ask(name, arguments_of(name, args, kwargs))

        return call

    async def _ask(self, name: str, body: bytes) -> Any:
        import httpx

        try:
            response = await self._client.post(f"{PATH}/{name}", content=body)
        except httpx.TransportError as error:
            text = f"the server that owns the memory cannot be reached: {error}"
            raise StoreError(text, hint="do it again: what was acknowledged is kept") from error
        if response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            text = f"{len(body):,} bytes are more than the server that owns the memory takes"
            raise SourceError(text, hint="raise server.max_body, or add it while no server runs")
        if response.is_error:
            raise self._raised(response.text)
        return calls()[name].result.validate_json(response.content)
