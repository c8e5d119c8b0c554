"""The fleet: all models of a configuration, started when a role is first leased, stopped at the end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from benchai.config import LoadedConfig, ModelConfig, paths
from benchai.config.load import require_file
from benchai.config.models import REASONING_ROLES
from benchai.errors import ConfigError, EngineError, EngineStartError
from benchai.events import Emit, ModelLoading, ModelReady, ModelStopped, Notice
from benchai.runtime.background import in_background
from benchai.runtime.endpoints import Endpoint, Placement
from benchai.runtime.engine.discover import Engine, find_engine, flag_hint
from benchai.runtime.engine.gguf_file import check_gguf
from benchai.runtime.fleet.logs import ModelLog
from benchai.runtime.fleet.process import EngineProcess, LaunchSpec, Ready
from benchai.runtime.placement.gpu import list_gpus
from benchai.runtime.placement.plan import ModelPlan, plan_model


class _Model:
    """A model of the fleet, running or not; the lock lets one caller start it while others wait."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.process: EngineProcess | None = None
        self.placement: Placement = "cpu"
        self.ready: Ready | None = None


class Fleet:
    """Implements ``Endpoints`` with engine processes that this process owns.

    ``async with Fleet(loaded) as fleet``: leaving stops every model.
    """

    def __init__(self, loaded: LoadedConfig, emit: Emit = lambda event: None) -> None:
        self.loaded = loaded
        self._emit = emit
        self._models = {name: _Model() for name in loaded.config.models}
        self._places: dict[str, asyncio.Semaphore] = {}
        self._engine: Engine | None = None
        self._closing = False
        self._gpus = list_gpus()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        stopping = asyncio.ensure_future(self.stop())
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            # a second Ctrl-C does not leave models behind
            await stopping
            raise

    async def stop(self) -> None:
        """Stop every model."""
        running = [(name, model.process) for name, model in self._models.items() if model.process]
        await asyncio.gather(*(self._stop_one(name, process) for name, process in running))

    async def _stop_one(self, name: str, process: EngineProcess) -> None:
        await process.stop()
        self._emit(ModelStopped(model=name, exit_code=process.returncode))

    @asynccontextmanager
    async def lease(self, role: str) -> AsyncIterator[Endpoint]:
        """See ``Endpoints.lease``."""
        name, model = self.loaded.model_for(role)
        permit = self._places.setdefault(role, asyncio.Semaphore(self.loaded.config.concurrency(role)))
        async with permit:
            if model.remote:
                yield self._remote_endpoint(role, name, model)
            else:
                ready = await self._ensure_ready(name, role)
                yield self._endpoint(role, name, model, ready)

    async def _ensure_ready(self, name: str, role: str) -> Ready:
        model = self._models[name]
        async with model.lock:
            if self._closing:
                raise EngineError(f"model {name!r} is not started: the fleet is stopping")
            if model.ready and model.process and model.process.alive:
                return model.ready
            if model.process:
                await self._stop_one(name, model.process)
            model.process, model.ready = None, None
            try:
                model.ready = await self._start(name, role, model)
            except BaseException:
                # a start that failed has cleaned up after itself
                model.process = None
                raise
            return model.ready

    async def _start(self, name: str, role: str, model: _Model) -> Ready:
        engine = await self._find_engine()
        file = await self._model_file(name)
        plan = plan_model(self.loaded, name, engine, self._gpus, file)
        await in_background(self._check, plan, engine)
        settings = self.loaded.config.engine
        spec = LaunchSpec(
            name=name,
            argv=plan.argv,
            host=plan.host,
            port=plan.port or 0,
            model_file=file,
            stall_timeout=settings.stall_timeout,
            stop_grace=settings.stop_grace,
            health_interval=self.loaded.config.router.health_check_interval,
        )
        if self._closing:
            raise EngineError(f"model {name!r} is not started: the fleet is stopping")
        model.placement = plan.placement
        model.process = EngineProcess(spec, ModelLog(name, paths.log_dir()))
        self._emit(ModelLoading(model=name, role=role, engine=engine.kind, file=str(file)))
        ready = await model.process.start()
        self._emit(ModelReady(model=name, pid=ready.pid, n_ctx=ready.n_ctx, seconds=round(ready.seconds, 3)))
        return ready

    async def _find_engine(self) -> Engine:
        if self._engine is None:
            self._engine = await in_background(find_engine, self.loaded.config.engine, self.loaded.folder)
        return self._engine

    async def _model_file(self, name: str) -> Path:
        """The model's GGUF; one on the hub is downloaded first."""
        hub = self.loaded.config.models[name].hf
        if hub is not None:
            from benchai.config.hub import cached_file, download

            cached = await in_background(cached_file, hub)
            if cached is not None:
                return cached
            self._emit(Notice(text=f"fetching {hub} from Hugging Face"))
            return await in_background(download, hub)
        file = self.loaded.model_file(name)
        assert file is not None
        return file

    def _check(self, plan: ModelPlan, engine: Engine) -> None:
        """What would make the engine fail, found before it is started."""
        check_gguf(Path(str(plan.file)), f"models.{plan.model}")
        for path in plan.missing:
            require_file(Path(path), f"models.{plan.model}")
        model = self.loaded.config.models[plan.model]
        for flag in engine.lacks(plan.argv):
            message = f"model {plan.model!r}: {engine.version()} does not know the flag {flag!r}"
            raise EngineStartError(message, hint=flag_hint(flag, model))
        try:
            Path(str(plan.slot_dir)).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"model {plan.model!r}: cannot make {plan.slot_dir!r} for saved KV caches: {error.strerror}"
            hint = f"set models.{plan.model}.slot_save_path to a folder of yours"
            raise EngineError(message, hint=hint) from error

    def _endpoint(self, role: str, name: str, model: ModelConfig, ready: Ready) -> Endpoint:
        placement = self._models[name].placement
        return Endpoint(
            role=role,
            model=name,
            base_url=ready.base_url,
            served_name=name,
            n_ctx=ready.n_ctx or None,
            placement=placement,
            idle_timeout=self._idle_timeout(placement),
            max_tokens=self._max_tokens(role, model, placement),
            temperature=model.temperature,
            top_p=model.top_p,
        )

    def _remote_endpoint(self, role: str, name: str, model: ModelConfig) -> Endpoint:
        return Endpoint(
            role=role,
            model=name,
            base_url=str(model.endpoint).rstrip("/"),
            served_name=str(model.model),
            n_ctx=model.context,
            placement="remote",
            idle_timeout=self._idle_timeout("remote"),
            max_tokens=self._max_tokens(role, model, "remote"),
            api_key=_api_key(name, model),
            temperature=model.temperature,
            top_p=model.top_p,
        )

    def _idle_timeout(self, placement: Placement) -> float:
        timeouts = self.loaded.config.router.timeouts
        return timeouts.cpu if placement == "cpu" else timeouts.gpu

    def _max_tokens(self, role: str, model: ModelConfig, placement: Placement) -> int:
        caps = self.loaded.config.router.max_tokens
        on_cpu = caps.cpu_reasoning if role in REASONING_ROLES else caps.cpu
        return model.max_tokens or (on_cpu if placement == "cpu" else caps.gpu)


def _api_key(name: str, model: ModelConfig) -> str | None:
    if model.api_key_env is None:
        return None
    key = os.environ.get(model.api_key_env, "").strip()
    if key and not (key.isascii() and key.isprintable()):
        hint = "copy the key again: letters, digits and punctuation only"
        raise ConfigError(
            f"models.{name}.api_key_env: {model.api_key_env!r} holds characters that no key has", hint=hint
        )
    if not key:
        raise ConfigError(
            f"models.{name}.api_key_env: the environment variable {model.api_key_env!r} is not set",
            hint=f"export {model.api_key_env}=...",
        )
    return key
