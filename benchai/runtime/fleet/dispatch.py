"""Who is served next, and what is started and stopped for it.

Requests wait in one line, oldest first. A younger one may go ahead to save a swap, but an older one is passed over at
most `max_passes` times, or for `max_wait` seconds: then the models that stand in its way take no new requests, and
leave when the last of theirs has ended. Everything here runs in one piece between two awaits, on what is true now.
"""

from __future__ import annotations

import asyncio
import copy
import time

from benchai.config import LoadedConfig
from benchai.errors import BenchAIError, DoesNotFit, EngineError, Unavailable, UsageError
from benchai.events import Emit, ModelState, Notice
from benchai.runtime.fleet.line import Counts, Line, Waiter, starved
from benchai.runtime.fleet.member import Member
from benchai.runtime.fleet.move import OPERATOR, Mover, resident
from benchai.runtime.placement.decide import Refuse
from benchai.runtime.placement.gauge import Gauge
from benchai.runtime.placement.memory import MemoryBook

#: A caller rather waits for a shorter delay than this than being told to come again.
SHORT_DELAY = 1.0


class Dispatcher:
    """Grants leases and moves models. `pump` is called after everything that may change the picture."""

    def __init__(self, loaded: LoadedConfig, book: MemoryBook, gauge: Gauge, emit: Emit, keep_core: bool) -> None:
        self.loaded = loaded
        self.line = Line()
        self.mover = Mover(self, book, gauge, emit, keep_core)
        self._emit = emit
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._closing = False

    # ---- leases

    async def acquire(self, role: str, models: list[str]) -> Waiter:
        """Wait in line; `model` of the waiter is the one that was granted. Give it back with `release`.

        Raises:
            QueueFull: too many wait for this role already.
            BenchAIError: why none of the models can serve it.
        """
        if self._closing:
            raise EngineError(f"model {models[0]!r} is not started: the fleet is stopping")
        config = self.loaded.config
        waiter = self.line.join(role, list(models), config.router.max_queue, config.concurrency(role))
        self.pump()
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled() and waiter.granted.exception() is None:
                self.release(waiter)
            raise
        finally:
            if waiter in self.line:
                self.line.leave(waiter)
                self.pump()
        return waiter

    def release(self, waiter: Waiter) -> None:
        """A lease ends."""
        self.line.served(waiter)
        # by now its model may have another member, with other settings
        member = waiter.holder
        if isinstance(member, Member):
            member.uses.remove(waiter.role)
            member.activity.leases = member.uses.total
            if not member.uses.total:
                self.mover.leases_ended()
        if not self.line.in_use.total():
            self._idle.set()
        self.pump()

    @property
    def members(self) -> dict[str, Member]:
        """The models that the fleet launches."""
        return self.mover.members

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        return self.line.counts

    def waiting(self, model: str) -> int:
        """Requests in line for a model."""
        return self.line.waiting(model)

    # ---- the pump

    def pump(self) -> None:
        """Serve who can be served, start and stop what must be, and wake up when the next thing is due."""
        if self._closing:
            return
        now = time.monotonic()
        self.mover.look_again()
        claimed: set[str] = set()
        for waiter in self.line:
            if waiter in self.line and not waiter.granted.done():
                self._serve(waiter, claimed, now)
        self.mover.keep_up(now)
        self.mover.let_go(now)
        self._set_timer(now)

    def _serve(self, waiter: Waiter, claimed: set[str], now: float) -> None:
        if waiter.role and self.line.in_use[waiter.role] >= self.loaded.config.concurrency(waiter.role):
            return
        member = self.members.get(waiter.model)
        if member is None:
            self._serve_remote(waiter)
            return
        problem = self._problem(member)
        if problem is not None:
            self._give_up(waiter, problem)
        elif self._free(member, waiter) and member.name not in claimed:
            self._grant(waiter)
        elif len(waiter.models) > 1 and now - waiter.arrived >= self.loaded.config.router.max_wait:
            waited = f"kept it waiting for {now - waiter.arrived:.0f} s"
            self._give_up(waiter, EngineError(f"model {member.name!r} {waited}"))
        elif not resident(member):
            self._place(member, waiter, claimed, now)

    def _free(self, member: Member, waiter: Waiter) -> bool:
        """Whether a model is ready, nobody doubts that it works, and it has a place."""
        up = member.supervisor.wanted and member.supervisor.alive and member.name not in self.mover.retiring
        return up and not member.activity.doubted and (member.uses.total < member.slots or not waiter.role)

    def _serve_remote(self, waiter: Waiter) -> None:
        if waiter.model in self.loaded.config.models:
            self._grant(waiter)
        else:
            self._give_up(waiter, UsageError(f"the fleet has no model {waiter.model!r} any more"))

    def _problem(self, member: Member) -> BenchAIError | None:
        """Why a model can't serve anybody now, though it was tried."""
        supervisor = member.supervisor
        if supervisor.retry_after < SHORT_DELAY:
            return None
        wait = supervisor.retry_after
        if supervisor.state == "backoff":
            return Unavailable(f"model {member.name!r} ended and is started again in {wait:.0f} s", retry_after=wait)
        reason = supervisor.error.message if supervisor.error else "it failed"
        hint = f"'benchai fleet logs {member.name}' shows why, 'benchai fleet restart {member.name}' tries again now"
        return Unavailable(reason, retry_after=wait, hint=hint)

    def _grant(self, waiter: Waiter) -> None:
        self.line.grant(waiter)
        self._idle.clear()
        member = waiter.holder = self.members.get(waiter.model)
        if member is not None:
            member.uses.add(waiter.role)
            member.activity.leases = member.uses.total
            member.activity.relieved = self._soon

    def _give_up(self, waiter: Waiter, error: BenchAIError) -> None:
        """The model of a request can't serve it: the next one may, else the caller gets the error."""
        if len(waiter.models) > 1:
            failed = waiter.models.pop(0)
            self._emit(Notice(text=f"role {waiter.role!r}: {waiter.model!r} instead of {failed!r}: {error.message}"))
            self._soon()
            return
        self.line.refuse(waiter, copy.copy(error))

    def fail(self, member: Member, error: BenchAIError) -> None:
        """Everybody who waits for this model gets another one, or the error."""
        for waiter in self.line:
            if waiter.model == member.name:
                self._give_up(waiter, error)

    def _place(self, member: Member, waiter: Waiter, claimed: set[str], now: float) -> None:
        hindrance = self.mover.place(member, waiter.role or OPERATOR, now)
        if isinstance(hindrance, Refuse):
            self._give_up(waiter, does_not_fit(member, hindrance))
        elif hindrance is not None and starved(waiter, self.loaded.config.router, now):
            claimed.update(hindrance.busy, hindrance.stop)

    def moved(self, member: Member, event: ModelState) -> None:
        """A member's process went to another state."""
        self.mover.moved(member, event)
        self._soon()

    def _set_timer(self, now: float) -> None:
        router = self.loaded.config.router
        due = [waiter.arrived + router.max_wait for waiter in self.line] + self.mover.due(now)
        due = [at for at in due if at > now]
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(due) - now + 0.001, self.pump) if due else None

    # ---- the end

    def refuse_new(self) -> None:
        """The fleet ends: nobody is let in any more, and those in line are told."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self.line:
            self.line.refuse(waiter, EngineError(f"model {waiter.model!r} is not started: the fleet is stopping"))

    async def drained(self, seconds: float) -> bool:
        """Wait until no lease is held; False when that takes too long."""
        if not self.line.in_use.total():
            return True
        self._idle.clear()
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """End what was under way."""
        self.refuse_new()
        await self.mover.close()

    def _soon(self) -> None:
        if not self._closing:
            asyncio.get_running_loop().call_soon(self.pump)


def does_not_fit(member: Member, refused: Refuse) -> DoesNotFit:
    """The error for a model that can't be placed, with the figures and what would help."""
    return DoesNotFit(f"model {member.name!r} does not fit: {refused.reason}", hint=member.would_fit(refused))
