"""Where a user's state lives: the platform's user folders, or all of it under BENCHAI_HOME."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import platformdirs

#: The memory's SQLite file, in its folder.
MEMORY_FILE = "memory.sqlite"


def _home() -> Path | None:
    home = os.environ.get("BENCHAI_HOME")
    return expand(home).resolve() if home else None


def expand(path: str | Path) -> Path:
    """``~`` written out; a user who is not there leaves it as it stands."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_file(path: Path) -> bool:
    """Whether a file is there; False for a path that cannot be (too long, a NUL in it)."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises there


def is_dir(path: Path) -> bool:
    """Whether a folder is there; False for a path that cannot be."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises there


def replace_text(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a whole file, its folder too, so that a reader never sees half of it.

    Raises:
        OSError: it can't be written; what was there is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    try:
        partial.unlink(missing_ok=True)
        # made anew, so that nobody else holds it open when it is for this user alone
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as opened:
            opened.write(text)
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def make_like(descriptor: int, before: os.stat_result) -> None:
    """Give an open file the owner, where that may be done, and the mode of the file whose place it is to take."""
    if hasattr(os, "fchown"):
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, before.st_uid, before.st_gid)
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, before.st_mode & 0o777)


def config_dir() -> Path:
    """The folder of the user's benchai.yaml."""
    return _home() or platformdirs.user_config_path("benchai", appauthor=False)


def data_dir() -> Path:
    """Threads, models and memory: what must not be lost."""
    home = _home()
    return home / "data" if home else platformdirs.user_data_path("benchai", appauthor=False)


def cache_dir() -> Path:
    """Saved KV caches: what can be made anew."""
    home = _home()
    return home / "cache" if home else platformdirs.user_cache_path("benchai", appauthor=False)


def state_dir() -> Path:
    """Who runs what at this moment."""
    home = _home()
    return home / "state" if home else platformdirs.user_state_path("benchai", appauthor=False)


def log_dir() -> Path:
    """Logs of the models."""
    home = _home()
    return home / "logs" if home else platformdirs.user_log_path("benchai", appauthor=False)


def threads_file() -> Path:
    """The SQLite file of the thread checkpoints."""
    return data_dir() / "threads.sqlite"


def models_dir() -> Path:
    """Where relative model files are looked for, after the folder of benchai.yaml."""
    return data_dir() / "models"
