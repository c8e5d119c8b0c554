"""Process groups: an engine and whatever it starts share one, named by the engine's pid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

import psutil

POLL_SECONDS = 0.02
GONE_SECONDS = 5.0


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal every process of a group; nothing where there is none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


async def group_gone(pid: int) -> bool:
    """Wait, after SIGKILL, until a group holds no process that still runs.

    False when one is left after some seconds, as one that hangs in a driver would be.
    """
    deadline = time.monotonic() + GONE_SECONDS
    while living_members(pid):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


def living_members(pid: int) -> list[int]:
    """The pids of a group, zombies left out: nobody may be there to reap those."""
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return []
    return [one for one in psutil.pids() if _group_of(one) == pid and _runs(one)]


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
