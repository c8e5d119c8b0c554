"""One engine process: started, watched until it is ready, stopped with all that it started.

State table (what each call does in each state):

| state    | start()                | stop()                          |
| -------- | ---------------------- | ------------------------------- |
| stopped  | spawns, -> starting    | nothing                         |
| starting | an error: called twice | TERM, grace, KILL, -> stopped   |
| ready    | an error: called twice | TERM, grace, KILL, -> stopped   |
| stopping | an error: called twice | waits for the stop under way    |
| failed   | an error: make another | cleans up, -> stopped           |
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx

from benchai.errors import EngineStartError, PortInUse
from benchai.runtime.engine.failures import explain_exit
from benchai.runtime.fleet.group import group_gone, signal_group
from benchai.runtime.fleet.logs import ModelLog
from benchai.runtime.fleet.ports import listening_port, port_owner
from benchai.runtime.fleet.stall import StallWatch
from benchai.runtime.http import local_client
from benchai.runtime.race import race

State = Literal["stopped", "starting", "ready", "stopping", "failed"]
POLL_SECONDS = 0.05
QUIET_POLLS = 4
HEALTH_SECONDS = 5.0
SECOND_TERM_SECONDS = 1.0


def _nothing(pid: int) -> None:
    pass


@dataclass(frozen=True)
class LaunchSpec:
    """All that is needed to start one engine process.

    ``env`` is added to its environment; ``spawned`` and ``ended`` are called with its pid.
    """

    name: str
    argv: Sequence[str]
    host: str
    port: int
    model_file: Path
    stall_timeout: float = 120
    stop_grace: float = 5
    env: Mapping[str, str] = field(default_factory=dict)
    spawned: Callable[[int], None] = _nothing
    ended: Callable[[int], None] = _nothing


@dataclass(frozen=True)
class Ready:
    """What a ready engine told of itself: ``slots`` requests at a time, ``build`` names its version."""

    base_url: str
    pid: int
    n_ctx: int
    seconds: float
    slots: int = 1
    build: str = ""
    vision: bool = False

    @property
    def root(self) -> str:
        """The address without ``/v1``."""
        return self.base_url.removesuffix("/v1")


def child_env(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of an engine: without LLAMA_ARG_*, which would silently change its flags."""
    kept = {key: value for key, value in environ.items() if not key.startswith("LLAMA_ARG_")}
    return kept | {"BENCHAI_PARENT_PID": str(os.getpid()), "BENCHAI_WATCH_STDIN": "1"}


