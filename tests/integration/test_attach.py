"""Runs that use the models of a running server: never loaded twice, freed at once, and what ends with the server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration import scripted
from tests.integration.fleet_helpers import FakeEngine
from tests.integration.helpers import (
    LIMIT,
    TINY_MODEL,
    Cli,
    Done,
    alive,
    benchai,
    commands,
    ended,
    engine_config,
    running,
    script_engine,
    tiny_config,
    until,
    write_config,
)
from tests.integration.scripted import ScriptedServer
from tests.integration.serve_helpers import Served, clean, leased, serving

__all__ = ["commands"]
pytestmark = pytest.mark.timeout(60)


def loaded_by(done: Done) -> list[str]:
    """The models that a run loaded itself."""
    return [event["model"] for event in done.events() if event["type"] == "model_ready"]


def in_use(server: Served) -> int:
    count: int = server.models()["tiny"]["in_use"]
    return count


# ---- the models of the server serve


# many commands and starts
@pytest.mark.timeout(120)
def test_runs_use_what_the_server_has_loaded(tmp_path: Path) -> None:
    config = {"models": {"one": TINY_MODEL, "two": TINY_MODEL}, "roles": {"general": "one", "code": "two"}}
    write_config(tmp_path, config)
    with serving(tmp_path) as server:
        pids = {name: server.until_state(name, "ready")["pid"] for name in ("one", "two")}
        engines = server.engines()
        run = ("run", "react", "What is 2 + 3?", "--json")

        first = benchai(*run, cwd=tmp_path)
        assert (first.code, first.result()["stop_reason"]) == (0, "completed")
        other = benchai(*run, "--role", "general=two", cwd=tmp_path)
        assert (other.code, other.result()["stop_reason"]) == (0, "completed")
        assert first.result()["output"] == other.result()["output"]
        first.clean()
        assert loaded_by(first) + loaded_by(other) == []
        served = {name: one["served"] for name, one in server.models().items()}
        assert served["one"] >= 1
        assert served["two"] >= 1, "--role chooses among the server's models"

        # the server may have to start it first, and the run is told
        assert benchai("fleet", "stop", "one", cwd=tmp_path).code == 0
        woken = benchai(*run, cwd=tmp_path)
        assert woken.code == 0
        assert loaded_by(woken) == ["one"]
        assert server.models()["one"]["pid"] in [event.get("pid") for event in woken.events()]
        assert server.models()["two"]["pid"] == pids["two"]
        assert len(server.engines()) == len(engines)

        # other settings are other models: these are loaded by the run itself
        write_config(
            tmp_path / "benchai-home", {**config, "models": {"one": TINY_MODEL | {"context": 512}}, "roles": {}}
        )
        before = server.models()["one"]["served"]
        apart = benchai(*run, "--config", str(tmp_path / "benchai-home" / "benchai.yaml"), cwd=tmp_path)
        assert loaded_by(apart) == ["one"]
        assert server.models()["one"]["served"] == before
        assert [one["in_use"] for one in server.models().values()] == [0, 0]
        done = server.end()
    assert done.code == 0
    clean(done.err)


def test_a_server_with_the_built_in_configuration_serves_every_folder(tmp_path: Path) -> None:
    (here := tmp_path / "here").mkdir()
    (there := tmp_path / "there").mkdir()
    with serving(here, home=tmp_path / "benchai-home") as server:
        server.until_state("tiny", "ready")
        done = benchai("run", "react", "What is 2 + 3?", "--json", cwd=there)
        assert done.code == 0
        assert loaded_by(done) == []
        assert server.models()["tiny"]["served"] >= 1


# ---- a lease ends with its run


@pytest.fixture
def streams(tmp_path: Path) -> Iterator[Served]:
    """A server whose model begins an answer and never goes on."""
    write_config(tmp_path, engine_config(tmp_path, "streams"))
    with serving(tmp_path) as server:
        server.until_state("tiny", "ready")
        yield server


@contextlib.contextmanager
def streaming(server: Served, folder: Path) -> Iterator[Cli]:
    """A run that holds a lease and has got the first piece of its reply."""
    with server.client() as client:

        def streams() -> int:
            return client.get("/fleet/models/tiny/logs").text.splitlines().count("streaming")

        before = streams()
        with running("run", "react", "Hello", "--json", cwd=folder) as cli:
            until(lambda: in_use(server) == 1 and streams() > before)
            yield cli


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_vanishes_frees_its_lease(streams: Served, tmp_path: Path, number: signal.Signals) -> None:
    with streaming(streams, tmp_path) as cli:
        cli.process.send_signal(number)
        cli.process.wait()
        until(lambda: in_use(streams) == 0)
    assert streams.models()["tiny"]["state"] == "ready"
    done = streams.end()
    assert done.code == 0
    clean(done.err)


def test_a_run_that_vanishes_while_it_waits_leaves_the_line(streams: Served, tmp_path: Path) -> None:
    with leased(streams), leased(streams):
        assert in_use(streams) == 2
        with running("run", "react", "Hello", "--json", cwd=tmp_path) as cli:
            until(lambda: streams.models()["tiny"]["queue"] == 1)
            cli.process.kill()
            cli.process.wait()
            until(lambda: streams.models()["tiny"]["queue"] == 0)
        assert in_use(streams) == 2
    until(lambda: in_use(streams) == 0)
    for _ in range(20):
        with leased(streams) as lease:
            assert lease["type"] == "lease"
    until(lambda: in_use(streams) == 0)
    done = streams.end()
    assert done.code == 0
    clean(done.err)


def test_a_server_that_dies_during_a_run(streams: Served, tmp_path: Path) -> None:
    engines = streams.engines()
    with streaming(streams, tmp_path) as cli:
        streams.process.kill()
        assert all(ended(pid) for pid in engines)
        done = cli.end()
    assert (done.code, done.result()["stop_reason"]) == (1, "error")
    assert "cannot be reached" in done.err
    done.clean()
    assert not any(alive(pid) for pid in engines)


def test_a_server_that_dies_before_the_lease_is_there(tmp_path: Path) -> None:
    write_config(tmp_path, engine_config(tmp_path, "loading"))
    with serving(tmp_path) as server:
        server.until_state("tiny", "starting")
        with running("run", "react", "Hello", "--json", cwd=tmp_path) as cli:
            until(lambda: server.models()["tiny"]["queue"] == 1)
            server.process.kill()
            done = cli.end()
    assert (done.code, done.result()["stop_reason"]) == (1, "error")
    assert f"the server at {server.record['url']} cannot be reached" in done.err
    assert "'benchai serve' starts it" in done.err
    done.clean()


def test_an_end_of_the_server_lets_the_run_end(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config())
    with serving(tmp_path) as server:
        server.until_state("tiny", "ready")
        with leased(server) as lease:
            server.process.send_signal(signal.SIGTERM)
            server.until_said("requests under way may end")
            body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
            answer = httpx.post(f"{lease['base_url']}/chat/completions", json=body, trust_env=False, timeout=LIMIT)
            assert answer.status_code == 200, "the model is there for as long as the lease"
        assert server.process.wait(LIMIT) == 0
    clean(server.text)
    # nobody finds it any more: the next run has a fleet of its own
    done = benchai("run", "react", "What is 2 + 3?", "--json", cwd=tmp_path)
    assert (done.code, loaded_by(done)) == (0, ["tiny"])


def test_a_call_outlives_an_engine_of_the_server(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path, {"tiny": ["mute wedges", ""]})
    router = {"timeouts": {"cpu": 1, "gpu": 1}, "health_check_interval": 60}
    more = {"engine": engine.section(), "router": router, "fleet": {"probe_deadline": 0.5}}
    write_config(tmp_path, tiny_config(context=2048) | more)
    with serving(tmp_path) as server:
        server.until_state("tiny", "ready")
        done = benchai("run", "react", "Hello", "--json", cwd=tmp_path)
        assert (done.code, done.result()["output"]) == (0, "one two"), done
        # the server looked at it, killed it and started it again before the run got it a second time
        assert "/v1/chat/completions" not in engine.noted("tiny", "asked")
        assert len(engine.noted("tiny", "starts")) == 2
        done = server.end()
    clean(done.err)


def test_a_doubt_belongs_to_the_process_that_was_leased(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path)
    more = {"engine": engine.section(), "router": {"health_check_interval": 60}, "fleet": {"probe_deadline": 0.5}}
    write_config(tmp_path, tiny_config(context=2048) | more)
    with serving(tmp_path) as server, server.client() as client:

        def suspect(lease: str, **headers: str) -> int:
            return client.post("/fleet/suspect", json={"lease": lease, "silent": True}, headers=headers).status_code

        first = server.until_state("tiny", "ready")["pid"]
        with leased(server) as old:
            os.kill(first, signal.SIGKILL)
            until(lambda: (one := server.models()["tiny"])["state"] == "ready" and one["pid"] != first)
            engine.tell("tiny", "wedged")
            assert suspect(old["id"]) == 204
            # had it been taken, nobody would be let in before the next one runs
            with leased(server) as new:
                assert len(engine.noted("tiny", "starts")) == 2
                assert suspect(new["id"], authorization="Bearer wrong") == 401
                assert suspect("none") == 404
                assert suspect(new["id"]) == 204
                until(lambda: len(engine.noted("tiny", "starts")) == 3)
        until(lambda: in_use(server) == 0)
        assert suspect(new["id"]) == 404, "it ended with its connection"
        assert server.end().code == 0
    clean(server.text)


# ---- errors and keys


def test_an_error_of_the_server_is_the_error_of_the_run(tmp_path: Path) -> None:
    write_config(tmp_path, engine_config(tmp_path, "exits") | {"fleet": {"core": []}})
    with serving(tmp_path) as server:
        done = benchai("run", "react", "Hello", cwd=tmp_path)
        done.refused("exit code 3", "the engine cannot go on")
        assert in_use(server) == 0
        refused = server.end()
    assert refused.code == 0
    clean(refused.err)


def test_a_wrong_key_is_an_error_in_words(streams: Served, tmp_path: Path) -> None:
    streams.state.write_text(json.dumps(streams.record | {"token": "wrong"}))
    done = benchai("run", "react", "Hello", cwd=tmp_path)
    assert done.code == 1
    assert "the key of this server's state file is needed" in done.err
    done.clean()
    status = benchai("fleet", "status", cwd=tmp_path)
    assert (status.code, status.out) == (1, "")
    assert "the key of this server's state file is needed" in status.err
    status.clean()


def test_a_remote_model_is_called_with_the_key_of_the_run(tmp_path: Path) -> None:
    secret = "far-key-7391"
    with ScriptedServer(scripted.text("far away")) as far:
        engine = {"kind": "llama-server", "path": str(script_engine(tmp_path, "streams"))}
        config: dict[str, Any] = {
            "models": {"far": far.model(api_key_env="FAR_KEY"), "near": TINY_MODEL},
            "roles": {"general": "far", "code": "near"},
            "engine": engine,
        }
        write_config(tmp_path, config)
        # the server itself has no key
        with serving(tmp_path) as server:
            server.until_state("near", "ready")
            assert server.models()["far"]["state"] == "remote"
            done = benchai("run", "react", "Hello", cwd=tmp_path, env={"FAR_KEY": secret})
            assert (done.code, done.out) == (0, "far away\n")
            missing = benchai("run", "react", "Hello", cwd=tmp_path)
            missing.refused("'FAR_KEY' is not set")
            with server.client() as client:
                told = client.get("/fleet").text + client.get("/fleet/events").text
        assert far.keys == [f"Bearer {secret}"]
        assert secret not in told + server.text
