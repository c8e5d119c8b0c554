"""Where else what was forgotten may stand: kept replies go at once, the rest is looked through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchai.config import paths
from benchai.runtime.router.cache import clearing, overview

if TYPE_CHECKING:
    from benchai.memory.careful import Place


def forget_replies() -> int:
    """Delete all kept replies: which of them say what was forgotten cannot be told. How many there were.

    Raises:
        BenchAIError: another process holds their file, or it can't be written.
    """
    return clearing.clear(overview.file())


def places() -> list[Place]:
    """Files and folders of the user's that may hold what was said."""
    from benchai.memory.careful import Place

    known = {
        "threads (benchai threads delete)": paths.threads_file(),
        "results of tools": paths.data_dir() / "results",
        "usage (benchai stats purge)": paths.data_dir() / "usage.sqlite",
        "replies": overview.file().parent,
        "logs": paths.log_dir(),
    }
    return [Place(name=name, path=str(path)) for name, path in known.items() if path.exists()]
