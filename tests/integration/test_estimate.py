"""The estimate of a model's memory against the engine itself, and ``benchai models inspect``."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchai.errors import EngineError
from benchai.runtime.engine.discover import Engine
from benchai.runtime.placement.estimate import CPU_BASE_MIB, MIB, Settings, cross_check, estimate, fit_argv
from benchai.runtime.placement.fit_tool import FitFigures
from benchai.runtime.placement.footprint import compute_bytes, kv_bytes
from benchai.runtime.placement.model_info import read_model_info
from tests.conftest import TINY
from tests.integration.helpers import LIMIT, TINY_MODEL, benchai, commands, write_config
from tests.shapes import SHAPES, write_shape

__all__ = ["commands"]
PROGRAM = shutil.which("llama-server")
ENGINES = [
    pytest.param(Engine("native", Path(sys.executable)), id="native"),
    pytest.param(
        Engine("llama-server", Path(PROGRAM or "llama-server")),
        id="llama-server",
        marks=pytest.mark.skipif(PROGRAM is None, reason="no llama-server on PATH"),
    ),
]
# the estimate never falls short of these, and is not above them by more
RSS_TOLERANCE_MIB = 32


@dataclass
class Running:
    """An engine that logs all it allocates."""

    process: subprocess.Popen[str]

    def until(self, pattern: str) -> tuple[re.Match[str], str]:
        """The first line of the log that matches, and all up to it."""
        assert self.process.stdout is not None
        log = ""
        for line in self.process.stdout:
            log += line
            if found := re.search(pattern, line):
                return found, log
        raise AssertionError(f"ended without {pattern!r}: {log[-2000:]}")

    @property
    def rss_mib(self) -> float:
        return float(psutil.Process(self.process.pid).memory_info().rss / MIB)


@contextlib.contextmanager
def engine_on(engine: Engine, model: Path, settings: Settings) -> Iterator[Running]:
    flags = [
        *("--model", str(model), "--host", "127.0.0.1", "--port", "0", "-ngl", "0", "-t", "1", "-tb", "1", "-lv", "4"),
        *("-c", str(settings.context), "-np", str(settings.slots), "-kvu", "-ub", str(settings.ubatch)),
        *("-ctk", settings.cache_type_k, "-ctv", settings.cache_type_v),
        *("-fa", "on" if settings.flash_attn else "off"),
        *(["--embedding"] if settings.embedding else []),
        *(["--swa-full"] if settings.swa_full else []),
    ]
    process = subprocess.Popen(
        engine.command(flags), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    # ends a read that would wait for ever
    watchdog = threading.Timer(LIMIT, process.kill)
    watchdog.start()
    with process:
        try:
            yield Running(process)
        finally:
            watchdog.cancel()
            watchdog.join()
            process.kill()


def logged(log: str, buffer: str) -> float:
    """MiB of all buffers of a kind that the engine allocated."""
    return sum(float(size) for size in re.findall(rf"{buffer} buffer size = +([\d.]+) MiB", log))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "settings",
    [
        Settings(4096),
        Settings(16384, slots=4, cache_type_k="q8_0", cache_type_v="q8_0"),
        Settings(1000, slots=2, cache_type_k="q8_0", ubatch=128),
        Settings(8192, cache_type_k="q4_0", cache_type_v="q5_1", ubatch=1024),
        Settings(4096, slots=3, flash_attn=False),
    ],
    ids=["plain", "q8_0", "odd", "q4_0", "no-flash-attention"],
)
def test_the_engine_allocates_what_was_estimated(engine: Engine, settings: Settings) -> None:
    info = read_model_info(TINY)
    with engine_on(engine, TINY, settings) as running:
        # the last line of a start: the log is written by a thread of its own, in order
        _, log = running.until("all slots are idle")
    assert logged(log, "KV") == pytest.approx(kv_bytes(info, settings) / MIB, abs=0.01)
    assert logged(log, "model") == pytest.approx(info.weight_bytes / MIB, abs=0.01)
    assert logged(log, "compute") == pytest.approx(compute_bytes(info, settings) / MIB, rel=0.05, abs=0.5)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_engine_takes_what_was_estimated(engine: Engine) -> None:
    """RSS after a prompt that fills the context: at most the estimate, and not far below it."""
    settings = Settings(4096, slots=2)
    expected = estimate(read_model_info(TINY), context=settings.context, slots=settings.slots).total_mib
    with engine_on(engine, TINY, settings) as running:
        found, _ = running.until(r"listening on (http://\S+)")
        request = {"prompt": [300 + number % 700 for number in range(4000)], "n_predict": 2}
        httpx.post(f"{found[1]}/completion", json=request, timeout=LIMIT, trust_env=False).raise_for_status()
        assert expected - RSS_TOLERANCE_MIB <= running.rss_mib <= expected


@pytest.mark.parametrize(
    ("name", "layers", "settings"),
    [
        ("Qwen2.5-7B", 2, Settings(32768, slots=4)),
        ("Llama-3-8B", 2, Settings(8192, flash_attn=False)),
        ("Gemma-3-4B", 6, Settings(16384, slots=2, cache_type_k="q8_0", cache_type_v="q8_0")),
        ("Gemma-3-4B", 6, Settings(16384, slots=2, swa_full=True)),
        ("Gemma-2-2B", 2, Settings(8192, ubatch=256)),
        ("Mixtral-8x7B", 2, Settings(4096)),
        ("Qwen3-30B-A3B", 2, Settings(16384, slots=2)),
        ("Phi-3-mini", 2, Settings(4096, embedding=True)),
    ],
)
def test_the_engine_projects_what_was_estimated(tmp_path: Path, name: str, layers: int, settings: Settings) -> None:
    """The engine works out published widths before it loads anything; it is stopped there.

    Two layers are the fewest: in the last one only the tokens with an output pass the feed-forward part.
    """
    path = write_shape(tmp_path / "model.gguf", SHAPES[name].smaller(layers, 2048))
    info = read_model_info(path)
    with engine_on(Engine("native", Path(sys.executable)), path, settings) as running:
        found, _ = running.until(r"Host +\| +\d+ = +(\d+) \+ +(\d+) \+ +(\d+)")
    weights, context, compute = map(int, found.groups())
    # the engine rounds down to MiB
    assert info.weight_bytes / MIB == pytest.approx(weights, abs=1)
    assert kv_bytes(info, settings) / MIB == pytest.approx(context, abs=1)
    assert compute_bytes(info, settings) / MIB == pytest.approx(compute, rel=0.05, abs=2)


def fit_tool(folder: Path, script: str) -> Path:
    tool = folder / "llama-fit-params"
    tool.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    tool.chmod(0o755)
    return folder / "llama-server"


def test_the_fit_tool_beside_the_engine_is_asked(tmp_path: Path) -> None:
    program = fit_tool(tmp_path, 'echo "$@" >&2\necho "CUDA0 4358 1024 296 "\necho "Host 281 0 24 "')
    argv = fit_argv(read_model_info(TINY), Settings(4096))
    assert cross_check(program, argv) == [FitFigures("CUDA0", 4358, 1024, 296), FitFigures("Host", 281, 0, 24)]


@pytest.mark.parametrize("script", ["echo 'error: invalid argument: -x' >&2; exit 1", "exit 0"])
def test_a_fit_tool_that_fails(tmp_path: Path, script: str) -> None:
    with pytest.raises(EngineError, match=r"fails with exit code .: (error: invalid argument: -x|no output)"):
        cross_check(fit_tool(tmp_path, script), ["-x"])


def inspect(folder: Path, *args: str) -> dict[str, Any]:
    done = benchai("models", "inspect", *args, "--json", cwd=folder)
    assert (done.code, done.err) == (0, "")
    report: dict[str, Any] = json.loads(done.out)
    return report


def test_inspect_the_bundled_model(tmp_path: Path, own_home: Path) -> None:
    done = benchai("models", "inspect", "builtin:tiny", "--context", "2048", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    for part in (
        "architecture    qwen3",
        "context 2048, slots 1, K f16, V f16",
        "compute buffer",
        "KV cache, MiB",
        "Q5_K_M",
    ):
        assert part in done.out
    assert re.search(r"^ 32768 +80 +43 +23 *$", done.out, re.MULTILINE)
    assert not own_home.exists(), "a look leaves nothing"


def test_inspect_a_file_with_options(tmp_path: Path) -> None:
    path = write_shape(tmp_path / "q.gguf", SHAPES["Qwen2.5-7B"].smaller(28, 2048))
    report = inspect(tmp_path, "q.gguf", "--context", "8192", "--slots", "2", "-ctk", "q8_0", "-ctv", "q4_0")
    expected = estimate(
        read_model_info(path), context=8192, slots=2, cache_type_k="q8_0", cache_type_v="q4_0", on_gpu=False
    )
    assert report["estimate"]["cpu"]["kv_mib"] == expected.kv_mib
    assert report["estimate"]["cpu"]["total_mib"] == expected.total_mib
    assert report["estimate"]["gpu"]["weights_mib"] < expected.weights_mib
    assert report["estimate"]["cpu"]["overhead_mib"] > CPU_BASE_MIB
    assert report["kv_mib"]["4096"]["f16"] == 224
    assert report["settings"]["slots"] == 2


def test_inspect_a_model_of_the_configuration(tmp_path: Path) -> None:
    settings = {"context": 1024, "slots": 3, "cache_type_k": "q8_0", "cache_type_v": "q8_0", "ubatch_size": 64}
    config = {"models": {"general": TINY_MODEL | settings | {"draft": {"file": str(TINY)}}}}
    write_config(tmp_path, config)
    report = inspect(tmp_path, "general")
    for key, value in (settings | {"ubatch": 64}).items():
        assert report["settings"].get(key, value) == value
    assert report["settings"]["draft"] == str(TINY)
    assert report["estimate"]["cpu"]["weights_mib"] == 6


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["none.gguf"], ["none.gguf", "missing"]),
        (["generall"], ["'generall' is neither a file nor a model", "did you mean 'general'?"]),
        (["far"], ["'far' is a remote endpoint"]),
        (["hub"], ["owner/name", "not in the hub's cache"]),
        (["text.gguf"], ["no GGUF"]),
        (["."], ["folder"]),
        (["general", "-ctk", "q8"], ["-ctk 'q8'", "did you mean 'q8_0'?"]),
    ],
)
def test_what_cannot_be_inspected(tmp_path: Path, args: list[str], parts: list[str]) -> None:
    far = {"endpoint": "http://127.0.0.1:9/v1", "model": "big"}
    write_config(tmp_path, {"models": {"general": TINY_MODEL, "far": far, "hub": {"hf": "owner/name"}}})
    (tmp_path / "text.gguf").write_text("text")
    benchai("models", "inspect", *args, cwd=tmp_path).refused(*parts)
