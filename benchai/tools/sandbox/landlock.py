"""The sandbox of Linux itself: Landlock and seccomp, through the package sandlock. No root, no namespaces."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchai.tools.sandbox.access import clean_environment, python_paths, require_workspace, system_paths
from benchai.tools.sandbox.base import Limits, Ran
from benchai.tools.sandbox.launch import Job, private_folder, run_job

__all__ = ["LandlockSandbox", "policy", "why_not"]

_KERNEL = ("/proc/cpuinfo", "/proc/meminfo", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


@dataclass(frozen=True)
class LandlockSandbox:
    """Runs programs under Landlock and seccomp."""

    name: str = "landlock"

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
            rules = policy(folder, temp, limits, writable, clean_environment(temp, env))
            details = {"policy": rules, "packages": _packages()}
            return await run_job(Job("sandlock", list(argv), limits, stdin, temp, details))


def policy(workspace: Path, temp: Path, limits: Limits, writable: bool, env: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of `sandlock.Sandbox`."""
    mine = [str(workspace)]
    return {
        "fs_readable": [*system_paths(), *python_paths(), *_KERNEL, *mine],
        "fs_writable": [str(temp), "/dev/null", *(mine if writable else [])],
        "cwd": str(workspace),
        "clean_env": True,
        "env": dict(env),
        "max_processes": limits.processes,
    }


def why_not() -> str | None:
    """Return why this sandbox can't work here, or None when it can."""
    if importlib.util.find_spec("sandlock") is None:
        return "the package sandlock is not installed"
    try:
        sandlock = importlib.import_module("sandlock")
    except Exception as error:
        return f"the package sandlock can't be loaded ({error})"
    has, needs = sandlock.landlock_abi_version(), sandlock.min_landlock_abi()
    if has < needs:
        return f"the kernel has Landlock version {max(has, 0)}, and {needs} is needed (Linux 6.12)"
    return None


def _packages() -> str:
    spec = importlib.util.find_spec("sandlock")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent.parent)
