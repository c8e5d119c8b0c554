"""The sandbox of the program bwrap (bubblewrap): namespaces, where the kernel lets users make them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchai.tools.sandbox.access import clean_environment, python_paths, require_workspace, system_paths
from benchai.tools.sandbox.base import Limits, Ran
from benchai.tools.sandbox.launch import Job, private_folder, run_job

__all__ = ["BwrapSandbox", "arguments", "why_not"]

_TEMP = Path("/tmp")  # noqa: S108 - a private folder is mounted there
_PROBE_SECONDS = 10


@dataclass(frozen=True)
class BwrapSandbox:
    """Runs programs under bwrap.

    Processes and memory are watched, not refused: a program may go beyond both for some 0.1 s before it ends.
    """

    program: str
    name: str = "bwrap"

    async def run(
        self,
        argv: Sequence[str],
        *,
        workspace: Path,
        limits: Limits = Limits(),  # noqa: B008
        writable: bool = True,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
    ) -> Ran:
        """Run a program; see `Sandbox.run`."""
        folder = require_workspace(workspace)
        async with private_folder() as temp:
            whole = [self.program, *arguments(folder, temp, writable), "--", *argv]
            # bwrap hands its environment on, where other users can't read it as they can its arguments
            details = {"env": clean_environment(_TEMP, env)}
            return await run_job(Job("program", whole, limits, stdin, temp, details))


def arguments(workspace: Path, temp: Path, writable: bool = True) -> list[str]:
    """Return the arguments of bwrap before the program: new namespaces, and what is mounted into them."""
    paths = sorted({*system_paths(), *python_paths()}, key=lambda path: (path.count("/"), path))
    readable = [word for path in paths for word in ("--ro-bind", path, path)]
    mine = ["--bind" if writable else "--ro-bind", str(workspace), str(workspace)]
    return [
        *("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *("--proc", "/proc", "--dev", "/dev"),
        *("--bind", str(temp), str(_TEMP)),
        *readable,
        *mine,
        *("--chdir", str(workspace)),
    ]


def why_not() -> str | None:
    """Return why this sandbox can't work here, or None when it can. It tries, which takes some 10 ms."""
    program = shutil.which("bwrap")
    if program is None:
        return "the program bwrap is not installed"
    probe = [program, "--unshare-all", "--ro-bind", "/", "/", "true"]
    try:
        ran = subprocess.run(
            probe, capture_output=True, text=True, timeout=_PROBE_SECONDS, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{program} can't be run ({error})"
    return f"{program} failed ({ran.stderr.strip()})" if ran.returncode else None
