"""One engine, started for a measurement and ended after it, within the memory that is free now.

It is none of the fleet's: nothing else sends it requests, and its KV cache is neither restored nor saved.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchai.config import LoadedConfig, ModelConfig, paths
from benchai.errors import DoesNotFit, EndpointLost, UsageError, did_you_mean
from benchai.events import Emit, Event
from benchai.runtime.background import in_background
from benchai.runtime.engine.discover import Engine, find_engine
from benchai.runtime.fleet.logs import ModelLog
from benchai.runtime.fleet.preflight import check, find_file
from benchai.runtime.fleet.process import EngineProcess, LaunchSpec, Ready
from benchai.runtime.placement.decide import Claim
from benchai.runtime.placement.gauge import Gauge
from benchai.runtime.placement.memory import MemoryBook, Need
from benchai.runtime.placement.plan import ModelPlan, plan_model

_STOP = "stop what holds memory (benchai serve, other programs)"


def _silent(event: Event) -> None:
    pass


@dataclass(frozen=True)
class Rig:
    """A running engine: ``ready`` tells its address, ``plan`` its arguments, ``claim`` MiB by device as estimated.

    ``settings`` are those that it was started with; ``engine_version`` is what it tells of itself.
    """

    model: str
    settings: ModelConfig
    ready: Ready
    plan: ModelPlan
    claim: Claim
    engine_version: str
    held: Callable[[], dict[str, int]] = field(repr=False)

    def memory_mib(self) -> dict[str, int]:
        """MiB that it holds now, by device ("cpu", "gpu0", ...)."""
        return {device: mib for device, mib in self.held().items() if mib}


def launched_model(loaded: LoadedConfig, role: str) -> str:
    """The model of a role, or the model of that name, whose engine this machine starts.

    Raises:
        UsageError: there is no such role or model, or a remote endpoint serves it, which starts its own engine.
    """
    models = loaded.config.models
    roles = {one: model for one, model in loaded.config.role_map().items() if model in models}
    name = role if role in models else roles.get(role)
    if name is None:
        message = f"no model serves the role {role!r}, and none has that name"
        raise UsageError(message, hint=did_you_mean(role, {*models, *roles}))
    if models[name].remote:
        hint = "measure it where it runs, or give the role a model with a file"
        raise UsageError(f"the model {name!r} of {role!r} is a remote endpoint: its engine is not ours", hint=hint)
    return name


def with_model(loaded: LoadedConfig, name: str, model: ModelConfig) -> LoadedConfig:
    """The configuration with other settings for one model."""
    models = loaded.config.models | {name: model}
    return replace(loaded, config=loaded.config.model_copy(update={"models": models}))


def less(loaded: LoadedConfig, claim: Claim) -> LoadedConfig:
    """The configuration with that much less memory: what is configured does not know of the engine beside."""
    memory = loaded.config.fleet.memory
    on_gpu = max((mib for device, mib in claim.items() if device != "cpu"), default=0)
    changed = {
        "ram": memory.ram and max(1, memory.ram - claim.get("cpu", 0)),
        "vram": memory.vram and max(1, memory.vram - on_gpu),
    }
    fleet = loaded.config.fleet.model_copy(update={"memory": memory.model_copy(update=changed)})
    return replace(loaded, config=loaded.config.model_copy(update={"fleet": fleet}))


@asynccontextmanager
async def started(
    loaded: LoadedConfig,
    name: str,
    emit: Emit = _silent,
    *,
    beside: Claim | None = None,
    place: frozenset[str] | None = None,
) -> AsyncIterator[Rig]:
    """Start the engine of a model, and end it on leaving.

    A port of its own is left aside for a free one: a server of the user may run beside.

    Args:
        loaded: The configuration.
        name: The model.
        emit: Gets what a download tells.
        beside: What another engine holds that it is compared with, MiB by device.
        place: The devices of what it is compared with; default: those of ``beside``.

    Raises:
        DoesNotFit: no place has the memory that it needs, what runs is not stopped for it; or only another place than
            ``place`` has it: that would compare places.
        EngineError: there is no engine, or it does not start.
        ModelFileError: a file of the model is missing or damaged.
        EndpointLost: from within: the same, with the model and where its log is.
    """
    beside = beside or {}
    place = place or frozenset(beside)
    loaded = with_model(loaded, name, loaded.config.models[name].model_copy(update={"port": 0, "host": "127.0.0.1"}))
    loaded = less(loaded, beside)
    engine = await in_background(find_engine, loaded.config.engine, loaded.folder)
    file = await find_file(loaded, name, emit)
    with Gauge() as gauge:
        book = await in_background(MemoryBook, loaded, gauge)
        plan, claim = await in_background(_placed, loaded, name, engine, file, book)
        _check_place(name, frozenset(claim), place)
        on_gpu = {device: mib for device, mib in claim.items() if device in book.gpus}
        # what an engine before this one held comes back late
        await gauge.wait_released(on_gpu, loaded.config.fleet.memory.release_deadline)
        process = EngineProcess(_spec(loaded, plan, file), ModelLog(f"{name}.measured", paths.log_dir()))
        try:
            ready = await process.start()
            version = await in_background(engine.version)
            yield Rig(
                name,
                loaded.config.models[name],
                ready,
                plan,
                claim,
                version,
                lambda: gauge.held_by([ready.pid]),
            )
        except EndpointLost as error:
            # two engines may be up: the error tells the address of the one that it is about
            if f"{ready.root} " not in error.message:
                raise
            raise EndpointLost(f"model {name!r}: {error.message}", hint=f"see {process.log.path}") from error
        finally:
            await asyncio.shield(process.stop())


def _placed(loaded: LoadedConfig, name: str, engine: Engine, file: Path, book: MemoryBook) -> tuple[ModelPlan, Claim]:
    model = loaded.config.models[name]
    check(plan_model(loaded, name, engine, book.gpus, file), engine, model)
    need, budget = book.need(name, file, engine), book.budget([], {})
    for claim in need.options:
        if all(budget.get(device, 0) >= mib for device, mib in claim.items()):
            return plan_model(loaded, name, engine, book.gpus, file, claim), claim
    raise _does_not_fit(name, need, budget, book.suggestions(name, file, max(budget.values(), default=0)))


def _check_place(name: str, devices: frozenset[str], place: frozenset[str]) -> None:
    if place and devices != place:
        told = f"model {name!r} fits on {_names(devices)} only, what it is compared with is on {_names(place)}"
        raise DoesNotFit(told, hint=_STOP)


def _names(devices: frozenset[str]) -> str:
    return " and ".join(sorted(devices))


def _does_not_fit(name: str, need: Need, budget: dict[str, int], smaller: list[str]) -> DoesNotFit:
    needed = " or ".join(", ".join(f"{mib} MiB on {device}" for device, mib in one.items()) for one in need.options)
    free = ", ".join(f"{mib} MiB on {device}" for device, mib in budget.items())
    would = f"; it would fit with {' or '.join(smaller[:2])}" if smaller else ""
    return DoesNotFit(f"model {name!r} needs {needed}, free are {free}", hint=f"{_STOP}{would}")


def _spec(loaded: LoadedConfig, plan: ModelPlan, file: Path) -> LaunchSpec:
    settings = loaded.config.engine
    return LaunchSpec(
        name=plan.model,
        argv=plan.argv,
        host=plan.host,
        port=plan.port or 0,
        model_file=file,
        stall_timeout=settings.stall_timeout,
        stop_grace=settings.stop_grace,
        env=plan.env,
    )
