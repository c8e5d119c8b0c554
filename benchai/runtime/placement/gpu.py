"""The GPUs of this machine, as NVML tells them."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True)
class Gpu:
    """One GPU; memory in MiB."""

    index: int
    name: str
    total_mib: int
    free_mib: int
    driver: str


def list_gpus() -> list[Gpu]:
    """All NVIDIA GPUs; empty where there is none, or no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        found = [_gpu(index, driver) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()
    return [gpu for gpu in found if gpu is not None]


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


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
