"""How much memory each model needs, and how much all of them may use.

A need is estimated from the model's file and corrected by what was measured when it last ran with these settings.
On a GPU all memory is taken at the start, so the measurement replaces the estimate. In RAM parts of the KV cache are
taken only when they are first used, so the measurement only ever raises it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchai.config import LoadedConfig, ModelConfig, paths
from benchai.config.tensors import in_ram
from benchai.errors import BenchAIError, ConfigError
from benchai.runtime.engine.discover import Engine
from benchai.runtime.placement.decide import Claim
from benchai.runtime.placement.estimate import Estimate, Settings, estimate, suggestions
from benchai.runtime.placement.gauge import Gauge
from benchai.runtime.placement.model_info import ModelInfo, read_model_info
from benchai.runtime.placement.moe import (
    expert_layers,
    layers_in_ram,
    left_bytes,
    parts_mib,
    split_claims,
    split_layers,
    user_splits,
)

MIB = 1024 * 1024
#: Share of a file's size that stands for a model that cannot be estimated.
GUESS = 1.15
VIRTUAL_GPU = "gpu0"
#: The table of n-grams in RAM: 4 Mi entries of 4 bytes (llama.cpp b11434, common/ngram-mod).
NGRAM_MIB = 16


@dataclass(frozen=True)
class Need:
    """What one model needs: claims in order of preference, the estimate behind them, and where it came from."""

    options: tuple[Claim, ...]
    estimate: Estimate | None
    measured: Mapping[str, int]


class MemoryBook:
    """Budget and needs of one configuration on one machine."""

    def __init__(self, loaded: LoadedConfig, gauge: Gauge) -> None:
        self._loaded = loaded
        self._gauge = gauge
        self._limits = loaded.config.fleet.memory
        self._gpus = [one.device for one in gauge.devices() if one.device != "cpu"]
        self._measured = Measured(paths.cache_dir() / "measured.json")

    @property
    def gpus(self) -> list[str]:
        """The real GPUs."""
        return self._gpus

    def budget(self, pids: Iterable[int], claimed: Mapping[str, int]) -> dict[str, int]:
        """MiB that our models may use in all, by device.

        Args:
            pids: Our engines: what they hold counts as free.
            claimed: What they are thought to hold, for a GPU whose driver does not tell.
        """
        ours = list(pids)
        # what they hold of the RAM is asked for in another way
        held = (self._gauge.held_by(ours) if self._gpus else {}) | {"cpu": self._gauge.private(ours)}
        budget = {}
        for one in self._gauge.devices():
            limit = self._limits.ram if one.device == "cpu" else self._limits.vram
            free = one.free_mib + (held.get(one.device) or (claimed.get(one.device, 0) if one.device != "cpu" else 0))
            budget[one.device] = max(0, min(limit or one.total_mib, one.total_mib, free) - self._limits.reserve)
        if not self._gpus and self._limits.vram is not None:
            budget[VIRTUAL_GPU] = self._limits.vram
        return budget

    def need(self, name: str, file: Path, engine: Engine) -> Need:
        """What a model needs, by the places where it may live.

        Raises:
            ConfigError: its settings ask for a part of it on the GPU, and `hybrid` does not allow that; or for its
                experts in RAM, and it has none.
        """
        model = self._loaded.config.models[name]
        info = _info(file)
        slots = self._loaded.config.slots_of(name)
        projector = _info(self._loaded.resolve(model.mmproj)) if model.mmproj else None
        draft = _info(self._loaded.resolve(model.draft.file)) if model.draft else None
        check_offload(name, model, info)
        check_experts(name, model, info)

        def mib(on_gpu: bool) -> tuple[int, Estimate | None]:
            if info is None:
                return _guess(file), None
            found = estimate_with(info, settings_of(model, info, slots), on_gpu, projector, draft, draft_types(model))
            return found.total_mib + (0 if on_gpu or not model.ngram else NGRAM_MIB), found

        key = self.key(name, file)
        options: list[Claim] = []
        found = None
        if self._may_use_gpu(model, engine):
            total, found = mib(bool(self._gpus))
            beside = mib(False)[1]
            options += self._on_gpus(key, model, info, total, beside.overhead_mib if beside else 0)
        if not options or model.placement == "auto":
            total, on_cpu = mib(False)
            found = found or on_cpu
            options.append({"cpu": max(total, self._measured.get(key, "cpu") or 0)})
        return Need(tuple(options), found, self._measured.all(key))

    def _on_gpus(
        self, key: str, model: ModelConfig, info: ModelInfo | None, total: int, overhead: int
    ) -> Iterator[Claim]:
        """Whole on the GPUs, then with as few experts in RAM as fit; ``overhead`` is that of the process in RAM."""
        gpus, totals = self._gpus or [VIRTUAL_GPU], self._totals()
        placed = [entry for entry in model.override_tensors if in_ram(entry)]
        chosen = model.cpu_moe if isinstance(model.cpu_moe, int) else 0
        if info is not None and (model.cpu_moe == "all" or chosen or placed):
            layers = [expert_layers(info) if model.cpu_moe == "all" else min(chosen, expert_layers(info))]
        else:
            yield from _gpu_options(self._measured.get(key, "gpu") or total, gpus, totals, model.hybrid)
            layers = []
        if info is not None and not layers and _splits(model):
            room = max((totals.get(gpu, 0) for gpu in gpus), default=0)
            layers = split_layers(info, total, room) or split_layers(info, total, sum(totals.values()))
        for count in layers:
            assert info is not None
            on_gpu, kept = parts_mib(info, total, count, model.override_tensors)
            on_gpu = self._measured.get(key, _kind(count)) or on_gpu
            left = left_bytes(info, count, model.override_tensors)
            yield from split_claims(on_gpu, kept + overhead, count, gpus, totals, left)

    def _may_use_gpu(self, model: ModelConfig, engine: Engine) -> bool:
        if model.placement == "cpu" or model.gpu_layers == 0:
            return False
        if not self._gpus:
            return model.placement == "gpu" and self._limits.vram is not None
        return engine.uses_gpus()

    def _totals(self) -> dict[str, int]:
        totals = {one.device: one.total_mib for one in self._gauge.devices()}
        limit = self._limits.vram
        if not self._gpus and limit is not None:
            return {VIRTUAL_GPU: limit}
        return {
            device: max(0, min(limit or total, total) - self._limits.reserve)
            for device, total in totals.items()
            if device != "cpu"
        }

    def key(self, name: str, file: Path) -> str:
        """Of the measurements of a model with these settings."""
        model = self._loaded.config.models[name]
        settings = model.model_dump_json(exclude={"ttl", "keep", "port", "host", "temperature", "top_p", "max_tokens"})
        size = file.stat().st_size if file.is_file() else 0
        return hashlib.sha256(f"{file}:{size}:{self._loaded.config.slots_of(name)}:{settings}".encode()).hexdigest()[
            :24
        ]

    def suggestions(self, name: str, file: Path, budget_mib: int) -> list[str]:
        """Settings with which a model would fit a budget, in words."""
        model, info = self._loaded.config.models[name], _info(file)
        if info is None:
            return []
        settings = settings_of(model, info, self._loaded.config.slots_of(name))
        return [one.text for one in suggestions(info, settings, budget_mib)]

    def measure(self, name: str, file: Path, pid: int, claim: Claim) -> dict[str, int]:
        """Measure a model that runs and remember it for its next start; MiB by device."""
        held = {device: mib for device, mib in self._gauge.held_by([pid]).items() if mib}
        on_gpu = sum(mib for device, mib in held.items() if device != "cpu")
        if on_gpu:
            self._measured.put(self.key(name, file), _kind(layers_in_ram(claim)), on_gpu)
        elif set(claim) == {"cpu"} and held.get("cpu"):
            self._measured.put(self.key(name, file), "cpu", held["cpu"])
        return held


class Measured:
    """Measurements by key and kind of place, kept in a JSON file; one that can't be read or written is empty."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def all(self, key: str) -> dict[str, int]:
        """What was measured for a key."""
        found = self._read().get(key, {})
        known = found.items() if isinstance(found, dict) else ()
        return {kind: mib for kind, mib in known if type(mib) is int and mib > 0}

    def get(self, key: str, kind: str) -> int | None:
        """MiB, or None when it was not measured."""
        return self.all(key).get(kind)

    def put(self, key: str, kind: str, mib: int) -> None:
        """Remember a measurement."""
        data = self._read()
        if self.all(key).get(kind) == mib:
            return
        data[key] = self.all(key) | {kind: mib}
        # what can't be remembered is estimated again
        with contextlib.suppress(OSError):
            paths.replace_file(self._file, json.dumps(data))

    def _read(self) -> dict[str, dict[str, int]]:
        try:
            data = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}


