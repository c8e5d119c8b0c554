"""The RAM that a container leaves its processes: the limits of the control groups that this process is in.

``/proc/meminfo`` tells the memory of the machine, also where a container may use a part of it only. Source of the
files: the kernel's documentation, admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Room:
    """Bytes that may be used in all, and those that are free of them: pages that can be dropped count as free."""

    total: int
    free: int


@dataclass(frozen=True)
class _Files:
    limits: tuple[str, ...]
    used: str
    droppable: tuple[str, ...]


# above memory.high nothing is killed, but all are slowed down; of a file's pages the active ones can go as well: they
# may be the weights of an engine, which the claims count already
_V2 = _Files(("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file"))
_V1 = _Files(("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))


def narrowed(total: int, free: int, groups: Path = GROUPS, own: Path = OWN) -> Room:
    """A machine's memory as far as this process may use it, in bytes; without a limit the machine's own."""
    rooms = [room for folder, files in _folders(groups, own) if (room := _room(folder, files)) is not None]
    return Room(min([total, *(room.total for room in rooms)]), max(0, min([free, *(room.free for room in rooms)])))


def _folders(groups: Path, own: Path) -> Iterator[tuple[Path, _Files]]:
    """The folders of this process's group and of all above it: each has a limit of its own."""
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            root, files = (groups / "memory", _V1) if controllers else (groups, _V2)
            inner = Path(path.lstrip("/"))
            # in a container the path may be that on the host, which is not seen: the root stands for it
            yield from ((root / part, files) for part in (inner, *inner.parents) if ".." not in part.parts)


def _room(folder: Path, files: _Files) -> Room | None:
    limits = [limit for name in files.limits if (limit := _number(folder / name)) is not None]
    used = _number(folder / files.used)
    if not limits or used is None:
        return None
    limit = min(limits)
    return Room(limit, limit - max(0, used - _droppable(folder, files.droppable)))


def _number(file: Path) -> int | None:
    # "max": there is no limit
    with contextlib.suppress(OSError, ValueError):
        return int(file.read_text(encoding="utf-8"))
    return None


def _droppable(folder: Path, keys: tuple[str, ...]) -> int:
    with contextlib.suppress(OSError, ValueError):
        lines = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
        return sum(int(value) for name, _, value in (line.partition(" ") for line in lines) if name in keys)
    return 0
