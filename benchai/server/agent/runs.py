"""Runs: taken in, queued, worked on, cancelled, and gone on with after the end of the server.

A run is kept before its client hears of it. What is decided about a thread is decided in one turn of the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from benchai.config.agent import AgentConfig
from benchai.errors import BenchAIError, QueueFull, StoreError
from benchai.server.agent.assistants import Assistant
from benchai.server.agent.database import AgentDatabase, Row, from_json
from benchai.server.agent.log import EventLog, place_of
from benchai.server.agent.outcome import Outcome
from benchai.server.agent.queue import Waiting, next_of
from benchai.server.agent.requests import RunBody, merged
from benchai.server.agent.run_rows import RunRows
from benchai.server.agent.service import Conflict, UnknownItem, Unprocessable, now
from benchai.server.agent.shapes import json_bytes
from benchai.server.agent.thread_rows import find_thread, insert_thread
from benchai.server.workshop import Workshop

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Active:
    """A run that has not ended: it waits or is worked on."""

    waiting: Waiting
    done: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    cancelled: str | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Wanted:
    """A run that is asked for; without a thread it gets one of its own."""

    owner: str
    thread_id: str | None
    assistant: Assistant
    body: RunBody
    key: str | None = None
    digest: bytes = b""


class Runs:
    """All runs of a server.

    Args:
        database: Where they are kept.
        workshop: Opens the bench that runs workflows.
        settings: The section ``agent:`` as it is now.
        ended: Told of each run that has ended.
    """

    def __init__(
        self,
        database: AgentDatabase,
        workshop: Workshop,
        settings: Callable[[], AgentConfig],
        ended: Callable[[Row, Outcome], None],
    ) -> None:
        self.log = EventLog(database)
        self.rows = RunRows(database)
        self._db = database
        self._workshop = workshop
        self._settings = settings
        self._ended = ended
        self._active: dict[str, Active] = {}
        self._served: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    # ---- the life of the server

    def start(self) -> None:
        """Go on with the runs that the server's last end broke off or left waiting."""
        for row in self.rows.unended():
            active = self._active[row["run_id"]] = Active(Waiting.of(row))
            if row["status"] == "running" and not self._settings().resume_after_restart:
                message = "the server ended in the middle of the run (agent.resume_after_restart is off)"
                error = {"error": "ServerEnded", "message": message}
                self.log.append(row["run_id"], "error", json_bytes(error))
                self._finish(active, Outcome("error", error=error, reason="error"))
        self.rows.put_back()
        self._dispatch()

    async def close(self) -> None:
        """Break off what is worked on: it goes on when the server starts again."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        working = [active.task for active in self._active.values() if active.task is not None]
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        self.log.flush()

    # ---- taking in

    def create(self, wanted: Wanted) -> Row:
        """Take a run in; returns its row. One whose idempotency key is known is not made a second time.

        Raises:
            UnknownItem: there is no such thread.
            Conflict: the thread is busy or awaits no decision, or the key was used for another request.
            Unprocessable: the thread is another workflow's.
            QueueFull: too many runs wait.
        """
        with self._db.transaction():
            if (known := self._known(wanted)) is not None:
                return known
            body = merged(wanted.assistant.as_json(), wanted.body)
            thread = self._thread(wanted)
            self._admit(wanted, thread, body)
            key = (wanted.key, wanted.digest) if wanted.key is not None else None
            row = self.rows.insert(thread, wanted.assistant.assistant_id, wanted.assistant.graph_id, body, key)
        self._active[row["run_id"]] = Active(Waiting.of(row))
        asyncio.get_running_loop().call_soon(self._dispatch)
        return row

    def _known(self, wanted: Wanted) -> Row | None:
        found = self.rows.of_key(wanted.owner, wanted.key) if wanted.key is not None else None
        if found is None:
            return None
        digest, row = found
        if digest != wanted.digest:
            hint = "take another Idempotency-Key for another request"
            raise Conflict(f"the Idempotency-Key {wanted.key!r} was used for another request", hint=hint)
        if row is None:
            raise Conflict(f"the run of the Idempotency-Key {wanted.key!r} was deleted")
        return row

    def _thread(self, wanted: Wanted) -> Row:
        """The run's thread; made where it may be."""
        if wanted.thread_id is None:
            return insert_thread(self._db, wanted.owner, hidden=True)
        try:
            return find_thread(self._db, wanted.owner, wanted.thread_id)
        except UnknownItem as error:
            if wanted.body.if_not_exists == "create":
                return insert_thread(self._db, wanted.owner, wanted.thread_id)
            raise UnknownItem(error.message, hint='make it first, or send "if_not_exists": "create"') from error

    def _admit(self, wanted: Wanted, thread: Row, body: RunBody) -> None:
        """Refuse what the thread is not ready for; end what it is to take the place of."""
        graph = thread["graph_id"]
        if graph is not None and graph != wanted.assistant.graph_id:
            raise Unprocessable(
                f"the thread {thread['thread_id']!r} belongs to the workflow {graph!r},"
                f" not {wanted.assistant.graph_id!r}",
                hint="make a new thread",
            )
        busy = self._of_thread(thread["owner"], thread["thread_id"])
        if body.command is not None and body.command.resume is not None:
            self._check_decision(thread, busy)
        if busy and body.multitask_strategy == "reject":
            hint = 'wait for it, or choose another "multitask_strategy"'
            raise Conflict(f"a run is under way on the thread {thread['thread_id']!r}", hint=hint)
        waiting = sum(active.task is None for active in self._active.values())
        if waiting >= self._settings().queue and not self._free(wanted.owner):
            raise QueueFull(f"{waiting} runs wait already (agent.queue)", retry_after=5.0)
        if body.multitask_strategy in ("interrupt", "rollback"):
            for active in busy:
                self._cancel(active, body.multitask_strategy)

    def _check_decision(self, thread: Row, busy: list[Active]) -> None:
        """A decision takes effect once.

        Raises:
            Conflict: the thread awaits none, or was given one already.
        """
        if busy:
            raise Conflict(
                f"the thread {thread['thread_id']!r} is busy: a decision was given already, or none is awaited"
            )
        if not from_json(thread["interrupts"]):
            hint = "a decision takes effect once; the thread's state tells what it is at"
            raise Conflict(f"the thread {thread['thread_id']!r} awaits no decision", hint=hint)

    def _free(self, owner: str) -> bool:
        """Whether a run would begin at once."""
        settings = self._settings()
        working = [one.waiting.owner for one in self._active.values() if one.task is not None]
        per_key = settings.per_key or settings.concurrency
        return len(working) < settings.concurrency and working.count(owner) < per_key

    # ---- looking

    def is_over(self, run_id: str) -> bool:
        """Whether a run has ended, or is gone."""
        return run_id not in self._active

    def busy(self, owner: str, thread_id: str) -> bool:
        """Whether a run waits or is worked on on a thread."""
        return bool(self._of_thread(owner, thread_id))

    def _of_thread(self, owner: str, thread_id: str) -> list[Active]:
        place = owner, thread_id
        return [one for one in self._active.values() if (one.waiting.owner, one.waiting.thread_id) == place]

    def waiting(self, run_id: str) -> Active | None:
        """What of a run can be waited for; None when it has ended."""
        return self._active.get(run_id)

    def result(self, run_id: str, waited: Active | None) -> bytes:
        """The result of a run that has ended, as its client gets it: the state, ``__interrupt__`` and ``__error__``.

        Args:
            run_id: The run.
            waited: What was waited for; one that was rolled back is known there alone.

        Raises:
            UnknownItem: it was deleted.
        """
        if waited is not None and waited.cancelled == "rollback":
            return json_bytes({"__error__": {"error": "UserRollback", "message": "the run was rolled back"}})
        found = self.rows.result(run_id)
        if found is None:
            raise UnknownItem(f"the run {run_id!r} was deleted")
        return found

    # ---- cancelling

    async def cancel(self, run_id: str, action: str, *, wait: bool) -> bool:
        """Cancel a run; False where it had ended already. With ``rollback`` it leaves nothing behind."""
        active = self._active.get(run_id)
        if active is None:
            return False
        self._cancel(active, action)
        if wait:
            await active.done.wait()
        return True

    def cancel_soon(self, run_id: str) -> None:
        """Cancel a run whose client has gone."""
        active = self._active.get(run_id)
        if active is not None:
            self._cancel(active, "interrupt")

    async def cancel_thread(self, owner: str, thread_id: str) -> None:
        """Cancel all runs on a thread, and wait until they have ended."""
        found = self._of_thread(owner, thread_id)
        for active in found:
            self._cancel(active, "interrupt")
        for active in found:
            await active.done.wait()

    def _cancel(self, active: Active, action: str) -> None:
        if active.cancelled == "rollback":
            return
        active.cancelled = action
        if active.task is not None:
            active.task.cancel()
        else:
            # it never began: its thread is as it was
            asyncio.get_running_loop().call_soon(self._finish, active, Outcome("interrupted", reason="cancelled"))

    # ---- working

    def _dispatch(self) -> None:
        """Begin the runs whose turn it is."""
        if self._closing:
            return
        settings = self._settings()
        while True:
            working = [one.waiting for one in self._active.values() if one.task is not None]
            # one that was cancelled while it waited ends in a moment
            waiting = [one.waiting for one in self._active.values() if one.task is None and not one.cancelled]
            if len(working) >= settings.concurrency:
                return
            chosen = next_of(waiting, working, self._served, settings.per_key, now())
            if chosen is None:
                self._wake_for(waiting)
                return
            self._begin(self._active[chosen.run_id])

    def _wake_for(self, waiting: list[Waiting]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        later = [one.due - now() for one in waiting if one.due > now()]
        self._timer = asyncio.get_running_loop().call_later(max(min(later), 0.001), self._dispatch) if later else None

    def _begin(self, active: Active) -> None:
        waiting = active.waiting
        self._served[waiting.owner] = max(self._served.values(), default=0) + 1
        self.rows.begin(waiting.run_id)
        self.log.threads[waiting.run_id] = place_of(waiting.owner, waiting.thread_id)
        active.task = asyncio.create_task(self._work(active))

    async def _work(self, active: Active) -> None:
        run_id = active.waiting.run_id
        active.outcome = Outcome()
        try:
            await self._worked(active, self.rows.known(run_id))
        except asyncio.CancelledError:
            if active.cancelled is None:
                # the server ends: the run goes on when it starts again
                return
        except Exception as error:
            logger.exception("the run %s", run_id)
            outcome = active.outcome
            outcome.fail(type(error).__name__, error.message if isinstance(error, BenchAIError) else str(error))
            with contextlib.suppress(BenchAIError):
                self.log.append(run_id, "error", json_bytes(outcome.error))
        outcome = active.outcome
        if active.cancelled is not None:
            outcome.status, outcome.reason, outcome.error = "interrupted", "cancelled", None
        self._finish(active, outcome)

    async def _worked(self, active: Active, row: Row) -> None:
        # it needs langgraph
        from benchai.server.agent.work import Work

        inner = find_thread(self._db, row["owner"], row["thread_id"])["inner_id"]
        work = Work(row, inner, self.log, self._db)
        active.outcome = work.outcome
        async with self._workshop.bench() as bench:
            if row["attempt"] == 1:
                base = await bench.threads.last_checkpoint(inner)
                self.rows.set_base(work.run_id, base)
            else:
                base = row["base"]
            try:
                await work.run(bench)
            finally:
                if active.cancelled == "rollback":
                    active.outcome = await asyncio.shield(work.roll_back(bench, base))

    def _finish(self, active: Active, outcome: Outcome) -> None:
        """Keep how a run ended, and let the next one begin."""
        run_id = active.waiting.run_id
        if self._active.pop(run_id, None) is None:
            return
        active.outcome = outcome
        try:
            with self._db.transaction():
                self.log.flush()
                self._keep_end(active, outcome)
        except StoreError:
            # who waits for it is told all the same; the next start of the server goes on with it
            logger.exception("the end of the run %s cannot be kept", run_id)
        else:
            if active.cancelled != "rollback":
                self._ended(self.rows.known(run_id), outcome)
        active.done.set()
        self.log.wake(run_id)
        self.log.threads.pop(run_id, None)
        self._dispatch()

    def _keep_end(self, active: Active, outcome: Outcome) -> None:
        row = self.rows.known(active.waiting.run_id)
        busy = self.busy(row["owner"], row["thread_id"])
        if active.task is None:
            self.rows.never_began(row, busy=busy)
        else:
            keeps = from_json(row["request"]).get("on_completion") == "keep"
            expires = None if keeps else now() + self._settings().keep_stateless_seconds
            self.rows.end_on_thread(row, outcome, busy=busy, expires=expires)
        self.rows.end(row, outcome, active.cancelled)


def digest_of(path: str, body: Any) -> bytes:
    """What tells one request from another, for idempotency keys."""
    return hashlib.sha256(path.encode() + b"\0" + orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()
