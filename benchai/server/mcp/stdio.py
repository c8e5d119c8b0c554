"""The MCP server on stdin and stdout, for a client that starts it as a program."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from mcp.server.stdio import stdio_server

from benchai.server.mcp.calls import Calls
from benchai.server.mcp.house import House
from benchai.server.mcp.protocol import make_server
from benchai.tools.mcp.stdio import MAX_MESSAGE, LineCutter

_CHUNK = 64 * 1024


async def serve_stdio(house: House) -> None:
    """Answer until stdin ends; calls under way are cancelled then. Both descriptors must be open."""
    calls = Calls()
    server = make_server(house, calls)
    try:
        with _wire() as (source, sink):
            lines, output = _Lines(source), _Output(sink)
            streams: Any = stdio_server(lines, output)  # type: ignore[arg-type] # all that it asks of a file
            async with streams as (incoming, outgoing):
                await server.run(incoming, outgoing, server.create_initialization_options())
    finally:
        await calls.close()


@contextmanager
def _wire() -> Iterator[tuple[int, int]]:
    """Stdin and stdout as the wire alone has them: what a workflow prints goes to stderr, and it reads nothing."""
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    try:
        yield source, sink
    finally:
        # a thread may still read from the one; the process ends with it
        os.dup2(sink, 1)
        os.close(sink)


class _Lines:
    """The lines of a descriptor, read in a thread that does not keep the process from ending."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._came: asyncio.Queue[bytes] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    async def __aiter__(self) -> AsyncIterator[str]:
        threading.Thread(target=self._read, daemon=True, name="mcp stdin").start()
        cutter = LineCutter(MAX_MESSAGE)
        while piece := await self._came.get():
            for line in cutter.feed(piece):
                # what is too long is answered as what is no message
                yield line.decode(errors="replace") if isinstance(line, bytes) else ""

    def _read(self) -> None:
        piece = b"-"
        while piece:
            try:
                piece = os.read(self._source, _CHUNK)
            except OSError:
                piece = b""
            try:
                self._loop.call_soon_threadsafe(self._came.put_nowait, piece)
            except RuntimeError:
                return


class _Output:
    """Writes to a descriptor without holding up the loop."""

    def __init__(self, sink: int) -> None:
        self._sink = sink

    async def write(self, text: str) -> None:
        await anyio.to_thread.run_sync(self._write, text.encode(), abandon_on_cancel=True)

    async def flush(self) -> None:
        pass

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._sink, left) :]
