"""What the fleet would run: engine, argument vector and place of every model, without starting any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchai.config import LoadedConfig, ModelConfig, paths
from benchai.runtime.endpoints import Placement
from benchai.runtime.engine.argv import build_flags, resolve_files
from benchai.runtime.engine.discover import Engine
from benchai.runtime.placement.gpu import Gpu


@dataclass(frozen=True)
class ModelPlan:
    """One model as it would be run; ``argv`` is empty for a remote endpoint.

    ``port`` 0 means that the kernel picks a free one at the start. ``missing`` lists the files that are
    not there.
    """

    model: str
    roles: list[str]
    engine: str
    argv: list[str]
    host: str
    port: int | None
    placement: Placement
    file: str | None
    missing: list[str]
    slot_dir: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The plan as plain data; ``missing`` is there only where something is."""
        data = asdict(self)
        if not self.missing:
            del data["missing"]
        return data


def place(model: ModelConfig, gpus: Sequence[Gpu], engine: Engine | None) -> Placement:
    """Where a model lives: wholly on the GPU or wholly on the CPU (seed, "Hybrid CPU/GPU Mode is a Trap").

    The embedded engine is built for the CPU.
    """
    if model.remote:
        return "remote"
    return "gpu" if gpus and model.gpu_layers != 0 and engine and engine.kind == "llama-server" else "cpu"


def plan_model(
    loaded: LoadedConfig, name: str, engine: Engine | None, gpus: Sequence[Gpu], file: Path | None = None
) -> ModelPlan:
    """The plan of one model; a remote one needs no engine, ``file`` is its GGUF where that is known."""
    model = loaded.config.models[name]
    roles = loaded.config.roles_of(name)
    if model.remote:
        return ModelPlan(name, roles, "remote", [], str(model.endpoint), None, "remote", None, [])
    assert engine is not None
    file = file or loaded.model_file(name)
    files = resolve_files(
        name, model, loaded.resolve, file or Path(f"hf:{model.hf}"), paths.cache_dir() / "slots" / name
    )
    needed = [files.model, files.mmproj, files.draft, files.chat_template, *files.lora]
    missing = [str(path) for path in needed if path is not None and not path.is_file()]
    argv = engine.command(build_flags(name, model, files, loaded.config.slots_of(name)))
    place_ = place(model, gpus, engine)
    return ModelPlan(
        name, roles, engine.kind, argv, model.host, model.port, place_, str(files.model), missing, str(files.slot_dir)
    )


def plan_fleet(loaded: LoadedConfig, engine: Engine | None, gpus: Sequence[Gpu]) -> list[ModelPlan]:
    """The plan of every model, in the configuration's order."""
    return [plan_model(loaded, name, engine, gpus) for name in loaded.config.models]
