"""The rows of runs, and what they leave in those of their threads."""

from __future__ import annotations

from typing import Any

from benchai.server.agent.database import AgentDatabase, Row, as_json, from_json
from benchai.server.agent.ids import new_id
from benchai.server.agent.outcome import Outcome
from benchai.server.agent.requests import RunBody
from benchai.server.agent.service import UnknownItem, iso, now
from benchai.server.agent.shapes import json_bytes

#: All but the result, which may be large.
COLUMNS = (
    "run_id, owner, thread_id, assistant_id, graph_id, created, updated, status, strategy, metadata, request, priority,"
    " attempt, due, base, error, cancel_reason, hook"
)
RUN = f"SELECT {COLUMNS} FROM runs"  # noqa: S608 - nothing of a client's is in it
#: Statuses of runs that have not ended.
IN_USE = "('pending', 'running')"


class RunRows:
    """The table of the runs."""

    def __init__(self, database: AgentDatabase) -> None:
        self._db = database

    def unended(self) -> list[Row]:
        """Runs that wait or were worked on when the server ended, the oldest first."""
        return self._db.read(f"{RUN} WHERE status IN {IN_USE} ORDER BY created, rowid")

    def get(self, run_id: str) -> Row | None:
        """A run by its id alone, whoever owns it."""
        return self._db.one(f"{RUN} WHERE run_id = ?", (run_id,))

    def known(self, run_id: str) -> Row:
        """A run that is there."""
        found = self.get(run_id)
        assert found is not None, run_id
        return found

    def find(self, owner: str, thread_id: str, run_id: str) -> Row:
        """A run of an owner's thread.

        Raises:
            UnknownItem: there is none.
        """
        found = self._db.one(
            f"{RUN} WHERE run_id = ? AND owner = ? AND thread_id = ?",
            (run_id, owner, thread_id),
        )
        if found is None:
            raise UnknownItem(f"there is no run {run_id!r} on the thread {thread_id!r}")
        return found

    def of_key(self, owner: str, key: str) -> tuple[bytes, Row | None] | None:
        """What an idempotency key was used for: the request's digest, and its run unless that was deleted."""
        query = "SELECT digest, run_id FROM keys_of_requests WHERE owner = ? AND key = ?"
        found = self._db.one(query, (owner, key))
        return None if found is None else (found["digest"], self.get(found["run_id"]))

    def insert(
        self, thread: Row, assistant_id: str, graph_id: str, body: RunBody, key: tuple[str, bytes] | None
    ) -> Row:
        """Make a run on a thread, which is busy from now on; ``key`` is an idempotency key and the request's digest."""
        run_id, time, owner, thread_id = new_id(), now(), thread["owner"], thread["thread_id"]
        marks = {"graph_id": graph_id, "assistant_id": assistant_id}
        request, metadata = json_bytes(body.model_dump(exclude_none=True)), {**body.metadata, **marks}
        due, hook = time + (body.after_seconds or 0.0), "due" if body.webhook else None
        self._db.write(
            "INSERT INTO runs (run_id, owner, thread_id, assistant_id, graph_id, created, updated, status, strategy,"
            " metadata, request, priority, due, hook) VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?, ?, ?, ?)",
            (run_id, owner, thread_id, assistant_id, graph_id, time, time, body.multitask_strategy,
             json_bytes(metadata).decode(), request.decode(), body.config.priority, due, hook),
        )  # fmt: skip
        if key is not None:
            self._db.write("INSERT INTO keys_of_requests VALUES (?, ?, ?, ?, ?)", (owner, *key, run_id, time))
        self._db.write(
            "UPDATE threads SET status = 'busy', updated = ?, graph_id = ?, metadata = json_patch(metadata, ?)"
            " WHERE owner = ? AND thread_id = ?",
            (time, graph_id, as_json(marks), owner, thread_id),
        )
        return self.known(run_id)

    def begin(self, run_id: str) -> None:
        """Note that an attempt at a run begins."""
        query = "UPDATE runs SET status = 'running', attempt = attempt + 1, updated = ? WHERE run_id = ?"
        self._db.write(query, (now(), run_id))

    def put_back(self, run_id: str | None = None) -> None:
        """A run waits again; without an id all that the server's end broke off."""
        # one that could not begin has not been tried
        self._db.write(
            "UPDATE runs SET status = 'pending', attempt = CASE WHEN ? IS NULL THEN attempt ELSE attempt - 1 END"
            " WHERE status = 'running' AND (? IS NULL OR run_id = ?)",
            (run_id, run_id, run_id),
        )

    def cancel(self, run_id: str, action: str) -> None:
        """Note that a run is cancelled: that outlives the server, too."""
        self._db.write("UPDATE runs SET cancel_reason = ? WHERE run_id = ?", (action, run_id))

    def set_base(self, run_id: str, base: str) -> None:
        """Note what a roll back goes back to."""
        self._db.write("UPDATE runs SET base = ? WHERE run_id = ?", (base, run_id))

    def result(self, run_id: str) -> bytes | None:
        """The result of a run that has ended, as its client gets it; None where there is no such run."""
        # one that never began leaves its thread's state
        query = (
            "SELECT COALESCE(result, state, '{}') AS result, runs.error FROM runs JOIN threads USING (owner, thread_id)"
            " WHERE run_id = ?"
        )
        row = self._db.one(query, (run_id,))
        if row is None:
            return None
        if row["error"] is not None:
            return b'{"__error__":%b}' % row["error"].encode()
        return str(row["result"]).encode()

    def end(self, row: Row, outcome: Outcome, cancelled: str | None) -> None:
        """Note how a run ended; one that is rolled back leaves nothing."""
        if cancelled == "rollback":
            self.delete(row["run_id"])
            return
        metadata = {**from_json(row["metadata"]), "stop_reason": outcome.reason}
        self._db.write(
            "UPDATE runs SET status = ?, updated = ?, result = ?, error = ?, cancel_reason = ?, metadata = ?"
            " WHERE run_id = ?",
            (outcome.status, now(), _text(outcome.result), _text(outcome.error and json_bytes(outcome.error)),
             cancelled, as_json(metadata), row["run_id"]),
        )  # fmt: skip

    def end_on_thread(self, row: Row, outcome: Outcome, *, busy: bool, expires: float | None) -> None:
        """Note what a run left its thread at.

        Args:
            row: The run.
            outcome: How it ended.
            busy: Whether another one waits on the thread.
            expires: When the thread is to be deleted, where it is that of this run alone.
        """
        place = row["owner"], row["thread_id"]
        error = _text(outcome.error and json_bytes(outcome.error)) if not outcome.refused else None
        if outcome.state is None and error is None:
            self._never_began(place, busy=busy, expires=expires)
            return
        self._db.write(
            "UPDATE threads SET status = ?, updated = ?, state_updated = ?, state = COALESCE(?, state),"
            " interrupts = COALESCE(?, interrupts), error = ?,"
            " expires = CASE WHEN hidden AND ? IS NOT NULL THEN ? ELSE expires END"
            " WHERE owner = ? AND thread_id = ?",
            ("busy" if busy else outcome.thread_status, now(), now(), _text(outcome.state),
             json_bytes(outcome.interrupts).decode() if outcome.state is not None else None,
             error,
             expires, expires, *place),
        )  # fmt: skip

    def _never_began(self, place: tuple[str, str], *, busy: bool, expires: float | None) -> None:
        """A run that waited was cancelled: its thread is what it was, unless another run waits."""
        self._db.write(
            "UPDATE threads SET updated = ?, expires = CASE WHEN hidden AND ? IS NOT NULL THEN ? ELSE expires END,"
            " status = CASE WHEN ? THEN 'busy'"
            " WHEN interrupts != '{}' THEN 'interrupted' WHEN error IS NOT NULL THEN 'error' ELSE 'idle' END"
            " WHERE owner = ? AND thread_id = ?",
            (now(), expires, expires, busy, *place),
        )

    def delete(self, run_id: str) -> None:
        """Delete a run with its events."""
        with self._db.transaction():
            self._db.write("DELETE FROM events WHERE run_id = ?", (run_id,))
            self._db.write("DELETE FROM runs WHERE run_id = ?", (run_id,))


def _text(data: bytes | dict[str, str] | None) -> str | None:
    return data.decode() if isinstance(data, bytes) else None


def run_json(row: Row) -> dict[str, Any]:
    """A run as the wire shows it."""
    return {
        "run_id": row["run_id"],
        "thread_id": row["thread_id"],
        "assistant_id": row["assistant_id"],
        "created_at": iso(row["created"]),
        "updated_at": iso(row["updated"]),
        "status": row["status"],
        "metadata": from_json(row["metadata"]),
        "kwargs": from_json(row["request"]),
        "multitask_strategy": row["strategy"],
        "cancel_reason": row["cancel_reason"],
    }
