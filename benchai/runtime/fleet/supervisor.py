"""The loop that owns one model's process: starts it, keeps it up while it is wanted, stops it.

Others say whether the model is wanted (`want`) and await a state (`settled`); nobody else touches the process.

| state    | want(up)                            | want(down)             | the process ends        | end of delay |
| -------- | ----------------------------------- | ---------------------- | ----------------------- | ------------ |
| stopped  | -> starting                         | nothing                | -                       | -            |
| starting | nothing                             | start ended, -> stopped | -> failed, or backoff   | -            |
| ready    | nothing                             | -> stopping -> stopped | -> backoff, or failed   | -            |
| stopping | -> starting once it is stopped      | nothing                | -> stopped              | -            |
| backoff  | nothing                             | -> stopped             | -                       | -> starting  |
| failed   | -> starting once `retry_after` is 0 | -> stopped             | -                       | -            |
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from benchai.errors import BenchAIError, EngineStartError, OutOfMemory
from benchai.events import ModelState
from benchai.runtime.engine.failures import explain_end
from benchai.runtime.fleet.logs import ModelLog
from benchai.runtime.fleet.process import EngineProcess, LaunchSpec, Ready
from benchai.runtime.race import race

State = Literal["stopped", "starting", "ready", "stopping", "backoff", "failed"]
DELAYS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0)
HEALTHY_SECONDS = 60.0
FAILED_SECONDS = 60.0


class Hooks(Protocol):
    """What the fleet does around the life of a process."""

    async def prepare(self) -> LaunchSpec:
        """What to start now; raises a BenchAIError when it can't be started."""
        ...

    async def after_ready(self, process: EngineProcess, ready: Ready) -> None:
        """It answers; called before anybody may use it."""
        ...

    async def watch(self, process: EngineProcess, ready: Ready) -> str:
        """Runs while it is ready; returns why it must be killed."""
        ...

    async def before_stop(self, ready: Ready) -> None:
        """It is about to be stopped on purpose."""
        ...

    async def after_exit(self) -> None:
        """Its process is gone."""
        ...

    async def make_room(self) -> bool:
        """It found too little memory; whether any was freed."""
        ...

    def with_figures(self, error: OutOfMemory) -> OutOfMemory:
        """The error, saying how much it was thought to need and how much there is."""
        ...


@dataclass(frozen=True)
class Policy:
    """When to give up: at the end after ``max_restarts`` restarts in a row, each within a minute of health."""

    max_restarts: int = 5


