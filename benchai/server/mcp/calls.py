"""Calls of tools under way: each in a task of its own, which ends with its client."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED

T = TypeVar("T")
Context = ServerRequestContext[Any, Any]
#: Where the door keeps, in a request's state, what tells that its client has gone.
GONE = "mcp_gone"


class Calls:
    """The calls under way."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, context: Context, work: Coroutine[Any, Any, T]) -> T:
        """The result of a call; it is cancelled with the request, and when the client goes away.

        The work has a task of its own: anyio cancels its tasks again and again, in their clean-up too.

        Raises:
            MCPError: the client has gone.
        """
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        gone = asyncio.ensure_future(_gone(context))
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise MCPError(CONNECTION_CLOSED, "the client went away before the call was over")
            return task.result()
        finally:
            gone.cancel()
            task.cancel()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # of one whose client has gone nobody asks
            task.exception()

    async def close(self) -> None:
        """Cancel what is under way, and wait for its end."""
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def owner_of(context: Context) -> str:
    """Whose request it is: the name of the API key, "" where there are no keys and on stdio."""
    return str(_state(context).get("key", ""))


async def _gone(context: Context) -> None:
    gone = _state(context).get(GONE)
    # on stdio the session ends with its client, and cancels what is under way
    await (gone.wait() if gone is not None else asyncio.Event().wait())


def _state(context: Context) -> dict[str, Any]:
    return {} if context.request is None else context.request.scope.get("state", {})
