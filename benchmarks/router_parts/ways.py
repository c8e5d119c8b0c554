"""The ways to an engine, each a process of its own: BenchAI, llama-server's router mode, LiteLLM, a pass-through."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
TINY = ROOT / "benchai" / "models" / "tiny.gguf"
PASSTHROUGH = Path(__file__).with_name("passthrough.py")
DIRECT, OURS, BARE, CPP, LITELLM = "direct", "benchai serve", "aiohttp pass-through", "llama-server router", "LiteLLM"
#: The engine of llama-server's router mode, asked without it.
CPP_DIRECT = "direct, its engine"
SLOTS, CONTEXT = 16, 16_384
START_SECONDS = 60.0
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "ERROR",
    # it listens on this machine alone, for some minutes
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    "NO_PROXY": "*",
}


@dataclass(frozen=True)
class Way:
    """Where requests go, as which model, and which way is the same without a router in between."""

    name: str
    url: str
    model: str
    against: str = DIRECT
    pid: int = 0


@contextmanager
def process(argv: Sequence[str], log: Path, piped: bool = False, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A server that runs; what is below it ends with it. What it says goes to a file, or stdout to us."""
    with log.open("w") as said:
        out = subprocess.PIPE if piped else said
        started = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=said, text=True, env=os.environ | env
        )
    try:
        yield started
    finally:
        end(started)


def end(started: subprocess.Popen[str], seconds: float = 10) -> None:
    """Ask a server to end, and see to it."""
    children = []
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(started.pid).children(recursive=True)
    started.terminate()
    try:
        started.wait(seconds)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()
    _, left = psutil.wait_procs(children, timeout=seconds)
    for child in left:
        with contextlib.suppress(psutil.Error):
            child.kill()
    if started.stdout is not None:
        started.stdout.close()


def answers(url: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None) -> Any:
    """The JSON at an address, or None where there is none yet."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=START_SECONDS) as found:
            return json.loads(found.read() or b"null")
    except OSError:
        return None


def wait_for(url: str, started: subprocess.Popen[str], body: Mapping[str, Any] | None = None) -> Any:
    """What a server answers once it is up.

    Raises:
        RuntimeError: it ended, or took too long.
    """
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and started.poll() is None:
        found = answers(url, body, {"Authorization": "Bearer none"})
        if found is not None:
            return found
        time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])


def config(engine: str, **sections: Any) -> dict[str, Any]:
    """The bundled model on one thread, with places for all clients; all else as it is by default."""
    model = {"file": str(TINY), "threads": 1, "threads_batch": 1, "slots": SLOTS, "context": CONTEXT}
    router = {"max_concurrent": {"general": SLOTS}, "port": 0}
    made = {"models": {"tiny": model}, "roles": {"general": "tiny"}, "router": router, "engine": {"kind": engine}}
    return made | sections


@contextmanager
def benchai(folder: Path, data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """`benchai serve`: its record (url, token, pid) once its models are ready."""
    file, home = folder / "benchai.yaml", folder / "home"
    file.write_text(json.dumps(data), encoding="utf-8")
    argv = [sys.executable, "-m", "benchai", "serve", "--config", str(file)]
    with process(argv, folder / "benchai.log", BENCHAI_HOME=str(home)) as started:
        until = time.monotonic() + START_SECONDS
        state = home / "state" / "serve.json"
        while not state.exists() and time.monotonic() < until and started.poll() is None:
            time.sleep(0.02)
        if not state.exists():
            raise RuntimeError((folder / "benchai.log").read_text())
        record = json.loads(state.read_text()) | {"pid": started.pid}
        wait_for(f"{record['url']}/ready", started)
        yield record


def fleet(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The models of a server: state, pid, port."""
    found = answers(f"{record['url']}/fleet", headers={"Authorization": f"Bearer {record['token']}"})
    return {one["model"]: one for one in found or ()}


def start(record: Mapping[str, Any], model: str) -> None:
    """Ask a server for a model by name."""
    key = {"Authorization": f"Bearer {record['token']}"}
    answers(f"{record['url']}/fleet/models/{model}/start", {}, key)


@contextmanager
def passthrough(folder: Path, root: str) -> Iterator[Way]:
    """The yardstick before an engine."""
    with process([sys.executable, str(PASSTHROUGH), root], folder / "passthrough.log", piped=True) as started:
        assert started.stdout is not None
        yield Way(BARE, f"http://127.0.0.1:{int(started.stdout.readline())}", "tiny", pid=started.pid)


@contextmanager
def llama_router(folder: Path, program: str) -> Iterator[tuple[Way, Way]]:
    """llama-server's router mode, and its engine without it."""
    preset = folder / "preset.ini"
    settings = {"model": TINY, "c": CONTEXT, "np": SLOTS, "t": 1, "tb": 1, "kv-unified": "true"}
    preset.write_text("\n".join(["version = 1", "[tiny]", *(f"{key} = {value}" for key, value in settings.items())]))
    port = free_port()
    argv = [program, "--models-preset", str(preset), "--host", "127.0.0.1", "--port", str(port), "--models-max", "1"]
    with process(argv, folder / "llama-router.log") as started:
        root = f"http://127.0.0.1:{port}"
        wait_for(f"{root}/health", started)
        # the first request loads the model
        wait_for(f"{root}/v1/completions", started, {"model": "tiny", "prompt": "Hello", "max_tokens": 1})
        child = psutil.Process(started.pid).children()[0].cmdline()
        direct = f"http://127.0.0.1:{child[child.index('--port') + 1]}"
        yield Way(CPP, root, "tiny", CPP_DIRECT, started.pid), Way(CPP_DIRECT, direct, "tiny", CPP_DIRECT)


@contextmanager
def litellm(folder: Path, python: Path, root: str) -> Iterator[Way]:
    """LiteLLM's proxy before an engine, as its documentation has it."""
    file, port = folder / "litellm.yaml", free_port()
    params = {"model": "openai/tiny", "api_base": f"{root}/v1", "api_key": "none"}
    file.write_text(json.dumps({"model_list": [{"model_name": "tiny", "litellm_params": params}]}))
    code = "from litellm import run_server; run_server()"
    argv = [str(python), "-c", code, "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    with process(argv, folder / "litellm.log", **OFFLINE) as started:
        wait_for(f"http://127.0.0.1:{port}/health/liveliness", started)
        yield Way(LITELLM, f"http://127.0.0.1:{port}", "tiny", pid=started.pid)


@contextmanager
def all_ways(folder: Path, engine: str, peers_python: Path | None, notes: list[str]) -> Iterator[list[Way]]:
    """Every way that is there; ``notes`` says which is not, and why."""
    with contextlib.ExitStack() as stack:
        record = stack.enter_context(benchai(folder, config(engine)))
        root = f"http://127.0.0.1:{fleet(record)['tiny']['port']}"
        ways = [Way(DIRECT, root, "tiny"), Way(OURS, record["url"], "auto", pid=record["pid"])]
        ways.append(stack.enter_context(passthrough(folder, root)))
        program = shutil.which("llama-server")
        if program is None:
            notes.append(f"{CPP}: there is no llama-server on PATH")
        else:
            ways += stack.enter_context(llama_router(folder, program))
        if peers_python is None:
            notes.append(f"{LITELLM}: --peers-python names no interpreter that has it")
        else:
            try:
                ways.append(stack.enter_context(litellm(folder, peers_python, root)))
            except RuntimeError as error:
                notes.append(f"{LITELLM}: {error}; {(folder / 'litellm.log').read_text()[-500:]}")
        yield ways
