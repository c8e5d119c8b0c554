"""How far long work on the memory has come, as a bar on a terminal; nothing on a pipe."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from benchai.memory.namespace import Namespace
    from benchai.memory.service import MemoryService

T = TypeVar("T")
#: Seconds between two looks at what is still to be embedded.
LOOK_SECONDS = 0.5
#: Is told what is done, of how much, and what it is at.
Show = Callable[[int, int, str], None]


@contextlib.contextmanager
def bar() -> Iterator[Show]:
    """A progress bar."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from benchai.cli.render import safe

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("", total=None)

        def show(done: int, total: int, what: str) -> None:
            shown.update(task, completed=done, total=total, description=safe(what)[-60:])

        yield show


async def embedding(memory: MemoryService, ns: Namespace, work: Awaitable[T], show: Show) -> T:
    """The result of work that embeds passages; what is embedded meanwhile is shown.

    A server that owns the memory does the work itself: what is left is asked for, not told.
    """
    doing = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({doing}, timeout=LOOK_SECONDS))[0]:
            found = await memory.stats(ns)
            if found.embedder is not None:
                total = found.counts["passages"]
                show(max(total - found.pending, 0), total, "embedding")
    finally:
        # an error of the look, or Ctrl-C, must not leave it behind
        if not doing.done():
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)
    return await doing
