"""What the tests of the fleet share: configurations with little memory, an engine that fails as told, a record."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from benchai.config import LoadedConfig
from benchai.events import Event, ModelReady, ModelState, Notice
from benchai.runtime.endpoints import Endpoint
from benchai.runtime.engine.discover import Engine
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.placement.gauge import Gauge
from benchai.runtime.placement.memory import MemoryBook
from tests.conftest import TINY
from tests.integration.helpers import HELP, LIMIT, loaded

#: The bundled model where a GPU would be; the config's budget stands in for one.
MODEL: dict[str, Any] = {
    "file": str(TINY),
    "threads": 1,
    "threads_batch": 1,
    "context": 2048,
    "temperature": 0,
    "placement": "gpu",
    "extra_args": ["--no-warmup"],
}

# what builds of late 2026 take besides
_HELP = (
    HELP
    + """\
--fit [on|off]                          whether to adjust unset arguments to fit in device memory
"""
)

_ENGINE = '''#!{python} -IS
"""A program in the place of llama-server; what it does wrong stands in plan.json, a list of words for each start."""
import json, os, signal, socket, subprocess, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOLDER = {folder!r}
if "--version" in sys.argv:
    sys.exit(sys.stderr.write("version: 11434 (test)\\n") * 0)
if "--help" in sys.argv:
    sys.exit(sys.stdout.write({help!r}) * 0)


def argument(flag):
    return sys.argv[sys.argv.index(flag) + 1]


def note(kind, text):
    with open(f"{{FOLDER}}/{{NAME}}.{{kind}}", "a") as file:
        file.write(text + "\\n")


def lines(kind):
    try:
        return open(f"{{FOLDER}}/{{NAME}}.{{kind}}").read().splitlines()
    except OSError:
        return []


def say(text):
    print(text, flush=True)


def forever():
    threading.Event().wait()


NAME = argument("--alias")
PLAN = json.load(open(f"{{FOLDER}}/plan.json")).get(NAME, [""])
WORDS = PLAN[min(len(lines("starts")), len(PLAN) - 1)].split()
note("starts", str(os.getpid()))
SLOTS = int(argument("--parallel"))
BUSY = set()
TOKENS = {{}}
LOCK = threading.Lock()
loading = "loads" in WORDS or "stalls" in WORDS
wedged = False


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, data):
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if loading:
            self.reply(503, {{"error": {{"code": 503, "message": "Loading model"}}}})
        elif self.path == "/health":
            self.reply(500 if "ill" in WORDS and lines("ill") else 200, {{"status": "ok"}})
        elif self.path == "/props":
            settings = {{"n_ctx": int(argument("--ctx-size"))}}
            self.reply(200, {{"default_generation_settings": settings, "model_path": argument("--model"),
                              "total_slots": SLOTS, "build_info": "test"}})
        elif wedged or lines("wedged"):
            note("asked", self.path)
            forever()
        else:
            self.reply(200, [{{"id": number, "is_processing": number in BUSY, "n_prompt_tokens": TOKENS.get(number, 0)}}
                             for number in range(SLOTS)])

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"null")
        if self.path.startswith("/slots"):
            self.reply(501, {{"error": {{"message": "not here"}}}})
        elif wedged or lines("wedged"):
            note("asked", self.path)
            forever()
        elif self.path == "/completion":
            note("probes", json.dumps(body))
            if "holds" in WORDS:
                forever()
            self.reply(200, {{"content": "a"}})
        else:
            self.chat(body)

    def chat(self, body):
        global wedged
        with LOCK:
            slot = min(set(range(SLOTS)) - BUSY, default=0)
            BUSY.add(slot)
            TOKENS[slot] = 1
        try:
            note("requests", body["messages"][-1]["content"])
            wedged = "wedges" in WORDS
            if "mute" in WORDS:
                forever()
            if "quits" in WORDS:
                server.shutdown()
                server.server_close()
                self.connection.shutdown(socket.SHUT_RDWR)
                forever()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.piece("one ")
            if "begins" in WORDS:
                forever()
            while "trickles" in WORDS:
                time.sleep(0.02)
                self.piece("more ")
            self.piece("two", "stop")
            usage = {{"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
            self.data(json.dumps(self.envelope([]) | {{"usage": usage}}))
            self.data("[DONE]")
            self.wfile.write(b"0\\r\\n\\r\\n")
        except OSError:
            note("gone", "client")
            self.close_connection = True
        finally:
            BUSY.discard(slot)

    def envelope(self, choices):
        return {{"id": "x", "object": "chat.completion.chunk", "created": 1, "model": NAME, "choices": choices}}

    def piece(self, text, finish=None):
        delta = {{"role": "assistant", "content": text}}
        self.data(json.dumps(self.envelope([{{"index": 0, "delta": delta, "finish_reason": finish}}])))

    def data(self, text):
        text = "data: " + text + "\\n\\n"
        self.wfile.write(f"{{len(text):x}}\\r\\n{{text}}\\r\\n".encode())

    def log_message(self, *args):
        pass


if "oom" in WORDS:
    say("alloc_tensor_range: failed: allocating 100.00 MiB on device 0: cudaMalloc failed: out of memory")
    sys.exit(1)
if "exits" in WORDS:
    say("the engine cannot go on")
    sys.exit(3)
if "deaf" in WORDS:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "child" in WORDS:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); [signal.pause() for _ in iter(int, 1)]"
    note("children", str(subprocess.Popen([sys.executable, "-IS", "-c", code]).pid))
server = ThreadingHTTPServer((argument("--host"), int(argument("--port"))), Handler)
server.daemon_threads = True
say("started")
if "loads" in WORDS:
    def load():
        global loading
        for number in range(60):
            time.sleep(0.02)
            say(f"loading tensor {{number}}")
        loading = False
    threading.Thread(target=load, daemon=True).start()
server.serve_forever(poll_interval=0.02)
forever()
'''


class FakeEngine:
    """An engine program for ``engine:``; ``plans`` tells by model what each of its starts does wrong, the last for all.

    Words: oom, exits, deaf (to SIGTERM), child (starts one that is deaf), loads (1.2 s, with log lines), stalls,
    wedges (at the first request of a chat), mute, begins, trickles (replies), quits (closes its port at a chat and
    lives on, as one that ends slowly), holds (the request of one token),
    ill (/health fails once ``tell(name, "ill")`` was called). ``tell(name, "wedged")`` wedges a running one.
    """

    def __init__(self, folder: Path, plans: Mapping[str, str | Sequence[str]] | None = None) -> None:
        self.folder = folder / "engine"
        self.folder.mkdir(exist_ok=True)
        self.program = self.folder / "llama-server"
        text = _ENGINE.format(python=sys.executable, folder=str(self.folder), help=_HELP)
        self.program.write_text(text, encoding="utf-8")
        self.program.chmod(0o755)
        plain = {name: [plan] if isinstance(plan, str) else list(plan) for name, plan in (plans or {}).items()}
        (self.folder / "plan.json").write_text(json.dumps(plain), encoding="utf-8")

    def section(self, **settings: Any) -> dict[str, Any]:
        """The section ``engine:``."""
        return {"kind": "llama-server", "path": str(self.program), "stop_grace": 1, **settings}

    def tell(self, name: str, what: str) -> None:
        """Change what a running model does."""
        (self.folder / f"{name}.{what}").write_text("now\n", encoding="utf-8")

    def recall(self, name: str, what: str) -> None:
        """Take ``tell`` back; requests that hang already hang on."""
        (self.folder / f"{name}.{what}").unlink()

    def noted(self, name: str, kind: str) -> list[str]:
        """What the engines of a model noted: starts (pids), requests, probes, asked (while wedged), children, gone."""
        file = self.folder / f"{name}.{kind}"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    async def until_noted(self, name: str, kind: str, count: int = 1) -> list[str]:
        """Wait until so much was noted."""
        await eventually(lambda: len(self.noted(name, kind)) >= count)
        return self.noted(name, kind)


async def eventually(condition: Callable[[], Any], seconds: float = LIMIT) -> Any:
    """Wait for something outside of this process, beside the event loop; its value."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds:g} s"
        await asyncio.to_thread(threading.Event().wait, 0.01)
    return found


