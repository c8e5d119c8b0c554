"""KV caches on disk: given back after a swap, discarded when they are damaged, never in the way."""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchai.runtime.engine.discover import find_engine
from benchai.runtime.fleet.fleet import Fleet
from tests.integration.fleet_helpers import Record, chat, gpu_config, saved, served

pytestmark = pytest.mark.anyio
LONG = "Count for me: " + " ".join(str(number) for number in range(30))


async def talk(fleet: Fleet, role: str = "general") -> dict[str, Any]:
    """A conversation; the timings of the reply."""
    async with fleet.lease(role) as endpoint:
        timings: dict[str, Any] = (await chat(endpoint, LONG))["timings"]
        return timings


async def one_life(
    folder: Path, *, models: Any = ("general",), fleet_extra: Any = None, **config: Any
) -> tuple[Record, dict[str, Any]]:
    """Start a fleet, talk, and end it."""
    record = Record()
    async with Fleet(gpu_config(folder, models, fit=1, fleet=fleet_extra, **config), record) as fleet:
        return record, await talk(fleet)


async def test_a_conversation_outlives_a_swap_and_the_end_of_the_fleet(tmp_path: Path, own_home: Path) -> None:
    record = Record()
    async with Fleet(gpu_config(tmp_path, ["general", "code"], fit=1), record) as fleet:
        first = await talk(fleet)
        await served(fleet, "code")
        second = await talk(fleet)
    assert first["cache_n"] == 0
    assert second["cache_n"] >= first["prompt_n"] - 1
    assert len(list(saved(own_home))) == len(list(saved(own_home, "json"))) == 1
    record, third = await one_life(tmp_path)
    assert third["cache_n"] == second["cache_n"]
    assert not record.notices()
    assert not list(saved(own_home, "partial"))


async def test_every_slot_keeps_its_conversation_whoever_speaks_last(tmp_path: Path, own_home: Path) -> None:
    texts = ["north " * 40, "seven " * 40]
    models: dict[str, dict[str, Any]] = {"general": {"slots": 2}, "code": {}}
    async with Fleet(gpu_config(tmp_path, models, fit=1)) as fleet:
        first = [await said(fleet, text) for text in texts]
        await served(fleet, "code")
        assert len(list(saved(own_home))) == 2
        again = [await said(fleet, text) for text in texts]
    assert [one["prompt_n"] for one in again] == [1, 1]
    assert min(one["prompt_n"] for one in first) > 40


async def said(fleet: Fleet, text: str) -> dict[str, Any]:
    """The timings of the reply to a text."""
    async with fleet.lease("general") as endpoint:
        timings: dict[str, Any] = (await chat(endpoint, text))["timings"]
        return timings


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def lose_description(file: Path) -> None:
    file.with_suffix(".json").unlink()


def describe(text: str) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        file.with_suffix(".json").write_text(text, encoding="utf-8")

    return damage


def forge(file: Path) -> None:
    """Garbage that its description fits: only the engine can tell."""
    import zlib

    data = b"no KV cache" * 1000
    file.write_bytes(data)
    about = {"tokens": 50, "bytes": len(data), "crc32": zlib.crc32(data)}
    file.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")


