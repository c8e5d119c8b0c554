"""How much of this machine's GPUs is in use, as NVML tells it."""

from __future__ import annotations

from dataclasses import dataclass

from benchai.runtime.placement.gpu import Nvml


@dataclass(frozen=True)
class GpuUse:
    """Shares, 0 to 1, over all GPUs: of their memory that is held; of the time they computed, None if not told."""

    memory: float
    compute: float | None


def gpu_use(nvml: Nvml) -> GpuUse | None:
    """The use at this moment; None where there is no GPU, or no driver."""
    gpus = nvml.gpus()
    total = sum(gpu.total_mib for gpu in gpus)
    if not total:
        return None
    computes = [busy for gpu in gpus if (busy := _compute(gpu.index)) is not None]
    held = sum(gpu.total_mib - gpu.free_mib for gpu in gpus)
    return GpuUse(held / total, sum(computes) / len(computes) if computes else None)


def _compute(index: int) -> float | None:
    """The share of the last moment (driver's, up to a second) in which a GPU computed."""
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        return int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
    except pynvml.NVMLError:
        # a MIG instance, or an old driver
        return None
