"""A note in a folder of vectors that it was left in order: after a crash, or a change by others, it does not hold."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from benchai.config import paths

NAME = "closed.json"


def write(folder: Path) -> None:
    """Note that the folder was left as it stands now; without the note it is looked at more closely next time."""
    with contextlib.suppress(OSError):
        paths.replace_text(folder / NAME, json.dumps(_looks(folder)), mode=0o600)


def remove(folder: Path) -> None:
    """From now on the folder is in use."""
    with contextlib.suppress(OSError):
        (folder / NAME).unlink()


def holds(folder: Path) -> bool:
    """Whether the folder was left in order, and nobody changed a file of it since."""
    try:
        return bool(json.loads((folder / NAME).read_text(encoding="utf-8")) == _looks(folder))
    except (OSError, ValueError):
        return False


def _looks(folder: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for at, _, names in os.walk(folder):
        for name in names:
            path = Path(at, name)
            if name not in (NAME, "closed.partial"):
                status = path.stat()
                found[path.relative_to(folder).as_posix()] = [status.st_size, status.st_mtime_ns]
    return found
