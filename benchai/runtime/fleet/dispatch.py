"""Who is served next, and what is started and stopped for it.

Requests wait in one line, oldest first. A younger one may go ahead to save a swap, but an older one is passed over at
most `max_passes` times, or for `max_wait` seconds: then the models that stand in its way take no new requests, and
leave when the last of theirs has ended. Everything here runs in one piece between two awaits, on what is true now.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import defaultdict
from collections.abc import Mapping

from benchai.config import LoadedConfig
from benchai.errors import BenchAIError, DoesNotFit, EngineError, Unavailable, UsageError
from benchai.events import Emit, ModelState, Notice
from benchai.runtime.fleet.copies import REMOTE_SLOTS, Choice, Copies, Copy, choose, copied_models, group_of
from benchai.runtime.fleet.line import Counts, Line, Waiter, starved
from benchai.runtime.fleet.member import Member
from benchai.runtime.fleet.move import OPERATOR, Mover, resident
from benchai.runtime.fleet.process import Ready
from benchai.runtime.placement.decide import Refuse
from benchai.runtime.placement.gauge import Gauge
from benchai.runtime.placement.memory import MemoryBook

#: A caller rather waits for a shorter delay than this than being told to come again.
SHORT_DELAY = 1.0
#: Seconds after which a request that waits for a busy copy, while another one is free, is weighed anew.
LOOK_AGAIN = 1.0


class Dispatcher:
    """Grants leases and moves models. `pump` is called after everything that may change the picture."""

    def __init__(self, loaded: LoadedConfig, book: MemoryBook, gauge: Gauge, emit: Emit, keep_core: bool) -> None:
        self.loaded = loaded
        self.line = Line()
        self.mover = Mover(self, book, gauge, emit, keep_core)
        self.copies = Copies()
        self._held_out = False
        self._emit = emit
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._closing = False

    # ---- leases

    async def acquire(self, role: str, models: list[str], prompt_tokens: int | None = None) -> Waiter:
        """Wait in line; `model` of the waiter is the one that was granted. Give it back with `release`.

        Raises:
            QueueFull: too many wait for this role already.
            BenchAIError: why none of the models can serve it.
        """
        if self._closing:
            raise EngineError(f"model {models[0]!r} is not started: the fleet is stopping")
        config = self.loaded.config
        limit, places = config.router.max_queue, config.concurrency(role)
        waiter = self.line.join(role, list(models), limit, places, prompt_tokens)
        self.pump(waiter)
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
        self.copies.ended(waiter.model, waiter, _asked(member), measured=self._is_measured(waiter, member))
        if isinstance(member, Member):
            member.uses.remove(waiter.role)
            member.activity.leases = member.uses.total
            if not member.uses.total:
                self.mover.leases_ended()
        if not self.line.in_use.total():
            self._idle.set()
        self.pump()

    def doubt(self, waiter: Waiter, silent: bool = False) -> None:
        """What a request was served with did not do it: that is no measurement, and a remote copy rests."""
        waiter.failed = True
        if waiter.holder is None:
            self.copies.record(waiter.model).failed_at = time.monotonic()

    def _is_measured(self, waiter: Waiter, member: object) -> bool:
        ended = isinstance(member, Member) and member.supervisor.ready is None
        # what an engine has counted tells by itself whether it wrote anything
        useful = _asked(member) is not None or not (waiter.failed or ended)
        return useful and waiter.model in copied_models(self.loaded.config)

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

    def pump(self, newcomer: Waiter | None = None) -> None:
        """Serve who can be served, start and stop what must be, and wake up when the next thing is due.

        Where a newcomer is served at once, nothing else has become due.
        """
        if self._closing:
            return
        now = time.monotonic()
        self.mover.look_again()
        self._serve_all(now)
        if newcomer is None or not newcomer.granted.done():
            self.mover.keep_up(now)
            self.mover.let_go(now)
            self._set_timer(now)

    def _serve_all(self, now: float) -> None:
        """Serve who can be served, oldest first."""
        claimed: set[str] = set()
        ahead: defaultdict[str, int] = defaultdict(int)
        self._held_out = False
        for waiter in self.line:
            if waiter in self.line and not waiter.granted.done():
                self._prefer(waiter, claimed, ahead, now)
                self._serve(waiter, claimed, now)
                ahead[waiter.model] += waiter in self.line

    def _prefer(self, waiter: Waiter, claimed: set[str], ahead: Mapping[str, int], now: float) -> None:
        """Put the copy with which a request is expected to end soonest before the other models that it may have.

        Only those that are up are weighed: none is started for it while another one serves.
        """
        group = group_of(self.loaded.config, waiter.role, waiter.models)
        if len(group) < 2:
            return
        rest = [name for name in waiter.models if name not in group]
        up = [self._copy(name, ahead, now) for name in group if self._up(name) and name not in claimed]
        if starved(waiter, self.loaded.config.router, now):
            # it has waited long enough for a better one
            up = [copy for copy in up if copy.free] or up
        up = [copy for copy in up if not self.copies.rests(copy.model, now)] or up
        if up:
            choice = choose(up, self.copies.size(group, waiter.prompt_tokens, now))
            free = {copy.model for copy in up if copy.free}
            if choice.model in free or self._up(group[0]) or self._comes(group[0]):
                waiter.reason = self._reason(choice, group[0], now)
                self._held_out = self._held_out or bool(free - {choice.model} and choice.model not in free)
                group = [choice.model, *(name for name in group if name != choice.model)]
        waiter.models = [*group, *rest]

    def _reason(self, choice: Choice, own: str, now: float) -> str:
        if not self._up(own):
            return f"{own!r} is not up"
        return f"{own!r} has just failed" if self.copies.rests(own, now) else choice.reason

    def _copy(self, name: str, ahead: Mapping[str, int], now: float) -> Copy:
        member = self.members.get(name)
        return self.copies.copy(name, member.slots if member else REMOTE_SLOTS, ahead[name], now)

    def _up(self, name: str) -> bool:
        """Whether a copy can serve, now or when a place in it is free."""
        member = self.members.get(name)
        return self._works(member) if member is not None else name in self.loaded.config.models

    def _comes(self, name: str) -> bool:
        """Whether a model is on its way: there is no need to start it."""
        member = self.members.get(name)
        return member is not None and resident(member) and self._problem(member) is None

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
        elif self._has_fallback(waiter) and now - waiter.arrived >= self.loaded.config.router.max_wait:
            waited = f"kept it waiting for {now - waiter.arrived:.0f} s"
            self._give_up(waiter, EngineError(f"model {member.name!r} {waited}"))
        elif not resident(member):
            self._place(member, waiter, claimed, now)

    def _free(self, member: Member, waiter: Waiter) -> bool:
        """Whether a model is ready, nobody doubts that it works, and it has a place."""
        return self._works(member) and (member.uses.total < member.slots or not waiter.role)

    def _works(self, member: Member) -> bool:
        up = member.supervisor.wanted and member.supervisor.alive and member.name not in self.mover.retiring
        return up and not member.activity.doubted

    def _has_fallback(self, waiter: Waiter) -> bool:
        """Whether a request has a model left that is no copy of the one it waits for."""
        return len(waiter.models) > max(1, len(group_of(self.loaded.config, waiter.role, waiter.models)))

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
        self._count_copy(waiter)
        member = waiter.holder = self.members.get(waiter.model)
        if member is not None:
            member.uses.add(waiter.role)
            member.activity.leases = member.uses.total
            member.activity.relieved = self._soon

    def _count_copy(self, waiter: Waiter) -> None:
        config = self.loaded.config
        if waiter.role:
            # also without copies: a configuration may name them before this ends
            self.copies.granted(waiter.model, waiter)
        group = group_of(config, waiter.role, waiter.models)
        if waiter.model in group[1:]:
            text = f"role {waiter.role!r}: {waiter.model!r} rather than {group[0]!r}: {waiter.reason}"
            self._emit(Notice(text=text))

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
        due += [now + LOOK_AGAIN] if self._held_out else []
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
        await self.copies.close()
        await self.mover.close()

    def _soon(self) -> None:
        if not self._closing:
            asyncio.get_running_loop().call_soon(self.pump)


def _asked(member: object) -> Ready | None:
    """The engine that can tell what it has counted."""
    return member.supervisor.ready if isinstance(member, Member) and member.config.metrics else None


def does_not_fit(member: Member, refused: Refuse) -> DoesNotFit:
    """The error for a model that can't be placed, with the figures and what would help."""
    return DoesNotFit(f"model {member.name!r} does not fit: {refused.reason}", hint=member.would_fit(refused))
