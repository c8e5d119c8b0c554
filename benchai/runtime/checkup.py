"""What ``benchai doctor`` looks at: each finding says what is there and, where it is bad, the mend."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from benchai.config import LoadedConfig, load_config, paths
from benchai.errors import BenchAIError, ConfigError
from benchai.runtime.engine.discover import Engine, find_engine, flag_hint
from benchai.runtime.engine.gguf_file import check_gguf
from benchai.runtime.fleet.ports import port_owner
from benchai.runtime.measure.machine import usable_cores, usable_threads
from benchai.runtime.placement.container import narrowed
from benchai.runtime.placement.gpu import list_gpus
from benchai.runtime.placement.plan import plan_model
from benchai.runtime.placement.vocabulary import check_draft
from benchai.runtime.serving import running_server

GIB = 1024**3


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    what: str
    state: Literal["ok", "warning", "problem"]
    text: str
    mend: str | None = None


def check_up(config: Path | None = None) -> list[Finding]:
    """Look at configuration, hardware, engine, models, ports and folders."""
    findings = [*_hardware(), *_folders()]
    try:
        loaded = load_config(config)
    except ConfigError as error:
        return [*findings, Finding("configuration", "problem", error.message, error.hint)]
    findings.append(Finding("configuration", "ok", loaded.name))
    findings += [Finding("configuration", "warning", text) for text in loaded.warnings]
    return [*findings, *_engine(loaded), *_ports(loaded), *_keys(loaded)]


def _hardware() -> Iterator[Finding]:
    yield Finding("cpu", "ok", f"{usable_cores() or usable_threads()} cores, {platform.machine()}, {platform.system()}")
    machine = psutil.virtual_memory()
    memory = narrowed(machine.total, machine.available)
    yield Finding("memory", "ok", f"{memory.free / GIB:.1f} of {memory.total / GIB:.1f} GiB free")
    gpus = list_gpus()
    if not gpus:
        yield Finding("gpu", "ok", "none found, models run on the CPU")
    for gpu in gpus:
        text = f"{gpu.index}: {gpu.name}, {gpu.free_mib} of {gpu.total_mib} MiB free, driver {gpu.driver}"
        yield Finding("gpu", "ok", text)


def _folders() -> Iterator[Finding]:
    folders = {
        "config": paths.config_dir(),
        "data": paths.data_dir(),
        "cache": paths.cache_dir(),
        "logs": paths.log_dir(),
    }
    for name, folder in folders.items():
        nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if os.access(nearest, os.W_OK) and nearest.is_dir():
            yield Finding(f"folder {name}", "ok", str(folder))
        else:
            yield Finding(
                f"folder {name}", "problem", f"{folder} cannot be written", "set BENCHAI_HOME to a folder of yours"
            )


def _engine(loaded: LoadedConfig) -> Iterator[Finding]:
    try:
        engine = find_engine(loaded.config.engine, loaded.folder)
        engine.flags()
        yield Finding("engine", "ok", f"{engine.version()} ({engine.program})")
    except BenchAIError as error:
        yield Finding("engine", "problem", error.message, error.hint)
        return
    gpus = list_gpus()
    if gpus and not engine.uses_gpus():
        mend = "put a llama-server that is built for it on PATH, or set engine.path"
        yield Finding("engine", "warning", "there is a GPU, but this engine runs on the CPU alone", mend)
    for name, model in loaded.config.models.items():
        if not model.remote:
            yield from _model(loaded, name, engine, [f"gpu{gpu.index}" for gpu in gpus])


def _model(loaded: LoadedConfig, name: str, engine: Engine, gpus: list[str]) -> Iterator[Finding]:
    model = loaded.config.models[name]
    try:
        plan = plan_model(loaded, name, engine, gpus)
        for flag in engine.lacks(plan.argv):
            yield Finding(
                f"model {name}", "problem", f"{engine.version()} lacks the flag {flag}", flag_hint(flag, model)
            )
        if model.hf is not None and loaded.model_file(name) is None:
            text = f"hf: {model.hf} is not downloaded yet"
            yield Finding(f"model {name}", "warning", text, "its first use fetches it")
            return
        check_gguf(Path(str(plan.file)), f"models.{name}")
        if plan.draft is not None:
            check_draft(Path(str(plan.file)), Path(plan.draft), f"models.{name}")
        size = Path(str(plan.file)).stat().st_size / GIB
        text = f"{plan.file}, {size:.2f} GiB, {plan.placement}, roles {', '.join(plan.roles)}"
        yield Finding(f"model {name}", "ok", text)
    except BenchAIError as error:
        yield Finding(f"model {name}", "problem", error.message, error.hint)


def _ports(loaded: LoadedConfig) -> Iterator[Finding]:
    wanted = {f"model {name}": (model.host, model.port) for name, model in loaded.config.models.items() if model.port}
    server = running_server()
    if server is not None:
        # its router has the port, its models may have theirs
        yield Finding("server", "ok", f"benchai serve runs at {server.url} (pid {server.pid}) for {server.config}")
        return
    wanted["router"] = (loaded.config.router.host, loaded.config.router.port)
    for name, (host, port) in wanted.items():
        try:
            owner = port_owner(host, port)
        except OSError as error:
            yield Finding(f"port {port}", "problem", f"{host} cannot be used for {name}: {error.strerror}")
            continue
        if owner is None:
            yield Finding(f"port {port}", "ok", f"free, for {name}")
        else:
            yield Finding(
                f"port {port}",
                "warning",
                f"wanted for {name}, in use by {owner}",
                "end that process, or choose another port",
            )


def _keys(loaded: LoadedConfig) -> Iterator[Finding]:
    for name, model in loaded.config.models.items():
        if model.api_key_env and not os.environ.get(model.api_key_env):
            yield Finding(
                f"model {name}", "problem", f"{model.api_key_env} is not set", f"export {model.api_key_env}=..."
            )
