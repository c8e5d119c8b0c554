"""How a run ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchai.events import Usage


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        status: Of the run: "success", "error", "timeout" or "interrupted".
        result: The graph's output as JSON; None where it never had one.
        error: ``{"error": class, "message": text}`` where it failed.
        state: The thread's state as JSON.
        interrupts: What the thread waits for, by task.
        open: Whether the graph has more to do.
        reason: Why it stopped, in BenchAI's words (see ``events.StopReason``).
        usage: Tokens.
        refused: Whether nothing of it was run.
    """

    status: str = "success"
    result: bytes | None = None
    error: dict[str, str] | None = None
    state: bytes | None = None
    interrupts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    open: bool = False
    reason: str = "completed"
    usage: Usage = field(default_factory=Usage)
    refused: bool = False

    def fail(self, kind: str, message: str, reason: str = "error") -> None:
        """It failed."""
        self.status, self.reason, self.error = "error", reason, {"error": kind, "message": message}

    @property
    def thread_status(self) -> str:
        """What its thread is afterwards."""
        if self.status in ("error", "timeout") and not self.refused:
            return "error"
        return "interrupted" if self.open else "idle"
