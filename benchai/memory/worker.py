"""A thread of its own for blocking work, one call after the other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from benchai.handover import handed

P = ParamSpec("P")
T = TypeVar("T")


class Worker:
    """Runs functions in one daemon thread; close it when nothing is under way."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True, name=name)
        self._thread.start()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns or raises. One that has begun is finished, even if nobody waits any more."""
        call, future = handed(function, *args, **kwargs)
        self._calls.put(call)
        return await future

    def close(self, *, wait: bool = True) -> None:
        """End the thread once it has done what was given to it.

        Args:
            wait: Whether the caller waits for that, and an event loop with it.
        """
        self._calls.put(None)
        if wait:
            self._thread.join()

    async def aclose(self) -> None:
        """As ``close``, but the event loop goes on meanwhile."""
        try:
            await self.run(lambda: None)
        finally:
            self.close()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
