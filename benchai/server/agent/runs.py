"""Runs: queued, worked on, cancelled, and gone on with after the end of the server.

A run is kept before its client hears of it, and a cancellation before it is answered. What is decided about a thread is
decided in one turn of the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchai.config.agent import AgentConfig
from benchai.errors import BenchAIError, ConfigError, StoreError, Unavailable, UsageError
from benchai.server.agent.active import Active, Wanted
from benchai.server.agent.admission import Admission
from benchai.server.agent.database import AgentDatabase, Row, from_json
from benchai.server.agent.log import EventLog, place_of
from benchai.server.agent.outcome import Outcome
from benchai.server.agent.queue import Waiting, next_of
from benchai.server.agent.run_rows import RunRows
from benchai.server.agent.service import UnknownItem, now
from benchai.server.agent.shapes import json_bytes
from benchai.server.agent.thread_rows import find_thread, turn
from benchai.server.workshop import Workshop

logger = logging.getLogger(__name__)
#: A run that was broken off by the server's end, or could not begin, so often does not go on.
MOST_ATTEMPTS = 10
#: Seconds until a run that could not begin is tried again, and until a full disk is.
AGAIN_SECONDS, DISK_SECONDS = 5.0, 1.0
#: Seconds that nodes have to end when the server does.
CLOSE_SECONDS = 5.0
ROLLED_BACK = {"__error__": {"error": "UserRollback", "message": "the run was rolled back"}}


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
        left = self.rows.unended()
        self.rows.put_back()
        for row in left:
            active = self._active[row["run_id"]] = Active(Waiting.of(row), cancelled=row["cancel_reason"])
            if row["status"] == "running" and active.cancelled is None and (why := self._why_not(row)):
                outcome = active.outcome = Outcome()
                outcome.fail("ServerEnded", f"the server ended in the middle of the run{why}")
                self.log.append(row["run_id"], "error", json_bytes(outcome.error))
                self._settle(active)
            elif active.cancelled is not None:
                active.outcome = Outcome() if row["status"] == "running" else None
                self._end_of_work(active)
        self._dispatch_soon()

    def _why_not(self, row: Row) -> str:
        """Why a run that was broken off does not go on; "" when it does."""
        if not self._settings().resume_after_restart:
            return " (agent.resume_after_restart is off)"
        # it may be what ends the server
        return f", for the {row['attempt']}th time" if row["attempt"] >= MOST_ATTEMPTS else ""

    async def close(self) -> None:
        """Break off what is worked on: it goes on when the server starts again. Who waits is let go."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        working = [active.task for active in self._active.values() if active.task is not None]
        for task in working:
            task.cancel()
        if working:
            # a node that is slow to end must not keep the server from it
            await asyncio.wait(working, timeout=CLOSE_SECONDS)
        for run_id, active in self._active.items():
            active.done.set()
            self.log.wake(run_id)
        self.log.flush()

    @property
    def closing(self) -> bool:
        """Whether the server ends: runs that have not ended go on when it starts again."""
        return self._closing

    # ---- taking in and looking

    def create(self, wanted: Wanted) -> Row:
        """Take a run in; returns its row. See ``create_all``."""
        return self.create_all([wanted])[0]

    def create_all(self, wanted: Sequence[Wanted]) -> list[Row]:
        """Take runs in, all or none; one whose idempotency key is known is not made a second time.

        Raises:
            UnknownItem, Conflict, Unprocessable, QueueFull, StoreError: see ``Admission.take``.
        """
        if self._closing:
            raise Unavailable("the server ends", retry_after=AGAIN_SECONDS)
        admitted = Admission(self._db, self.rows, self._active.values(), self._settings()).take(wanted)
        for active, action in admitted.ends:
            self._cancel(active, action)
        for row in admitted.new:
            self._active[row["run_id"]] = Active(Waiting.of(row))
        self._dispatch_soon()
        return admitted.rows

    def is_over(self, run_id: str) -> bool:
        """Whether no more of a run is to come here: it has ended, is gone, or the server ends."""
        return run_id not in self._active or self._closing

    def busy(self, owner: str, thread_id: str) -> bool:
        """Whether a run waits or is worked on on a thread."""
        return any(one.place == (owner, thread_id) for one in self._active.values())

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
            return json_bytes(ROLLED_BACK)
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
        if active is not None and not self._closing:
            self._cancel(active, "interrupt")

    async def cancel_thread(self, owner: str, thread_id: str) -> None:
        """Cancel all runs on a thread, and wait until they have ended."""
        found = [one for one in self._active.values() if one.place == (owner, thread_id)]
        for active in found:
            self._cancel(active, "interrupt")
        for active in found:
            await active.done.wait()

    def _cancel(self, active: Active, action: str) -> None:
        before = active.cancelled
        if before == "rollback" or before == action:
            return
        self.rows.cancel(active.waiting.run_id, action)
        active.cancelled = action
        if before is not None:
            # it ends already: what follows its end sees the action
            return
        if active.task is not None:
            active.task.cancel()
        else:
            asyncio.get_running_loop().call_soon(self._end_of_work, active)

    # ---- the queue

    def _dispatch_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Begin the runs whose turn it is."""
        while not self._closing:
            settings = self._settings()
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
        try:
            self.rows.begin(waiting.run_id)
        except StoreError:
            logger.exception("the run %s cannot begin", waiting.run_id)
            active.waiting = replace(waiting, due=now() + AGAIN_SECONDS)
            return
        self._served[waiting.owner] = max(self._served.values(), default=0) + 1
        self.log.threads[waiting.run_id] = place_of(*active.place)
        active.task = asyncio.create_task(self._work(active))
        # it ends so even when it is cancelled before its first step
        active.task.add_done_callback(lambda task: self._worked(active, task))

    async def _work(self, active: Active) -> None:
        # it needs langgraph
        from benchai.server.agent.work import Work

        row, thread = self.rows.known(active.waiting.run_id), find_thread(self._db, *active.place)
        inner = thread["inner_id"]
        async with turn(inner), self._workshop.bench() as bench:
            if row["base"] is None:
                # known before the graph begins, or the graph has not begun
                self.rows.set_base(row["run_id"], (await bench.threads.base_of(inner)).as_json())
            work = Work(row, thread, self.log, self._db)
            active.outcome = work.outcome
            await work.run(bench)

    # ---- the end of a run

    def _worked(self, active: Active, task: asyncio.Task[None]) -> None:
        """What follows when the work has ended, however it did."""
        error = None if task.cancelled() else task.exception()
        if active.cancelled is None:
            if self._closing:
                # it goes on when the server starts again
                return
            if error is not None and active.outcome is None:
                try:
                    if self._put_back(active, error):
                        return
                except StoreError:
                    logger.exception("the run %s cannot wait", active.waiting.run_id)
            if error is not None or task.cancelled():
                self._broke(active, error or RuntimeError("the work on the run was broken off"))
        self._end_of_work(active)

    def _put_back(self, active: Active, error: BaseException) -> bool:
        """Have a run wait that could not begin for a reason that may pass, such as a database that is not up yet."""
        row = self.rows.get(active.waiting.run_id)
        if row is None or isinstance(error, ConfigError | UsageError):
            return False
        logger.warning("the run %s cannot begin yet: %s", row["run_id"], error)
        self.rows.put_back(row["run_id"])
        active.waiting, active.task = replace(active.waiting, due=now() + AGAIN_SECONDS), None
        self._dispatch_soon()
        return True

    def _broke(self, active: Active, error: BaseException) -> None:
        run_id = active.waiting.run_id
        logger.error("the run %s", run_id, exc_info=error)
        outcome = active.outcome = active.outcome or Outcome()
        outcome.fail(type(error).__name__, error.message if isinstance(error, BenchAIError) else str(error))
        try:
            self.log.append(run_id, "error", json_bytes(outcome.error))
        except StoreError:
            logger.exception("the error of the run %s cannot be kept", run_id)

    def _end_of_work(self, active: Active) -> None:
        """Keep how a run ended; one that is rolled back is undone before."""
        if active.cancelled is not None and active.outcome is not None:
            active.outcome.status, active.outcome.reason, active.outcome.error = "interrupted", "cancelled", None
        outcome = active.outcome
        unknown = outcome is not None and outcome.state is None and outcome.error is None
        if active.cancelled == "rollback" or unknown or (active.cancelled is not None and outcome is not None):
            self._settle(active)
        else:
            self._finish(active)

    def _settle(self, active: Active) -> None:
        """Undo what is rolled back, and look what the thread is at; then keep the end."""
        active.task = asyncio.create_task(self._settled(active))
        active.task.add_done_callback(lambda task: self._is_settled(active, task))

    def _is_settled(self, active: Active, task: asyncio.Task[None]) -> None:
        if self._closing:
            return
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("the end of the run %s", active.waiting.run_id, exc_info=error)
            if active.cancelled == "rollback" and not isinstance(error, ConfigError):
                # half of it may be undone: it has ended when all is
                asyncio.get_running_loop().call_later(DISK_SECONDS, self._settle, active)
                return
        self._finish(active)

    async def _settled(self, active: Active) -> None:
        from benchai.server.agent.work import look, undo

        row = self.rows.get(active.waiting.run_id)
        if row is None:
            return
        inner = find_thread(self._db, *active.place)["inner_id"]
        outcome = active.outcome = active.outcome or Outcome("interrupted", reason="cancelled")
        async with turn(inner), self._workshop.bench() as bench:
            if active.cancelled is not None and row["base"] is not None:
                await undo(bench, row, inner, whole=active.cancelled == "rollback")
            await look(bench, row["graph_id"], inner, outcome)

    def _finish(self, active: Active) -> None:
        """Keep how a run ended, tell who waits, and let the next one begin."""
        run_id, outcome = active.waiting.run_id, active.outcome or Outcome("interrupted", reason="cancelled")
        if run_id not in self._active:
            return
        row = None
        try:
            self.log.flush()
            row = self._keep_end(active, outcome)
        except StoreError:
            # it has ended when that is kept: the next start of the server would do it again
            logger.exception("the end of the run %s cannot be kept", run_id)
            if not self._closing:
                asyncio.get_running_loop().call_later(DISK_SECONDS, self._finish, active)
            return
        except Exception:
            logger.exception("the end of the run %s", run_id)
        del self._active[run_id]
        try:
            if row is not None:
                self._ended(row, outcome)
        except Exception:
            logger.exception("what follows the run %s", run_id)
        active.done.set()
        self.log.wake(run_id)
        self.log.threads.pop(run_id, None)
        self._dispatch_soon()

    def _keep_end(self, active: Active, outcome: Outcome) -> Row | None:
        """The row of the run as it is now; None where it left none."""
        row = self.rows.get(active.waiting.run_id)
        if row is None:
            return None
        others = [one for one in self._active.values() if one.place == active.place and one is not active]
        with self._db.transaction():
            keeps = from_json(row["request"]).get("on_completion") == "keep"
            expires = None if keeps else now() + self._settings().keep_stateless_seconds
            self.rows.end_on_thread(row, outcome, busy=bool(others), expires=expires)
            self.rows.end(row, outcome, active.cancelled)
        return None if active.cancelled == "rollback" else self.rows.known(row["run_id"])
