"""An advice as benchai.yaml, with the reasons as comments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchai.config.section import CORE_ROLES, ROLES
from benchai.runtime.advise.advise import Advice, Budget
from benchai.runtime.advise.fit import Choice, File, Group
from benchai.runtime.advise.rules import BATCH, GPU_THREADS, gpu_room, ram_room

_PLAIN = re.compile(r"[A-Za-z~./][\w~./+-]*")


def as_yaml(advice: Advice, models_dir: Path, files: Mapping[str, File]) -> str:
    """The text of a benchai.yaml.

    Args:
        advice: What to write.
        models_dir: Where the files are, or will be.
        files: Those that are there already; one that lies elsewhere is named by its path.
    """
    names = model_names(advice)
    lines = [*_head(advice), f"models_dir: {_scalar(str(models_dir))}", "", "models:"]
    for choice in advice.choices:
        lines += [*_model(choice, names, advice.budget, models_dir, files), ""]
    lines += ["roles:", *(f"  {role}: {_scalar(model)}" for role, model in _roles(advice, names)), ""]
    core = [role for role in CORE_ROLES if (one := advice.choice(role)) is not None and not one.on_demand]
    lines += ["fleet:", f"  core: [{', '.join(core)}] # what 'benchai serve' keeps up"]
    return "\n".join(lines) + "\n"


def model_names(advice: Advice) -> dict[Group, str]:
    """The name of each model in benchai.yaml, by the roles it serves: the short one where it is the only one."""
    shorts = [choice.entry.short for choice in advice.choices]
    full = [choice.entry.name for choice in advice.choices]

    def name(choice: Choice) -> str:
        own = choice.entry
        if shorts.count(own.short) == 1:
            return own.short
        return own.name if full.count(own.name) == 1 else f"{own.name}-{choice.roles[0]}"

    return {choice.roles: name(choice) for choice in advice.choices}


def _roles(advice: Advice, names: Mapping[Group, str]) -> list[tuple[str, str]]:
    served = [(role, advice.choice(role)) for role in ROLES]
    return [(role, names[choice.roles]) for role, choice in served if choice is not None]


def _head(advice: Advice) -> Iterator[str]:
    budget = advice.budget
    gpus = ", ".join(f"{total} MiB of GPU memory ({gpu_room(total)} for models)" for total in budget.gpus)
    yield f"# For {gpus or 'no GPU'} and {budget.ram} MiB of RAM ({ram_room(budget.ram)} for models)."
    yield "# Made by 'benchai models advise'; MiB are estimates: 'benchai fleet plan' shows what is there now,"
    yield "# 'benchai tune ROLE' finds what is fastest on this machine."
    for role, reason in advice.missing.items():
        yield f"# {role}: {reason}"


def _model(
    choice: Choice, names: Mapping[Group, str], budget: Budget, models_dir: Path, files: Mapping[str, File]
) -> Iterator[str]:
    yield f"  # {', '.join(choice.roles)}: {choice.entry.title} {choice.quantisation}, {sizes_in_words(choice)}"
    yield f"  # - licence: {choice.entry.licence}"
    for reason in choice.reasons:
        yield f"  # - {reason}"
    yield f"  {_scalar(names[choice.roles])}:"
    yield f"    file: {_file(choice.file, models_dir, files)} # {choice.entry.repo}"
    if choice.entry.projector is not None:
        yield f"    mmproj: {_file(choice.entry.projector_file, models_dir, files)}"
    yield from (f"    {line}" for line in _settings(choice, budget))


def sizes_in_words(choice: Choice) -> str:
    """What a choice takes, and whether that was read from its file."""
    need = choice.need
    parts = f"weights {need.weights_mib}, KV {need.kv_mib}, compute {need.compute_mib}, overhead {need.overhead_mib}"
    return f"{need.total_mib} MiB {'exactly' if choice.exact else 'estimated'} ({parts})"


def _file(name: str, models_dir: Path, files: Mapping[str, File]) -> str:
    found = files.get(name)
    if found is None:
        return _scalar(name)
    return _scalar(found.path.name if found.path.parent == models_dir else str(found.path))


def _settings(choice: Choice, budget: Budget) -> Iterator[str]:
    if choice.place == "gpu":
        yield "gpu_layers: all"
        if choice.on_demand:
            yield "placement: gpu"
    else:
        yield "gpu_layers: 0"
    if choice.cpu_moe:
        yield f"cpu_moe: {choice.cpu_moe} # 'benchai models inspect' shows other splits"
    yield f"context: {choice.context}"
    # experts in RAM are the CPU's work
    if choice.place == "gpu" and not choice.cpu_moe:
        threads = min(GPU_THREADS, budget.cores or GPU_THREADS)
        yield f"threads: {threads} # fewer are faster beside a GPU"
        if not choice.entry.shape.encoder:
            yield f"batch_size: {BATCH}"
    elif budget.cores:
        yield f"threads: {budget.cores} # the physical cores"
    if choice.entry.shape.encoder:
        yield f"ubatch_size: {choice.context} # the longest input"
    else:
        yield "flash_attn: true"
    if choice.cache_type != "f16":
        yield f"cache_type_k: {choice.cache_type}"
        yield f"cache_type_v: {choice.cache_type}"
    yield from (f"{key}: true" for role, key in (("embed", "embedding"), ("rerank", "rerank")) if role in choice.roles)


def _scalar(text: str) -> str:
    """A text as a YAML scalar, quoted where it would be read as something else."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
