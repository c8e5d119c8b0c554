"""What measurements are kept with: the machine they were made on, and the version of BenchAI."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from benchai.runtime.placement.gpu import Gpu


def benchai_version() -> str:
    """The version that is installed; empty where the package runs from a folder that is not."""
    try:
        return importlib.metadata.version("benchai")
    except importlib.metadata.PackageNotFoundError:
        return ""


def machine_name(gpus: Sequence[Gpu]) -> str:
    """Processor, threads that this process may use, and GPUs, in words."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ", ".join([_processor(), f"{threads} threads", *(gpu.name for gpu in gpus)])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next((name for name in named if name), platform.processor() or platform.machine())
