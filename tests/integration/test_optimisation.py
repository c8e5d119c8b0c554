"""Experts in RAM and copies of a role's model, on real engines."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchai.config import paths
from benchai.runtime.engine.discover import Engine
from benchai.runtime.fleet.copies import Sample
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.fleet.status import status
from benchai.runtime.measure.request import ask
from benchai.runtime.measure.rig import Rig, started
from benchai.runtime.placement.footprint import Settings, kv_bytes
from benchai.runtime.placement.gauge import Gauge
from benchai.runtime.placement.memory import MemoryBook
from benchai.runtime.placement.model_info import read_model_info
from benchai.runtime.placement.moe import layers_in_ram
from tests.integration.fleet_helpers import MODEL, Record, chat, client, eventually, served
from tests.integration.helpers import TINY_MODEL, loaded
from tests.integration.moe_model import LAYERS, write_moe
from tests.shapes import SHAPES, write_shape

pytestmark = pytest.mark.anyio
HELLO = [{"role": "user", "content": "Hello"}]
SERVER = Engine("llama-server", Path("none"))
OVERRIDDEN = re.compile(r"tensor blk\.(\d+)\.ffn_\w+_exps\.weight .* buffer type overridden to CPU")


# ---- experts in RAM: a budget stands in for a GPU


async def measured(folder: Path, model: dict[str, Any], vram: int) -> tuple[Rig, str, set[int]]:
    """An engine's plan, what it said, and the layers whose experts its log puts into RAM."""
    log = paths.log_dir() / "moe.measured.log"
    log.unlink(missing_ok=True)
    config = loaded(folder, {"models": {"moe": model}, "fleet": {"memory": {"vram": vram, "reserve": 0}}})
    async with started(config, "moe") as rig:
        text = (await ask(rig.ready.root, HELLO, 16)).text
    return rig, text, {int(layer) for layer in OVERRIDDEN.findall(log.read_text(encoding="utf-8"))}


async def test_a_mixture_of_experts_that_does_not_fit_keeps_some_in_ram(tmp_path: Path) -> None:
    file = write_moe(tmp_path / "moe.gguf")
    # at this verbosity the engine names the tensors that it moves
    model = MODEL | {"file": str(file), "context": 512, "extra_args": ["--no-warmup", "-lv", "5"]}
    config = loaded(tmp_path, {"models": {"moe": model}, "fleet": {"memory": {"vram": 1000, "reserve": 0}}})
    with Gauge() as gauge:
        whole = MemoryBook(config, gauge).need("moe", file, SERVER).options[0]["gpu0"]
    rig, plain, moved = await measured(tmp_path, model, whole)
    assert (rig.claim, moved) == ({"gpu0": whole}, set())
    split, text, moved = await measured(tmp_path, model, whole - 6)
    count = layers_in_ram(split.claim)
    assert 0 < count < LAYERS
    assert moved == set(range(count))
    assert split.plan.argv[split.plan.argv.index("--n-cpu-moe") + 1] == str(count)
    assert split.claim["gpu0"] <= whole - 6
    assert text == plain != ""
    chosen = model | {"cpu_moe": "all", "override_tensors": [r"blk\.0\.attn_q=CPU"]}
    every, text, moved = await measured(tmp_path, chosen, whole)
    assert moved == set(range(LAYERS))
    assert every.plan.argv.index("--override-tensor") < every.plan.argv.index("--cpu-moe")
    assert text == plain


# ---- sliding windows


async def test_a_full_window_is_restored(tmp_path: Path) -> None:
    """llama-server b11434 restores nothing of a model with sliding windows unless they are kept in full."""
    few = SHAPES["Gemma-3-4B"].smaller(6, 2048)
    shape = replace(few, embedding=256, heads=2, kv_heads=1, feed_forward=512, extra={"attention.sliding_window": 64})
    file = write_shape(tmp_path / "window.gguf", shape)
    # at this verbosity the engine tells the sizes of its buffers
    model = TINY_MODEL | {"file": str(file), "context": 2048, "slots": 1, "swa_full": True, "extra_args": ["-lv", "4"]}
    prompt = [300 + number % 700 for number in range(200)]
    async with started(loaded(tmp_path, {"models": {"window": model}}), "window") as rig, client() as http:

        async def cached() -> int:
            body = {"prompt": prompt, "n_predict": 1, "cache_prompt": True, "id_slot": 0}
            answer = await http.post(f"{rig.ready.root}/completion", json=body)
            return int(answer.raise_for_status().json()["timings"]["cache_n"])

        assert await cached() == 0
        for action, body in (("save", {"filename": "x.kv"}), ("erase", {}), ("restore", {"filename": "x.kv"})):
            (await http.post(f"{rig.ready.root}/slots/0?action={action}", json=body)).raise_for_status()
        assert await cached() == len(prompt) - 1
    log = (paths.log_dir() / "window.measured.log").read_text(encoding="utf-8")
    sizes = re.findall(r"KV buffer size = +([\d.]+) MiB", log)
    expected = kv_bytes(read_model_info(file), Settings(2048, swa_full=True)) / 2**20
    assert sum(map(float, sizes)) == pytest.approx(expected, abs=0.01)


