"""The fleet: all models of a configuration under one supervisor."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Self

from benchai.config import LoadedConfig
from benchai.errors import (
    BenchAIError,
    ConfigError,
    DoesNotFit,
    EndpointError,
    EndpointLost,
    EndpointNotReady,
    ReplyBroken,
    UsageError,
    did_you_mean,
)
from benchai.events import Emit, ModelState, Notice
from benchai.runtime.background import in_background
from benchai.runtime.endpoints import Endpoint
from benchai.runtime.fleet.dispatch import Dispatcher
from benchai.runtime.fleet.member import Member
from benchai.runtime.fleet.move import resident
from benchai.runtime.fleet.state import EngineRecord, end_leftovers
from benchai.runtime.fleet.terms import remote_endpoint
from benchai.runtime.placement.decide import Place, Wanted
from benchai.runtime.placement.gauge import Gauge
from benchai.runtime.placement.memory import MemoryBook
from benchai.runtime.placement.together import Stays, fit_together

#: What a caller meets when the endpoint is at fault, not its request.
_FAULTS = (EndpointLost, EndpointNotReady, ReplyBroken, ConfigError)


class Fleet:
    """Implements ``Endpoints`` with engine processes that this process owns.

    ``async with Fleet(loaded) as fleet``: leaving stops every model. With `keep_core` the models of the core roles
    are started at once and kept up; otherwise every model waits for its first lease.
    """

    def __init__(
        self,
        loaded: LoadedConfig,
        emit: Emit = lambda event: None,
        *,
        keep_core: bool = False,
        gauge: Gauge | None = None,
    ) -> None:
        self.loaded = loaded
        self.emit = emit
        self.record = EngineRecord()
        self._gauge = gauge or Gauge()
        self.book = MemoryBook(loaded, self._gauge)
        self._dispatcher = Dispatcher(loaded, self.book, self._gauge, emit, keep_core)
        self._add_members()

    def _add_members(self) -> None:
        for name, model in self.loaded.config.models.items():
            if not model.remote and name not in self.members:
                self.members[name] = Member(name, self)

    @property
    def members(self) -> dict[str, Member]:
        """The models that this fleet launches, by name."""
        return self._dispatcher.members

    @property
    def dispatcher(self) -> Dispatcher:
        """Who waits, and for what."""
        return self._dispatcher

    async def __aenter__(self) -> Self:
        for line in await in_background(end_leftovers):
            self.emit(Notice(text=line))
        self._dispatcher.pump()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing = asyncio.ensure_future(self._close(in_haste=kind is not None))
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            # a second Ctrl-C does not leave models behind
            await closing
            raise

    async def _close(self, in_haste: bool) -> None:
        await self._dispatcher.close()
        ending = (one.supervisor.abandon() if in_haste else one.supervisor.close() for one in self.members.values())
        await asyncio.gather(*ending)
        self._gauge.close()

    async def drain(self) -> bool:
        """Let nobody in any more and wait for the leases under way, `fleet.drain_timeout` at most."""
        self._dispatcher.refuse_new()
        return await self._dispatcher.drained(self.loaded.config.fleet.drain_timeout)

    def lease(self, role: str) -> Lease:
        """See ``Endpoints.lease``."""
        self.loaded.model_for(role)
        return self.lease_one_of(role, self.loaded.config.models_of(role))

    def lease_one_of(self, role: str, models: Sequence[str], *, prompt_tokens: int | None = None) -> Lease:
        """A lease for a role on the first of these models, or on the next when that one can't serve.

        Of copies of the role's model (``router.copies``) it is the one with which the request is expected to end
        soonest; ``prompt_tokens`` of it, about, where the caller knows.

        Raises:
            UsageError: there is no such model.
        """
        for name in models:
            if name not in self.loaded.config.models:
                raise UsageError(f"the fleet has no model {name!r}", hint=did_you_mean(name, self.loaded.config.models))
        return Lease(self, self._dispatcher, role, list(models), prompt_tokens)

    async def fit_together(self, roles: Collection[str]) -> bool:
        """See ``Endpoints.fit_together``."""
        return await self.models_fit([self.loaded.model_for(role)[0] for role in roles])

    async def models_fit(self, models: Collection[str]) -> bool:
        """Whether these models can run at the same time; False where that is not known. Remote ones always can."""
        if not self.loaded.config.models.keys() >= set(models):
            return False
        members = [member for name, member in self.members.items() if name in models]
        if len(members) < 2:
            return True
        for one in members:
            await _look_at(one)
        return self._fit(members)

    def _fit(self, members: Sequence[Member]) -> bool:
        """Whether members can run at the same time, beside those that never leave."""
        up = [one for one in self.members.values() if resident(one) and (one.coming or one.supervisor.wanted)]
        if any(one.need is None for one in members if one not in up):
            return False
        wanted = [Wanted(one.name, one.need.options) for one in members if one not in up and one.need is not None]
        staying = [Stays(one.name, one.claim) for one in up if one in members or one.config.keep]
        processes = [one.supervisor.process for one in self.members.values()]
        pids = [process.pid for process in processes if process and process.pid and process.alive]
        claimed = sum((Counter(one.claim) for one in up), Counter[str]())
        return fit_together(self.book.budget(pids, claimed), staying, wanted)

    # ---- what an operator asks for

    def member(self, name: str) -> Member:
        """A model that this fleet launches.

        Raises:
            UsageError: there is none of that name.
        """
        if name not in self.members:
            raise UsageError(f"the fleet has no model {name!r}", hint=did_you_mean(name, self.members))
        return self.members[name]

    async def start(self, name: str, *, evict: bool = False) -> None:
        """Start a model and wait until it is ready; with `evict` others may be stopped for it.

        Raises:
            DoesNotFit: it does not fit beside what runs.
            BenchAIError: why it did not start.
        """
        member = self.member(name)
        member.halted = False
        member.supervisor.forgive()
        if not evict and not member.supervisor.alive:
            await member.look()
            decision = None if resident(member) else self._dispatcher.mover.decide_now(member)
            if decision is not None and not (isinstance(decision, Place) and not decision.stop):
                hint = f"'benchai fleet swap {name}' stops others for it"
                raise DoesNotFit(f"model {name!r} does not fit beside what runs", hint=hint)
        self._dispatcher.release(await self._dispatcher.acquire("", [name]))

    async def stop(self, name: str, patience: float | None = None) -> None:
        """Stop a model once its requests have ended; it stays away until it is asked for again.

        Args:
            name: The model.
            patience: Seconds that its requests may take; default: ``fleet.drain_timeout``.
        """
        member = self.member(name)
        member.halted = True
        self._dispatcher.mover.forget(name)
        self._dispatcher.mover.retire(name)
        try:
            await member.finished(self.loaded.config.fleet.drain_timeout if patience is None else patience)
            member.supervisor.want(False, "stopped by the operator")
            await member.supervisor.settled("stopped", "failed")
        finally:
            self._dispatcher.mover.replaced(name)
            self._dispatcher.pump()

    async def restart(self, name: str) -> None:
        """Stop a model and start it again."""
        await self.stop(name)
        await self.start(name, evict=True)

    async def apply(self, loaded: LoadedConfig) -> list[str]:
        """Go on with another configuration; models whose settings changed are restarted. Returns their names.

        What it raises for a configuration that can't be taken comes before anything is changed.
        """
        changed = [name for name in self.members if _launch(self.loaded, name) != _launch(loaded, name)]
        book = MemoryBook(loaded, self._gauge)
        self.loaded = self._dispatcher.loaded = loaded
        self.book = self._dispatcher.mover.book = book
        for name in self.members.keys() - {*changed}:
            self.members[name].loaded, self.members[name].book = loaded, self.book
        await asyncio.gather(*(self._replace(name) for name in changed))
        self._add_members()
        self._dispatcher.pump()
        return changed

    async def _replace(self, name: str) -> None:
        member = self.members[name]
        self._dispatcher.mover.retire(name)
        was_up = member.supervisor.wanted
        await member.finished(self.loaded.config.fleet.drain_timeout)
        await member.supervisor.close("its settings changed")
        del self.members[name]
        self._dispatcher.mover.replaced(name)
        self._add_members()
        if name not in self.members and name not in self.loaded.config.models:
            self._dispatcher.fail(member, UsageError(f"the fleet has no model {name!r} any more"))
        elif was_up and name in self.members:
            self._dispatcher.mover.return_later(name)

    # ---- House

    def moved(self, member: Member, event: ModelState) -> None:
        """See ``House``."""
        self.emit(event)
        self._dispatcher.moved(member, event)

    async def free_for(self, member: Member) -> bool:
        """See ``House``: stop every idle model that shares a device with `member`."""
        idle = [
            one
            for one in self.members.values()
            if one is not member and one.supervisor.alive and not one.uses.total and not one.config.keep
        ]
        idle = [one for one in idle if set(one.claim) & set(member.claim)]
        for one in idle:
            one.supervisor.want(False, f"makes room for {member.name!r}, which found too little memory")
        await asyncio.gather(*(one.supervisor.settled("stopped", "failed") for one in idle))
        return bool(idle)


class Lease:
    """A lease as a context, whose value is the endpoint; a class, because a generator takes three times as long."""

    def __init__(
        self, fleet: Fleet, dispatcher: Dispatcher, role: str, models: list[str], prompt_tokens: int | None
    ) -> None:
        self._fleet, self._dispatcher = fleet, dispatcher
        self._wanted = role, models, prompt_tokens

    async def __aenter__(self) -> Endpoint:
        self._granted = granted = await self._dispatcher.acquire(*self._wanted)
        role = self._wanted[0]
        try:
            if isinstance(granted.holder, Member):
                return granted.holder.endpoint(role)
            doubt = partial(self._dispatcher.doubt, granted)
            return replace(remote_endpoint(self._fleet.loaded, role, granted.model), suspect=doubt)
        except Exception as error:
            self._end(error)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        granted = self._granted
        if isinstance(error, Exception):
            granted.failed = True
            if isinstance(error, _FAULTS) or type(error) is EndpointError:
                self._dispatcher.doubt(granted)
        self._dispatcher.release(granted)


async def _look_at(member: Member) -> None:
    """Look what a model needs, where that is possible and its file need not be fetched first."""
    if member.need is None and (member.config.hf is None or member.file is not None):
        with contextlib.suppress(BenchAIError, OSError):
            await member.look()


def _launch(loaded: LoadedConfig, name: str) -> object:
    """What a change of needs a restart of a model."""
    model = loaded.config.models.get(name)
    if model is None or model.remote:
        return None
    own = model.model_dump(exclude={"ttl", "keep", "temperature", "top_p", "max_tokens"})
    return own, loaded.config.slots_of(name), loaded.config.engine.model_dump(), loaded.folder