class Record:
    """Takes events and lets a test wait for them; ``at_ready`` is called with the pid of a model that is ready."""

    def __init__(self, at_ready: Callable[[ModelReady], None] = lambda event: None) -> None:
        self.events: list[Event] = []
        self.at_ready = at_ready
        self._news = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()
        if isinstance(event, ModelReady):
            self.at_ready(event)

    def states(self, model: str, *only: str) -> list[ModelState]:
        found = [event for event in self.events if isinstance(event, ModelState) and event.model == model]
        return [event for event in found if not only or event.state in only]

    def path(self, model: str) -> list[str]:
        """The states that a model went through."""
        return [event.state for event in self.states(model)]

    def notices(self, part: str = "") -> list[str]:
        return [event.text for event in self.events if isinstance(event, Notice) and part in event.text]

    def pids(self, model: str = "") -> list[int]:
        ready = [event for event in self.events if isinstance(event, ModelReady)]
        return [event.pid for event in ready if event.model == model or not model]

    async def state(self, model: str, state: str, times: int = 1, seconds: float = LIMIT) -> ModelState:
        """Wait until a model was in a state so many times; the last of these events."""
        await self.until(lambda: len(self.states(model, state)) >= times, seconds)
        return self.states(model, state)[times - 1]

    async def until(self, condition: Callable[[], object], seconds: float = LIMIT) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            raise AssertionError(f"not within {seconds:g} s: {self.events}") from error


