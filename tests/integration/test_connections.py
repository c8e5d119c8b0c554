"""Connections to engines: what is kept, what breaks, what waits; against servers that do exactly what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from benchai.runtime.connections import Connections
from benchai.runtime.plain_connection import BLOCK, MOST_HELD

pytestmark = pytest.mark.anyio
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Said: Yes\r\n\r\nhello"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Server:
    """Answers each connection as it is told; counts them, and keeps what was asked."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.connections = 0
        self.asked: list[bytes] = []
        self.gone = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._peer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        self.asked.append(head + await reader.readexactly(length))


@asynccontextmanager
async def serving(peer: Callable[[Server], Peer]) -> AsyncIterator[tuple[Server, str, Connections]]:
    made: list[Server] = []
    server = Server(lambda reader, writer: peer(made[0])(reader, writer))
    made.append(server)
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    connections = Connections()
    try:
        yield server, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1/x", connections
    finally:
        await connections.close()
        listening.close()


def answers(*replies: bytes, then_waits: bool = True) -> Callable[[Server], Peer]:
    """One of these after each request of a connection."""

    def made(server: Server) -> Peer:
        async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for reply in replies:
                await server.request(reader)
                writer.write(reply)
            if then_waits and not await reader.read(1):
                server.gone.set()

        return peer

    return made


async def test_a_whole_answer_leaves_its_connection_for_the_next_request() -> None:
    async with serving(answers(WHOLE, WHOLE)) as (server, url, connections):
        for number in (1, 2):
            async with connections.post(url, b'{"n":%d}' % number, api_key="k") as response:
                assert (response.status, response.headers["x-said"]) == (200, "Yes")
                assert await response.read() == b"hello"
                assert response.at_eof
    assert server.connections == 1
    assert server.asked[1].endswith(b'\r\n\r\n{"n":2}')
    assert b"Authorization: Bearer k\r\n" in server.asked[1]


async def test_a_connection_that_was_closed_meanwhile_is_replaced() -> None:
    async with serving(answers(WHOLE, then_waits=False)) as (server, url, connections):
        for _ in range(3):
            async with connections.post(url, b"{}") as response:
                assert await response.read() == b"hello"
    assert server.connections == 3


async def test_a_stream_is_asked_for_on_a_connection_of_its_own_and_comes_in_pieces() -> None:
    more = asyncio.Event()

    def made(server: Server) -> Peer:
        async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.request(reader)
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" + STREAM + chunk(b"one "))
            await more.wait()
            writer.write(chunk(b"two") + LAST)

        return peer

    async with serving(made) as (server, url, connections):
        async with connections.post(url, b'{"stream":true}') as response:
            pieces = aiter(response)
            assert await anext(pieces) == b"one "
            more.set()
            assert [piece async for piece in pieces] == [b"two"]
            assert response.at_eof
    assert b"Connection: close\r\n" in server.asked[0]


async def test_a_body_may_end_with_its_connection() -> None:
    async with serving(answers(b"HTTP/1.0 200 OK\r\n\r\nhello", then_waits=False)) as (_, url, connections):
        async with connections.post(url, b"{}") as response:
            assert await response.read() == b"hello"


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"", aiohttp.ServerDisconnectedError),
        (b"HTTP/1.1 200 OK\r\nContent-Le", aiohttp.ServerDisconnectedError),
        (b"SSH-2.0\r\n", aiohttp.ClientPayloadError),
        (b"HTTP/1.1 101 Other\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", aiohttp.ClientPayloadError),
    ],
)
async def test_no_answer(sent: bytes, error: type[Exception]) -> None:
    async with serving(answers(sent, then_waits=False)) as (_, url, connections):
        with pytest.raises(error):
            async with connections.post(url, b"{}"):
                raise AssertionError("there is no answer")


