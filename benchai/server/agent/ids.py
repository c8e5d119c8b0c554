"""Ids of the wire: UUIDs of version 7, which sort by time."""

from __future__ import annotations

import secrets
import time
import uuid


def new_id() -> str:
    """A new id."""
    moment = time.time_ns() // 1_000_000
    bits = (moment << 80) | (7 << 76) | (secrets.randbits(12) << 64) | (0b10 << 62) | secrets.randbits(62)
    return str(uuid.UUID(int=bits))
