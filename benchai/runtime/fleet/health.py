"""Is a ready engine still working? Asked with requests that do work, never of one that visibly produces tokens.

A wedged server may answer /health while its main loop stands still. So beside /health there is /slots, which that
loop must answer, and a request of one token. While requests are under way the answer to /slots may have to wait for
a long prompt: an engine that uses the processor is then given its idle time-out, one that does not is hung.

A caller whose call failed puts the engine in doubt: it is looked at once, and nobody is let in until it has answered
or is replaced. Otherwise the call would be made again on the engine that is about to be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from benchai.runtime.fleet.process import EngineProcess, Ready
from benchai.runtime.http import local_client

HEALTH_SECONDS = 5.0
HEALTH_FAILURES = 2
# an engine in doubt whose /health fails is looked at again so soon: it may be about to end, which says more
AGAIN_SECONDS = 0.5
# a process that does less is waiting for something
BUSY_SHARE = 0.05


def _nothing() -> None:
    pass


@dataclass
class Activity:
    """What the fleet knows of a model's work: leases held, pieces of replies seen, doubts of its callers.

    ``relieved`` is called when the last doubt was found to be unfounded.
    """

    leases: int = 0
    pieces: int = 0
    doubts: int = 0
    silent: bool = False
    suspected: asyncio.Event = field(default_factory=asyncio.Event)
    relieved: Callable[[], None] = _nothing
    _answered: int = 0

    @property
    def doubted(self) -> bool:
        """Whether nobody should be let in: a doubt is open, or the engine is about to be killed."""
        return self.doubts > self._answered

    def suspect(self, silent: bool) -> None:
        """A call failed: no piece came for too long (`silent`), or its connection broke."""
        self.doubts += 1
        self.silent = self.silent or silent
        self.suspected.set()

    def believe(self, doubts: int) -> None:
        """The engine works: the first so many `doubts` were unfounded."""
        was, self._answered = self.doubted, doubts
        if was and not self.doubted:
            self.silent = False
            self.relieved()

    def renew(self) -> None:
        """The process that was in doubt is gone."""
        self._answered, self.silent = self.doubts, False
        self.suspected.clear()


@dataclass(frozen=True)
class Probe:
    """How to look at one model; times in seconds."""

    interval: float
    deadline: float
    idle_timeout: float
    activity: Activity
    generates: bool = True

    async def watch(self, process: EngineProcess, ready: Ready) -> str:
        """Look every `interval`, and at once on a doubt. Returns why the engine must be killed."""
        seen, failures = self.activity.pieces, 0
        async with local_client(base_url=ready.root, timeout=HEALTH_SECONDS) as client:
            while True:
                await self._next(failures)
                doubts, silent = self.activity.doubts, self.activity.silent
                if self.activity.pieces != seen:
                    seen, failures = self.activity.pieces, 0
                    # whoever doubts it has seen no piece since
                    if not self.activity.doubted:
                        continue
                if not await _healthy(client):
                    failures += 1
                    if failures >= HEALTH_FAILURES:
                        return f"/health failed {failures} times in a row"
                    continue
                failures = 0
                why = await self._work(client, process, silent)
                if why is not None:
                    return why
                self.activity.believe(doubts)

    async def _next(self, failures: int) -> None:
        """Wait for the next look."""
        if failures and self.activity.doubted:
            await asyncio.sleep(min(AGAIN_SECONDS, self.interval))
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.activity.suspected.wait(), self.interval)
        self.activity.suspected.clear()

    async def _work(self, client: httpx.AsyncClient, process: EngineProcess, silent: bool) -> str | None:
        slots = await self._answered(client, process, "/slots")
        if slots is None:
            return f"/health answers, /slots does not within {self.deadline:g} s"
        if self.activity.leases or not self.generates:
            return None
        slot, pieces = _free_slot(slots, silent), self.activity.pieces
        if slot is None or await _one_token(client, slot, self.deadline):
            return None
        if self.activity.leases or self.activity.pieces != pieces:
            # a request came meanwhile and has the slot
            return None
        return f"a request of one token is not answered within {self.deadline:g} s"

    async def _answered(self, client: httpx.AsyncClient, process: EngineProcess, path: str) -> Any | None:
        """The answer, waited for as long as tokens come or the processor is used; None: it hangs."""
        asking = asyncio.ensure_future(client.get(path, timeout=None))
        began, pieces, used = time.monotonic(), self.activity.pieces, cpu_seconds(process.pid)
        try:
            while not asking.done():
                await asyncio.wait((asking,), timeout=self.deadline)
                if asking.done() or self.activity.pieces != pieces:
                    break
                now_used, waited = cpu_seconds(process.pid), time.monotonic() - began
                working = self.activity.leases and now_used - used > BUSY_SHARE * self.deadline
                if not working or waited > self.idle_timeout:
                    return None
                used = now_used
            return _json(asking) if asking.done() else []
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


async def _healthy(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).is_success
    except httpx.HTTPError:
        return False


def _json(asked: asyncio.Future[httpx.Response]) -> Any:
    """What was answered; [] for an engine without this path, or one that is just ending."""
    try:
        return asked.result().raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return []


def _free_slot(slots: Any, silent: bool) -> int | None:
    """A slot for the request of one token: one that holds no conversation; any idle one when a call saw no token."""
    known = [slot for slot in slots if isinstance(slot, dict)] if isinstance(slots, list) else []
    if any(slot.get("is_processing") for slot in known):
        return None
    idle = [slot for slot in known if isinstance(slot.get("id"), int)]
    chosen = [slot for slot in idle if not slot.get("n_prompt_tokens")] or (idle if silent else [])
    return int(chosen[0]["id"]) if chosen else None


async def _one_token(client: httpx.AsyncClient, slot: int, deadline: float) -> bool:
    body = {"prompt": "a", "n_predict": 1, "id_slot": slot, "cache_prompt": False}
    try:
        return (await client.post("/completion", json=body, timeout=deadline)).status_code < 500
    except httpx.HTTPError:
        return False


def cpu_seconds(pid: int | None) -> float:
    """Processor time that a process has used; 0 when it is gone."""
    try:
        times = psutil.Process(pid).cpu_times() if pid else None
    except psutil.Error:
        return 0.0
    return times.user + times.system if times else 0.0
