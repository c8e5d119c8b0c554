"""The journal of a thread's calls with side effects: that they began, and how they ended.

It outlives the process: a run that goes on after a kill does not make a call a second time.
"""

from __future__ import annotations

import time

from benchai.graphs.database import Database
from benchai.tools.tool import ToolResult

KEPT_CHARS = 1_000_000
UNSURE = "Error: the run was interrupted while this ran. It may have taken effect: look before you call it again"


class Calls:
    """The journal of one thread."""

    def __init__(self, database: Database, thread_id: str) -> None:
        self._db = database
        self._thread_id = thread_id

    async def known(self, key: str) -> ToolResult | None:
        """The result of a call that began before, or the doubt about it; None for one that did not."""
        query = "SELECT ok, result FROM benchai_calls WHERE thread_id = ? AND call_id = ?"
        rows = await self._db.read(query, (self._thread_id, key))
        if not rows:
            return None
        ok, result = rows[0]
        return ToolResult(ok=False, text=UNSURE) if ok is None else ToolResult(ok=bool(ok), text=str(result))

    async def begin(self, key: str) -> ToolResult | None:
        """Note that a call begins; what is known of it when it began before."""
        known = await self.known(key)
        if known is None:
            row = (self._thread_id, key, time.time())
            await self._db.write(self._thread_id, "INSERT INTO benchai_calls VALUES (?, ?, ?, NULL, NULL)", row)
        return known

    async def end(self, key: str, result: ToolResult) -> None:
        """Note how a call ended."""
        await self._db.write(
            self._thread_id,
            "UPDATE benchai_calls SET ok = ?, result = ? WHERE thread_id = ? AND call_id = ?",
            (result.ok, result.text[:KEPT_CHARS], self._thread_id, key),
        )
