"""What a sandbox is: its limits, what it tells of a run, and the interface that all of them share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

__all__ = ["EndedBy", "Limits", "Ran", "Sandbox"]

EndedBy = Literal["exit", "signal", "wall", "cpu", "memory", "processes", "files", "output"]


@dataclass(frozen=True)
class Limits:
    """What one run may use.

    Args:
        wall_seconds: From the start of the program to its end.
        cpu_seconds: Of all its processes together.
        memory_mib: Of all its processes together; one process is refused more than this of private memory.
        processes: At once. Threads do not count.
        file_mib: Of each file that is written.
        output_bytes: Kept of each of stdout and stderr: the first and the last half. A program that writes
            16 times as much is ended.

    Raises:
        ValueError: When one is not above 0.
    """

    wall_seconds: float = 60
    cpu_seconds: float = 60
    memory_mib: int = 1024
    processes: int = 64
    file_mib: int = 64
    output_bytes: int = 1_000_000

    def __post_init__(self) -> None:
        """Refuse limits under which nothing can run."""
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"limit {name}={value!r} must be above 0")


@dataclass(frozen=True)
class Ran:
    """How a run went.

    `exit_code` is None when the program was ended, by a signal or by a limit; `ended_by` says which. `stdout`
    and `stderr` hold what was written until then, and `truncated` tells that a middle part of one is left
    out. `seconds` counts from the start of the program to its end.
    """

    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    ended_by: EndedBy
    truncated: bool = False


class Sandbox(Protocol):
    """Runs a program that can harm nothing but its workspace.

    No network; no writing outside the workspace and a private TMPDIR that vanishes; no reading but of the
    workspace, system libraries and the Python interpreter; a clean environment with HOME in TMPDIR.
    """

    @property
    def name(self) -> str:
        """The technology, as shown to a user."""
        ...

    async def run(
        self,
        argv: Sequence[str],
        *,
        workspace: Path,
        limits: Limits = Limits(),
        writable: bool = True,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
    ) -> Ran:
        """Run `argv` with `workspace` as its folder and wait until all its processes have ended.

        Args:
            argv: Program and arguments; a program without "/" is looked for in PATH.
            workspace: The folder that may be read, and written if `writable`.
            limits: What the run may use.
            writable: Whether the workspace may be changed.
            env: Variables on top of the clean environment.
            stdin: Text on stdin; nothing by default.

        Raises:
            ToolError: When the program can't be started, or the workspace can't be shut in.
        """
        ...