DAMAGES = {
    "flipped": flip,
    "cut": cut,
    "no description": lose_description,
    "half a description": describe('{"tokens": 4'),
    "an empty description": describe("{}"),
    "another kind of description": describe("[]"),
    "forged": forge,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
async def test_a_damaged_cache_is_discarded_and_told_once(
    tmp_path: Path, own_home: Path, damage: Callable[[Path], None]
) -> None:
    # the damage is to a file as a fleet leaves it
    await one_life(tmp_path)
    [file] = saved(own_home)
    damage(file)
    record = Record()
    async with Fleet(gpu_config(tmp_path, ["general"], fit=1), record) as fleet:
        await served(fleet, "general")
        assert not list(saved(own_home)), "it is still there"
        assert not list(saved(own_home, "json"))
        [notice] = record.notices("discarded")
        assert file.name in notice
        assert record.path("general") == ["starting", "ready"]
        assert (await talk(fleet))["cache_n"] == 0
    # saved anew, and good
    record, timings = await one_life(tmp_path)
    assert not record.notices()
    assert timings["cache_n"] > 0


async def test_caches_of_other_settings_are_not_mixed_up(tmp_path: Path, own_home: Path) -> None:
    await one_life(tmp_path)
    record, timings = await one_life(tmp_path, models={"general": {"cache_type_k": "q8_0"}})
    assert timings["cache_n"] == 0
    assert not record.notices()
    assert len(list(saved(own_home))) == 2


async def test_saved_caches_stay_below_their_limit(tmp_path: Path, own_home: Path) -> None:
    await one_life(tmp_path, fleet_extra={"slot_cache": 1})
    [file] = saved(own_home)
    size = file.stat().st_size
    # as if there had been many, long ago
    for number in range(1024 * 1024 // size + 1):
        other = file.with_name(f"old-{number}.kv")
        shutil.copy(file, other)
        other.with_suffix(".json").write_text("{}", encoding="utf-8")
    before = set(saved(own_home))
    await one_life(tmp_path, fleet_extra={"slot_cache": 1})
    left = set(saved(own_home))
    assert sum(one.stat().st_size for one in left) <= 1024 * 1024
    assert file in left, "the newest went first"
    assert len(before) - len(left) <= 2
    assert {one.with_suffix(".json") for one in left} == set(saved(own_home, "json"))


async def test_nothing_is_saved_when_it_is_switched_off(tmp_path: Path, own_home: Path) -> None:
    record, _ = await one_life(tmp_path, fleet_extra={"slot_cache": 0})
    assert not list(saved(own_home))
    assert not record.notices()


# ---- a disk that takes nothing

LIMITED = """#!{python} -IS
import os, resource, sys
if "--alias" in sys.argv and sys.argv[sys.argv.index("--alias") + 1] == "general":
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
os.execv({program!r}, [{program!r}, *{arguments!r}, *sys.argv[1:]])
"""


def limited_engine(folder: Path) -> dict[str, Any]:
    """The engine of this machine; that of the model general can write no more than 20 kB into a file."""
    from benchai.config.models import EngineConfig

    real = find_engine(EngineConfig())
    words = real.command([])
    if real.kind == "llama-server":
        words = words[-1:]
    program = folder / "llama-server"
    text = LIMITED.format(python=sys.executable, program=words[0], arguments=words[1:])
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
    return {"kind": "llama-server", "path": str(program)}


async def test_a_full_disk_does_not_hold_up_a_swap(tmp_path: Path, own_home: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    record = Record()
    settings = gpu_config(tmp_path, ["general", "code"], fit=1, engine=limited_engine(tmp_path))
    async with Fleet(settings, record) as fleet:
        await talk(fleet)
        await asyncio.wait_for(served(fleet, "code"), 15)
        [notice] = record.notices("could not be saved")
        assert notice.startswith("general: ")
        assert record.path("general") == ["starting", "ready", "stopping", "stopped"]
        assert not list(saved(own_home))
        assert not list(saved(own_home, "partial"))
        assert (await talk(fleet))["cache_n"] == 0
        assert fleet.dispatcher.counts.swaps == 2


async def test_a_folder_that_is_gone_does_not_hold_up_a_swap(tmp_path: Path, own_home: Path) -> None:
    record = Record()
    async with Fleet(gpu_config(tmp_path, ["general", "code"], fit=1), record) as fleet:
        await talk(fleet)
        folder = own_home / "cache" / "slots" / "general"
        shutil.rmtree(folder)
        folder.write_text("in the way", encoding="utf-8")
        await asyncio.wait_for(served(fleet, "code"), 15)
        assert record.notices("could not be saved")
        assert record.path("general") == ["starting", "ready", "stopping", "stopped"]
        folder.unlink()
        await asyncio.wait_for(talk(fleet), 15)
