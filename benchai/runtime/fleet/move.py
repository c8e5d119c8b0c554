"""Which models run: where each goes, what leaves for it, what comes back, and what is let go when it is idle."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import Any, Protocol

from benchai.config import LoadedConfig
from benchai.errors import BenchAIError, EngineError
from benchai.events import Emit, ModelState, Notice
from benchai.runtime.fleet.line import Counts
from benchai.runtime.fleet.member import Member
from benchai.runtime.placement.decide import Decision, Place, Refuse, Resident, Wait, Wanted, decide
from benchai.runtime.placement.gauge import Gauge
from benchai.runtime.placement.memory import MemoryBook

TRY_AGAIN = 60.0
# who asks for a model when no role does
OPERATOR, KEPT_UP = "asked for by the operator", "kept up"
SETTLING_PAUSE = 0.05
# memory that others free is noticed by then
WAIT_SECONDS = 1.0


class Desk(Protocol):
    """What the mover needs of the dispatcher."""

    loaded: LoadedConfig

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        ...

    def waiting(self, model: str) -> int:
        """Requests that wait for a model."""
        ...

    def fail(self, member: Member, error: BenchAIError) -> None:
        """Tell those who wait for a model that it can't serve them."""
        ...

    def pump(self) -> None:
        """Look at everything again."""
        ...


