"""Run a coroutine so that Ctrl-C, SIGTERM and a closed terminal end it in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# a run that is asked to stop at its next step may take so many seconds to get there
GRACE = 5.0


class Interrupted(SystemExit):
    """A signal ended the coroutine; all it had open is closed. Left alone, it ends the process without a word."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(self.exit_code)


@dataclass
class _Signals:
    """The signals that came while a coroutine ran."""

    task: asyncio.Task[Any]
    received: list[int] = field(default_factory=list)

    def interrupt(self, number: int) -> None:
        """Cancel the coroutine; further signals are ignored while it closes what it has open."""
        if not self.received:
            self.task.cancel()
        self.received.append(number)


_current: ContextVar[_Signals | None] = ContextVar("signals", default=None)


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result.

    The first signal cancels it, so that every ``async with`` closes; further ones are ignored while it does.

    Raises:
        Interrupted: a signal came.
    """
    received: list[int] = []
    try:
        result = asyncio.run(_with_signals(coroutine, received))
    except asyncio.CancelledError:
        if not received:
            raise
        raise Interrupted(received[0]) from None
    if received:
        raise Interrupted(received[0])
    return result


@contextmanager
def on_termination(drain: Callable[[], None]) -> Iterator[None]:
    """While the context is open, SIGTERM calls ``drain``; a second one, or ``GRACE`` seconds later, cancels."""
    signals = _current.get()
    if signals is None or signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        yield
        return
    waiting: list[asyncio.TimerHandle] = []

    def terminate() -> None:
        if waiting or signals.received:
            signals.task.cancel()
            return
        signals.received.append(signal.SIGTERM)
        drain()
        waiting.append(loop.call_later(GRACE, signals.task.cancel))

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        for handle in waiting:
            handle.cancel()
        loop.add_signal_handler(signal.SIGTERM, signals.interrupt, signal.SIGTERM)


async def _with_signals(coroutine: Coroutine[Any, Any, T], received: list[int]) -> T:
    task = asyncio.current_task()
    assert task is not None
    signals = _Signals(task, received)
    _current.set(signals)
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        # nohup and background jobs ignore a signal on purpose
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, signals.interrupt, number)
    return await coroutine
