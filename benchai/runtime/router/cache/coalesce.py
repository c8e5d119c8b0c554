"""Identical requests at the same time become one call of the model.

The call runs in a task of its own, so that no request that waits for it depends on another's end. All get the same
bytes: what has passed so far, then each piece as it comes. The call is held back while nobody takes what it brings,
and it is ended when the last request has left. So that a slow reader neither holds back the others nor fills the
memory, it may lag behind by ``LIMIT`` bytes (more than nearly any reply has): then it gets ``ReplyBroken``, since no
other call could go on where it stands; and requests that come after so many bytes begin a call of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from benchai.errors import ReplyBroken

#: Bytes of a reply that are kept for those who come later or read slowly.
LIMIT = 8 * 1024 * 1024
#: Bytes by which the call may be ahead of its fastest reader.
WINDOW = 256 * 1024

H_co = TypeVar("H_co", covariant=True)
H = TypeVar("H")


class Upstream(Protocol[H_co]):
    """A call of a model that has been answered: what came before the body (status, headers), and the body's bytes."""

    @property
    def head(self) -> H_co:
        """What came before the body."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces of the body."""
        ...


Open = Callable[[], AbstractAsyncContextManager[Upstream[H]]]


class Coalescer(Generic[H]):
    """The calls under way, by the key of their requests; all on one event loop.

    Args:
        limit: Bytes of one reply that are kept.
        window: Bytes by which a call may be ahead of its fastest reader.
    """

    def __init__(self, limit: int = LIMIT, window: int = WINDOW) -> None:
        self._flights: dict[bytes, _Flight[H]] = {}
        self._limit, self._window = limit, window

    def __len__(self) -> int:
        return len(self._flights)

    def join(self, key: bytes, opening: Open[H]) -> Shared[H]:
        """Take part in the call of ``key``: ``async with coalescer.join(...) as shared``.

        Args:
            key: What makes two requests identical, the form of the answer included (see ``flight_key``).
            opening: Makes the call where none is under way; entered and left in the call's own task.
        """
        flight = self._flights.get(key)
        if flight is not None and flight.open:
            return Shared(flight, leader=False)
        flight = self._flights[key] = _Flight(self._limit, self._window, self._landed, key)
        flight.task = asyncio.create_task(flight.run(opening))
        return Shared(flight, leader=True)

    def _landed(self, flight: _Flight[H]) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]


class Shared(Generic[H]):
    """One request's part in a call; it can be read once.

    Attributes:
        leader: Whether the call was made for this request.
    """

    def __init__(self, flight: _Flight[H], *, leader: bool) -> None:
        self.leader = leader
        self.at = 0
        self._flight = flight
        flight.readers.add(self)

    async def __aenter__(self) -> Shared[H]:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        await self._flight.leave(self)

    async def head(self) -> H:
        """What came before the body.

        Raises:
            Exception: what the call raised.
        """
        flight = self._flight
        while not flight.answered:
            flight.check_end()
            await flight.news()
        return flight.head[0]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """What has come since the last piece; cancelling the wait loses nothing.

        Raises:
            ReplyBroken: this reader lagged too far behind.
            Exception: what the call raised, after all that came before.
        """
        flight = self._flight
        while self.at == flight.total:
            flight.check_end()
            if flight.ended:
                raise StopAsyncIteration
            await flight.news()
        return flight.take(self)


class _Flight(Generic[H]):
    """One call of a model, what came of it, and who reads it."""

    def __init__(self, limit: int, window: int, landed: Callable[[_Flight[H]], None], key: bytes) -> None:
        self._limit, self._window, self._landed, self.key = limit, window, landed, key
        self._pieces: list[bytes] = []
        self._start = self.total = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._taken: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self.readers: set[Shared[H]] = set()
        self.task: asyncio.Task[None] | None = None
        self.head: list[H] = []
        self.ended = False

    @property
    def open(self) -> bool:
        """Whether another request can still have the whole reply."""
        return not self.ended and self._start == 0 and bool(self.readers)

    @property
    def answered(self) -> bool:
        """Whether the head is there."""
        return bool(self.head)

    async def run(self, opening: Open[H]) -> None:
        """Make the call and take what comes of it; whatever happens is told to the readers."""
        try:
            async with opening() as upstream:
                self.head.append(upstream.head)
                self._wake()
                await self._pass(upstream)
                # who reads does not wait for what is given back
                self._end()
                await asyncio.sleep(0)
        except (Exception, asyncio.CancelledError) as error:
            self._error = error
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._end()

    def _end(self) -> None:
        self._landed(self)
        self.ended = True
        self._wake()

    async def _pass(self, upstream: AsyncIterable[bytes]) -> None:
        async for piece in upstream:
            if piece:
                self._pieces.append(piece)
                self.total += len(piece)
                self._forget()
                self._wake()
            while self._ahead():
                self._taken = asyncio.get_running_loop().create_future()
                await self._taken

    def _ahead(self) -> bool:
        return self.total - max((reader.at for reader in self.readers), default=self.total) > self._window

    def _forget(self) -> None:
        """Drop what is more than ``limit`` behind; whoever has not read it is cut off."""
        while self.total - self._start > self._limit and len(self._pieces) > 1:
            self._start += len(self._pieces.pop(0))

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def news(self) -> None:
        """Wait until there is something new."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def check_end(self) -> None:
        """Raise what the call raised, once it has."""
        if self.ended and self._error is not None:
            if isinstance(self._error, asyncio.CancelledError):
                raise ReplyBroken("the call of the model was cancelled", hint="send the request again")
            raise self._error

    def take(self, reader: Shared[H]) -> bytes:
        """All that a reader has not had yet."""
        if reader.at < self._start:
            hint = "read faster, or send the header X-BenchAI-No-Cache to have a call of your own"
            raise ReplyBroken(f"the reader lagged more than {self._limit} bytes behind others", hint=hint)
        position, number = self.total, len(self._pieces)
        while position > reader.at:
            number -= 1
            position -= len(self._pieces[number])
        news = self._pieces[number:]
        reader.at = self.total
        self._let_go_on()
        return news[0] if len(news) == 1 else b"".join(news)

    def _let_go_on(self) -> None:
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(None)

    async def leave(self, reader: Shared[H]) -> None:
        """A request has ended; the last one ends the call, and waits until it has given everything back."""
        self.readers.discard(reader)
        self._let_go_on()
        if self.readers or self.task is None or self.task.done():
            return
        if not self.ended:
            self.task.cancel()
            self._end()
        await _ended(self.task)


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait for a task, whatever becomes of it."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task.add_done_callback(lambda _: None if ended.done() else ended.set_result(None))
    await ended
