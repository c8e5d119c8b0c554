"""Watching: what changes below the targets is read again, soon after."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

from benchai.errors import SourceError
from benchai.memory.ingest import Batch, IngestReport, Progress, Sink, ingest
from benchai.memory.loaders import Read
from benchai.memory.namespace import Namespace
from benchai.memory.scan import is_meant, reason_of, resolved

_QUIET = 200  # ms without a further change, after which those before are told
_LONGEST = 1600  # ms: told then even if the changes do not end
_LOOK = 200  # ms after which it is seen that the watching shall end
_MANY = 200  # changes: from there on a look at everything is quicker


async def watch(
    sink: Sink,
    ns: Namespace,
    targets: Sequence[str | Path],
    *,
    read: Read | None = None,
    progress: Callable[[Progress], None] | None = None,
    batch: Batch | None = None,
    polling: bool | None = None,
) -> AsyncIterator[IngestReport]:
    """Make the memory hold what files and folders hold, now and after each change; ends when its task is cancelled.

    The first report is of everything; each further one tells what was added, changed or removed, or can't be read.

    Args:
        sink: As of `ingest`, and so are the others.
        ns: Of the documents.
        targets: Files and folders that are there.
        read: Makes documents of bytes.
        progress: Called after each batch.
        batch: How much is put at once.
        polling: Look every 0.3 s in place of waiting for the kernel, as some network file systems need; default: where
            watchfiles knows that it must be.

    Raises:
        SourceError: a target is not there, or can't be watched.
        StoreError: from the sink.
    """
    roots = [_there(Path(target)) for target in targets]
    async with _Watcher(roots, polling) as watcher:
        yield await ingest(sink, ns, roots, read=read, progress=progress, batch=batch)
        while True:
            changed = _targets(await watcher.changes(), roots)
            report = await ingest(sink, ns, changed, read=read, progress=progress, batch=batch)
            if report.added or report.changed or report.removed or report.failures:
                yield report


def _there(path: Path) -> Path:
    found = resolved(path)
    if not found.exists():
        raise SourceError(f"{str(path)!r} does not exist", hint="check the path")
    return found


def _targets(changes: Iterable[str], roots: list[Path]) -> list[Path]:
    """What has to be read again: the files that changed, or all where that is not sure to be enough."""
    paths = {Path(change) for change in changes}
    if len(paths) > _MANY:
        return roots
    found: set[Path] = set()
    for path in paths:
        for root in roots:
            if path == root or (path.is_relative_to(root) and is_meant(root, path)):
                if path.name == ".gitignore" or _unsure(path):
                    return roots
                found.add(_topmost(path))
    return sorted(found)


def _unsure(path: Path) -> bool:
    """Whether more may have changed than this file: folders come with what they hold, and an emptied file goes."""
    try:
        return path.is_dir() or path.stat().st_size == 0
    except OSError:
        return False


def _topmost(path: Path) -> Path:
    """Of a path that is gone, the folder that went with it."""
    while not path.exists() and not path.parent.exists():
        path = path.parent
    return path


class _Watcher:
    """The thread that waits for changes."""

    def __init__(self, roots: list[Path], polling: bool | None) -> None:
        # an editor that saves a file puts another one in its place: its folder is watched
        self._folders = sorted({root if root.is_dir() else root.parent for root in roots})
        self._polling = polling
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[set[str] | Exception] = asyncio.Queue()
        self._stop = threading.Event()

    async def __aenter__(self) -> Self:
        threading.Thread(target=self._work, daemon=True, name="watching").start()
        try:
            await self.changes()  # the first ones are none: it watches
        except BaseException:
            self._stop.set()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()

    async def changes(self) -> set[str]:
        """The paths that have changed since the last call; waits until there is one.

        Raises:
            SourceError: the folders can't be watched.
        """
        found: set[str] = set()
        while True:
            told = await self._told.get()
            if isinstance(told, Exception):
                hint = "watch less, raise fs.inotify.max_user_watches, or watch by polling"
                raise SourceError(f"{self._shown()} can't be watched: {reason_of(told)}", hint=hint) from told
            found |= told
            if self._told.empty():
                return found

    def _shown(self) -> str:
        return ", ".join(repr(str(folder)) for folder in self._folders)

    def _work(self) -> None:
        try:
            self._watch()
        except Exception as error:  # the waiting side has to hear of it, whatever it is
            self._tell(error)

    def _watch(self) -> None:
        from watchfiles import watch as watched

        begun = False
        for changes in watched(
            *self._folders,
            watch_filter=None,
            debounce=_LONGEST,
            step=_QUIET,
            stop_event=self._stop,
            rust_timeout=_LOOK,
            yield_on_timeout=True,
            force_polling=self._polling,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            if changes or not begun:
                self._tell({path for _, path in changes})
            begun = True

    def _tell(self, told: set[str] | Exception) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._told.put_nowait, told)
