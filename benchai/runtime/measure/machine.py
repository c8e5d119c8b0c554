"""The processor as far as this process may use it; what measurements are kept with: machine and version."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchai.runtime.placement.gpu import Gpu


def benchai_version() -> str:
    """The version that is installed; empty where the package runs from a folder that is not."""
    try:
        return importlib.metadata.version("benchai")
    except importlib.metadata.PackageNotFoundError:
        return ""


def usable_threads() -> int:
    """Hardware threads that this process may use: its affinity, else all of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores() -> int | None:
    """Physical cores that this process may use; None where the system does not tell how many there are."""
    cores = psutil.cpu_count(logical=False)
    return min(cores, usable_threads()) if cores else None


def machine_name(gpus: Sequence[Gpu]) -> str:
    """Processor, threads that this process may use, and GPUs, in words."""
    return ", ".join([_processor(), f"{usable_threads()} threads", *(gpu.name for gpu in gpus)])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    # platform.processor() starts a process
    return next((name for name in named if name), "") or platform.processor() or platform.machine()
