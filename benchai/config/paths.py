"""Where a user's state lives: the platform's user folders, or all of it under BENCHAI_HOME."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from pathlib import Path

import platformdirs

#: The memory's SQLite file, in its folder.
MEMORY_FILE = "memory.sqlite"
_PRIVATE = 0o600
_DATABASES = (".sqlite", ".sqlite3", ".db")
_COMPANIONS = ("wal", "shm", "journal")
# what one thread makes is closed before another connects to it
_making = threading.Lock()


def _home() -> Path | None:
    home = os.environ.get("BENCHAI_HOME")
    return expand(home).resolve() if home else None


def expand(path: str | Path) -> Path:
    """``~`` written out; a user who is not there leaves it as it stands."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_file(path: str | Path) -> bool:
    """Whether a file is there; False for a path that cannot be (too long, a NUL in it)."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises there


def is_dir(path: Path) -> bool:
    """Whether a folder is there; False for a path that cannot be."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises there


def replace_text(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a whole file of BenchAI's own, its folder too, so that a reader never sees half of it.

    One process at a time may write it; see ``replace_file`` for files in folders of the user's.

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


def replace_file(path: Path, text: str) -> None:
    """Write a whole file in a folder of the user's, so that a reader never sees half of it, nor a crash leaves half.

    A link stays one, a file that was there keeps its owner and mode, and no other file is touched.

    Raises:
        OSError: it can't be written; what was there is still there.
    """
    real = path.resolve()
    if real.exists() and not is_file(real):
        # a device or a pipe is written to, never replaced; a folder refuses
        real.write_bytes(text.encode("utf-8"))
        return
    real.parent.mkdir(parents=True, exist_ok=True)
    # of a name of its own: another change may be under way
    partial = real.with_name(f".{real.name[:200]}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            if real.exists():
                make_like(file.fileno(), real.stat())
            os.fsync(file.fileno())
        partial.replace(real)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def make_private(file: Path) -> None:
    """See that a file of SQLite's is there, its folder too, and this user's alone; its companions get the same mode.

    One that is there is not opened and closed: that would drop the locks that this process holds on it, and the next
    other process to close it would take away the log that is written here.

    Raises:
        OSError: it can't be made, or is not this user's.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # a link may lead to a file that is still to be made, which O_EXCL would not do
    real = os.path.realpath(file)
    with _making:
        try:
            os.close(os.open(real, os.O_RDWR | os.O_CREAT | os.O_EXCL, _PRIVATE))
        except FileExistsError:
            if file.stat().st_mode & 0o777 != _PRIVATE:
                file.chmod(_PRIVATE)


def ours(path: str | Path) -> bool:
    """Whether a path lies in BenchAI's own state, once all links are followed."""
    folders = (data_dir(), cache_dir(), state_dir(), log_dir())
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(folder)) for folder in folders)


def of_database(path: str | Path) -> bool:
    """Whether a file may be a SQLite database that a process has open, or a companion of one; it is not opened.

    No such file may be read as plain bytes: closing it drops all locks that this process holds on it under SQLite, and
    the next other process to close the database takes away the log that is written here, see 2.2 of
    https://www.sqlite.org/howtocorrupt.html. It is told by names, and by what lies beside: databases of BenchAI's own
    always count, others while they have a log.

    Args:
        path: With all links followed.
    """
    name = os.fspath(path)
    main, _, kind = name.rpartition("-")
    if kind.lower() in _COMPANIONS and (_is_database(main) or (kind.lower() != "journal" and is_file(main))):
        return True
    if is_file(f"{name}-wal"):
        return True
    return _is_database(name) and (is_file(f"{name}-journal") or ours(name))


def _is_database(name: str) -> bool:
    return name.lower().endswith(_DATABASES)


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