@pytest.mark.parametrize("sent", [WHOLE[:-2], STREAM + chunk(b"hel"), STREAM + b"zz\r\n"])
async def test_an_answer_that_breaks_off(sent: bytes) -> None:
    async with serving(answers(sent, then_waits=False)) as (_, url, connections):
        with pytest.raises(aiohttp.ClientPayloadError):
            async with connections.post(url, b"{}") as response:
                await response.read()


async def test_nobody_listens_there() -> None:
    async with serving(answers(WHOLE)) as (_, url, _other):
        pass
    connections = Connections()
    with pytest.raises(aiohttp.ClientOSError) as failed:
        async with connections.post(url, b"{}"):
            raise AssertionError("there is no answer")
    assert "refused" in str(failed.value)
    await connections.close()


@pytest.mark.parametrize(
    ("limits", "error"),
    [({"idle": 0.1, "total": 9.0}, aiohttp.SocketTimeoutError), ({"idle": 9.0, "total": 0.1}, TimeoutError)],
)
@pytest.mark.parametrize("before", [b"", STREAM + chunk(b"one")])
async def test_silence_and_length_have_limits(limits: dict[str, float], error: type[Exception], before: bytes) -> None:
    async with serving(answers(before)) as (server, url, connections):
        with pytest.raises(error) as failed:
            async with connections.post(url, b"{}", **limits) as response:
                await response.read()
        assert isinstance(failed.value, aiohttp.SocketTimeoutError) == (error is aiohttp.SocketTimeoutError)
        await asyncio.wait_for(server.gone.wait(), 5)


async def test_who_leaves_early_closes_the_connection_at_once() -> None:
    async with serving(answers(STREAM + chunk(b"one"))) as (server, url, connections):
        async with connections.post(url, b'{"stream":true}') as response:
            assert await anext(aiter(response)) == b"one"
            assert not server.gone.is_set()
        await asyncio.wait_for(server.gone.wait(), 5)


async def test_who_is_cancelled_closes_the_connection_at_once() -> None:
    asked = asyncio.Event()

    def made(server: Server) -> Peer:
        async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.request(reader)
            asked.set()
            await reader.readexactly(1)

        return peer

    async with serving(made) as (server, url, connections):

        async def ask() -> None:
            async with connections.post(url, b"{}"):
                raise AssertionError("there is no answer")

        asking = asyncio.create_task(ask())
        await asked.wait()
        asking.cancel()
        await asyncio.wait_for(server.gone.wait(), 5)
        assert asking.cancelled()


async def test_a_body_that_nobody_reads_is_left_with_its_server() -> None:
    size = 64 * 1024 * 1024
    progress: list[int] = []

    def made(server: Server) -> Peer:
        async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size // BLOCK):
                writer.write(bytes(BLOCK))
                await writer.drain()
                progress.append(BLOCK)

        return peer

    async with serving(made) as (_, url, connections):
        async with connections.post(url, b"{}") as response:
            before = -1
            while len(progress) != before:
                # until nothing more goes out: what both kernels hold is far less than the body
                before = len(progress)
                for _ in range(200):
                    await asyncio.sleep(0)
            assert sum(progress) < size - 4 * MOST_HELD
            read = 0
            async for piece in response:
                assert len(piece) <= MOST_HELD + BLOCK
                read += len(piece)
    assert read == size


async def test_a_long_request_goes_out_whole() -> None:
    data = b'"' + b"x" * 8_000_000 + b'"'
    async with serving(answers(WHOLE)) as (server, url, connections):
        async with connections.post(url, data) as response:
            assert await response.read() == b"hello"
    assert server.asked[0].endswith(data)


async def test_names_and_certificates_are_left_to_aiohttp() -> None:
    async with serving(answers(WHOLE)) as (server, url, connections):
        async with connections.post(url.replace("127.0.0.1", "localhost"), b"{}", total=9) as response:
            assert await response.read() == b"hello"
            assert response.headers["x-said"] == "Yes"
            assert response.at_eof
    assert b"User-Agent: Python" in server.asked[0]
