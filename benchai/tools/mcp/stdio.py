"""An MCP server as a child process: one JSON-RPC message a line on its stdin and stdout.

The client of the `mcp` package reads lines of any length into memory, and copies what it holds for each piece
that arrives; this one holds a bounded part of a line, keeps stderr apart, and takes the whole process group
down at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import PARSE_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter

from benchai.tools.json_shown import plain_text

__all__ = ["MAX_MESSAGE", "Child", "LineCutter", "Overlong", "Streams"]

MAX_MESSAGE = 16 * 1024**2  # bytes of one message; pictures travel in them
MAX_LOG_LINE = 4096
EXIT_GRACE = 2.0  # seconds that the server has to end after its stdin was closed, and again after SIGTERM
_CHUNK = 64 * 1024
_ENDS = 256
_POLL = 0.01
_FIRST_ID = re.compile(rb'\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*(\d{1,9})\s*,\s*"(?:result|error)"')
_LAST_ID = re.compile(rb',\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*(\d{1,9})\s*\}\s*$')

Incoming = SessionMessage | Exception
Streams = tuple[MemoryObjectReceiveStream[Incoming], MemoryObjectSendStream[SessionMessage]]


@dataclass(frozen=True)
class Overlong:
    """The first and the last bytes of a line that was longer than the limit."""

    head: bytes
    tail: bytes


class LineCutter:
    """Cuts pieces of a stream into lines; of a line beyond `limit` bytes only its ends are held."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._head: bytes | None = None

    def feed(self, piece: bytes) -> list[bytes | Overlong]:
        """Return the lines that `piece` ends, without their line feeds."""
        *ended, rest = piece.split(b"\n")
        lines = [self._ended(part) for part in ended]
        self._hold(rest)
        return lines

    def _ended(self, part: bytes) -> bytes | Overlong:
        self._hold(part)
        line = bytes(self._held) if self._head is None else Overlong(self._head, bytes(self._held))
        self._held.clear()
        self._head = None
        return line

    def _hold(self, part: bytes) -> None:
        self._held += part
        if self._head is None and len(self._held) > self._limit:
            self._head = bytes(self._held[:_ENDS])
        if self._head is not None:
            del self._held[:-_ENDS]


