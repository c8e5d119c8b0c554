"""One model of the fleet: its process, what it holds, who uses it."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from benchai.config import LoadedConfig, ModelConfig, paths
from benchai.errors import OutOfMemory
from benchai.events import Emit, ModelLoading, ModelReady, ModelState, ModelStopped, Notice
from benchai.runtime.background import in_background
from benchai.runtime.endpoints import Endpoint, Placement
from benchai.runtime.engine.discover import Engine, find_engine
from benchai.runtime.fleet.health import Activity, Probe
from benchai.runtime.fleet.logs import ModelLog
from benchai.runtime.fleet.preflight import check, find_file
from benchai.runtime.fleet.process import EngineProcess, LaunchSpec, Ready
from benchai.runtime.fleet.slots import SlotStore, cache_key
from benchai.runtime.fleet.state import EngineRecord
from benchai.runtime.fleet.supervisor import Policy, Supervisor
from benchai.runtime.fleet.terms import idle_timeout, max_tokens
from benchai.runtime.fleet.uses import Uses
from benchai.runtime.placement.decide import Claim, Refuse
from benchai.runtime.placement.memory import MemoryBook, Need
from benchai.runtime.placement.plan import plan_model

#: Weight of the newest figure in the running mean of a model's load time.
NEWEST = 0.5


class House(Protocol):
    """What a member needs of its fleet."""

    loaded: LoadedConfig
    book: MemoryBook
    record: EngineRecord
    emit: Emit

    def moved(self, member: Member, event: ModelState) -> None:
        """A member's process went to another state."""
        ...

    async def free_for(self, member: Member) -> bool:
        """Stop what may leave for a member that found too little memory; whether anything was stopped."""
        ...