def need_mib(folder: Path, model: Mapping[str, Any], slots: int = 1) -> int:
    """MiB of a stand-in GPU that a model is taken to need."""
    folder = folder / "need"
    folder.mkdir(exist_ok=True)
    entry = {**model, "slots": model.get("slots", slots)}
    config = loaded(folder, {"models": {"m": entry}, "fleet": {"memory": {"vram": 100_000, "reserve": 0}}})
    [claim] = MemoryBook(config, Gauge()).need("m", TINY, Engine("llama-server", Path("none"))).options
    return sum(claim.values())


def gpu_config(
    folder: Path,
    names: Sequence[str] | Mapping[str, Mapping[str, Any]],
    *,
    fit: int,
    engine: Mapping[str, Any] | None = None,
    fleet: Mapping[str, Any] | None = None,
    **sections: Any,
) -> LoadedConfig:
    """Models on a GPU on which ``fit`` of them fit; a mapping of names adds settings to each."""
    more = names if isinstance(names, Mapping) else {name: {} for name in names}
    models = {name: MODEL | {"slots": 1} | dict(extra) for name, extra in more.items()}
    each = need_mib(folder, MODEL)
    memory = {"vram": fit * each + each // 2, "reserve": 0}
    data: dict[str, Any] = {"models": models, "fleet": {"memory": memory, **(fleet or {})}, **sections}
    if engine is not None:
        data["engine"] = dict(engine)
    return loaded(folder, data)


def fake_fleet(
    folder: Path,
    names: Sequence[str] | Mapping[str, Mapping[str, Any]],
    record: Record,
    *,
    fit: int = 9,
    plans: Mapping[str, str | Sequence[str]] | None = None,
    engine: Mapping[str, Any] | None = None,
    keep_core: bool = False,
    **config: Any,
) -> tuple[Fleet, FakeEngine]:
    """A fleet of engines that do what ``plans`` says."""
    program = FakeEngine(folder, plans)
    settings = gpu_config(folder, names, fit=fit, engine=program.section(**(engine or {})), **config)
    return Fleet(settings, record, keep_core=keep_core), program


async def served(fleet: Fleet, role: str) -> Endpoint:
    """Lease a role and give it back."""
    async with fleet.lease(role) as endpoint:
        return endpoint


@asynccontextmanager
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=LIMIT, trust_env=False, verify=False) as opened:
        yield opened


async def chat(endpoint: Endpoint, text: str, **body: Any) -> dict[str, Any]:
    """A whole reply of a real engine."""
    async with client() as http:
        answer = await http.post(f"{endpoint.base_url}/chat/completions", json=request(endpoint, text, **body))
    data: dict[str, Any] = answer.raise_for_status().json()
    return data


def request(endpoint: Endpoint, text: str, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": endpoint.served_name, "messages": messages, "max_tokens": 8, "temperature": 0, **body}


async def slots(endpoint: Endpoint) -> list[dict[str, Any]]:
    async with client() as http:
        answer: list[dict[str, Any]] = (await http.get(endpoint.base_url.removesuffix("/v1") + "/slots")).json()
    return answer


def saved(home: Path, kind: str = "kv") -> Iterator[Path]:
    """The saved KV caches below a user's folder."""
    return (home / "cache" / "slots").glob(f"**/*.{kind}")


def gone(pid: int) -> bool:
    """Whether there is no process of this id any more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
