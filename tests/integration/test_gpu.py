"""What NVML tells of a real GPU; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchai.config import ModelConfig
from benchai.runtime.engine.discover import Engine
from benchai.runtime.placement.gpu import list_gpus
from benchai.runtime.placement.plan import place

LLAMA = Engine("llama-server", Path("llama-server"))
pytestmark = pytest.mark.gpu


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
