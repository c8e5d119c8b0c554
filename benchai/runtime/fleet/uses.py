"""Who uses a model now."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field


@dataclass
class Uses:
    """Who uses a model: leases by role, and when the last one ended (monotonic seconds)."""

    by_role: dict[str, int] = field(default_factory=dict)
    last: float = field(default_factory=time.monotonic)
    served: int = 0
    nobody: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.nobody.set()

    @property
    def total(self) -> int:
        """Leases held now."""
        return sum(self.by_role.values())

    def add(self, role: str) -> None:
        """A lease begins."""
        self.by_role[role] = self.by_role.get(role, 0) + 1
        self.served += 1
        self.nobody.clear()

    def remove(self, role: str) -> None:
        """A lease ends."""
        self.by_role[role] -= 1
        self.last = time.monotonic()
        if not self.total:
            self.nobody.set()
