"""Which process holds a lock in PostgreSQL: its session is called by the process.

Who finds a lock taken by a process that lives need not wait for the server to notice that the holder has died.
"""

from __future__ import annotations

import os

from benchai.runtime.fleet.state import ProcessId

PROGRAM = "benchai"


def own_name() -> str:
    """What the sessions of this process are called: the program, the pid, and when it started (seconds)."""
    own = ProcessId.of(os.getpid())
    return PROGRAM if own is None else f"{PROGRAM} {own.pid} {own.started:.2f}"


def is_another_alive(name: str | None) -> bool:
    """Whether a session is certain to be of another process of this machine that runs.

    A session of this very process may be one that it has lost, which ends; one of another machine is not known.
    """
    program, _, rest = (name or "").partition(" ")
    pid, _, started = rest.partition(" ")
    try:
        process = ProcessId(int(pid), float(started))
    except ValueError:
        return False
    return program == PROGRAM and process.pid != os.getpid() and process.runs