def check_offload(name: str, model: ModelConfig, info: ModelInfo | None) -> None:
    """Refuse a part of a model on the GPU unless its settings say `hybrid` (seed: "Hybrid CPU/GPU Mode is a Trap").

    Raises:
        ConfigError: with the number of layers that would be all of it.
    """
    layers = model.gpu_layers
    if info is None or model.hybrid or not isinstance(layers, int) or not 0 < layers < info.layers:
        return
    message = f"models.{name}.gpu_layers = {layers}: a part of its {info.layers} layers, which is slow"
    raise ConfigError(message, hint="set gpu_layers: all, or 0 for the CPU, or hybrid: true if you mean it")


def check_experts(name: str, model: ModelConfig, info: ModelInfo | None) -> None:
    """Refuse experts in RAM for a model that has none: the engine would silently ignore the setting.

    Raises:
        ConfigError: so.
    """
    if info is None or model.cpu_moe in ("auto", 0) or expert_layers(info):
        return
    message = f"models.{name}.cpu_moe = {model.cpu_moe!r}: the model is no mixture of experts"
    raise ConfigError(message, hint="remove cpu_moe")


def _splits(model: ModelConfig) -> bool:
    """Whether the planner may put experts into RAM: not where the user or the engine splits the model."""
    chosen = model.hybrid or model.override_tensors or user_splits(model.extra_args)
    return model.cpu_moe == "auto" and not chosen