@dataclass
class Child:
    """How to start one server; `open` starts it, each time anew.

    `env` is its whole environment. `on_line` gets what it writes to stderr, and what it writes to stdout that is
    no message, line by line.
    """

    command: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    on_line: Callable[[str], None]
    _gone: bool = field(default=False, init=False)
    _code: int | None = field(default=None, init=False)
    _last: deque[str] = field(default_factory=lambda: deque(maxlen=3), init=False)

    @contextlib.asynccontextmanager
    async def open(self, on_end: Callable[[], None]) -> AsyncIterator[Streams]:
        """Start the server and yield the streams for a session; the server has ended when this is left.

        `on_end` is called when the server closes its stdout or its stdin. Raises OSError when it cannot be started.
        """
        self._gone = False
        self._last.clear()
        process = await self._start()
        ending = False

        def lost() -> None:
            self._gone = self._gone or not ending
            on_end()

        inbox, incoming = anyio.create_memory_object_stream[Incoming](0)
        outgoing, outbox = anyio.create_memory_object_stream[SessionMessage](0)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, process, inbox, lost)
                tasks.start_soon(self._write, process, outbox, lost)
                tasks.start_soon(self._listen, process)
                try:
                    yield incoming, outgoing
                finally:
                    ending = True
                    with anyio.CancelScope(shield=True):
                        await _end(process)
                    tasks.cancel_scope.cancel()
        finally:
            # A shield does not stop asyncio's own cancellation: what still runs then goes at once
            _signal(process, signal.SIGKILL)
            self._code = process.returncode
            for stream in (inbox, incoming, outgoing, outbox):
                stream.close()
            _release(process)

    @property
    def forgotten(self) -> bool:
        """Never: the session of a process ends with it."""
        return False

    def note(self) -> str:
        """How the last run ended and what it wrote last, for an error; empty when nothing is known."""
        # The code of one that we ended ourselves says nothing
        code = f"exit code {self._code}" if self._gone else ""
        return ": ".join(part for part in (code, " | ".join(self._last)) if part)

    async def _start(self) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *self.command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=dict(self.env),
            cwd=self.cwd,
            start_new_session=True,
        )

    async def _read(
        self, process: asyncio.subprocess.Process, inbox: MemoryObjectSendStream[Incoming], on_end: Callable[[], None]
    ) -> None:
        assert process.stdout is not None
        cutter = LineCutter(MAX_MESSAGE)
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with inbox:
                while piece := await process.stdout.read(_CHUNK):
                    for line in cutter.feed(piece):
                        await self._deliver(line, inbox)
                on_end()
        # Without a session: a server that is stuck on a full pipe would not see its stdin close
        while await process.stdout.read(_CHUNK):
            pass

    async def _deliver(self, line: bytes | Overlong, inbox: MemoryObjectSendStream[Incoming]) -> None:
        message = _message(line)
        if message is not None:
            await inbox.send(message)
        elif isinstance(line, Overlong) or line.strip():
            self._log(line)

    async def _write(
        self,
        process: asyncio.subprocess.Process,
        outbox: MemoryObjectReceiveStream[SessionMessage],
        on_end: Callable[[], None],
    ) -> None:
        assert process.stdin is not None
        async with outbox:
            try:
                async for item in outbox:
                    text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                    process.stdin.write(text.encode() + b"\n")
                    await process.stdin.drain()
            except OSError:
                on_end()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        cutter = LineCutter(MAX_LOG_LINE)
        while piece := await process.stderr.read(_CHUNK):
            for line in cutter.feed(piece):
                self._log(line)

    def _log(self, line: bytes | Overlong) -> None:
        raw = line.head if isinstance(line, Overlong) else line
        text = plain_text(raw[:MAX_LOG_LINE].decode(errors="replace"), 300)
        if text:
            self._last.append(text[:150])
            self.on_line(text)


def _message(line: bytes | Overlong) -> SessionMessage | None:
    """The message in a line; one that tells the caller why, when an answer cannot be read; None for no message."""
    if isinstance(line, Overlong):
        return _refusal(line.head, line.tail, f"the answer is longer than {MAX_MESSAGE // 1024**2} MiB")
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:
        return _refusal(line[:_ENDS], line[-_ENDS:], "the answer is not valid JSON-RPC")


def _refusal(head: bytes, tail: bytes, reason: str) -> SessionMessage | None:
    # In these two places the number can be nothing but the id of the answer itself
    found = _FIRST_ID.match(head) or _LAST_ID.search(tail)
    if found is None:
        return None
    error = ErrorData(code=PARSE_ERROR, message=reason)
    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=int(found[1]), error=error))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close stdin, wait, then SIGTERM, then SIGKILL to the group; at most about 6 s."""
    assert process.stdin is not None
    process.stdin.close()
    for number in (signal.SIGTERM, signal.SIGKILL):
        if await _has_ended(process):
            break
        _signal(process, number)
    await _has_ended(process)


async def _has_ended(process: asyncio.subprocess.Process) -> bool:
    # Not wait(): it also waits for the pipes, which a grandchild may hold open
    with anyio.move_on_after(EXIT_GRACE):
        while process.returncode is None:  # noqa: ASYNC110
            await anyio.sleep(_POLL)
    return process.returncode is not None


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _release(process: asyncio.subprocess.Process) -> None:
    """Close the pipes, which a surviving grandchild could hold open; asyncio offers no public way."""
    transport = getattr(process, "_transport", None)
    if transport is None:
        return
    # What is still to be written would keep the pipe open; a closed one can't be aborted
    if process.stdin is not None and process.stdin.transport.get_write_buffer_size():
        process.stdin.transport.abort()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        transport.close()
