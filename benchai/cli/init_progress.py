"""How far downloads have come: a bar on a terminal, a line now and then on a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchai.config.hub_fetch import Progress

#: Per cent between two lines on a pipe.
STEP = 10
MIB = 1024 * 1024


@contextlib.contextmanager
def progress_shown() -> Iterator[Progress]:
    """Shows the files while the context is open."""
    from benchai.cli.render import err_console

    console = err_console()
    if console.is_terminal:
        with _bars() as show:
            yield show
    else:
        yield _Lines()


@contextlib.contextmanager
def _bars() -> Iterator[Progress]:
    from rich import progress

    from benchai.cli.render import err_console, safe

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=err_console()) as shown:
        tasks: dict[str, progress.TaskID] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                # what was there before must not count as speed
                tasks[name] = shown.add_task(safe(name), total=total, completed=done)
            shown.update(tasks[name], completed=done)

        yield show


class _Lines:
    """A line for each tenth of a file."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def __call__(self, name: str, done: int, total: int) -> None:
        from benchai.cli.render import safe

        share = 100 * done // total if total else 100
        if share // STEP > self._told.get(name, -STEP) // STEP:
            self._told[name] = share
            sys.stderr.write(f"{safe(name)}: {done / MIB:,.1f} of {total / MIB:,.1f} MiB ({share} %)\n")
            sys.stderr.flush()
