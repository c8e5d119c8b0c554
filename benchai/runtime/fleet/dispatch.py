"""Who is served next, and what is started and stopped for it.

Requests wait in one line, oldest first. A younger one may go ahead to save a swap, but an older one is passed over at
most `max_passes` times, or for `max_wait` seconds: then the models that stand in its way take no new requests, and
leave when the last of theirs has ended. Everything here runs in one piece between two awaits, on what is true now.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import Any

from benchai.config import LoadedConfig
from benchai.errors import BenchAIError, DoesNotFit, EngineError, Unavailable, UsageError
from benchai.events import Emit, ModelState, Notice
from benchai.runtime.fleet.line import Counts, Line, Waiter, starved
from benchai.runtime.fleet.member import Member
from benchai.runtime.placement.decide import Decision, Place, Refuse, Resident, Wait, Wanted, decide
from benchai.runtime.placement.gauge import Gauge
from benchai.runtime.placement.memory import MemoryBook

#: A caller rather waits for a shorter delay than this than being told to come again.
SHORT_DELAY = 1.0
TRY_AGAIN = 60.0
# who asks for a model when no role does
OPERATOR, KEPT_UP = "asked for by the operator", "kept up"
SETTLING_PAUSE = 0.05
# memory that others free is noticed by then
WAIT_SECONDS = 1.0


class Dispatcher:
    """Grants leases and moves models. `pump` is called after everything that may change the picture."""

    def __init__(self, loaded: LoadedConfig, book: MemoryBook, gauge: Gauge, emit: Emit, keep_core: bool) -> None:
        self.loaded = loaded
        self.members: dict[str, Member] = {}
        self.line = Line()
        self.book = book
        self._gauge = gauge
        self._emit = emit
        self._keep_core = keep_core
        self._retiring: set[str] = set()
        self._looking: set[str] = set()
        self._returning: set[str] = set()
        self._next_try: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._settling_until = 0.0
        self._settling = False
        self._budget: dict[str, int] | None = None
        self._waits: dict[str, tuple[float, Wait]] = {}
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
                self._waits.clear()
        if not self.line.in_use.total():
            self._idle.set()
        self.pump()

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
        # measured once a look, however many wait
        self._budget = None
        claimed: set[str] = set()
        for waiter in self.line:
            if waiter in self.line and not waiter.granted.done():
                self._serve(waiter, claimed, now)
        self._keep_up(now)
        self._retire(now)
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
        """Whether a model is ready and has a place."""
        up = member.supervisor.wanted and member.supervisor.alive and member.name not in self._retiring
        return up and (member.uses.total < member.slots or not waiter.role)

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
        for waiter in [one for one in self.line if one.model == member.name]:
            self._give_up(waiter, error)

    # ---- placing

    def decide(self, member: Member) -> Decision:
        """Where a model that was looked at may go now, and what must leave for it."""
        assert member.need is not None
        residents = list(self._residents())
        if self._budget is None:
            self._budget = self._measure_budget(residents)
        return decide(self._budget, residents, Wanted(member.name, member.need.options))

    def decide_now(self, member: Member) -> Decision:
        """As ``decide``, with a measurement of its own."""
        self._budget = None
        return self.decide(member)

    def _measure_budget(self, residents: list[Resident]) -> dict[str, int]:
        processes = [one.supervisor.process for one in self.members.values()]
        pids = [process.pid for process in processes if process and process.pid and process.alive]
        claimed: Counter[str] = Counter()
        for one in residents:
            claimed.update(one.claim)
        return self.book.budget(pids, claimed)

    def _residents(self) -> Iterator[Resident]:
        for name, member in self.members.items():
            if not resident(member):
                continue
            yield Resident(
                model=name,
                claim=member.claim,
                pinned=member.config.keep,
                busy=member.coming or member.supervisor.state == "starting" or member.uses.total > 0,
                reload_seconds=member.load_seconds,
                last_used=member.uses.last,
                leaving=not member.coming and not member.supervisor.wanted,
            )

    def _place(self, member: Member, waiter: Waiter, claimed: set[str], now: float) -> None:
        if member.need is None:
            self._look(member)
            return
        decision = self._still_waits(member, now) or self.decide(member)
        if isinstance(decision, Place):
            self.bring(member, decision, waiter.role or OPERATOR)
        elif isinstance(decision, Refuse):
            if now < self._settling_until:
                # what was just stopped may look like somebody else's memory until the driver has it back
                self._settling = True
            else:
                self._give_up(waiter, does_not_fit(member, decision))
        else:
            self._waits.setdefault(member.name, (now, decision))
            if starved(waiter, self.loaded.config.router, now):
                claimed.update(decision.busy, decision.stop)

    def _still_waits(self, member: Member, now: float) -> Wait | None:
        """The last decision on a model, while nothing has changed by which it could be placed.

        Leases come and go by the hundred in that time, and each would measure the memory anew.
        """
        since, decision = self._waits.get(member.name, (0.0, None))
        if decision is None:
            return None
        busy = (self.members.get(name) for name in decision.busy)
        if now - since < WAIT_SECONDS and all(one is not None and self._occupied(one) for one in busy):
            return decision
        del self._waits[member.name]
        return None

    def _occupied(self, member: Member) -> bool:
        return resident(member) and (member.coming or member.uses.total > 0)

    def _look(self, member: Member) -> None:
        if member.name not in self._looking:
            self._looking.add(member.name)
            self._spawn(self._look_at(member))

    async def _look_at(self, member: Member) -> None:
        try:
            await member.look()
        except Exception as error:
            self._next_try[member.name] = time.monotonic() + TRY_AGAIN
            if not self.waiting(member.name):
                # nobody else is told why a model is not kept up
                self._emit(Notice(text=f"{member.name}: {as_known(member, error).message}"))
            self.fail(member, as_known(member, error))
        finally:
            self._looking.discard(member.name)
            self.pump()

    def bring(self, member: Member, decision: Place, role: str) -> None:
        """Start a model after what must leave has left."""
        member.coming, member.claim, member.role = True, decision.claim, role
        self._returning.discard(member.name)
        for other in self.members.values():
            if member.name in other.displaced:
                other.displaced.remove(member.name)
        leaving = [self.members[name] for name in decision.stop]
        if leaving:
            self.counts.swaps += 1
            self._displace(member, leaving)
        for one in leaving:
            one.supervisor.want(False, f"makes room for {member.name!r}")
        self._spawn(self._start(member, leaving))

    def _displace(self, member: Member, leaving: list[Member]) -> None:
        """Note what comes back when `member` is idle: what it drove out, and what those had driven out before."""
        if self._kept(member):
            return
        for one in leaving:
            member.displaced += [one.name, *one.displaced]
            one.displaced = []

    async def _start(self, member: Member, leaving: list[Member]) -> None:
        try:
            await asyncio.gather(*(one.supervisor.settled("stopped", "failed") for one in leaving))
            needed = {device: mib for device, mib in member.claim.items() if device in self.book.gpus}
            if leaving and needed:
                deadline = self.loaded.config.fleet.memory.release_deadline
                await self._gauge.wait_released(needed, deadline)
        except Exception as error:
            member.coming, member.claim = False, {}
            self._next_try[member.name] = time.monotonic() + TRY_AGAIN
            self._give_back(member)
            self.fail(member, as_known(member, error))
            self.pump()
            return
        if member.halted and not self.waiting(member.name):
            member.coming, member.claim = False, {}
            self.pump()
            return
        named = (OPERATOR, KEPT_UP)
        cause = member.role if member.role in named else f"the role {member.role!r} is asked for"
        member.supervisor.want(True, cause)

    def moved(self, member: Member, event: ModelState) -> None:
        """A member's process went to another state."""
        self._waits.clear()
        if event.state == "starting":
            member.coming = False
        if event.state in ("stopped", "failed"):
            if not member.coming:
                member.claim = {}
            member.need = None
            self._give_back(member)
            if self.book.gpus and event.previous in ("stopping", "ready"):
                self._settling_until = time.monotonic() + self.loaded.config.fleet.memory.release_deadline
        if event.state == "ready":
            member.uses.last = time.monotonic()
            self._next_try.pop(member.name, None)
        if event.state == "failed" and member.supervisor.error is not None:
            self._next_try[member.name] = time.monotonic() + TRY_AGAIN
            self.fail(member, member.supervisor.error)
        self._soon()

    # ---- keeping up, letting go

    def _kept(self, member: Member) -> bool:
        return member.config.keep or (self._keep_core and member.core)

    def return_later(self, name: str) -> None:
        """Start a model when there is room for it."""
        self._returning.add(name)

    def _keep_up(self, now: float) -> None:
        away = {name for member in self.members.values() for name in member.displaced}
        for name, member in self.members.items():
            kept = self._keep_core and self._kept(member) and not member.halted and name not in away
            due = self._next_try.get(name, 0.0) <= now
            if not (kept or name in self._returning) or resident(member) or not due or name in self._retiring:
                continue
            if member.need is None:
                self._look(member)
                continue
            decision = self.decide(member)
            if isinstance(decision, Place) and not decision.stop:
                self.bring(member, decision, KEPT_UP)
            elif not isinstance(decision, Wait):
                self._returning.discard(name)
                self._next_try[name] = now + TRY_AGAIN

    def _retire(self, now: float) -> None:
        for member in self.members.values():
            if not self._is_idle(member) or now < member.uses.last + member.hold:
                continue
            if member.displaced:
                member.supervisor.want(False, "gives its place back")
            elif not self._kept(member):
                member.supervisor.want(False, f"idle for {member.hold:g} s")

    def _give_back(self, member: Member) -> None:
        """It is gone: what it had driven out comes back where there is room."""
        self._returning.update(member.displaced)
        member.displaced = []

    def forget(self, name: str) -> None:
        """An operator stopped a model: it does not come back by itself."""
        self._returning.discard(name)
        for member in self.members.values():
            if name in member.displaced:
                member.displaced.remove(name)

    def _is_idle(self, member: Member) -> bool:
        supervisor = member.supervisor
        ready = supervisor.state == "ready" and supervisor.wanted
        return ready and not member.uses.total and not self.waiting(member.name)

    def _set_timer(self, now: float) -> None:
        router = self.loaded.config.router
        due = [waiter.arrived + router.max_wait for waiter in self.line]
        for member in self.members.values():
            if self._is_idle(member) and (member.displaced or not self._kept(member)):
                due.append(member.uses.last + member.hold)
            if member.supervisor.retry_after:
                due.append(now + member.supervisor.retry_after)
        due += self._next_try.values()
        if self._settling:
            self._settling = False
            due.append(now + SETTLING_PAUSE)
        due = [at for at in due if at > now]
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(due) - now + 0.001, self.pump) if due else None

    # ---- the end

    def retire(self, name: str) -> None:
        """Grant no more leases on a model: its settings have changed."""
        self._retiring.add(name)

    def replaced(self, name: str) -> None:
        """The model has its new settings."""
        self._retiring.discard(name)
        self._next_try.pop(name, None)

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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _soon(self) -> None:
        if not self._closing:
            asyncio.get_running_loop().call_soon(self.pump)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def as_known(member: Member, error: Exception) -> BenchAIError:
    """The error, or one of ours for a fault that must not leave callers waiting."""
    if isinstance(error, BenchAIError):
        return error
    return EngineError(f"model {member.name!r} is not started: {type(error).__name__}: {error}")


def resident(member: Member) -> bool:
    """Whether a model holds memory, or is about to."""
    return member.coming or member.supervisor.state not in ("stopped", "failed")


def does_not_fit(member: Member, refused: Refuse) -> DoesNotFit:
    """The error for a model that can't be placed, with the figures and what would help."""
    return DoesNotFit(f"model {member.name!r} does not fit: {refused.reason}", hint=member.would_fit(refused))
