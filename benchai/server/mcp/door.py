"""/mcp: the MCP server over streamable HTTP, opened by its first client, as its library takes half a second to load."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import TYPE_CHECKING, Self

from benchai.runtime.background import in_background
from benchai.server.edge import Receive, Scope, Send
from benchai.server.mcp.house import House
from benchai.server.openai.errors import Headers, openai_error

if TYPE_CHECKING:
    from benchai.server.mcp.sessions import Sessions

logger = logging.getLogger(__name__)
PATH = "/mcp"
METHODS = ("POST", "DELETE")
MISSING = "MCP needs the package 'mcp', which is not installed"
MEND = 'pip install "benchai[mcp]"'


class McpDoor:
    """An ASGI application; open it in the task that ends it, before what it stands on ends."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._opened: asyncio.Future[Sessions] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._end = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._keeper is not None:
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["method"] not in METHODS:
            # nothing is told but in answer to a request: a stream for it would hold one of the key's places
            await _refuse(send, 405, f"{scope['method']} {PATH} is not answered", "method_not_allowed")
            return
        try:
            sessions = await self._sessions()
        except ModuleNotFoundError:
            await _refuse(send, 501, f"{MISSING}; {MEND}", "mcp_missing")
            return
        # for clients of the first protocols it is no wish of theirs, but nobody would ever see the result
        gone = scope.setdefault("state", {})["mcp_gone"] = asyncio.Event()
        try:
            await sessions.answer(scope, receive, send)
        finally:
            gone.set()

    async def _sessions(self) -> Sessions:
        if self._opened is None or self._keeper is None or self._keeper.done():
            self._opened = asyncio.get_running_loop().create_future()
            self._keeper = asyncio.create_task(self._keep(self._opened))
        return await asyncio.shield(self._opened)

    async def _keep(self, opened: asyncio.Future[Sessions]) -> None:
        """Hold it open, in one task, as its context managers want to be left where they were entered."""
        try:
            await in_background(_load)
            from benchai.server.mcp.sessions import open_sessions

            async with open_sessions(self._house) as sessions:
                opened.set_result(sessions)
                await self._end.wait()
        except Exception as error:
            # once it is open, that is a defect: the next request opens it anew
            if opened.done():
                logger.exception("the MCP sessions have ended")
            else:
                opened.set_exception(error)


def _load() -> None:
    import mcp  # noqa: F401

    import benchai.server.mcp.sessions  # noqa: F401


async def _refuse(send: Send, status: int, message: str, code: str) -> None:
    allowed: Headers = [(b"allow", ", ".join(METHODS).encode())] if status == 405 else []
    _, headers, body = openai_error(status, message, code=code)
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *allowed]})
    await send({"type": "http.response.body", "body": body})
