"""Whether a run can be made, and its row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from benchai.config.agent import AgentConfig
from benchai.errors import QueueFull
from benchai.server.agent.active import Active, Wanted
from benchai.server.agent.database import AgentDatabase, Row, from_json
from benchai.server.agent.queue import Waiting, begins_at_once
from benchai.server.agent.requests import RunBody, are_interrupts, merged
from benchai.server.agent.run_rows import RunRows
from benchai.server.agent.service import Conflict, UnknownItem, Unprocessable, now
from benchai.server.agent.thread_rows import find_thread, insert_thread

RETRY_SECONDS = 5.0


@dataclass
class Admitted:
    """Runs that were taken in: all rows, those that are new, and the runs whose place they take."""

    rows: list[Row] = field(default_factory=list)
    new: list[Row] = field(default_factory=list)
    ends: list[tuple[Active, str]] = field(default_factory=list)


class Admission:
    """Takes in runs that are asked for together, all or none; nothing awaits meanwhile."""

    def __init__(
        self, database: AgentDatabase, rows: RunRows, active: Collection[Active], settings: AgentConfig
    ) -> None:
        self._db = database
        self._rows = rows
        self._active = active
        self._settings = settings
        self._admitted = Admitted()

    def take(self, wanted: Sequence[Wanted]) -> Admitted:
        """Keep them.

        Raises:
            UnknownItem: there is no such thread.
            Conflict: a thread is busy or awaits no decision, or an idempotency key was used for another request.
            Unprocessable: a thread is another workflow's.
            QueueFull: too many runs wait.
            StoreError: they cannot be kept.
        """
        with self._db.transaction():
            for one in wanted:
                self._take(one)
        return self._admitted

    def _take(self, wanted: Wanted) -> None:
        if (known := self._known(wanted)) is not None:
            self._admitted.rows.append(known)
            return
        body = merged(wanted.assistant.as_json(), wanted.body)
        thread = self._thread(wanted)
        self._check(wanted, thread, body)
        key = (wanted.key, wanted.digest) if wanted.key is not None else None
        row = self._rows.insert(thread, wanted.assistant.assistant_id, wanted.assistant.graph_id, body, key)
        self._admitted.rows.append(row)
        self._admitted.new.append(row)

    def _known(self, wanted: Wanted) -> Row | None:
        """The run that the same request has made before."""
        found = self._rows.of_key(wanted.owner, wanted.key) if wanted.key is not None else None
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

    def _check(self, wanted: Wanted, thread: Row, body: RunBody) -> None:
        """Refuse what the thread, or the server, is not ready for; note what it takes the place of."""
        graph = thread["graph_id"]
        if graph is not None and graph != wanted.assistant.graph_id:
            raise Unprocessable(
                f"the thread {thread['thread_id']!r} belongs to the workflow {graph!r},"
                f" not {wanted.assistant.graph_id!r}",
                hint="make a new thread",
            )
        place = thread["owner"], thread["thread_id"]
        busy = [one for one in self._active if one.place == place]
        _check_decision(thread, busy, body)
        if busy and body.multitask_strategy == "reject":
            hint = 'wait for it, or choose another "multitask_strategy"'
            raise Conflict(f"a run is under way on the thread {thread['thread_id']!r}", hint=hint)
        self._check_queue(wanted.owner, thread["thread_id"], body)
        if body.multitask_strategy in ("interrupt", "rollback"):
            self._admitted.ends += [(one, body.multitask_strategy) for one in busy]

    def _check_queue(self, owner: str, thread_id: str, body: RunBody) -> None:
        settings = self._settings
        new = [Waiting.of(row) for row in self._admitted.new]
        waiting = [*(one.waiting for one in self._active if one.task is None), *new]
        if len(waiting) < settings.queue:
            return
        time = now()
        wanted = Waiting("", owner, thread_id, body.config.priority, time + (body.after_seconds or 0.0), time)
        working = [one.waiting for one in self._active if one.task is not None]
        if not begins_at_once(wanted, waiting, working, settings.concurrency, settings.per_key):
            raise QueueFull(f"{len(waiting)} runs wait already (agent.queue)", retry_after=RETRY_SECONDS)


def _check_decision(thread: Row, busy: Sequence[Active], body: RunBody) -> None:
    """A decision takes effect once, and a run that brings nothing goes on with something.

    Raises:
        Conflict: the thread awaits no such decision, or was given one already; or it awaits one and is given none.
    """
    named, interrupts = f"the thread {thread['thread_id']!r}", from_json(thread["interrupts"])
    resume = body.command.resume if body.command is not None else None
    if resume is None:
        nothing = body.command is None and body.input is None and body.begins_at is None and not busy
        if nothing and interrupts:
            raise Conflict(f"{named} awaits a decision", hint='send "command": {"resume": ...}')
        if nothing and thread["status"] == "idle":
            raise Conflict(f"{named} is at its end: there is nothing to go on with", hint='send an "input"')
        return
    if busy:
        raise Conflict(f"{named} is busy: a decision was given already, or none is awaited")
    if not interrupts:
        hint = "a decision takes effect once; the thread's state tells what it is at"
        raise Conflict(f"{named} awaits no decision", hint=hint)
    ids = {one["id"] for found in interrupts.values() for one in found}
    if are_interrupts(resume) and not resume.keys() <= ids:
        others = ", ".join(sorted(resume.keys() - ids))
        raise Conflict(f"{named} awaits no decision on {others}", hint=f"it awaits one on {', '.join(sorted(ids))}")
