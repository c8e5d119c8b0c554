"""Unit tests start no process and open no connection: an audit hook holds them to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

FORBIDDEN = {"subprocess.Popen", "os.posix_spawn", "os.fork", "socket.connect"}
_active = False


def _refuse(event: str, args: tuple[object, ...]) -> None:
    if _active and event in FORBIDDEN:
        raise RuntimeError(f"a unit test may not do this: {event} {args!r}")


sys.addaudithook(_refuse)


@pytest.fixture(autouse=True)
def no_process_no_network(nothing_left_behind: None) -> Iterator[None]:
    """Refuse processes and connections for the time of one test."""
    global _active
    _active = True
    yield
    _active = False
