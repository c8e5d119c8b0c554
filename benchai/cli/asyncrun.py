"""Run a coroutine so that Ctrl-C, SIGTERM and a closed terminal end it in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """A signal ended the coroutine; all it had open is closed."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result.

    The first signal cancels it, so that every ``async with`` closes; further ones are ignored while it does.

    Raises:
        Interrupted: a signal came.
    """
    received: list[int] = []
    try:
        return asyncio.run(_with_signals(coroutine, received))
    except asyncio.CancelledError:
        if not received:
            raise
        raise Interrupted(received[0]) from None


async def _with_signals(coroutine: Coroutine[Any, Any, T], received: list[int]) -> T:
    task = asyncio.current_task()
    assert task is not None

    def interrupt(number: int) -> None:
        if not received:
            task.cancel()
        received.append(number)

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        # nohup and background jobs ignore a signal on purpose
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, interrupt, number)
    return await coroutine