class Supervisor:
    """Owns the process of one model. ``close`` ends the loop and the process."""

    def __init__(
        self, name: str, log: ModelLog, hooks: Hooks, policy: Policy, changed: Callable[[ModelState], None]
    ) -> None:
        self.name = name
        self.log = log
        self.state: State = "stopped"
        self.ready: Ready | None = None
        self.error: BenchAIError | None = None
        self.restarts = 0
        self.since = time.monotonic()
        self.process: EngineProcess | None = None
        self._hooks = hooks
        self._policy = policy
        self._changed = changed
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._down.set()
        self._cause = ""
        self._failures = 0
        self._retry_at = 0.0
        self._moved = asyncio.Event()
        self._hurry = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether it should be up."""
        return self._up.is_set()

    @property
    def retry_after(self) -> float:
        """Seconds until the next start may be tried, 0 for now."""
        return max(0.0, self._retry_at - time.monotonic()) if self.state in ("backoff", "failed") else 0.0

    @property
    def alive(self) -> bool:
        """Whether it is ready and its process runs at this moment."""
        return self.state == "ready" and self.process is not None and self.process.alive

    def want(self, up: bool, cause: str) -> None:
        """Say whether it should be up, and why. Returns at once; the loop acts."""
        if self._loop is None:
            self._loop = asyncio.create_task(self._run(), name=f"supervise {self.name}")
        if up == self._up.is_set():
            return
        self._cause = cause
        (self._up if up else self._down).set()
        (self._down if up else self._up).clear()

    def forgive(self) -> None:
        """Forget earlier failures: somebody asks for it by name, or its settings changed."""
        self._failures, self._retry_at = 0, 0.0
        self._hurry.set()
        if self.state == "failed":
            self._to("stopped", "asked for again")

    async def settled(self, *states: State) -> State:
        """Wait until it is in one of these states."""
        while self.state not in states:
            moved = self._moved
            await moved.wait()
        return self.state

    async def close(self, cause: str = "the fleet ends") -> None:
        """Stop the process, then the loop."""
        if self._loop is None:
            return
        self.want(False, cause)
        await self.settled("stopped", "failed")
        self._loop.cancel()
        await asyncio.gather(self._loop, return_exceptions=True)

    async def abandon(self) -> None:
        """End process and loop at once, without saving anything."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        if self.state not in ("stopped", "failed"):
            self._to("stopped", "the fleet ends", self.process.returncode if self.process else None)

    def _to(self, state: State, cause: str, exit_code: int | None = None) -> None:
        previous, self.state, self.since = self.state, state, time.monotonic()
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        pid = self.process.pid if self.process and state != "starting" else None
        event = ModelState(model=self.name, previous=previous, state=state, cause=cause, pid=pid, exit_code=exit_code)
        self.log.add(f"benchai: {previous} -> {state}: {cause}")
        if state in ("stopped", "failed"):
            self.log.close()
        self._changed(event)

    async def _run(self) -> None:
        while True:
            await self._up.wait()
            try:
                await self._life()
            except BenchAIError as error:
                self._fail(error)
            except Exception as error:  # a fault of ours must not leave callers waiting
                self._fail(EngineStartError(f"model {self.name!r}: {type(error).__name__}: {error}"))

    async def _life(self) -> None:
        """From a start to the end of the process, whichever way it ends."""
        process = ready = None
        try:
            self._to("starting", self._cause)
            process, ready = await self._start()
            if ready is None:
                self._to("stopped", self._cause)
                return
            self.ready, self.error = ready, None
            self._to("ready", f"answers after {ready.seconds:.2f} s")
            why = await self._until_end(process, ready)
        finally:
            self.ready = None
            await self._end(process)
        if why is None:
            self._to("stopped", self._cause, process.returncode)
        else:
            await self._back_off(why, process.returncode)

    async def _start(self) -> tuple[EngineProcess, Ready | None]:
        """A process that answers, or None with it when it is not wanted any more. Tries twice for lack of memory."""
        for again in (True, False):
            spec = await self._hooks.prepare()
            process = self.process = EngineProcess(spec, self.log)
            try:
                ready = await self._unless_down(process.start())
                if ready is not None:
                    await self._hooks.after_ready(process, ready)
                return process, ready
            except OutOfMemory as error:
                await self._end(process)
                if not (again and await self._hooks.make_room()):
                    raise self._hooks.with_figures(error) from None
            except BaseException:
                await self._end(process)
                raise
        raise AssertionError("unreachable")

    async def _unless_down(self, starting: Awaitable[Ready]) -> Ready | None:
        async with race(starting, self._down.wait()) as (start, _):
            return start.result() if start.done() else None

    async def _until_end(self, process: EngineProcess, ready: Ready) -> str | None:
        """Wait until it is not wanted any more (None), or has ended (why)."""
        async with race(process.exited.wait(), self._down.wait(), self._hooks.watch(process, ready)) as tasks:
            exited, down, watch = tasks
            if exited.done() or not process.alive:
                await process.exited.wait()
                return explain_end(process.returncode)
            if watch.done() and not down.done():
                why: str = watch.result()
                process.kill(why)
                await process.exited.wait()
                return why
            self._to("stopping", self._cause)
            with contextlib.suppress(BenchAIError):
                await self._hooks.before_stop(ready)
            return None

    async def _end(self, process: EngineProcess | None) -> None:
        if process is not None:
            await asyncio.shield(process.stop())
            await self._hooks.after_exit()

    async def _back_off(self, why: str, exit_code: int | None) -> None:
        """Wait before the next start, longer each time; give up after too many ends in a row."""
        healthy = time.monotonic() - self.since > HEALTHY_SECONDS
        self._failures = 1 if healthy else self._failures + 1
        self.restarts += 1
        if self._failures > self._policy.max_restarts:
            message = f"model {self.name!r} ended {self._failures} times in a row: {why}"
            self._retry_at = time.monotonic() + FAILED_SECONDS
            raise EngineStartError(message, log=self.log.tail(), exit_code_of_process=exit_code)
        delay = DELAYS[min(self._failures, len(DELAYS)) - 1]
        self._retry_at = time.monotonic() + delay
        self._to("backoff", why, exit_code)
        self._cause = f"restart after: {why}"
        if not self._down.is_set():
            self._hurry.clear()
            async with race(self._down.wait(), self._hurry.wait(), seconds=delay):
                pass
        if self._down.is_set():
            self._to("stopped", self._cause)

    def _fail(self, error: BenchAIError) -> None:
        self.error = error
        self._up.clear()
        self._down.set()
        code = error.exit_code_of_process if isinstance(error, EngineStartError) else None
        self._to("failed", error.message, code)