# ---- copies of a role's model


def copies(folder: Path, **router: Any) -> Any:
    models = {name: MODEL | {"slots": 1, "context": 512} for name in ("own", "copy")}
    budget = {"memory": {"vram": 4000, "reserve": 0}}
    section = {"copies": {"general": ["copy"]}, **router}
    return loaded(folder, {"models": models, "roles": {"general": "own"}, "router": section, "fleet": budget})


async def test_requests_go_to_the_copy_where_they_end_soonest(tmp_path: Path) -> None:
    record = Record()
    async with Fleet(copies(tmp_path), record, keep_core=True) as fleet:
        # a copy of a core role's model is kept up as well
        await asyncio.gather(record.state("own", "ready"), record.state("copy", "ready"))
        assert (await served(fleet, "general")).model == "own"
        assert not record.notices()
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(fleet.lease("general"))
            second = await stack.enter_async_context(fleet.lease("general"))
            assert (first.model, second.model) == ("own", "copy")
            [told] = record.notices("rather than")
            assert told.startswith("role 'general': 'copy' rather than 'own': ")
            await asyncio.gather(chat(first, "Hello"), chat(second, "Hello"))
            # both are busy: a third one waits, and gets the first that is free
            third = asyncio.create_task(served(fleet, "general"))
            await eventually(lambda: fleet.dispatcher.waiting("own") + fleet.dispatcher.waiting("copy"))
            assert not third.done()
        await third
        # what the engines counted is what a copy's pace is made of
        await eventually(lambda: all(fleet.dispatcher.copies.shown(name) for name in ("own", "copy")))
        rows = {row["model"]: row for row in await status(fleet)}
        assert (rows["own"]["copy_of"], rows["copy"]["copy_of"]) == ([], ["general"])
        for row in rows.values():
            assert row["pace"]["prompt_tokens_per_second"] > 0
            assert row["pace"]["reply_tokens_per_second"] > 0
            assert row["pace"]["lease_seconds"] > 0
        # a request that names a model gets that one, however busy it is
        async with fleet.lease_one_of("general", ["copy"]):
            named = asyncio.create_task(_model(fleet, ["copy"]))
            await eventually(lambda: fleet.dispatcher.waiting("copy"))
            assert not named.done()
        assert await named == "copy"
        # one that has ended is not waited for
        os.kill(record.pids("own")[-1], signal.SIGKILL)
        await record.state("own", "backoff")
        assert (await served(fleet, "general")).model == "copy"
        assert record.notices("'copy' rather than 'own': 'own' is not up")


async def _model(fleet: Fleet, models: list[str]) -> str:
    async with fleet.lease_one_of("general", models) as endpoint:
        return endpoint.model


async def test_nobody_waits_for_a_better_copy_for_ever(tmp_path: Path) -> None:
    async with Fleet(copies(tmp_path, max_wait=0.3)) as fleet:
        await asyncio.gather(fleet.start("own"), fleet.start("copy"))
        for name, seconds in (("own", 0.001), ("copy", 1000.0)):
            fleet.dispatcher.copies.record(name).samples.append(Sample(time.monotonic(), seconds))
        async with fleet.lease("general"):
            began = time.monotonic()
            assert (await served(fleet, "general")).model == "copy"
            assert time.monotonic() - began >= 0.3


async def test_a_copy_is_not_started_for_a_request(tmp_path: Path) -> None:
    record = Record()
    async with Fleet(copies(tmp_path), record) as fleet:
        async with fleet.lease("general") as endpoint:
            assert endpoint.model == "own"
            waiting = asyncio.create_task(served(fleet, "general"))
            await eventually(lambda: fleet.dispatcher.waiting("own"))
        assert (await waiting).model == "own"
        assert not record.states("copy")


async def test_a_copy_stands_in_for_a_model_that_has_failed(tmp_path: Path) -> None:
    config = copies(tmp_path)
    config.config.models["own"] = config.config.models["own"].model_copy(update={"file": str(tmp_path / "no.gguf")})
    async with Fleet(config) as fleet:
        assert (await served(fleet, "general")).model == "copy"
