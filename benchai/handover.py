"""A call that another thread makes, and what comes of it, handed back to the event loop that asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def handed(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[Callable[[], None], asyncio.Future[T]]:
    """What the other thread calls, once, and the future of its result in this loop.

    One that nobody waits for any more is not begun; one that has begun is finished all the same.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def call() -> None:
        result, error = None, None
        try:
            if not future.cancelled():
                result = function(*args, **kwargs)
        except BaseException as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    return call, future