class EngineProcess:
    """Owns one engine process from its spawn to the verified end of its group."""

    def __init__(self, spec: LaunchSpec, log: ModelLog) -> None:
        self.spec = spec
        self.log = log
        self.state: State = "stopped"
        self.exited = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stdin: int | None = None
        self._output: asyncio.ReadTransport | None = None
        self._stopping = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The pid of the engine, also the id of its process group; None before the start."""
        return self._process.pid if self._process else None

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.returncode if self._process else None

    @property
    def alive(self) -> bool:
        """Whether it runs at this moment: asked of the kernel, ahead of any event."""
        if self.pid is None or self.exited.is_set():
            return False
        if not hasattr(os, "waitid"):  # macOS, before Python 3.13
            return self.returncode is None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    async def start(self) -> Ready:
        """Spawn the engine and wait until it answers for the right model.

        Raises:
            EngineStartError: it ended or stalled first; with the plain reason and the last log lines.
            PortInUse: something else listens on the configured port.
        """
        if self.state != "stopped":
            raise RuntimeError(f"start() of {self.spec.name!r} in state {self.state}")
        self.state = "starting"
        began = time.monotonic()
        try:
            if self.spec.port:
                self._refuse_taken_port()
            await self._spawn()
            ready = await self._until_ready(began)
        except BaseException:
            self.state = "failed"
            await asyncio.shield(self.stop())
            raise
        self.state = "ready"
        return ready

    def kill(self, why: str) -> None:
        """End its whole group at once; ``exited`` follows."""
        if self.alive and self.pid is not None:
            self.log.add(f"benchai: {why}, sending SIGKILL")
            signal_group(self.pid, signal.SIGKILL)

    def _refuse_taken_port(self) -> None:
        host, port = self.spec.host, self.spec.port
        try:
            owner = port_owner(host, port)
        except OSError as error:
            hint = f"check models.{self.spec.name}.host"
            raise self._start_error(f"cannot listen on {host}:{port}: {error.strerror}", hint) from error
        if owner is not None:
            raise PortInUse(
                f"model {self.spec.name!r}: port {port} on {host} is in use by {owner}",
                hint=f"end that process, or set another models.{self.spec.name}.port (0 takes a free one)",
            )

    async def _spawn(self) -> None:
        self.log.listening.clear()
        # Pipes of our own: asyncio would take a process for running while a grandchild holds one of its
        child_in, self._stdin = os.pipe()
        child_out_read, child_out = os.pipe()
        reader = asyncio.StreamReader()
        self._output, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(child_out_read, "rb", buffering=0)
        )
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.argv,
                stdin=child_in,
                stdout=child_out,
                stderr=asyncio.subprocess.STDOUT,
                env=child_env(os.environ) | dict(self.spec.env),
                start_new_session=True,
            )
        finally:
            os.close(child_in)
            os.close(child_out)
        self.spec.spawned(self._process.pid)
        reading = asyncio.create_task(self.log.read(reader, self._output))
        self._tasks = [reading, asyncio.create_task(self._watch(self._process, reading))]

    async def _watch(self, process: asyncio.subprocess.Process, reading: asyncio.Task[None]) -> None:
        """Note the exit at once, and end whatever the engine leaves behind."""
        await process.wait()
        signal_group(process.pid, signal.SIGKILL)
        if not await group_gone(process.pid):
            self.log.add("benchai: a process that the engine started survives SIGKILL")
        else:
            self.spec.ended(process.pid)
        # its last lines say why
        await asyncio.wait([reading], timeout=0.5)
        self.exited.set()

    async def _until_ready(self, began: float) -> Ready:
        stall = StallWatch(self.pid, self.log)
        polls = 0
        async with local_client(timeout=HEALTH_SECONDS) as client:
            while True:
                if self.exited.is_set():
                    raise self._exit_error()
                # a look for the port costs more than all else here: before the engine says that it listens, few
                if self.log.listening.is_set() or polls % QUIET_POLLS == QUIET_POLLS - 1:
                    ready = await self._probe(client, began)
                    if ready is not None:
                        return ready
                polls += 1
                if stall.seconds() > self.spec.stall_timeout:
                    message = f"the engine has made no progress for {self.spec.stall_timeout:g} s"
                    raise self._start_error(message, "see the log; engine.stall_timeout sets the limit")
                await self._pause()

    async def _pause(self) -> None:
        """Until the engine ends, or says that it listens; not for long."""
        events = [self.exited] if self.log.listening.is_set() else [self.exited, self.log.listening]
        async with race(*(event.wait() for event in events), seconds=POLL_SECONDS):
            pass

    async def _probe(self, client: httpx.AsyncClient, began: float) -> Ready | None:
        """Look once: is our own process listening, healthy, and serving our model."""
        assert self.pid is not None
        port = listening_port(self.pid, self.spec.port)
        if port is None:
            return None
        root = f"http://{_url_host(self.spec.host)}:{port}"
        try:
            if (await client.get(f"{root}/health")).status_code != httpx.codes.OK:
                return None
            answer = await client.get(f"{root}/props")
            if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                raise self._start_error(
                    f"{root}/props answers {answer.status_code}, it wants a key", "take --api-key out of extra_args"
                )
            props = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return None
        self._verify(props, root)
        n_ctx = int(props.get("default_generation_settings", {}).get("n_ctx", 0))
        slots, build = int(props.get("total_slots", 1)), str(props.get("build_info", ""))
        vision = bool(props.get("modalities", {}).get("vision"))
        return Ready(f"{root}/v1", self.pid, n_ctx, time.monotonic() - began, slots, build, vision)

    def _verify(self, props: dict[str, object], root: str) -> None:
        served = Path(str(props.get("model_path", "")))
        if served.resolve() != self.spec.model_file.resolve():
            message = f"{root} serves {str(served)!r}, not {str(self.spec.model_file)!r}"
            raise self._start_error(message, "check models.*.extra_args for a second --model")

    def _start_error(self, message: str, hint: str) -> EngineStartError:
        return EngineStartError(f"model {self.spec.name!r}: {message}", log=self.log.tail(), hint=hint)

    def _exit_error(self) -> EngineStartError:
        return explain_exit(self.spec.name, self.returncode or 0, list(self.log.lines))

    async def stop(self) -> None:
        """End the engine and its whole group: TERM, grace, KILL; returns when none of it is left."""
        async with self._stopping:
            try:
                # after its exit its pid may be somebody else's; _watch has ended its group then
                if self._process is not None and not self.exited.is_set():
                    self.state = "stopping"
                    await self._end(self._process.pid)
            finally:
                await self._close()
                self.state = "stopped"

    async def _end(self, pid: int) -> None:
        try:
            if not await self._terminate(pid):
                self.log.add(f"benchai: no exit within {self.spec.stop_grace:g} s of SIGTERM, sending SIGKILL")
        finally:
            if not self.exited.is_set():
                signal_group(pid, signal.SIGKILL)
        await self.exited.wait()

    async def _terminate(self, pid: int) -> bool:
        """Whether SIGTERM ended it. llama-server lets requests under way run on at the first, not at a second."""
        first = min(SECOND_TERM_SECONDS, self.spec.stop_grace)
        for seconds in (first, self.spec.stop_grace - first):
            signal_group(pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.exited.wait(), seconds)
                return True
        return False

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._output is not None:
            self._output.close()
        if self._stdin is not None:
            os.close(self._stdin)
        self._output = self._stdin = None
        self.log.close()


def _url_host(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - recognised, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
