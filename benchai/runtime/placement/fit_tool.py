"""The engine's own projection of a model's memory, where its tool ``llama-fit-params`` is installed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchai.errors import EngineError
from benchai.runtime.engine.programs import find_program
from benchai.runtime.placement.footprint import Settings
from benchai.runtime.placement.model_info import ModelInfo

PROGRAM = "llama-fit-params"
FIT_SECONDS = 60


@dataclass(frozen=True)
class FitFigures:
    """What the engine's own tool projects for one device, in MiB (rounded down)."""

    device: str
    weights_mib: int
    kv_mib: int
    compute_mib: int


def fit_argv(info: ModelInfo, settings: Settings, gpu_layers: int | str = 0) -> list[str]:
    """The flags with which llama-fit-params looks at the same settings, for one slot."""
    return [
        *("-m", str(info.path), "-c", str(settings.context or info.context_length), "-ub", str(settings.ubatch)),
        *("-ctk", settings.cache_type_k, "-ctv", settings.cache_type_v),
        *("-fa", "on" if settings.flash_attn else "off", "-ngl", str(gpu_layers)),
    ]


def cross_check(engine_program: Path, argv: Sequence[str]) -> list[FitFigures] | None:
    """What ``llama-fit-params`` projects; None where no such program lies beside the engine or on PATH.

    Raises:
        EngineError: it is there and fails.
    """
    program = find_program(PROGRAM, engine_program)
    if program is None:
        return None
    command = [str(program), *argv, "--fit-print", "on"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=FIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{str(program)!r} cannot be run: {error}", hint="check the engine's installation") from error
    found = parse_fit(done.stdout)
    if done.returncode != 0 or not found:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise EngineError(f"{str(program)!r} fails with exit code {done.returncode}: {last}", hint="try a newer engine")
    return found


def parse_fit(text: str) -> list[FitFigures]:
    """The lines ``DEVICE MODEL CONTEXT COMPUTE`` (MiB) of ``llama-fit-params --fit-print on``."""
    rows = (line.split() for line in text.splitlines())
    good = (row for row in rows if len(row) == 4 and all(word.isdigit() for word in row[1:]))
    return [FitFigures(device, int(model), int(kv), int(compute)) for device, model, kv, compute in good]
