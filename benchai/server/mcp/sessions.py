"""Sessions of clients that shake hands: bounded in number for each key, and in the time that they are idle."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from benchai.server.edge import Message, Receive, Scope, Send
from benchai.server.mcp.calls import Calls
from benchai.server.mcp.house import House
from benchai.server.mcp.protocol import make_server

#: Sessions of one key, of which the one that was idle longest makes room; sessions of all keys together.
MOST, MOST_TOGETHER = 100, 1_000
#: Seconds after which a session without a request ends.
IDLE = 3_600.0
#: The server's own cap on bodies stands before this one.
LARGEST = 1 << 40
ID = b"mcp-session-id"


class Sessions:
    """Answers requests, each within the session that it names, which only the key that opened it can use."""

    def __init__(self, manager: StreamableHTTPSessionManager, most: int = MOST) -> None:
        self._manager = manager
        self._most = most
        self._open: dict[str, OrderedDict[bytes, int]] = {}

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request of a key whose name stands in the scope's state."""
        owner = str(scope.get("state", {}).get("key", ""))
        known = self._open.setdefault(owner, OrderedDict())
        scope = _of(scope, owner)
        session: bytes | None = next((value for name, value in scope["headers"] if name == ID), None)
        if session is not None and session in known:
            known.move_to_end(session)
            known[session] += 1
        begun: list[bytes] = []
        try:
            await self._manager.handle_request(scope, receive, _watched(send, session, known, begun))
        finally:
            if session is not None and session in known:
                known[session] -= 1
        for one in begun:
            known[one] = 0
            await self._make_room(scope, known, one)
        if session is not None and scope["method"] == "DELETE":
            known.pop(session, None)

    async def _make_room(self, scope: Scope, known: OrderedDict[bytes, int], new: bytes) -> None:
        """End the session that was idle longest, where a key has too many."""
        oldest = next((one for one, busy in known.items() if not busy and one != new), None)
        if len(known) <= self._most or oldest is None:
            return
        del known[oldest]
        ending = {**scope, "method": "DELETE", "headers": [(ID, oldest)]}
        await self._manager.handle_request(ending, _nothing, _nowhere)


@asynccontextmanager
async def open_sessions(house: House) -> AsyncIterator[Sessions]:
    """Answer for a house; calls under way are cancelled at the end."""
    calls = Calls()
    manager = StreamableHTTPSessionManager(
        make_server(house, calls),
        max_request_body_size=LARGEST,
        max_sessions=MOST_TOGETHER,
        session_idle_timeout=IDLE,
    )
    try:
        async with manager.run():
            yield Sessions(manager)
    finally:
        await calls.close()


def _of(scope: Scope, owner: str) -> Scope:
    """The scope of a request with its key in the form in which sessions are bound to it."""
    if not owner:
        return scope
    return {**scope, "user": AuthenticatedUser(AccessToken(token="", client_id=owner, scopes=[]))}


def _watched(send: Send, session: bytes | None, known: OrderedDict[bytes, int], begun: list[bytes]) -> Send:
    """Notes which session an answer begins, or says to be over."""

    async def watching(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = next((value for name, value in message.get("headers", ()) if name.lower() == ID), None)
            if message["status"] == 404 and session is not None:
                known.pop(session, None)
            elif session is None and given is not None and message["status"] < 400:
                begun.append(given)
            if given is not None:
                # a page that may ask needs to read it, to come again
                message["headers"] = [*message["headers"], (b"access-control-expose-headers", ID)]
        await send(message)

    return watching


async def _nothing() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def _nowhere(message: Message) -> None:
    pass
