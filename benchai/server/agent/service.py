"""What the routes of the agent wire stand on."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastapi import Request

from benchai.errors import Conflict as Conflict
from benchai.errors import UnknownItem as UnknownItem
from benchai.errors import Unprocessable as Unprocessable
from benchai.server.agent.database import AgentDatabase, Row
from benchai.server.workshop import Workshop

if TYPE_CHECKING:
    from benchai.server.agent.runs import Runs
    from benchai.server.agent.webhooks import Webhooks


@dataclass(frozen=True)
class AgentService:
    """The parts; ``workshop`` opens the bench that holds the workflows."""

    database: AgentDatabase
    workshop: Workshop
    runs: Runs
    webhooks: Webhooks

    def check_thread(self, owner: str, thread_id: str) -> Row:
        """The row of an owner's thread.

        Raises:
            UnknownItem: there is none.
        """
        found = self.database.one("SELECT * FROM threads WHERE owner = ? AND thread_id = ?", (owner, thread_id))
        if found is None:
            raise UnknownItem(f"there is no thread {thread_id[:100]!r}")
        return found


def owner_of(request: Request) -> str:
    """Whose request it is: the name of the API key, "" where there are no keys."""
    return str(request.scope.get("state", {}).get("key", ""))


def check_uuid(value: str, what: str) -> str:
    """An id in its usual form.

    Raises:
        Unprocessable: it is no UUID.
    """
    try:
        return str(uuid.UUID(value))
    except ValueError:
        shown = value if len(value) <= 100 else f"{value[:100]}..."
        raise Unprocessable(f"the {what} {shown!r} is no UUID") from None


def iso(seconds: float | None) -> str | None:
    """Seconds since the epoch as the wire writes a time."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def now() -> float:
    """Seconds since the epoch."""
    return time.time()


def selected(data: dict[str, Any], fields: list[str] | None) -> dict[str, Any]:
    """The fields of an object that were asked for; all where none are named."""
    return data if not fields else {name: data[name] for name in fields if name in data}
