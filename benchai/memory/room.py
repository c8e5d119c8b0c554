"""Whether a disk is full or read-only: not all that fail for it say so."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

#: Bytes below which a disk is called full when writing has failed.
ROOM = 1 << 20


def room_left(folder: Path) -> int | None:
    """Bytes that are free on the disk of a folder; None where nobody can tell."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free
    return None


def has_no_room(folder: Path) -> bool:
    """Whether the disk of a folder has less than 1 MiB left; False where nobody can tell."""
    free = room_left(folder)
    return free is not None and free < ROOM


def is_read_only(*paths: Path) -> bool:
    """Whether one of these is there and can't be written, by its permissions or those of its disk."""
    return any(path.exists() and not os.access(path, os.W_OK) for path in paths)