class Mover:
    """Starts and stops the members of a fleet. Called by the dispatcher, in one piece with its look at the line."""

    def __init__(self, desk: Desk, book: MemoryBook, gauge: Gauge, emit: Emit, keep_core: bool) -> None:
        self.members: dict[str, Member] = {}
        self.book = book
        self.retiring: set[str] = set()
        self._desk = desk
        self._gauge = gauge
        self._emit = emit
        self._keep_core = keep_core
        self._looking: set[str] = set()
        self._returning: set[str] = set()
        self._next_try: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._settling_until = 0.0
        self._settling = False
        self._budget: dict[str, int] | None = None
        self._waits: dict[str, tuple[float, Wait]] = {}

    # ---- placing

    def look_again(self) -> None:
        """A new look at everything: memory is measured once for it, however many wait."""
        self._budget = None

    def leases_ended(self) -> None:
        """A model is idle now and may leave."""
        self._waits.clear()

    def decide(self, member: Member) -> Decision:
        """Where a model that was looked at may go now, and what must leave for it."""
        assert member.need is not None
        residents = list(self._residents())
        if self._budget is None:
            self._budget = self._measure_budget(residents)
        return decide(self._budget, residents, Wanted(member.name, member.need.options))

    def decide_now(self, member: Member) -> Decision:
        """As ``decide``, with a measurement of its own."""
        self.look_again()
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
                busy=busy(member),
                reload_seconds=member.load_seconds,
                last_used=member.uses.last,
                leaving=not member.coming and not member.supervisor.wanted,
            )

    def place(self, member: Member, role: str, now: float) -> Wait | Refuse | None:
        """Bring a model if it can be brought now; else what is in the way, or why it never can be."""
        if member.need is None:
            self._look(member)
            return None
        decision = self._still_waits(member, now) or self.decide(member)
        if isinstance(decision, Place):
            self.bring(member, decision, role)
            return None
        if isinstance(decision, Wait):
            self._waits.setdefault(member.name, (now, decision))
        elif now < self._settling_until:
            # what was just stopped may look like somebody else's memory until the driver has it back
            self._settling = True
            return None
        return decision

    def _still_waits(self, member: Member, now: float) -> Wait | None:
        """The last decision on a model, while nothing has changed by which it could be placed.

        Leases come and go by the hundred in that time, and each would measure the memory anew.
        """
        since, decision = self._waits.get(member.name, (0.0, None))
        if decision is None:
            return None
        hindering = (self.members.get(name) for name in decision.busy)
        if now - since < WAIT_SECONDS and all(one is not None and busy(one) for one in hindering):
            return decision
        del self._waits[member.name]
        return None

    def _look(self, member: Member) -> None:
        if member.name not in self._looking:
            self._looking.add(member.name)
            self._spawn(self._look_at(member))

    async def _look_at(self, member: Member) -> None:
        try:
            await member.look()
        except Exception as error:
            self._next_try[member.name] = time.monotonic() + TRY_AGAIN
            if not self._desk.waiting(member.name):
                # nobody else is told why a model is not kept up
                self._emit(Notice(text=f"{member.name}: {as_known(member, error).message}"))
            self._desk.fail(member, as_known(member, error))
        finally:
            self._looking.discard(member.name)
            self._desk.pump()

    def bring(self, member: Member, decision: Place, role: str) -> None:
        """Start a model after what must leave has left."""
        member.coming, member.claim, member.role = True, decision.claim, role
        self.forget(member.name)
        leaving = [self.members[name] for name in decision.stop]
        if leaving:
            self._desk.counts.swaps += 1
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
                deadline = self._desk.loaded.config.fleet.memory.release_deadline
                await self._gauge.wait_released(needed, deadline)
        except Exception as error:
            member.coming, member.claim = False, {}
            self._next_try[member.name] = time.monotonic() + TRY_AGAIN
            self._give_back(member)
            self._desk.fail(member, as_known(member, error))
            self._desk.pump()
            return
        if member.halted and not self._desk.waiting(member.name):
            member.coming, member.claim = False, {}
            self._desk.pump()
            return
        named = (OPERATOR, KEPT_UP)
        cause = member.role if member.role in named else f"the role {member.role!r} is asked for"
        member.supervisor.want(True, cause)

    def moved(self, member: Member, event: ModelState) -> None:
        """A member's process went to another state."""
        self._waits.clear()
        self._next_try = {name: at for name, at in self._next_try.items() if at > time.monotonic() + WAIT_SECONDS}
        if event.state == "starting":
            member.coming = False
        if event.state in ("stopped", "failed"):
            if not member.coming:
                member.claim = {}
            member.need = None
            self._give_back(member)
            if self.book.gpus and event.previous in ("stopping", "ready"):
                self._settling_until = time.monotonic() + self._desk.loaded.config.fleet.memory.release_deadline
        if event.state == "ready":
            member.uses.last = time.monotonic()
            self._next_try.pop(member.name, None)
        if event.state == "failed" and member.supervisor.error is not None:
            self._next_try[member.name] = time.monotonic() + TRY_AGAIN
            self._desk.fail(member, member.supervisor.error)

    # ---- keeping up, letting go

    def _kept(self, member: Member) -> bool:
        return member.config.keep or (self._keep_core and member.core)

    def return_later(self, name: str) -> None:
        """Start a model when there is room for it."""
        self._returning.add(name)

    def keep_up(self, now: float) -> None:
        """Start what should be up and fits."""
        away = {name for member in self.members.values() if member.displaced for name in member.displaced}
        for name, member in self.members.items():
            if resident(member):
                continue
            kept = self._keep_core and self._kept(member) and not member.halted and name not in away
            due = self._next_try.get(name, 0.0) <= now
            if not (kept or name in self._returning) or not due or name in self.retiring:
                continue
            if member.need is None:
                self._look(member)
                continue
            decision = self.decide(member)
            if isinstance(decision, Place) and not decision.stop:
                self.bring(member, decision, KEPT_UP)
            elif isinstance(decision, Refuse):
                self._returning.discard(name)
                self._next_try[name] = now + TRY_AGAIN
            else:
                self._next_try[name] = now + WAIT_SECONDS

    def let_go(self, now: float) -> None:
        """Stop what has been idle for its time."""
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
        """A model is coming, or an operator stopped it: it is not to come back by itself."""
        self._returning.discard(name)
        for member in self.members.values():
            if name in member.displaced:
                member.displaced.remove(name)

    def _is_idle(self, member: Member) -> bool:
        supervisor = member.supervisor
        ready = supervisor.state == "ready" and supervisor.wanted
        return ready and not member.uses.total and not self._desk.waiting(member.name)

    def due(self, now: float) -> list[float]:
        """When to look again, for what is known now."""
        due = list(self._next_try.values())
        for member in self.members.values():
            if self._is_idle(member) and (member.displaced or not self._kept(member)):
                due.append(member.uses.last + member.hold)
            if member.supervisor.retry_after:
                due.append(now + member.supervisor.retry_after)
        if self._settling:
            self._settling = False
            due.append(now + SETTLING_PAUSE)
        return due

    # ---- settings

    def retire(self, name: str) -> None:
        """Grant no more leases on a model: its settings have changed."""
        self.retiring.add(name)

    def replaced(self, name: str) -> None:
        """The model has its new settings."""
        self.retiring.discard(name)
        self._next_try.pop(name, None)

    async def close(self) -> None:
        """End what was under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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


def busy(member: Member) -> bool:
    """Whether a model may not be stopped to make room now: somebody uses it, or waits for its start."""
    return member.coming or member.supervisor.state == "starting" or member.uses.total > 0
