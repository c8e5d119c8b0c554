"""Runs that have not ended, and runs that are asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from benchai.server.agent.assistants import Assistant
from benchai.server.agent.outcome import Outcome
from benchai.server.agent.queue import Waiting
from benchai.server.agent.requests import RunBody


@dataclass(eq=False)
class Active:
    """A run that waits or is worked on.

    Attributes:
        waiting: What the queue knows of it.
        done: Set when it has ended, and that is kept.
        task: What works on it.
        cancelled: How it is cancelled: "interrupt" or "rollback".
        outcome: What is known of its end; None while its work has not begun.
    """

    waiting: Waiting
    done: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    cancelled: str | None = None
    outcome: Outcome | None = None

    @property
    def place(self) -> tuple[str, str]:
        """Its thread: owner and id."""
        return self.waiting.owner, self.waiting.thread_id


@dataclass(frozen=True)
class Wanted:
    """A run that is asked for; without a thread it gets one of its own. ``key`` is its idempotency key."""

    owner: str
    thread_id: str | None
    assistant: Assistant
    body: RunBody
    key: str | None = None
    digest: bytes = b""
