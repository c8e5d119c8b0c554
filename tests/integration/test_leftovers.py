"""What a supervisor that was killed leaves behind is ended, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.fleet.state import EngineRecord, end_leftovers
from tests.conftest import REPO
from tests.integration.fleet_helpers import FakeEngine, Record, fake_fleet, gpu_config, served
from tests.integration.helpers import LIMIT, alive, ended, group, until

SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from benchai.config import load_config
from benchai.runtime.fleet.fleet import Fleet

async def main():
    async with Fleet(load_config(Path(sys.argv[1]))) as fleet:
        for role in sys.argv[2:]:
            async with fleet.lease(role):
                print(fleet.members[role].supervisor.process.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
WAITS = "print('up', flush=True); signal.pause()"


@contextlib.contextmanager
def child(code: str = "import signal; " + WAITS) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a group of its own, in the place of an engine that was left."""
    argv = [sys.executable, "-IS", "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as process:
        out: IO[bytes] | None = process.stdout
        assert out
        assert out.readline() == b"up\n"
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def nobody() -> dict[str, Any]:
    """The identity of a process that is gone."""
    with child() as process:
        return identity(process.pid)


def identity(pid: int) -> dict[str, Any]:
    return {"pid": pid, "started": psutil.Process(pid).create_time()}


def note(home: Path, owner: object, *engines: object) -> Path:
    folder = home / "state" / "engines"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{len(list(folder.iterdir()))}-note.json"
    file.write_text(json.dumps({"owner": owner, "engines": list(engines)}), encoding="utf-8")
    return file


def notes(home: Path) -> list[Path]:
    return sorted((home / "state" / "engines").glob("*"))


@pytest.mark.anyio
async def test_what_a_dead_supervisor_left_is_ended_at_the_next_start(tmp_path: Path, own_home: Path) -> None:
    with child() as willing, child(DEAF + WAITS) as deaf:
        named = [{"model": name} | identity(one.pid) for name, one in (("one", willing), ("two", deaf))]
        note(own_home, nobody(), *named)
        record = Record()
        fleet, _ = fake_fleet(tmp_path, ["general"], record)
        async with fleet:
            assert willing.wait(LIMIT) == -signal.SIGTERM
            assert deaf.wait(LIMIT) == -signal.SIGKILL
            told = record.notices("left by a supervisor")
            assert len(told) == 2
            assert f"'one' (pid {willing.pid})" in told[0]
            assert not notes(own_home)
            await served(fleet, "general")


def test_the_group_of_what_was_left_is_ended(own_home: Path) -> None:
    below = f"import subprocess, sys, signal; subprocess.Popen([sys.executable, '-IS', '-c', {DEAF + WAITS!r}]); "
    with child(below + "signal.pause()") as process:
        assert len(group(process.pid)) == 2
        note(own_home, nobody(), {"model": "one"} | identity(process.pid))
        assert len(end_leftovers()) == 1
        process.wait(LIMIT)
        # killed; the kernel may take a moment
        until(lambda: not group(process.pid))


def test_a_process_that_came_to_the_same_pid_is_not_touched(own_home: Path) -> None:
    with child() as process:
        other = identity(process.pid)
        for seconds in (-3600.0, -5.0, 5.0):
            note(own_home, nobody(), {"model": "one", "pid": process.pid, "started": other["started"] + seconds})
        assert end_leftovers() == []
        assert process.poll() is None
        assert not notes(own_home)


def test_the_engines_of_a_supervisor_that_runs_are_not_touched(own_home: Path) -> None:
    with child() as owner, child() as engine:
        file = note(own_home, identity(owner.pid), {"model": "one"} | identity(engine.pid))
        assert end_leftovers() == []
        assert engine.poll() is None
        assert notes(own_home) == [file]
        # its pid comes again, to somebody else
        data = json.loads(file.read_text(encoding="utf-8"))
        data["owner"]["started"] -= 100
        file.write_text(json.dumps(data), encoding="utf-8")
        assert len(end_leftovers()) == 1
        assert engine.wait(LIMIT) == -signal.SIGTERM
        assert owner.poll() is None


def test_a_supervisor_that_is_a_zombie_is_gone(own_home: Path) -> None:
    with child() as owner, child() as engine:
        note(own_home, identity(owner.pid), {"model": "one"} | identity(engine.pid))
        owner.kill()
        assert ended(owner.pid)
        assert len(end_leftovers()) == 1
        assert engine.wait(LIMIT) == -signal.SIGTERM


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '{"engines": 5}',
        '{"engines": [1, null, "x", {}, {"pid": "1"}, {"pid": true, "started": 1}, {"pid": -1, "started": 1}]}',
        '{"owner": 3, "engines": [{"pid": 1, "started": 0}, {"pid": 0, "started": 0}]}',
        '{"engines": [{"pid": 99999999999999999999, "started": 1}]}',
        '{"engines": [{"pid": 2147483647, "started": 1e999}]}',
        "\udcff",
    ],
)
def test_a_note_that_makes_no_sense_ends_nothing(own_home: Path, text: str) -> None:
    file = note(own_home, None)
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    assert end_leftovers() == []
    assert not notes(own_home)


def test_a_record_is_there_only_while_there_is_something_to_record(own_home: Path) -> None:
    one, two = EngineRecord(), EngineRecord()
    with child() as first, child() as second:
        one.add("a", first.pid)
        two.add("b", second.pid)
        assert len(notes(own_home)) == 2
        one.add("b", second.pid)
        one.remove(first.pid)
        data = [json.loads(file.read_text(encoding="utf-8")) for file in notes(own_home)]
        assert [[engine["model"] for engine in one["engines"]] for one in data] == [["b"], ["b"]]
        assert all(one["owner"]["pid"] == os.getpid() for one in data)
        # we run: they are ours
        assert end_leftovers() == []
        assert second.poll() is None
        one.remove(second.pid)
        one.remove(second.pid)
        two.remove(second.pid)
    assert not notes(own_home)


@pytest.mark.anyio
async def test_a_fleet_records_its_engines_while_they_run(tmp_path: Path, own_home: Path) -> None:
    record = Record()
    fleet, _ = fake_fleet(tmp_path, ["general", "code"], record)
    async with fleet:
        assert not notes(own_home)
        await served(fleet, "general")
        await served(fleet, "code")
        [file] = notes(own_home)
        engines = json.loads(file.read_text(encoding="utf-8"))["engines"]
        assert [(one["model"], one["pid"]) for one in engines] == list(
            zip(["general", "code"], record.pids(), strict=True)
        )
        await fleet.stop("general")
        [engine] = json.loads(file.read_text(encoding="utf-8"))["engines"]
        assert engine["model"] == "code"
        # a second fleet of this machine does not end them
        async with Fleet(fleet.loaded, record):
            assert alive(record.pids("code")[0])
    assert not notes(own_home)


def test_a_killed_supervisor_leaves_no_engine(tmp_path: Path, own_home: Path) -> None:
    program = FakeEngine(tmp_path, {"general": "deaf", "code": ""})
    config = gpu_config(tmp_path, ["general", "code"], fit=2, engine=program.section())
    argv = [sys.executable, "-c", SUPERVISOR, str(config.path), "general", "code"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=REPO) as process:
        assert process.stdout
        pids = [int(process.stdout.readline()) for _ in range(2)]
        assert all(alive(pid) for pid in pids)
        process.kill()
        for pid in pids:
            assert ended(pid), "an engine outlived its supervisor"
    [left] = notes(own_home)
    assert len(json.loads(left.read_text(encoding="utf-8"))["engines"]) == 2
    assert end_leftovers() == []
    assert not notes(own_home)
