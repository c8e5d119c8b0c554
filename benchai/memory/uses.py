"""Who uses a thing now: when nobody does any more, and that nobody begins to for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self


class Uses:
    """``async with uses`` around each use, within which no other may begin: it could wait for its own end."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()
        self._holders = 0
        self._free = asyncio.Event()
        self._free.set()

    async def __aenter__(self) -> Self:
        # it may be held again before who waits goes on
        while self._holders:
            await self._free.wait()
        self._count += 1
        self._none.clear()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()

    def may_begin(self) -> bool:
        """Whether a use would begin at once; a long one asks it now and then, and ends soon where not."""
        return not self._holders

    @contextmanager
    def held(self) -> Iterator[None]:
        """No use begins while the context is open; who wants to waits."""
        self._holders += 1
        self._free.clear()
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                self._free.set()

    async def ended(self) -> None:
        """Wait until nobody uses it."""
        await self._none.wait()
