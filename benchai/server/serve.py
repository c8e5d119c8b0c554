"""`benchai serve`: the fleet and its HTTP face in one process, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from benchai.config import LoadedConfig, load_config
from benchai.errors import BenchAIError, PortInUse, UsageError
from benchai.events import Event, Notice
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.fleet.ports import port_owner
from benchai.runtime.race import race
from benchai.runtime.serving import announced, only_server, write_record
from benchai.server.app import make_app
from benchai.server.auth import check_reach
from benchai.server.connection import guarded
from benchai.server.edge import Edge
from benchai.server.events import EventLog
from benchai.server.face import Face

WATCH_SECONDS = 1.0
CLOSE_SECONDS = 2
#: Objects made, less those gone, at which Python looks for garbage. At 700, its default, it looks again and again at
#: those of the requests under way, a twentieth of the time; at many more each look holds up requests.
GARBAGE = 3_000
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Uvicorn(uvicorn.Server):
    """Leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn."""
        yield


class Service:
    """One run of the server. `show` gets every event of the fleet, `tell` lines for people.

    `access_log` has a line told for each request, whatever `server.access_log` says.
    """

    def __init__(
        self,
        loaded: LoadedConfig,
        show: Callable[[Event], None],
        tell: Callable[[str], None],
        *,
        access_log: bool = False,
    ) -> None:
        self.loaded = loaded
        self.log = EventLog()
        self.url = ""
        self._show = show
        self._tell = tell
        self._access_log = access_log
        self._edge: Edge | None = None
        self._face: Face | None = None
        self._token = secrets.token_urlsafe(24)
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._at_once = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT: then let requests under way end, keep their contexts, stop the models.

        Raises:
            UsageError: another server of this user runs.
            PortInUse: something else listens on router.port.
            ConfigError: other machines can reach it, and there are no keys.
        """
        self._take_signals()
        with only_server(), contextlib.closing(self._bind()) as bound:
            host, port = bound.getsockname()[:2]
            check_reach(host, self.loaded.config.server.keys)
            self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            async with Fleet(self.loaded, self._emit, keep_core=True) as fleet, Face(fleet, self._emit) as face:
                self._face = face
                server = Uvicorn(self._settings(fleet, face, host))
                serving = asyncio.create_task(server.serve(sockets=[bound]))
                watching = asyncio.create_task(self._follow_config(fleet))
                try:
                    with announced(self.url, self._token, self.loaded):
                        self._tell(f"serves {self.loaded.name} at {self.url}")
                        # what is loaded stays: to look through it for garbage would hold up requests
                        gc.freeze()
                        gc.set_threshold(GARBAGE)
                        await self._until_stopped(serving)
                        # a reload during the drain would announce this server again
                        watching.cancel()
                    await self._drain(fleet)
                finally:
                    watching.cancel()
                    self.log.close()
                    server.should_exit = True
                    await asyncio.gather(serving, watching, return_exceptions=True)

    def _settings(self, fleet: Fleet, face: Face, host: str) -> uvicorn.Config:
        app = make_app(fleet, self.log, self._token, face.memories.use)
        edge = self._edge = Edge(face.over(app), self.loaded.config.server, host, self._line_of(self.loaded))
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        return uvicorn.Config(
            edge,
            http=guarded(lambda: edge.settings),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )

    def _line_of(self, loaded: LoadedConfig) -> Callable[[str], None] | None:
        """What takes the lines of the access log."""
        return self._tell if self._access_log or loaded.config.server.access_log else None

    def _emit(self, event: Event) -> None:
        self.log.emit(event)
        if self._face is not None:
            self._face.observe(event)
        self._show(event)

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            self._at_once.set()
        self._stop.set()

    def _bind(self) -> socket.socket:
        router = self.loaded.config.router
        try:
            return listener(router.host, router.port)
        except (TypeError, ValueError) as error:
            raise UsageError(f"the host {router.host!r} is no address", hint="check router.host") from error
        except OSError as error:
            with contextlib.suppress(OSError):
                owner = port_owner(router.host, router.port)
                if owner is not None:
                    raise PortInUse(
                        f"router.port {router.port} on {router.host} is in use by {owner}",
                        hint="end that process, or set another router.port (0 takes a free one)",
                    ) from error
            message = f"cannot listen on {router.host}:{router.port}: {error.strerror}"
            raise UsageError(message, hint="check router.host and router.port") from error

    async def _until_stopped(self, serving: asyncio.Task[None]) -> None:
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((stopped, serving), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()

    async def _drain(self, fleet: Fleet) -> None:
        self._tell("stops: requests under way may end, a second signal ends them at once")
        async with race(self._emptied(fleet), self._at_once.wait()):
            pass

    async def _emptied(self, fleet: Fleet) -> None:
        if self._face is not None:
            await self._face.agent.break_off()
        await fleet.drain()

    async def _follow_config(self, fleet: Fleet) -> None:
        """Reload on SIGHUP, and when the file changes."""
        seen = _stamp(self.loaded.path)
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._reload.wait(), WATCH_SECONDS)
            now = _stamp(self.loaded.path)
            if self._reload.is_set() or now != seen:
                self._reload.clear()
                seen = now
                await self._apply(fleet)

    async def _apply(self, fleet: Fleet) -> None:
        try:
            loaded = load_config(self.loaded.path)
            # whatever can fail comes before the fleet takes it
            takes = [one.prepare(loaded) for one in (self._face.memories, self._face)] if self._face is not None else []
            # at once: a key that was taken out must not wait for models that restart
            self._guard_with(loaded)
            changed = await fleet.apply(loaded)
        except Exception as error:
            self._guard_with(self.loaded)
            told = error.message if isinstance(error, BenchAIError) else f"{type(error).__name__}: {error}"
            self._emit(Notice(text=f"the configuration is kept as it was: {told}"))
            return
        self.loaded = loaded
        for take in takes:
            take()
        try:
            write_record(self.url, self._token, loaded)
        except OSError as error:
            self._emit(Notice(text=f"runs will not find this server: its state file: {error.strerror}"))
        what = f"restarted {', '.join(changed)}" if changed else "no model had to be restarted"
        self._emit(Notice(text=f"the configuration was read again: {what}"))

    def _guard_with(self, loaded: LoadedConfig) -> None:
        if self._edge is not None:
            self._edge.apply(loaded.config.server)
            self._edge.log = self._line_of(loaded)


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        OSError, TypeError, ValueError: it cannot be had.
    """
    bound = socket.create_server((host, port), family=_family(host))
    # asyncio does so only where a socket names its protocol; without it a reply in two writes takes 40 ms
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


def _is_news(record: logging.LogRecord) -> bool:
    """Requests that are cut off at the end are meant to be."""
    cancelled = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cancelled and not str(record.msg).startswith("Cancel ")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _stamp(path: Path | None) -> tuple[int, int] | None:
    """What changes with a file."""
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size) if found else None
