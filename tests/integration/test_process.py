"""One engine process: from its spawn to the verified end of its group."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchai.config import paths
from benchai.errors import EngineStartError, PortInUse
from benchai.runtime.engine.discover import find_engine
from benchai.runtime.fleet.logs import ModelLog
from benchai.runtime.fleet.process import EngineProcess, LaunchSpec
from benchai.runtime.placement.plan import plan_model
from tests.conftest import TINY
from tests.integration.helpers import alive, below, ended, engine_config, group, loaded, tiny_config

pytestmark = pytest.mark.anyio


def make_process(folder: Path, config: dict[str, Any]) -> EngineProcess:
    """A process for the model of a configuration, not yet started."""
    found = loaded(folder, config)
    settings = found.config.engine
    plan = plan_model(found, "tiny", find_engine(settings), [])
    Path(str(plan.slot_dir)).mkdir(parents=True, exist_ok=True)
    file = found.model_file("tiny")
    assert file is not None
    spec = LaunchSpec("tiny", plan.argv, plan.host, plan.port or 0, file, settings.stall_timeout, settings.stop_grace)
    return EngineProcess(spec, ModelLog("tiny", paths.log_dir()))


@asynccontextmanager
async def engine(folder: Path, config: dict[str, Any] | None = None) -> AsyncIterator[EngineProcess]:
    process = make_process(folder, config or tiny_config())
    try:
        yield process
    finally:
        pid = process.pid
        await process.stop()
        assert pid is None or not group(pid)


async def test_a_ready_engine_tells_its_address_and_its_context(tmp_path: Path) -> None:
    async with engine(tmp_path, tiny_config(context=512)) as process:
        ready = await process.start()
        assert (process.state, ready.pid, ready.n_ctx) == ("ready", process.pid, 512)
        async with httpx.AsyncClient(trust_env=False) as client:
            models = (await client.get(f"{ready.base_url}/models")).json()
        assert models["data"][0]["id"] == "tiny"
        assert 0 < ready.seconds < 20
        assert process.log.lines
        assert process.log.count >= len(process.log.lines)
        written = process.log.path.read_text(encoding="utf-8")
        assert process.log.lines[0] in written
        assert str(TINY) in written


async def test_stop_ends_the_group_and_may_be_called_again(tmp_path: Path) -> None:
    async with engine(tmp_path) as process:
        ready = await process.start()
        await asyncio.gather(process.stop(), process.stop())
        assert process.state == "stopped"
        # by the signal itself where the engine answers already and does not yet handle it
        assert process.returncode in (0, -signal.SIGTERM)
        assert not group(ready.pid)
        assert process.exited.is_set()
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{ready.base_url}/models")


async def test_stop_before_the_start_does_nothing(tmp_path: Path) -> None:
    process = make_process(tmp_path, tiny_config())
    await process.stop()
    assert (process.state, process.pid) == ("stopped", None)


async def test_a_kill_from_outside_is_noticed_at_once(tmp_path: Path) -> None:
    async with engine(tmp_path) as process:
        ready = await process.start()
        os.kill(ready.pid, signal.SIGKILL)
        await asyncio.wait_for(process.exited.wait(), 10)
        assert process.returncode == -signal.SIGKILL


async def test_a_second_start_is_refused(tmp_path: Path) -> None:
    async with engine(tmp_path) as process:
        first = asyncio.create_task(process.start())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="starting"):
            await process.start()
        await first
        with pytest.raises(RuntimeError, match="ready"):
            await process.start()


async def test_settings_in_the_environment_do_not_reach_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "256")
    monkeypatch.setenv("LLAMA_ARG_ALIAS", "other")
    async with engine(tmp_path, tiny_config(context=512)) as process:
        ready = await process.start()
        assert ready.n_ctx == 512
        assert not [name for name in psutil.Process(ready.pid).environ() if name.startswith("LLAMA_ARG_")]


async def test_a_port_that_something_holds_is_named_with_its_owner(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with engine(tmp_path, tiny_config(port=port)) as process:
            with pytest.raises(PortInUse, match=rf"port {port} .*pid {os.getpid()}") as caught:
                await process.start()
    assert caught.value.hint is not None
    assert "models.tiny.port" in caught.value.hint


async def test_another_healthy_server_on_the_port_is_never_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with engine(tmp_path / "one") as other:
        there = await other.start()
        port = httpx.URL(there.base_url).port
        async with engine(tmp_path / "two", tiny_config(port=port)) as process:
            with pytest.raises(PortInUse, match=rf"pid {there.pid}"):
                await process.start()
        assert alive(there.pid)


async def test_an_address_that_is_not_ours_is_not_called_a_taken_port(tmp_path: Path) -> None:
    # 192.0.2.0/24 is for documentation: no interface has it
    async with engine(tmp_path, tiny_config(host="192.0.2.1", port=18080)) as process:
        with pytest.raises(EngineStartError, match=r"192\.0\.2\.1"):
            await process.start()


async def test_a_fixed_port_can_be_taken_again_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for _ in range(2):
        async with engine(tmp_path, tiny_config(port=port)) as process:
            ready = await process.start()
            assert ready.base_url == f"http://127.0.0.1:{port}/v1"
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.get(f"{ready.base_url}/models")


async def test_another_model_than_ours_is_noticed(tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(TINY.read_bytes())
    async with engine(tmp_path, tiny_config(extra_args=["--model", str(other)])) as process:
        with pytest.raises(EngineStartError, match=r"serves .*other\.gguf") as caught:
            await process.start()
        assert "extra_args" in str(caught.value.hint)


async def test_a_key_in_the_extra_arguments_fails_with_a_reason_and_does_not_hang(tmp_path: Path) -> None:
    config = tiny_config(extra_args=["--api-key", "secret"]) | {"engine": {"stall_timeout": 20}}
    async with engine(tmp_path, config) as process:
        with pytest.raises(EngineStartError, match="401"):
            # before it would be taken for stalled
            await asyncio.wait_for(process.start(), 15)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(lambda whole: whole[: len(whole) // 2], "truncated", id="truncated"),
        pytest.param(lambda whole: whole[:64], "truncated|cannot be loaded", id="header"),
        pytest.param(lambda whole: b"GGUF" + b"\xa5" * 4096, "no GGUF|truncated|cannot be loaded", id="garbage"),
    ],
)
async def test_a_damaged_model_is_the_reason(tmp_path: Path, content: Any, reason: str) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(content(TINY.read_bytes()))
    async with engine(tmp_path, tiny_config(file=str(file))) as process:
        with pytest.raises(EngineStartError, match=rf"'tiny' did not start: .*({reason}).*exit code 1") as caught:
            await process.start()
        assert caught.value.log
        assert caught.value.exit_code_of_process == 1


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--no-such-flag"], "does not know the flag --no-such-flag"),
        (["--top-k", "many"], "refused the value of --top-k"),
        (["--chat-template", "{% for %}"], "did not start"),
    ],
)
async def test_a_wrong_flag_is_the_reason(tmp_path: Path, flags: list[str], reason: str) -> None:
    async with engine(tmp_path, tiny_config(extra_args=flags)) as process:
        with pytest.raises(EngineStartError, match=reason):
            await process.start()


async def test_an_engine_that_exits_at_once(tmp_path: Path) -> None:
    async with engine(tmp_path, engine_config(tmp_path, "exits")) as process:
        with pytest.raises(EngineStartError, match="exit code 3") as caught:
            await process.start()
        assert caught.value.log == ("the engine cannot go on",)


async def test_an_engine_that_does_nothing_and_ignores_sigterm(tmp_path: Path) -> None:
    began = time.monotonic()
    async with engine(tmp_path, engine_config(tmp_path, "deaf", stall=0.5, grace=0.3)) as process:
        with pytest.raises(EngineStartError, match=r"no progress for 0\.5 s"):
            await process.start()
        assert process.returncode == -signal.SIGKILL
        assert "SIGKILL" in process.log.tail()[-1]
    assert time.monotonic() - began < 20


async def test_a_ready_engine_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    async with engine(tmp_path, engine_config(tmp_path, "serves-deaf", grace=0.3)) as process:
        ready = await process.start()
        assert ready.n_ctx == 4096
        await process.stop()
        assert process.returncode == -signal.SIGKILL


async def test_an_engine_that_loads_in_silence_for_ever(tmp_path: Path) -> None:
    async with engine(tmp_path, engine_config(tmp_path, "silent-loading", stall=0.8)) as process:
        with pytest.raises(EngineStartError, match="no progress"):
            await asyncio.wait_for(process.start(), 10)


async def test_an_engine_that_logs_is_not_taken_for_stalled(tmp_path: Path) -> None:
    async with engine(tmp_path, engine_config(tmp_path, "loading", stall=1)) as process:
        start = asyncio.create_task(process.start())
        done, _ = await asyncio.wait([start], timeout=2)
        assert not done
        pid = process.pid
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert pid is not None
        assert not group(pid)


async def test_a_program_that_is_no_llama_server(tmp_path: Path) -> None:
    async with engine(tmp_path, engine_config(tmp_path, "html", stall=0.8)) as process:
        with pytest.raises(EngineStartError):
            await process.start()


async def test_stop_leaves_no_grandchild(tmp_path: Path) -> None:
    async with engine(tmp_path, engine_config(tmp_path, "grandchild")) as process:
        ready = await process.start()
        assert len(group(ready.pid)) == 2
        await process.stop()
        assert not group(ready.pid)


async def test_an_engine_that_exits_and_leaves_a_grandchild(tmp_path: Path) -> None:
    async with engine(tmp_path, engine_config(tmp_path, "orphaning")) as process:
        with pytest.raises(EngineStartError, match="exit code 3"):
            # not when the grandchild ends
            await asyncio.wait_for(process.start(), 15)
        pid = int(next(line for line in process.log.lines if line.startswith("grandchild")).split()[1])
        assert ended(pid)


@pytest.mark.parametrize("ticks", [1, 3, 30])
async def test_cancelling_a_start_leaves_nothing(tmp_path: Path, ticks: int) -> None:
    before = set(below(os.getpid()))
    async with engine(tmp_path) as process:
        start = asyncio.create_task(process.start())
        for _ in range(ticks):
            await asyncio.sleep(0)
        if start.cancel():
            with pytest.raises(asyncio.CancelledError):
                await start
        else:  # a fast engine was ready first
            await process.stop()
        assert process.state == "stopped"
        assert set(below(os.getpid())) <= before
