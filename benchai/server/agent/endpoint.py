"""The agent endpoint of a server: its parts, opened and closed with it, and the upkeep of what it holds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from benchai.config import LoadedConfig, paths
from benchai.config.agent import AgentConfig
from benchai.runtime.usage.row import OK, UsageRow
from benchai.runtime.usage.row import new_id as new_row_id
from benchai.server.agent.database import AgentDatabase, Row, from_json, open_agent_database
from benchai.server.agent.outcome import Outcome
from benchai.server.agent.run_rows import IN_USE, RUN, run_json
from benchai.server.agent.runs import Runs
from benchai.server.agent.service import AgentService, iso
from benchai.server.agent.webhooks import Webhooks
from benchai.server.workshop import Workshop

logger = logging.getLogger(__name__)
FILE = "agent.sqlite"
SWEEP_SECONDS = 30.0
#: Webhooks under way at most; others wait for the next sweep.
MOST_DELIVERIES = 500
KEYS_SECONDS = 24 * 3600.0
#: The HTTP status that stands for a run's end in its usage row.
STATUS = {"success": 200, "interrupted": 499, "timeout": 504}


class AgentEndpoint:
    """Open it while the workshop is: ``async with AgentEndpoint(...) as endpoint``.

    Args:
        workshop: Opens the bench that runs workflows.
        loaded: The configuration as it is now.
        record: Takes the usage row of each run.

    Raises:
        StoreError: the database cannot be opened.
        ConfigError: the secret of the webhooks is not there.
    """

    def __init__(
        self, workshop: Workshop, loaded: Callable[[], LoadedConfig], record: Callable[[UsageRow], None]
    ) -> None:
        self._workshop = workshop
        self._loaded = loaded
        self._record = record
        self._delivering: set[str] = set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            file, durable = paths.data_dir() / FILE, self._loaded().config.threads.durable
            self._db: AgentDatabase = stack.enter_context(open_agent_database(file, durable))
            self._webhooks = await stack.enter_async_context(Webhooks(self._settings(), self._delivered))
            self._runs = Runs(self._db, self._workshop, self._settings, self._ended)
            stack.push_async_callback(self._runs.close)
            self.service = AgentService(self._db, self._workshop, self._runs, self._webhooks)
            self._stack = stack.pop_all()
        self._deliver_again()
        self._runs.start()
        self._sweeping = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sweeping.cancel()
        await asyncio.gather(self._sweeping, return_exceptions=True)
        await self._stack.aclose()

    async def break_off(self) -> None:
        """The server ends: runs go on when it starts again, and who waits for them is let go."""
        await self._runs.close()

    def prepare(self, loaded: LoadedConfig) -> Callable[[], None]:
        """Check what another configuration asks for; returns what takes it.

        Raises:
            ConfigError: the secret of the webhooks is not there.
        """
        Webhooks(loaded.config.agent, lambda *_: None)
        return lambda: self._webhooks.apply(loaded.config.agent)

    def _settings(self) -> AgentConfig:
        return self._loaded().config.agent

    # ---- what follows a run

    def _ended(self, row: Row, outcome: Outcome) -> None:
        self._record(_usage(row, outcome))
        if row["hook"] == "due":
            self._deliver(row)

    def _deliver(self, row: Row) -> None:
        if len(self._delivering) >= MOST_DELIVERIES or row["run_id"] in self._delivering:
            # it stays due
            return
        self._delivering.add(row["run_id"])
        result = self._db.one("SELECT result FROM runs WHERE run_id = ?", (row["run_id"],))
        values = from_json(result["result"]) if result is not None else None
        payload: dict[str, Any] = {**run_json(row), "values": values, "webhook_sent_at": iso(time.time())}
        if row["error"] is not None:
            payload["error"] = from_json(row["error"])
        self._webhooks.submit(row["run_id"], from_json(row["request"])["webhook"], payload)

    def _delivered(self, run_id: str, ok: bool, why: str) -> None:
        self._delivering.discard(run_id)
        if not ok:
            logger.warning("the webhook of the run %s was not delivered: %s", run_id, why)
        self._db.write("UPDATE runs SET hook = ? WHERE run_id = ?", ("delivered" if ok else f"failed: {why}", run_id))

    def _deliver_again(self) -> None:
        """Deliver what the last end of the server left undelivered, or what was too much at once."""
        query = f"{RUN} WHERE hook = 'due' AND status NOT IN {IN_USE} ORDER BY updated LIMIT ?"
        for row in self._db.read(query, (MOST_DELIVERIES,)):
            self._deliver(row)

    # ---- upkeep

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self._sweep_once()
            except Exception as error:
                logger.warning("what has expired cannot be deleted: %s", error)

    async def _sweep_once(self) -> None:
        now = time.time()
        self._deliver_again()
        self._runs.log.forget(self._settings().keep_events_hours)
        self._db.write("DELETE FROM keys_of_requests WHERE created < ?", (now - KEYS_SECONDS,))
        self._db.write("DELETE FROM items WHERE expires <= ?", (now,))
        # it needs langgraph, but so did what has expired
        from benchai.server.agent.threads import delete_expired

        if self._db.one("SELECT 1 FROM threads WHERE expires < ?", (now,)) is not None:
            await delete_expired(self.service)


def _usage(row: Row, outcome: Outcome) -> UsageRow:
    usage, failed = outcome.usage, outcome.error["error"] if outcome.error else None
    cancelled = "cancelled" if outcome.status == "interrupted" else None
    return UsageRow(
        id=new_row_id(),
        request_id=row["run_id"],
        time=row["created"],
        key=row["owner"] or None,
        session=row["thread_id"],
        asked=f"workflow:{row['graph_id']}"[:200],
        workflow=row["graph_id"][:200],
        tokens_in=usage.prompt_tokens or None,
        tokens_out=usage.completion_tokens or None,
        total_s=max(time.time() - row["created"], 0.0),
        outcome=failed or cancelled or OK,
        status=STATUS.get(outcome.status, 500),
    )
