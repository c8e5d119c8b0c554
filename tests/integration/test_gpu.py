"""What NVML tells of a real GPU, and what engines take of it; skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchai.config import ModelConfig
from benchai.config.models import EngineConfig
from benchai.runtime.engine.discover import Engine, find_engine
from benchai.runtime.measure.request import ask
from benchai.runtime.measure.rig import started
from benchai.runtime.placement.gpu import list_gpus
from benchai.runtime.placement.plan import place
from tests.integration.helpers import loaded
from tests.integration.moe_model import write_moe

LLAMA = Engine("llama-server", Path("llama-server"))
pytestmark = [pytest.mark.gpu, pytest.mark.anyio]
HELLO = [{"role": "user", "content": "Hello"}]


async def held(folder: Path, **model: Any) -> tuple[dict[str, int], str]:
    """What an engine holds, by device, and its reply."""
    if not find_engine(EngineConfig()).uses_gpus():
        pytest.skip("the engine is built without support of GPUs")
    async with started(loaded(folder, {"models": {"m": model}}), "m") as rig:
        return rig.memory_mib(), (await ask(rig.ready.root, HELLO, 16)).text


def test_figures_of_each_gpu_are_plausible() -> None:
    for index, gpu in enumerate(list_gpus()):
        assert gpu.index == index
        assert gpu.name
        assert gpu.driver
        assert 0 <= gpu.free_mib <= gpu.total_mib
        assert gpu.total_mib > 512


def test_a_model_goes_to_the_gpu_unless_it_is_kept_off() -> None:
    gpus = list_gpus()
    assert place(ModelConfig(file="model.gguf"), gpus, LLAMA) == "gpu"
    assert place(ModelConfig(file="model.gguf"), gpus, Engine("native", Path("python"))) == "cpu"
    assert place(ModelConfig(file="model.gguf", gpu_layers=0), gpus, LLAMA) == "cpu"


async def test_an_engine_is_measured_on_the_gpu_that_it_was_placed_on(tmp_path: Path) -> None:
    on_gpu, _ = await held(tmp_path, file="builtin:tiny")
    on_cpu, _ = await held(tmp_path, file="builtin:tiny", gpu_layers=0)
    assert on_gpu["gpu0"] > 0
    assert "gpu0" not in on_cpu


async def test_experts_in_ram_leave_the_gpu(tmp_path: Path) -> None:
    file = str(write_moe(tmp_path / "moe.gguf"))
    whole, _ = await held(tmp_path, file=file, context=512, cpu_moe=0)
    split, text = await held(tmp_path, file=file, context=512, cpu_moe="all")
    assert split["gpu0"] <= whole["gpu0"]
    assert text