def _kind(layers: int) -> str:
    """Under which name a measurement on the GPU is kept."""
    return f"gpu, experts of {layers} layers in RAM" if layers else "gpu"


def draft_types(model: ModelConfig | None) -> tuple[str, str]:
    """The types of the draft model's K and V cache."""
    draft = model.draft if model else None
    return (draft.cache_type_k or "f16", draft.cache_type_v or "f16") if draft else ("f16", "f16")


def _info(file: Path) -> ModelInfo | None:
    try:
        return read_model_info(file)
    except (BenchAIError, OSError):
        return None


def _guess(file: Path) -> int:
    try:
        return int(file.stat().st_size * GUESS / MIB) + 1
    except OSError:
        return 0


def settings_of(model: ModelConfig | None, info: ModelInfo, slots: int) -> Settings:
    """What decides how much a model takes, with the engine's defaults for what is not set; None: nothing is."""
    return Settings(
        context=(model.context if model else None) or info.context_length,
        slots=slots,
        cache_type_k=(model.cache_type_k if model else None) or "f16",
        cache_type_v=(model.cache_type_v if model else None) or "f16",
        ubatch=(model.ubatch_size if model else None) or 512,
        flash_attn=model is None or model.flash_attn is not False,
        embedding=model is not None and (model.embedding or model.rerank),
        swa_full=model is not None and model.swa_full,
    )


def estimate_with(
    info: ModelInfo,
    settings: Settings,
    on_gpu: bool,
    projector: ModelInfo | None,
    draft: ModelInfo | None,
    draft_kv: tuple[str, str] = ("f16", "f16"),
) -> Estimate:
    """The estimate of a model with the files that are loaded beside it; ``draft_kv`` are the draft's cache types."""
    k, v = draft_kv
    small = replace(settings, cache_type_k=k, cache_type_v=v, on_gpu=on_gpu, embedding=False)
    beside = estimate(draft, **asdict(small)) if draft else None
    return estimate(info, **asdict(settings) | {"on_gpu": on_gpu}, projector=projector, draft=beside)


def _gpu_options(total: int, gpus: list[str], totals: Mapping[str, int], hybrid: bool) -> list[Claim]:
    """One GPU each, then all of them together, then as much as they hold with the rest in RAM."""
    options: list[Claim] = [{gpu: total} for gpu in gpus]
    room = sum(totals.get(gpu, 0) for gpu in gpus)
    if len(gpus) > 1 and room:
        options.append({gpu: -(-total * totals.get(gpu, 0) // room) for gpu in gpus})
    if hybrid and 0 < room < total:
        options.append({gpu: totals.get(gpu, 0) for gpu in gpus} | {"cpu": total - room})
    return options
