"""Where `benchai serve` runs: one per user, found by a lock and a file that only this user can read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from benchai.config import LoadedConfig, paths
from benchai.errors import UsageError
from benchai.runtime.fleet.state import ProcessId


@dataclass(frozen=True)
class ServerRecord:
    """A running server: its process, its address, the key for /fleet, which models it serves, whose memory it owns."""

    pid: int
    started: float
    url: str
    token: str
    config: str
    models: str
    memory: str = ""

    @property
    def runs(self) -> bool:
        """Whether this very process still runs."""
        return ProcessId(self.pid, self.started).runs


def models_of(loaded: LoadedConfig) -> str:
    """A checksum of everything that decides what models a configuration serves, and how.

    Roles are left out: a run may give them to other models of the same server.
    """
    config = loaded.config
    files = {name: [str(loaded.resolve(file)) for _, file in model.files()] for name, model in config.models.items()}
    # what has no file of its own is the same in every folder
    folder = str(loaded.folder) if loaded.path else ""
    data = [config.model_dump(mode="json", include={"models", "engine", "models_dir"}), files, folder]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _file() -> Path:
    return paths.state_dir() / "serve.json"


def running_server() -> ServerRecord | None:
    """The server of this user, or None."""
    try:
        record = ServerRecord(**json.loads(_file().read_text(encoding="utf-8")))
        return record if isinstance(record.pid, int) and record.runs else None
    except (OSError, ValueError, TypeError, OverflowError):
        return None


@contextmanager
def only_server() -> Iterator[None]:
    """Be the one server of this user.

    Raises:
        UsageError: there is one already; says where.
    """
    folder = paths.state_dir()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "serve.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        other = running_server()
        where = f"at {other.url} (pid {other.pid}, {other.config})" if other else "of this user"
        raise UsageError(f"a server runs already {where}", hint="stop that one first, or use it") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def announced(url: str, token: str, loaded: LoadedConfig) -> Iterator[None]:
    """Let others find this server while the context is open."""
    write_record(url, token, loaded)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _file().unlink()


def write_record(url: str, token: str, loaded: LoadedConfig) -> None:
    """Write where this process serves; again when its configuration changes."""
    me = ProcessId.of(os.getpid())
    assert me is not None
    memory = str(loaded.memory_folder) if loaded.config.memory.enabled else ""
    record = ServerRecord(me.pid, me.started, url, token, loaded.name, models_of(loaded), memory)
    paths.replace_text(_file(), json.dumps(asdict(record)), mode=0o600)
