"""The usage rows of this process: taken in microseconds, written by a thread of their own.

A process that is killed loses the rows of the last second at most; a power loss may cost what the operating system had
not put on the disk yet. Closing writes all that waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from benchai.config.usage import UsageConfig
from benchai.errors import BenchAIError, UsageError
from benchai.events import Emit, Event, ModelState, Notice
from benchai.runtime.placement.gpu import Nvml
from benchai.runtime.usage.gpu_use import GpuUse, gpu_use
from benchai.runtime.usage.row import UsageRow, checked_comment, feedback_value
from benchai.runtime.usage.schema import usage_file
from benchai.runtime.usage.uptime import SAMPLE_SECONDS, Change, Service
from benchai.runtime.usage.writer import MOST_WAITING, Feedback, Flush, Item, Sample, Writer

#: Rows of so many seconds go into one transaction.
BATCH_SECONDS = 0.5
CLOSE_SECONDS = 5.0
ANSWER_SECONDS = 10.0
T = TypeVar("T")


class UsageLog:
    """Takes the rows of requests and keeps them in SQLite; no fault of the disk ever reaches a request.

    Args:
        config: The section ``usage:``.
        file: The database; default: this user's.
        emit: Gets a Notice when rows cannot be written, and when they can again. It is called on the event loop
            that runs where this object is made, else on the writing thread.
        sample: Looks at the GPUs; default: what NVML tells. It may hang, as a driver does whose GPU is dying.
    """

    def __init__(
        self,
        config: UsageConfig | None = None,
        *,
        file: Path | None = None,
        emit: Emit | None = None,
        sample: Callable[[], GpuUse | None] | None = None,
    ) -> None:
        self.config = config or UsageConfig()
        self.file = file or usage_file()
        self._emit = emit
        self._sample = sample
        self._loop = _running_loop()
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._dropped = 0
        self._service: Service | None = None
        self._states: dict[str, ModelState] = {}
        self._writer = Writer(self.file, self.config, self._tell)
        self._thread = threading.Thread(target=self._work, daemon=True, name="usage rows")
        self._thread.start()
        self._looking: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def keeps_contents(self) -> bool:
        """Whether rows should bring what was asked and answered."""
        return self.config.enabled and self.config.contents

    @property
    def counts(self) -> dict[str, int]:
        """Rows ``written`` by this process, ``waiting`` (about), and ``lost``."""
        waiting = self._queue.qsize() + self._writer.waiting
        return {"written": self._writer.written, "waiting": waiting, "lost": self._writer.lost + self._dropped}

    def append(self, row: UsageRow) -> None:
        """Take a row: within microseconds, and it never fails. Beyond 10,000 that wait, rows are counted as lost."""
        if not self.config.enabled:
            return
        if self._closing.is_set() or self._queue.qsize() >= MOST_WAITING:
            self._dropped += 1
            return
        self._queue.put(row)

    def observe(self, event: Event) -> None:
        """Take what happens to the fleet: the states of its models are kept. As quick as ``append``."""
        if isinstance(event, ModelState):
            self._states[event.model] = event
            if self._service is not None and self.config.enabled and not self._closing.is_set():
                self._queue.put(_change(self._service, event, event.time))

    def begin(self, core: Mapping[str, str]) -> None:
        """A server begins, or its configuration changed: keep the states of models and samples of the GPUs from now on.

        Args:
            core: The core roles and their models.
        """
        now = time.time()
        if self._service is not None:
            self._queue.put(_seen(self._service, now, ended=True))
            self._service = None
        if not self.config.enabled:
            return
        self._service = Service(uuid.uuid4().hex, now, now, dict(core))
        self._queue.put(self._service)
        for event in self._states.values():
            self._queue.put(_change(self._service, event, now))
        self._hurry.set()
        if self._looking is None:
            self._looking = threading.Thread(target=self._look, daemon=True, name="use of the GPUs")
            self._looking.start()

    def apply(self, config: UsageConfig) -> None:
        """Take changed settings."""
        self.config = self._writer.config = config

    def feedback(self, request: str, value: str | float, comment: str | None = None) -> None:
        """Attach feedback to a row, in place of what was there. Blocks for the disk; the row may have come just now.

        Args:
            request: The row's id, or its client's where no other request has it.
            value: "up", "down", or a number from -1 to 1.
            comment: Further words.

        Raises:
            UnknownRequest: there is no such row.
            AmbiguousRequest: there are several.
            UsageError: the value or the comment cannot be used, or no rows are kept.
            BenchAIError: it cannot be written now.
        """
        if not self.config.enabled:
            raise UsageError("no usage rows are kept: usage.enabled is false", hint="set usage.enabled: true")
        self._ask(one := Feedback(request, feedback_value(value), checked_comment(comment)), one.done)

    def flush(self) -> bool:
        """Write all that came before now; False when it could not be written. Blocks for the disk."""
        one = Flush()
        return self._ask(one, one.done)

    def close(self) -> None:
        """Write all that waits, and end the thread; blocks for 5 seconds at most."""
        if self._service is not None and not self._closing.is_set():
            self._queue.put(_seen(self._service, time.time(), ended=True))
        self._closing.set()
        self._hurry.set()
        # it may wait for a first item
        self._queue.put(Flush())
        self._thread.join(CLOSE_SECONDS)

    def _ask(self, item: Feedback | Flush, done: Future[T]) -> T:
        if self._closing.is_set():
            raise BenchAIError("the usage rows are closed", hint="the server ends: ask the next one")
        self._queue.put(item)
        self._hurry.set()
        try:
            return done.result(ANSWER_SECONDS)
        except TimeoutError as error:
            message = f"the usage rows did not answer within {ANSWER_SECONDS:g} s"
            raise BenchAIError(message, hint="another process may hold the file; try again in a moment") from error

    def _work(self) -> None:
        note_at = time.monotonic() + SAMPLE_SECONDS
        while not self._closing.is_set():
            items = self._take(self._patience(note_at))
            service = self._service
            if service is not None and (items or time.monotonic() >= note_at):
                items.append(_seen(service, time.time()))
                note_at = time.monotonic() + SAMPLE_SECONDS
            self._writer.write(items)
        self._writer.write(self._drained(), at_once=True)
        self._writer.close()

    def _take(self, patience: float | None) -> list[Item]:
        """Wait for an item, then for those that come soon after it."""
        try:
            first = [self._queue.get(timeout=patience)]
        except queue.Empty:
            return []
        # in the meantime an append wakes nobody
        self._hurry.wait(BATCH_SECONDS)
        self._hurry.clear()
        return first + self._drained()

    def _drained(self) -> list[Item]:
        items: list[Item] = []
        with contextlib.suppress(queue.Empty):
            while True:
                items.append(self._queue.get_nowait())
        return items

    def _patience(self, note_at: float) -> float | None:
        """Seconds until something is to be done even if nothing comes; None for ever."""
        note = max(0.0, note_at - time.monotonic()) if self._service is not None else None
        return min((one for one in (note, self._writer.retry_in) if one is not None), default=None)

    def _look(self) -> None:
        """Look at the GPUs now and then, beside the writing, which a driver that hangs must not hold up."""
        with Nvml() as nvml:
            sample = self._sample or (lambda: gpu_use(nvml))
            while not self._closing.is_set():
                use = None
                with contextlib.suppress(Exception):  # the next look may work
                    use = sample()
                if use is not None:
                    self._queue.put(Sample(time.time(), use.memory, use.compute))
                self._closing.wait(SAMPLE_SECONDS)

    def _tell(self, text: str) -> None:
        if self._emit is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._emit, Notice(text=text))
            else:
                self._emit(Notice(text=text))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _change(service: Service, event: ModelState, moment: float) -> Change:
    return Change(service.id, moment, event.model, event.previous, event.state)


def _seen(service: Service, moment: float, ended: bool = False) -> Service:
    return Service(service.id, service.started, moment, service.core, ended)
