"""The journal of a thread's calls with side effects: that they began, and how they ended.

It outlives the process: a run that goes on after a kill does not make a call a second time.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable

import aiosqlite

from benchai.tools.tool import ToolResult

TABLE = """
CREATE TABLE IF NOT EXISTS benchai_calls (
    thread_id TEXT NOT NULL,
    call_id TEXT NOT NULL,
    began REAL NOT NULL,
    ok INTEGER,
    result TEXT,
    PRIMARY KEY (thread_id, call_id)
);
"""
KEPT_CHARS = 1_000_000
UNSURE = "Error: the run was interrupted while this ran. It may have taken effect: look before you call it again"


async def closed(statement: Awaitable[aiosqlite.Cursor]) -> None:
    """Run a statement and close its cursor in the connection's thread: the loop's would disturb the next statement."""
    await (await statement).close()


class Calls:
    """The journal of one thread."""

    def __init__(self, connection: aiosqlite.Connection, thread_id: str) -> None:
        self._db = connection
        self._thread_id = thread_id

    async def known(self, key: str) -> ToolResult | None:
        """The result of a call that began before, or the doubt about it; None for one that did not."""
        query = "SELECT ok, result FROM benchai_calls WHERE thread_id = ? AND call_id = ?"
        rows = list(await self._db.execute_fetchall(query, (self._thread_id, key)))
        if not rows:
            return None
        ok, result = rows[0]
        return ToolResult(ok=False, text=UNSURE) if ok is None else ToolResult(ok=bool(ok), text=str(result))

    async def begin(self, key: str) -> ToolResult | None:
        """Note that a call begins; what is known of it when it began before."""
        known = await self.known(key)
        if known is None:
            row = (self._thread_id, key, time.time())
            await closed(self._db.execute("INSERT INTO benchai_calls VALUES (?, ?, ?, NULL, NULL)", row))
        return known

    async def end(self, key: str, result: ToolResult) -> None:
        """Note how a call ended."""
        await closed(
            self._db.execute(
                "UPDATE benchai_calls SET ok = ?, result = ? WHERE thread_id = ? AND call_id = ?",
                (result.ok, result.text[:KEPT_CHARS], self._thread_id, key),
            )
        )
