"""What the fleet would run: engine, argument vector and place of every model, without starting any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchai.config import LoadedConfig, ModelConfig, paths
from benchai.runtime.endpoints import Placement
from benchai.runtime.engine.argv import KEEP_IDLE_SLOTS, build_flags, resolve_files
from benchai.runtime.engine.discover import Engine
from benchai.runtime.placement.decide import Claim
from benchai.runtime.placement.moe import layers_in_ram


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
    draft: str | None = None
    env: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The plan as plain data; ``missing`` is there only where something is, ``draft`` where there is one."""
        data = asdict(self)
        for key in ("missing", "env", "draft"):
            if not data[key]:
                del data[key]
        return data


def place(model: ModelConfig, gpus: Sequence[str], engine: Engine | None) -> Placement:
    """Where a model lives: wholly on the GPU or wholly on the CPU (seed, "Hybrid CPU/GPU Mode is a Trap").

    The embedded engine is built for the CPU.
    """
    if model.remote:
        return "remote"
    if model.placement == "cpu":
        return "cpu"
    return "gpu" if gpus and model.gpu_layers != 0 and engine and engine.kind == "llama-server" else "cpu"


def plan_model(
    loaded: LoadedConfig,
    name: str,
    engine: Engine | None,
    gpus: Sequence[str],
    file: Path | None = None,
    claim: Claim | None = None,
) -> ModelPlan:
    """The plan of one model; a remote one needs no engine.

    Args:
        loaded: The configuration.
        name: The model.
        engine: What would serve it.
        gpus: The GPUs of this machine, as devices ("gpu0").
        file: Its GGUF, where that is known.
        claim: Where it was placed; None while that is not decided.
    """
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
    missing = [str(path) for path in needed if path is not None and not paths.is_file(path)]
    place_ = place(model, gpus, engine) if claim is None else _placement(claim)
    launched, env = placed(model, gpus, claim)
    keep = engine.knows(KEEP_IDLE_SLOTS)
    argv = engine.command(build_flags(name, launched, files, loaded.config.slots_of(name), keep))
    return ModelPlan(
        model=name,
        roles=roles,
        engine=engine.kind,
        argv=argv,
        host=model.host,
        port=model.port,
        placement=place_,
        file=str(files.model),
        missing=missing,
        slot_dir=str(files.slot_dir),
        draft=str(files.draft) if files.draft else None,
        env=env,
    )


def _placement(claim: Claim) -> Placement:
    return "gpu" if any(device != "cpu" for device in claim) else "cpu"


def placed(model: ModelConfig, gpus: Sequence[str], claim: Claim | None) -> tuple[ModelConfig, dict[str, str]]:
    """The settings of a model that was placed, and the environment that shows its engine just the GPUs it may use.

    The engine would otherwise fit the model to whatever is free, and split it when that is too little.
    """
    if model.cpu_moe == "auto" and (layers := layers_in_ram(claim)):
        model = model.model_copy(update={"cpu_moe": layers})
    if not gpus or claim is None:
        return model, {}
    used = [device.removeprefix("gpu") for device in claim if device != "cpu"]
    env = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(used)}
    if not used:
        return model.model_copy(update={"gpu_layers": 0}), env
    if model.hybrid:
        return model, env
    whole = "all" if model.gpu_layers == "auto" else model.gpu_layers
    return model.model_copy(update={"gpu_layers": whole, "extra_args": ["--fit", "off", *model.extra_args]}), env


def plan_fleet(
    loaded: LoadedConfig, engine: Engine | None, gpus: Sequence[str], claims: Mapping[str, Claim] | None = None
) -> list[ModelPlan]:
    """The plan of every model, in the configuration's order; ``claims`` of those whose place is decided."""
    known = claims or {}
    return [plan_model(loaded, name, engine, gpus, claim=known.get(name)) for name in loaded.config.models]
