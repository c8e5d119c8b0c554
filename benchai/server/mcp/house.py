"""What the MCP server shows, and where it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchai.bench import Bench
    from benchai.graphs.memories import Memories
    from benchai.runtime.usage.row import UsageRow


@dataclass(frozen=True)
class House:
    """What the MCP server stands on.

    Attributes:
        bench: Hands out the bench that runs the workflows, for as long as the context is open.
        memories: Hands out the memory.
        record: Takes a usage row for each run; None where each call of a model leaves its own.
    """

    bench: Callable[[], AbstractAsyncContextManager[Bench]]
    memories: Memories
    record: Callable[[UsageRow], None] | None = None


def inner_id(thread: str, owner: str) -> str:
    """The id of a thread among the checkpoints: no key finds a thread of another one."""
    return f"{thread}@{owner}" if owner else thread
