"""Blocking work beside the event loop, in a thread that nobody waits for when the program ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from benchai.handover import handed

P = ParamSpec("P")
T = TypeVar("T")


async def in_background(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``function`` in a daemon thread.

    asyncio joins the threads of ``to_thread`` before it ends: a download would keep Ctrl-C waiting.
    """
    call, future = handed(function, *args, **kwargs)
    threading.Thread(target=call, daemon=True, name=getattr(function, "__name__", "work")).start()
    return await future
