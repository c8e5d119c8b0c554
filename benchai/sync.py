"""The synchronous twin of ``Bench``, for scripts and notebooks.

It works on a loop of its own in a thread of its own, so that it can be used where a loop runs already.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from benchai import bench as asynchronous
from benchai.config import LoadedConfig
from benchai.errors import UsageError
from benchai.events import Event, Result

if TYPE_CHECKING:
    from benchai.graphs.approvals import Approval
    from benchai.graphs.registry import Workflow

Begin = Callable[..., AsyncGenerator[Event, None]]
CLOSED = "the bench is closed"


@dataclass(frozen=True)
class _Question:
    """What an approver of the caller's thread is asked."""

    asked: list[Approval]
    answer: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True)
class _End:
    """A run is over, with the error that ended it."""

    error: BaseException | None


Items = SimpleQueue[Event | _Question | _End]


class Bench:
    """Runs workflows on a fleet; open one with ``with Bench.open() as bench``."""

    def __init__(self, bench: asynchronous.Bench, loop: _LoopThread) -> None:
        self._bench = bench
        self._loop = loop

    @classmethod
    @contextmanager
    def open(
        cls,
        config: LoadedConfig | Path | str | None = None,
        *,
        workspace: Path | str | None = None,
        roles: Mapping[str, str] | None = None,
    ) -> Iterator[Self]:
        """Open a bench, as ``benchai.Bench.open`` does; leaving ends every run and every model it started.

        Raises:
            ConfigError: the configuration is wrong.
            UsageError: the workspace is no folder.
        """
        loop = _LoopThread(asynchronous.Bench.open(config, workspace=workspace, roles=roles))
        try:
            yield cls(loop.begin(), loop)
        finally:
            loop.end()

    def workflows(self) -> list[Workflow]:
        """All workflows, by name."""
        return self._bench.workflows()

    def run(self, workflow: str, task: str, **settings: Any) -> Result:
        """Run a workflow to its end; see ``benchai.Bench.stream`` for the settings and the errors.

        An ``approver`` may be a plain function; it is called in the caller's thread.
        """
        return _last(self.stream(workflow, task, **settings))

    def resume(self, thread_id: str, decisions: Any = None, **settings: Any) -> Result:
        """Go on with a thread to its end; see ``benchai.Bench.stream_resumed`` for the settings and the errors."""
        return _last(self.stream_resumed(thread_id, decisions, **settings))

    def stream(self, workflow: str, task: str, **settings: Any) -> Generator[Event, None, None]:
        """Run a workflow and yield its events, the last one a ``Result``; see ``benchai.Bench.stream``.

        The run begins when the first event is asked for. Closing the iterator, leaving the bench and Ctrl-C cancel it.
        """
        return self._events(self._bench.stream, (workflow, task), settings)

    def stream_resumed(self, thread_id: str, decisions: Any = None, **settings: Any) -> Generator[Event, None, None]:
        """Go on with a thread and yield the events; see ``benchai.Bench.stream_resumed``."""
        return self._events(self._bench.stream_resumed, (thread_id, decisions), settings)

    def _events(self, begin: Begin, args: tuple[Any, ...], settings: dict[str, Any]) -> Generator[Event, None, None]:
        items: Items = SimpleQueue()
        approver = settings.get("approver")
        if approver is not None:
            settings = settings | {"approver": _asking(items)}
        job = _Job(self._loop, lambda: _pump(begin(*args, **settings), items), items)
        try:
            while not isinstance(item := items.get(), _End):
                if isinstance(item, _Question):
                    self._answer(item, approver)
                else:
                    yield item
            if item.error is not None:
                raise item.error
        finally:
            job.end()

    def _answer(self, question: _Question, approver: Any) -> None:
        """Ask the user's function here, in the thread that asked for the events."""
        decided = approver(question.asked)
        if inspect.isawaitable(decided):
            decided = asyncio.run_coroutine_threadsafe(_wait_for(decided), self._loop.loop()).result()
        # the time of the run may be over by now
        if question.answer.set_running_or_notify_cancel():
            question.answer.set_result(decided)


class _LoopThread:
    """A thread with a loop, on which a bench is open."""

    def __init__(self, opened: AbstractAsyncContextManager[asynchronous.Bench]) -> None:
        self._opened = opened
        self._ready: Future[asynchronous.Bench] = Future()
        self._begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()
        self._closing = asyncio.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="benchai")

    def begin(self) -> asynchronous.Bench:
        """The bench, once it is open."""
        self._thread.start()
        return self._ready.result()

    def end(self) -> None:
        """Close the bench and wait for it; Ctrl-C takes effect afterwards, so that no model is left running."""
        failed: BaseException | None = None
        if self._thread.ident is not None and self._thread.is_alive():
            loop, task = self._begun.result()
            # one that is still being opened is not waited for
            close = self._closing.set if self._ready.done() else task.cancel
            loop.call_soon_threadsafe(close)
        while self._thread.is_alive():
            try:
                self._thread.join()
            except KeyboardInterrupt as again:
                failed = again
        failed = self._failed or failed
        if failed is not None:
            raise failed

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop.

        Raises:
            UsageError: the bench is closed.
        """
        if not self._thread.is_alive() or self._closing.is_set():
            raise UsageError(CLOSED, hint="run workflows inside of 'with Bench.open() as bench'")
        return self._begun.result()[0]

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in this very thread."""
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            elif not isinstance(error, asyncio.CancelledError):
                self._failed = error

    async def _serve(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._begun.set_result((asyncio.get_running_loop(), task))
        async with self._opened as bench:
            self._ready.set_result(bench)
            await self._closing.wait()


class _Job:
    """A run on the loop of another thread."""

    def __init__(self, thread: _LoopThread, work: Callable[[], Any], items: Items) -> None:
        self._thread = thread
        self._work = work
        self._items = items
        self._task: asyncio.Task[None] | None = None
        self._over = threading.Event()
        self._loop = thread.loop()
        self._loop.call_soon_threadsafe(self._begin)

    def end(self) -> None:
        """Cancel the run if it is under way, and wait until it has ended."""
        if not self._over.is_set():
            self._loop.call_soon_threadsafe(self._cancel)
            # a forgotten iterator may be collected in the thread of the loop
            if not self._thread.is_here:
                self._over.wait()

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._work())
        self._task.add_done_callback(self._ended)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        closed = UsageError(f"the run was cancelled: {CLOSED}")
        self._items.put(_End(closed if task.cancelled() else task.exception()))
        self._over.set()


async def _pump(stream: AsyncGenerator[Event, None], items: Items) -> None:
    """Hand the events of a run over to the caller's thread."""
    async with aclosing(stream) as events:
        async for event in events:
            items.put(event)


def _asking(items: Items) -> Callable[[list[Approval]], Any]:
    """An approver that asks in the caller's thread."""

    async def ask(asked: list[Approval]) -> Any:
        question = _Question(asked)
        items.put(question)
        return await asyncio.wrap_future(question.answer)

    return ask


async def _wait_for(decided: Any) -> Any:
    return await decided


def _last(stream: Generator[Event, None, None]) -> Result:
    result: Result | None = None
    for event in stream:
        result = event if isinstance(event, Result) else result
    if result is None:
        raise UsageError("the run has no result")
    return result
