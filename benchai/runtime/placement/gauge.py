"""How much memory there is, who holds it, and whether it has come back: measured, never assumed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from benchai.errors import MemoryNotReleased
from benchai.runtime.background import in_background
from benchai.runtime.placement.container import narrowed
from benchai.runtime.placement.gpu import MIB, Held, Nvml

#: Seconds between two looks at memory that is coming back: quick at first, then with less haste.
FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.1


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of one device, "gpu0", "gpu1", ... or "cpu"; ``free_mib`` is what a new process could have now."""

    device: str
    total_mib: int
    free_mib: int


class Gauge:
    """Measures memory; NVML is opened when first asked and held until ``close``.

    Without a GPU or a driver there is only "cpu". Nothing is remembered between two measurements.
    """

    def __init__(self) -> None:
        self._nvml = Nvml()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give NVML back."""
        self._nvml.close()

    def devices(self) -> list[DeviceMemory]:
        """All devices now, GPUs first; one that is lost, or tells no figures, is left out."""
        gpus = [DeviceMemory(f"gpu{gpu.index}", gpu.total_mib, gpu.free_mib) for gpu in self._nvml.gpus()]
        memory = psutil.virtual_memory()
        ours = narrowed(memory.total, memory.available)
        return [*gpus, DeviceMemory("cpu", ours.total // MIB, ours.free // MIB)]

    def held_by(self, pids: Iterable[int]) -> dict[str, int]:
        """MiB that these processes and all below them hold now, by device, rounded up.

        A GPU whose driver does not tell what they hold (WSL, Windows, a lost GPU) is left out: unknown is
        not 0. In a container with process numbers of its own the driver tells those of the host, and 0 is
        all that can be found. "cpu" is resident memory; the mapped pages of a model file are in it,
        although the kernel also counts them as available.
        """
        family = family_of(pids)
        held = {}
        for gpu in self._nvml.gpus():
            processes = self._nvml.processes(gpu.index)
            used = None if processes is None else used_by(family, processes)
            if used is not None:
                held[f"gpu{gpu.index}"] = mib(used)
        return {**held, "cpu": mib(sum(_resident(pid) for pid in family))}

    def private(self, pids: Iterable[int]) -> int:
        """MiB of RAM that would be available again without these processes and all below them.

        Mapped pages of a model file are not in it: the kernel counts those as available all the time.
        """
        return mib(sum(_private(pid) for pid in family_of(pids)))

    async def wait_released(self, needed: Mapping[str, int], deadline: float) -> None:
        """Return once each device has ``needed`` MiB free by measurement.

        Args:
            needed: MiB by device.
            deadline: Seconds from now; a driver that does not answer is not waited for any longer either.

        Raises:
            MemoryNotReleased: Not within the deadline.
        """
        free: dict[str, int] = {}
        pause = FIRST_PAUSE
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                while True:
                    free = {one.device: one.free_mib for one in await in_background(self.devices)}
                    if not shortfall(needed, free):
                        return
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
        raise not_released(needed, free, deadline)


def not_released(needed: Mapping[str, int], free: Mapping[str, int], seconds: float) -> MemoryNotReleased:
    """The error for memory that did not come back within so many seconds."""
    missing = ", ".join(_figure(device, needed[device], free) for device in shortfall(needed, free))
    hint = "look with nvidia-smi or ps who holds it, or raise fleet.memory.release_deadline"
    return MemoryNotReleased(
        f"memory did not come back within {seconds:g} s: {missing}", needed=needed, free=free, hint=hint
    )


def _figure(device: str, needed: int, free: Mapping[str, int]) -> str:
    if device not in free:
        return f"{device} tells no figures ({needed} MiB needed)"
    return f"{device} has {free[device]} of {needed} MiB free"


def shortfall(needed: Mapping[str, int], free: Mapping[str, int]) -> dict[str, int]:
    """MiB that are not free yet, by device; a device without a figure has none."""
    short = {device: wanted - free.get(device, 0) for device, wanted in needed.items()}
    return {device: missing for device, missing in short.items() if missing > 0}


def family_of(pids: Iterable[int]) -> frozenset[int]:
    """The processes and all below them."""
    given = list(pids)
    try:
        return _with_children(given)
    except OSError:  # no such files on this system
        return with_descendants(given, _parents())


def _with_children(pids: list[int]) -> frozenset[int]:
    """By the kernel's own lists: a look at every process of the machine takes milliseconds.

    Raises:
        OSError: the kernel keeps none.
    """
    if pids and not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        raise FileNotFoundError
    family: set[int] = set()
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if pid not in family:
            family.add(pid)
            waiting += _children(pid)
    return frozenset(family)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        # a thread, or the whole process, may end meanwhile
        with contextlib.suppress(OSError):
            found += map(int, file.read_text().split())
    return found


def with_descendants(pids: Iterable[int], parents: Mapping[int, int]) -> frozenset[int]:
    """The processes and all below them; ``parents`` maps each process that there is to its parent."""
    family = set(pids)
    grown = True
    while grown:
        below = {pid for pid, parent in parents.items() if parent in family} - family
        family |= below
        grown = bool(below)
    return frozenset(family)


def used_by(pids: Collection[int], processes: Iterable[Held]) -> int | None:
    """Bytes of a GPU that some processes hold; None where one of them holds an unknown amount.

    A process that computes and draws is listed twice with all that it holds.
    """
    most: dict[tuple[int, tuple[int, int]], int] = {}
    for one in processes:
        if one.pid not in pids:
            continue
        if one.used is None:
            return None
        key = (one.pid, one.instance)
        most[key] = max(one.used, most.get(key, 0))
    return sum(most.values())


def mib(size: int) -> int:
    """Bytes in MiB, rounded up."""
    return -(-size // MIB)


def _parents() -> dict[int, int]:
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found[process.pid] = process.ppid()
    return found


def _private(pid: int) -> int:
    memory = _memory(pid)
    return int(memory.rss - getattr(memory, "shared", 0)) if memory else 0


def _resident(pid: int) -> int:
    memory = _memory(pid)
    return int(memory.rss) if memory else 0


def _memory(pid: int) -> Any | None:
    try:
        return psutil.Process(pid).memory_info()
    except psutil.Error:
        return None
