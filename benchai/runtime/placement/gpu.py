"""The GPUs of this machine and the memory that processes hold on them, as NVML tells it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

MIB = 1024 * 1024


@dataclass(frozen=True)
class Gpu:
    """One GPU; memory in MiB. ``index`` is NVML's, which need not be CUDA's."""

    index: int
    name: str
    total_mib: int
    free_mib: int
    driver: str


@dataclass(frozen=True)
class Held:
    """What one process holds on one GPU, or on one MIG instance of it.

    ``used`` is in bytes, None where the driver does not tell (WSL, Windows).
    """

    pid: int
    used: int | None
    instance: tuple[int, int] = (0, 0)


class Nvml:
    """NVML, opened when first asked and held open until ``close``; threads may share it.

    Without a driver, or once it went away, there are no GPUs; each question asks anew. A GPU that is lost,
    or that tells no figures (it shares the CPU's memory), is left out, the others keep their index.
    """

    def __init__(self) -> None:
        self._open = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give NVML back; the next question opens it again."""
        import pynvml

        with self._lock:
            if self._open:
                self._open = False
                with contextlib.suppress(pynvml.NVMLError):
                    pynvml.nvmlShutdown()

    def gpus(self) -> list[Gpu]:
        """All NVIDIA GPUs that tell their figures; empty where there is none, or no driver."""
        import pynvml

        try:
            self._ensure_open()
            count = int(pynvml.nvmlDeviceGetCount())
            driver = _text(pynvml.nvmlSystemGetDriverVersion()) if count else ""
        except pynvml.NVMLError:
            # the driver is not there, or was exchanged under us: begin afresh next time
            self.close()
            return []
        found = [_gpu(index, driver) for index in range(count)]
        return [gpu for gpu in found if gpu is not None]

    def processes(self, index: int) -> list[Held] | None:
        """What holds memory on a GPU, compute and graphics; None where it does not tell."""
        import pynvml

        try:
            self._ensure_open()
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            compute = _held(pynvml.nvmlDeviceGetComputeRunningProcesses, handle)
            return compute + _held(pynvml.nvmlDeviceGetGraphicsRunningProcesses, handle)
        except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError):
            # the second stands for a driver older than the bindings, and is no NVMLError
            return None

    def _ensure_open(self) -> None:
        import pynvml

        with self._lock:
            if not self._open:
                pynvml.nvmlInit()
                self._open = True


def list_gpus() -> list[Gpu]:
    """All NVIDIA GPUs; empty where there is none, or no driver."""
    with Nvml() as nvml:
        return nvml.gpus()


def _gpu(index: int, driver: str) -> Gpu | None:
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        name = _text(pynvml.nvmlDeviceGetName(handle))
    except pynvml.NVMLError:
        # a lost GPU, or a board that shares the CPU's memory and tells no figures
        return None
    return Gpu(index, name, int(memory.total) // MIB, int(memory.free) // MIB, driver)


def _held(ask: Callable[[Any], list[Any]], handle: object) -> list[Held]:
    return [
        Held(int(one.pid), one.usedGpuMemory, (int(one.gpuInstanceId), int(one.computeInstanceId)))
        for one in ask(handle)
    ]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