class Member:
    """A model that this fleet launches. The dispatcher decides, the supervisor acts, this is what they know of it."""

    def __init__(self, name: str, house: House) -> None:
        self.name = name
        self.house = house
        self.loaded = house.loaded
        self.book = house.book
        self.uses = Uses()
        self.activity = Activity()
        self.claim: Claim = {}
        self.need: Need | None = None
        self.file: Path | None = None
        self.measured: dict[str, int] = {}
        self.load_seconds = 1.0
        self.coming = False
        self.halted = False
        self.displaced: list[str] = []
        self.role = ""
        self._engine: Engine | None = None
        self._endpoints: dict[str, tuple[Ready, LoadedConfig, Endpoint]] = {}
        self._known: tuple[LoadedConfig | None, int, bool] = (None, 0, False)
        self._store: SlotStore | None = None
        self.log = ModelLog(name, paths.log_dir())
        policy = Policy(self.loaded.config.fleet.max_restarts)
        self.supervisor = Supervisor(name, self.log, self, policy, self._moved)

    @property
    def config(self) -> ModelConfig:
        """The model's settings."""
        return self.loaded.config.models[self.name]

    @property
    def roles(self) -> list[str]:
        """The roles that it serves."""
        return self.loaded.config.roles_of(self.name)

    @property
    def slots(self) -> int:
        """Requests that it serves at a time."""
        return self._settled()[1]

    @property
    def _generates(self) -> bool:
        """Whether it writes text, with a context that is worth keeping."""
        return not (self.config.embedding or self.config.rerank)

    @property
    def core(self) -> bool:
        """Whether it serves a role that is kept up."""
        return self._settled()[2]

    def _settled(self) -> tuple[LoadedConfig | None, int, bool]:
        """What follows from the configuration: it is asked for several times for each request."""
        loaded = self.loaded
        if self._known[0] is not loaded:
            serves = (*self.roles, *loaded.config.copied_by(self.name))
            core = any(role in loaded.config.fleet.core for role in serves)
            self._known = (loaded, loaded.config.slots_of(self.name), core)
        return self._known

    @property
    def placement(self) -> Placement:
        """Where it lives, or would."""
        return "gpu" if any(device != "cpu" for device in self.claim) else "cpu"

    @property
    def hold(self) -> float:
        """Idle seconds after which it leaves: a vision model that took another's place sooner than others."""
        fleet = self.loaded.config.fleet
        if self.displaced and "vision" in self.roles:
            return fleet.vision_hold
        return self.config.ttl or fleet.ttl

    def engine_version(self) -> str:
        """The engine and its version; "" while none was looked for. Slow the first time."""
        return f"{self._engine.kind} {self._engine.version()}" if self._engine is not None else ""

    # ---- before a start

    async def look(self) -> None:
        """Find engine and file, and what the model needs. Slow the first time: call before placing it.

        Raises:
            BenchAIError: it can't be started, and why.
        """
        self._engine = await in_background(find_engine, self.loaded.config.engine, self.loaded.folder)
        self.file = await find_file(self.loaded, self.name, self.house.emit)
        plan = plan_model(self.loaded, self.name, self._engine, self.book.gpus, self.file)
        await in_background(check, plan, self._engine, self.config)
        self.need = await in_background(self.book.need, self.name, self.file, self._engine)

    # ---- Hooks of the supervisor

    async def prepare(self) -> LaunchSpec:
        """See ``Hooks``."""
        if self.need is None or self.file is None or self._engine is None:
            await self.look()
        assert self.file is not None
        assert self._engine is not None
        plan = plan_model(self.loaded, self.name, self._engine, self.book.gpus, self.file, self.claim)
        settings = self.loaded.config.engine
        self._plan = plan
        self.house.emit(ModelLoading(model=self.name, role=self.role, engine=self._engine.kind, file=str(self.file)))
        return LaunchSpec(
            name=self.name,
            argv=plan.argv,
            host=plan.host,
            port=plan.port or 0,
            model_file=self.file,
            stall_timeout=settings.stall_timeout,
            stop_grace=settings.stop_grace,
            env=plan.env,
            spawned=lambda pid: self.house.record.add(self.name, pid),
            ended=self.house.record.remove,
        )

    async def after_ready(self, process: EngineProcess, ready: Ready) -> None:
        """See ``Hooks``: give the conversations back that it had before it was stopped."""
        assert self.file is not None
        key = await in_background(cache_key, self.file, ready.build, self._cache_settings(ready))
        limit = self.loaded.config.fleet.slot_cache
        root = paths.cache_dir() / "slots"
        self._store = SlotStore(Path(str(self._plan.slot_dir)), root, key, limit, self._report)
        if self._generates:
            await self._store.restore(ready)
        self.load_seconds += NEWEST * (ready.seconds - self.load_seconds)
        await self.measure(ready.pid)

    def _cache_settings(self, ready: Ready) -> dict[str, Any]:
        model = self.config
        return {
            "n_ctx": ready.n_ctx,
            "slots": ready.slots,
            "k": model.cache_type_k,
            "v": model.cache_type_v,
            "flash": model.flash_attn,
            "lora": model.lora,
            "mmproj": model.mmproj,
            "args": model.extra_args,
            # whether a context can be restored may depend on it
            **({"swa_full": True} if model.swa_full else {}),
        }

    async def watch(self, process: EngineProcess, ready: Ready) -> str:
        """See ``Hooks``."""
        probe = Probe(
            interval=self.loaded.config.router.health_check_interval,
            deadline=self.loaded.config.fleet.probe_deadline,
            idle_timeout=self.idle_timeout,
            activity=self.activity,
            generates=self._generates,
        )
        why = await probe.watch(process, ready)
        # its connections break before it is gone: nobody is to be let in between
        self.activity.suspect(silent=True)
        return why

    async def before_stop(self, ready: Ready) -> None:
        """See ``Hooks``: keep the conversations."""
        await self.measure(ready.pid)
        if self._store is not None and self._generates:
            await self._store.save(ready)

    async def after_exit(self) -> None:
        """See ``Hooks``."""
        self.measured = {}

    async def make_room(self) -> bool:
        """See ``Hooks``."""
        return await self.house.free_for(self)

    def with_figures(self, error: OutOfMemory) -> OutOfMemory:
        """See ``Hooks``."""
        budget = self.book.budget([], {})
        parts = [f"{mib} MiB of {budget.get(device, 0)} on {device}" for device, mib in self.claim.items()]
        return OutOfMemory(
            f"{error.message}; it was thought to need {', '.join(parts)}",
            log=error.log,
            exit_code_of_process=error.exit_code_of_process,
            hint=error.hint,
        )

    async def measure(self, pid: int) -> None:
        """Measure what its process holds, and remember it for its next start."""
        assert self.file is not None
        self.measured = await in_background(self.book.measure, self.name, self.file, pid, self.claim)

    def _report(self, text: str) -> None:
        self.log.add(f"benchai: {text}")
        self.house.emit(Notice(text=f"{self.name}: {text}"))

    def _moved(self, event: ModelState) -> None:
        if event.state == "starting":
            self.activity.renew()
        if event.state == "ready" and self.supervisor.ready is not None:
            ready = self.supervisor.ready
            self.house.emit(
                ModelReady(model=self.name, pid=ready.pid, n_ctx=ready.n_ctx, seconds=round(ready.seconds, 3))
            )
        if event.previous in ("ready", "stopping") and event.state in ("stopped", "backoff", "failed"):
            self.house.emit(ModelStopped(model=self.name, exit_code=event.exit_code))
        self.house.moved(self, event)

    # ---- while it is ready

    @property
    def idle_timeout(self) -> float:
        """Seconds without a token that end a call."""
        return idle_timeout(self.loaded, self.placement)

    def endpoint(self, role: str) -> Endpoint:
        """Where a role that leased it finds it."""
        ready, placement = self.supervisor.ready, self.placement
        assert ready is not None
        made = self._endpoints.get(role)
        if made is None or made[0] is not ready or made[1] is not self.loaded or made[2].placement != placement:
            made = self._endpoints[role] = ready, self.loaded, self._endpoint(role, ready, placement)
        return made[2]

    def _endpoint(self, role: str, ready: Ready, placement: Placement) -> Endpoint:
        return Endpoint(
            role=role,
            model=self.name,
            base_url=ready.base_url,
            served_name=self.name,
            n_ctx=ready.n_ctx or None,
            placement=placement,
            idle_timeout=self.idle_timeout,
            vision=ready.vision,
            total_timeout=self.loaded.config.router.timeouts.total,
            max_tokens=max_tokens(self.loaded, role, self.config, placement),
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            progress=self._progress,
            suspect=partial(self._suspect, ready),
        )

    async def finished(self, seconds: float) -> None:
        """Wait until nobody uses it, `seconds` at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.uses.nobody.wait(), seconds)

    def would_fit(self, refused: Refuse) -> str:
        """A hint for a model that does not fit: the settings that would."""
        budget = max((figure.budget - figure.pinned for option in refused.figures for figure in option), default=0)
        found = self.book.suggestions(self.name, self.file, budget) if self.file else []
        return "a big model or a long context: " + "; ".join(found) if found else "choose a smaller model"

    def _progress(self) -> None:
        self.activity.pieces += 1

    def _suspect(self, ready: Ready, silent: bool) -> None:
        # what a caller saw of a process that was replaced since says nothing of the one that runs
        if self.supervisor.ready is ready:
            self.activity.suspect(silent)
