"""The connection to one MCP server: opened, owned and closed by one task, called from any.

Entering and leaving a session must happen in one task; requests may come from any task, and a request that is
cancelled takes nothing else with it. A connection that ended is opened again, once, by the next call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    Implementation,
    PaginatedRequestParams,
    Tool,
)
from pydantic import ValidationError

from benchai.errors import BenchAIError, ToolError
from benchai.tools.json_shown import plain_text
from benchai.tools.tool import shorten

__all__ = ["Link", "Offer", "Transport"]

MAX_PAGES = 50
MAX_TOOLS = 500
CLOSE_GRACE = 8.0  # seconds; a child process needs at most about 6 of them
_REASON_GRACE = 2.0
_CLOSED = "Connection closed"  # how the session words it; its code, -32000, is what servers use for anything
_FORGOTTEN = {INVALID_REQUEST, -32000, -32001}  # with which servers say that they do not know a session

# A library that logs to nobody must not fall back on our stderr
for _name in ("mcp", "client"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class Transport(Protocol):
    """A way to a server that can be opened again and again."""

    def open(self, on_end: Callable[[], None]) -> AbstractAsyncContextManager[tuple[Any, Any]]:
        """Yield the two streams of a session; `on_end` is called when the server goes away by itself."""
        ...

    @property
    def forgotten(self) -> bool:
        """Whether the server has answered that it does not know the session any more."""
        ...

    def note(self) -> str:
        """What else is known about the last failure; empty when nothing."""
        ...


@dataclass(frozen=True)
class Offer:
    """A tool as a server describes it; nothing in it is to be trusted."""

    name: str
    description: str
    schema: dict[str, Any]


class Link:
    """One server. `timeout`, in seconds, bounds the handshake with the listing, and each call."""

    def __init__(self, name: str, transport: Callable[[], Transport], timeout: float, version: str) -> None:
        self.name = name
        self._make_transport = transport
        self._timeout = timeout
        self._client = Implementation(name="benchai", version=version)
        self._lock = asyncio.Lock()
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._transport: Transport
        self._ready: asyncio.Future[ClientSession | BenchAIError]
        self._offers: list[Offer] = []

    async def offers(self) -> list[Offer]:
        """Connect and return the tools of the server, at most 500.

        Raises ToolError or ConfigError when it cannot be started, does not answer in time or speaks no MCP.
        """
        await self._connected()
        return self._offers

    async def call(self, tool: str, arguments: dict[str, Any]) -> CallToolResult:
        """Call a tool, connecting anew when the connection has ended.

        Raises ToolError when the server cannot be reached, ends, refuses, or does not answer in time; it is told
        of the time-out, as it is when the caller is cancelled.
        """
        session = await self._session()
        try:
            return await self._request(session, tool, arguments)
        except MCPError as error:
            if error.code not in _FORGOTTEN or not self._transport.forgotten:
                raise await self._refused(tool, error) from None
        # It did not look at the call, so this repeats nothing
        self._stop.set()
        try:
            return await self._request(await self._session(), tool, arguments)
        except MCPError as error:
            raise await self._refused(tool, error) from None

    async def close(self) -> None:
        """End the connection; a child process has ended when this returns."""
        self._closed = True
        await self._finish()

    async def _session(self) -> ClientSession:
        try:
            return await self._connected()
        except ToolError:
            raise
        except BenchAIError as error:
            raise ToolError(str(error), hint=error.hint) from None

    async def _request(self, session: ClientSession, tool: str, arguments: dict[str, Any]) -> CallToolResult:
        request = CallToolRequest(params=CallToolRequestParams(name=tool, arguments=arguments))
        try:
            with anyio.fail_after(self._timeout):
                # Not call_tool(): it would throw away an answer that breaks the server's own output schema
                return await session.send_request(request, CallToolResult)
        except TimeoutError:
            limit = f"took longer than {self._timeout:g} s and was told to stop"
            raise ToolError(f"tool {shorten(tool)} of MCP server {self.name!r} {limit}") from None
        except ValidationError as error:
            reason = f"answered with no tool result: {_first_problem(error)}"
            raise ToolError(f"tool {shorten(tool)} of MCP server {self.name!r} {reason}") from None

    async def _refused(self, tool: str, error: MCPError) -> ToolError:
        text = plain_text(error.message, 500)
        if not (self._stop.is_set() or _is_lost(error)):
            return ToolError(f"MCP server {self.name!r} refused the call of {shorten(tool)}: {text}")
        if self._stop.is_set() and self._task is not None:
            # How it ended is known a moment later
            await asyncio.wait({self._task}, timeout=_REASON_GRACE)
        reason = self._transport.note() or text
        return ToolError(
            f"MCP server {self.name!r}: the connection was lost during {shorten(tool)} ({reason})",
            hint="it may or may not have done its work; the next call connects again",
        )

    async def _connected(self) -> ClientSession:
        async with self._lock:
            if self._closed:
                raise ToolError(f"MCP server {self.name!r} is closed")
            if self._task is None or self._task.done() or self._stop.is_set():
                await self._finish()
                self._start()
            ready = self._ready
        outcome = await asyncio.shield(ready)
        if isinstance(outcome, BenchAIError):
            raise outcome
        return outcome

    def _start(self) -> None:
        self._stop = asyncio.Event()
        self._ready = asyncio.get_running_loop().create_future()
        own = self._own(self._stop, self._ready)
        self._task = asyncio.create_task(own, name=f"mcp {self.name}")

    async def _finish(self) -> None:
        task = self._task
        if task is None:
            return
        self._stop.set()
        try:
            if not self._ready.done():
                task.cancel()
            await asyncio.wait({task}, timeout=CLOSE_GRACE)
        finally:
            task.cancel()
        await asyncio.wait({task})
        self._task = None

    async def _own(self, stop: asyncio.Event, ready: asyncio.Future[ClientSession | BenchAIError]) -> None:
        """The whole life of one connection, in one task."""
        problem: BenchAIError = ToolError(f"MCP server {self.name!r} was closed before it was ready")
        try:
            self._transport = self._make_transport()
            async with self._transport.open(stop.set) as (incoming, outgoing):
                async with ClientSession(incoming, outgoing, client_info=self._client) as session:
                    try:
                        await self._prepare(session)
                        ready.set_result(session)
                        await stop.wait()
                    finally:
                        # Before the session fails its callers: they shall not find it open
                        stop.set()
        except Exception as error:
            problem = self._problem(_leaf(error))
        finally:
            if not ready.done():
                ready.set_result(problem)

    async def _prepare(self, session: ClientSession) -> None:
        with anyio.fail_after(self._timeout):
            await _shake_hands(session)
            self._offers = await _listing(session)

    def _problem(self, error: BaseException) -> BenchAIError:
        if isinstance(error, BenchAIError):
            return error
        note = self._transport.note()
        text = f"MCP server {self.name!r} {self._reason(error)}{f' ({note})' if note else ''}"
        return ToolError(text, hint=f"check its entry, or set a longer timeout, under tools.mcp.{self.name}")

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError):
            return f"was not ready within {self._timeout:g} s"
        if isinstance(error, MCPError) and _is_lost(error):
            return "ended before it was ready"
        if isinstance(error, MCPError):
            return f"refused the handshake: {plain_text(error.message, 300)}"
        if isinstance(error, ValidationError):
            return f"does not speak MCP: {_first_problem(error)}"
        if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError):
            return f"cannot be started: {error.strerror}: {error.filename!r}"
        return f"failed: {type(error).__name__}: {plain_text(str(error), 300)}"


async def _shake_hands(session: ClientSession) -> None:
    """The handshake that all servers know, else the newer one.

    The other way round would end servers that take a first request other than `initialize` for an attack, and
    wait ten seconds for those that ignore it.
    """
    try:
        await session.initialize()
    except MCPError as error:
        try:
            await session.discover()
        except (MCPError, RuntimeError, ValidationError):
            raise error from None


async def _listing(session: ClientSession) -> list[Offer]:
    offers: list[Offer] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor) if cursor else None)
        offers += [_offer(tool) for tool in page.tools]
        if not page.next_cursor or page.next_cursor == cursor or len(offers) >= MAX_TOOLS:
            break
        cursor = page.next_cursor
    return offers[:MAX_TOOLS]


def _offer(tool: Tool) -> Offer:
    return Offer(tool.name, tool.description or tool.title or "", tool.input_schema)


def _is_lost(error: MCPError) -> bool:
    return error.code == CONNECTION_CLOSED and error.message.startswith((_CLOSED, "SSE stream"))


def _leaf(error: BaseException) -> BaseException:
    """The first plain error of a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return plain_text(f"{place}: {first['msg']}" if place else first["msg"], 200)
