"""``benchai fleet``: what it shows and does at a running server, in a terminal, in a pipe, and with odd names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.helpers import (
    BENCHAI,
    LIMIT,
    TINY_MODEL,
    benchai,
    commands,
    group,
    running,
    script_engine,
    tiny_config,
    until,
    write_config,
)
from tests.integration.serve_helpers import Served, clean, leased, serving

__all__ = ["commands"]
pytestmark = pytest.mark.timeout(60)
#: Names that a shell, a URL, a terminal's markup or a table could mistake.
ODD = ("a b%20c", "what?x=1&y#z", "größe ✓", "x[bold]", "100% %s %2F;", "w" * 100)


@dataclass
class Fleet:
    """A server of models with odd names, and its folder."""

    server: Served
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        return {"BENCHAI_HOME": str(self.server.home)}

    def run(self, *args: str) -> Any:
        return benchai("fleet", *args, cwd=self.folder, env=self.env)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, nothing_left_behind: None) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    engine = {"kind": "llama-server", "path": str(script_engine(folder, "streams"))}
    far = {"endpoint": "http://127.0.0.1:9/v1", "model": "m"}
    models = dict.fromkeys(("tiny", *ODD), TINY_MODEL) | {"far": far}
    roles = {"general": "tiny", "code": "tiny", "[red]": ODD[0], "planner": "far"}
    write_config(folder, {"models": models, "roles": roles, "engine": engine, "fleet": {"memory": {"reserve": 0}}})
    with serving(folder, home=folder / "home", env={"NO_COLOR": "1"}) as server:
        server.until_state("tiny", "ready")
        yield Fleet(server, folder)
        done = server.end()
    assert done.code == 0
    clean(done.err)


# ---- status


def test_status_as_json_tells_everything_of_each_model(fleet: Fleet) -> None:
    done = fleet.run("status", "--json")
    models = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert [one["model"] for one in models] == ["tiny", *ODD, "far"]
    tiny, odd, far = models[0], models[1], models[-1]
    assert tiny["roles"] == ["general", "code"]
    assert (tiny["state"], tiny["placement"], tiny["slots"], tiny["n_ctx"]) == ("ready", "cpu", 3, 4096)
    assert tiny["pid"] in group(tiny["pid"])
    assert 0 < tiny["port"] < 65536
    assert tiny["memory"]["measured"]["cpu"] > 0
    assert tiny["memory"]["estimated"] > 0
    assert tiny["memory"]["claimed"]["cpu"] > 0
    assert (tiny["in_use"], tiny["queue"], tiny["restarts"]) == (0, 0, 0)
    assert {"tokens_per_second", "since", "served", "retry_after", "error"} <= set(tiny)
    assert (odd["state"], odd["pid"], odd["port"], odd["memory"]["measured"]) == ("stopped", None, None, {})
    assert far == {
        "model": "far",
        "roles": ["planner"],
        "state": "remote",
        "placement": "remote",
        "endpoint": "http://127.0.0.1:9/v1",
        "copy_of": [],
        "pace": {},
    }


def test_status_in_a_pipe_is_not_cut(fleet: Fleet) -> None:
    done = fleet.run("status")
    assert (done.code, done.err) == (0, "")
    for name in ("tiny", *ODD, "far", "[red]", "http://127.0.0.1:9/v1"):
        assert name in done.out, done.out
    assert "…" not in done.out
    assert "\x1b" not in done.out
    head = done.out.splitlines()[0].split()
    assert head[:4] == ["model", "roles", "state", "where"]


def test_status_of_a_lease(fleet: Fleet) -> None:
    with leased(fleet.server):
        [line] = [line for line in fleet.run("status").out.splitlines() if line.startswith("tiny ")]
        assert " 1/3 " in line


# ---- what it does


@pytest.mark.parametrize("name", ODD)
def test_a_name_with_odd_characters(fleet: Fleet, name: str) -> None:
    started = fleet.run("start", name)
    assert (started.code, started.out, started.err) == (0, f"{name}: ready\n", "")
    logs = fleet.run("logs", name)
    assert (logs.code, logs.err) == (0, "")
    assert "started" in logs.out.splitlines()
    assert "starting -> ready" in logs.out
    stopped = fleet.run("stop", name)
    assert (stopped.code, stopped.out) == (0, f"{name}: stopped\n")
    assert fleet.server.models()[name]["state"] == "stopped"


def test_stop_restart_and_swap(fleet: Fleet) -> None:
    pid = fleet.server.models()["tiny"]["pid"]
    assert fleet.run("restart", "tiny").out == "tiny: ready\n"
    other = fleet.server.models()["tiny"]["pid"]
    assert other not in (None, pid)
    assert not group(pid)
    assert fleet.run("stop", "tiny").out == "tiny: stopped\n"
    assert not group(other)
    assert fleet.run("stop", "tiny").out == "tiny: stopped\n", "stopping twice is no error"
    assert fleet.run("swap", "tiny").out == "tiny: ready\n"
    assert fleet.run("start", "tiny").out == "tiny: ready\n", "starting twice is no error"


@pytest.mark.parametrize("command", ["start", "stop", "restart", "swap", "logs"])
def test_an_unknown_model_and_a_remote_one(fleet: Fleet, command: str) -> None:
    fleet.run(command, "tniy").refused("the fleet has no model 'tniy'", "did you mean 'tiny'?")
    fleet.run(command, "far").refused("'far'")


# ---- logs and events


def test_logs_of_so_many_lines(fleet: Fleet) -> None:
    fleet.run("start", "tiny")
    whole = fleet.run("logs", "tiny").out.splitlines()
    assert len(whole) >= 3
    assert fleet.run("logs", "tiny", "-n", "1").out.splitlines() == whole[-1:]
    assert fleet.run("logs", "tiny", "-n", "0").out == ""
    none = fleet.run("logs", "tiny", "-n", "-1")
    assert (none.code, none.out) == (2, "")


def test_events_tell_changes_causes_and_exit_codes(fleet: Fleet) -> None:
    fleet.run("restart", "tiny")
    lines = fleet.run("events").out.splitlines()
    assert any("tiny: starting -> ready: answers after" in line for line in lines)
    assert any("tiny: stopping -> stopped: stopped by the operator, exit code" in line for line in lines)
    data = [json.loads(line) for line in fleet.run("events", "--json", "-n", "3").out.splitlines()]
    assert len(data) == 3
    assert all(event["type"] and event["time"] > 0 for event in data)
    assert fleet.run("events", "-n", "0").out == ""


@pytest.mark.parametrize("what", [("events", "-f", "--json"), ("logs", "tiny", "-f"), ("status", "--watch")])
def test_following_ends_with_ctrl_c(fleet: Fleet, tmp_path: Path, what: tuple[str, ...]) -> None:
    fleet.run("start", "tiny")
    with running("fleet", *what, cwd=tmp_path, env=fleet.env) as cli:
        if what[0] != "status":
            assert cli.stdout.readline()
            with fleet.server.client() as client:
                assert client.post("/fleet/models/tiny/restart").json()[0]["state"] == "ready"
            for line in cli.stdout:
                if b"answers after" in line or b"starting -> ready" in line:
                    break
        else:
            until(lambda: reads_files(cli.process.pid))
        cli.process.send_signal(signal.SIGINT)
        assert cli.process.wait() in (0, 130)
        rest = cli.stdout.read().decode()
    assert cli.stderr.read_text() in ("", "\n")
    if what[0] == "status":
        assert "tiny" in rest


def reads_files(pid: int) -> bool:
    """Whether a watching command is past its first look: it sleeps between two."""
    status = Path(f"/proc/{pid}/wchan").read_text()
    return "nanosleep" in status


@pytest.mark.parametrize(
    "what", [("status",), ("status", "--json"), ("events",), ("events", "-f"), ("logs", "tiny"), ("plan",)]
)
def test_a_reader_that_leaves_is_no_error(fleet: Fleet, what: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(
        [*BENCHAI, "fleet", *what],
        cwd=fleet.folder,
        env={**os.environ, **fleet.env},
        stdin=subprocess.DEVNULL,
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    _, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, err) == (1, b"")


# ---- without a server


@pytest.mark.parametrize(
    "what", [("status",), ("status", "--watch"), ("start", "x"), ("logs", "x", "-f"), ("events",), ("swap", "x")]
)
def test_no_server_is_said_in_words(tmp_path: Path, what: tuple[str, ...]) -> None:
    benchai("fleet", *what, cwd=tmp_path).refused("no server of this user runs", "'benchai serve' starts one")


def test_a_plan_with_bars(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"no model")
    models = {
        "tiny": TINY_MODEL,
        "missing": {"file": "none.gguf"},
        "endless": {"file": "x" * 5000},
        "bad": {"file": "bad.gguf"},
        "far": {"endpoint": "http://127.0.0.1:9/v1", "model": "m"},
    }
    write_config(tmp_path, {"models": models, "fleet": {"memory": {"ram": 2000, "reserve": 100}}})
    done = benchai("fleet", "plan", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    [bar] = [line for line in done.out.splitlines() if line.startswith("cpu [")]
    assert len(bar[bar.index("[") + 1 : bar.index("]")]) == 48
    assert "A tiny" in done.out
    assert "reserved or in use by others" in done.out
    data = {one["model"]: one for one in json.loads(benchai("fleet", "plan", "--json", cwd=tmp_path).out)}
    assert data["tiny"]["memory"]["claim"]["cpu"] == data["tiny"]["memory"]["total"] > 0
    assert data["missing"]["memory"] is None
    assert data["far"]["memory"] is None


def test_a_model_that_needs_more_than_there_is(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config() | {"fleet": {"memory": {"ram": 101, "reserve": 100}}})
    done = benchai("fleet", "plan", cwd=tmp_path)
    assert done.code == 0
    assert "tiny fits nowhere: it needs" in done.out
