"""What an engine that is started for a measurement may take."""

from __future__ import annotations

from pathlib import Path

from benchai.config import load_config
from benchai.runtime.measure.rig import less


def test_the_second_engine_has_what_the_first_leaves(tmp_path: Path) -> None:
    file = tmp_path / "benchai.yaml"
    file.write_text("models: {code: {file: a.gguf}}\nfleet: {memory: {ram: 1000, vram: 500}}")
    memory = less(load_config(file), {"cpu": 400, "gpu0": 600}).config.fleet.memory
    assert (memory.ram, memory.vram) == (600, 1)
    file.write_text("models: {code: {file: a.gguf}}")
    assert less(load_config(file), {"cpu": 400}).config.fleet.memory.ram is None
