"""``benchai serve`` as a process: one per user, its end, its configuration, its key, and what it refuses."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.helpers import (
    LIMIT,
    TINY_MODEL,
    alive,
    benchai,
    commands,
    ended,
    engine_config,
    group,
    tiny_config,
    until,
    write_config,
)
from tests.integration.serve_helpers import clean, launched, leased, serving

__all__ = ["commands"]
pytestmark = pytest.mark.timeout(60)


# ---- one per user, and its end


@pytest.mark.timeout(120)
def test_a_server_from_its_start_to_its_end(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config())
    with serving(tmp_path) as server:
        record = server.record
        assert record["pid"] == server.process.pid
        assert stat.S_IMODE(server.state.stat().st_mode) == 0o600
        model = server.until_state("tiny", "ready")
        assert f"serves {tmp_path / 'benchai.yaml'} at {record['url']}" in server.text
        second = benchai("serve", "--port", "0", cwd=tmp_path)
        second.refused("already at", record["url"], f"pid {record['pid']}", "benchai.yaml")
        assert server.record == record
        done = server.end(signal.SIGTERM)
    assert done.code == 0, done
    clean(done.err)
    assert "tiny: stopped: the fleet ends" in done.err
    assert not group(model["pid"])
    assert not server.state.exists()
    benchai("fleet", "status", cwd=tmp_path).refused("no server of this user runs", "benchai serve")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_end_while_streams_and_followers_are_open(tmp_path: Path, number: signal.Signals) -> None:
    config = engine_config(tmp_path, "streams") | {"fleet": {"drain_timeout": 20}}
    write_config(tmp_path, config)
    with serving(tmp_path) as server:
        server.until_state("tiny", "ready")
        with server.client() as client, client.stream("GET", "/fleet/events", params={"follow": True}) as follower:
            lines = follower.iter_lines()
            next(lines)
            with leased(server) as lease:
                server.process.send_signal(number)
                server.until_said("stops: requests under way may end")
                until(lambda: not server.state.exists())
                assert client.get("/health").status_code == 200
                body = {"role": "general", "models": ["tiny"]}
                refused = json.loads(client.post("/fleet/lease", json=body).text)
                assert (refused["type"], "the fleet is stopping" in refused["message"]) == ("error", True)
                # nobody tells it to hurry
                assert httpx.get(lease["base_url"].removesuffix("/v1") + "/health", trust_env=False).status_code == 200
            began = time.monotonic()
            assert server.process.wait(LIMIT) == 0
            assert [json.loads(line)["type"] for line in lines], "the end of the stream is in order"
        assert time.monotonic() - began < 10, "it waited for somebody who had left"
    clean(server.text, "Cancel ")


def test_a_second_signal_hurries(tmp_path: Path) -> None:
    write_config(tmp_path, engine_config(tmp_path, "streams"))
    with serving(tmp_path) as server:
        model = server.until_state("tiny", "ready")
        with leased(server):
            server.process.send_signal(signal.SIGINT)
            server.until_said("a second signal ends them at once")
            done = server.end(signal.SIGINT)
    assert done.code == 0, done
    clean(done.err, "Cancel ")
    assert not group(model["pid"])


def test_an_end_waits_no_longer_than_the_configuration_says(tmp_path: Path) -> None:
    write_config(tmp_path, engine_config(tmp_path, "streams") | {"fleet": {"drain_timeout": 0.2}})
    with serving(tmp_path) as server:
        server.until_state("tiny", "ready")
        with leased(server):
            done = server.end(signal.SIGTERM)
    assert done.code == 0, done
    clean(done.err, "Cancel ")


def test_an_end_while_a_model_starts(tmp_path: Path) -> None:
    write_config(tmp_path, engine_config(tmp_path, "loading"))
    with serving(tmp_path) as server:
        server.until_state("tiny", "starting")
        until(server.engines)
        engines = server.engines()
        done = server.end(signal.SIGTERM)
    assert done.code == 0, done
    clean(done.err)
    assert not any(alive(pid) for pid in engines)


def test_nothing_is_left_of_a_server_that_was_killed(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config())
    with serving(tmp_path) as server:
        server.until_state("tiny", "ready")
        engines = server.engines()
        assert engines
        old = server.record
        server.process.kill()
        assert all(ended(pid) for pid in engines)
        server.process.wait()
    assert server.state.exists(), "nobody could delete it"
    benchai("fleet", "status", cwd=tmp_path).refused("no server of this user runs")
    run = benchai("run", "react", "What is 2 + 3?", cwd=tmp_path)
    assert run.code == 0, run
    server.state.rename(tmp_path / "old.json")
    server.err.unlink()
    with serving(tmp_path) as again:
        assert again.record["token"] != old["token"]
        again.until_state("tiny", "ready")
        clean(again.text)
        assert again.end().code == 0


def test_a_stale_state_file_is_replaced(tmp_path: Path) -> None:
    write_config(tmp_path, {"models": {"general": {"endpoint": "http://127.0.0.1:9/v1", "model": "m"}}})
    state = tmp_path / "benchai-home" / "state" / "serve.json"
    state.parent.mkdir(parents=True)
    stale = {"pid": os.getpid(), "started": 1.0, "url": "http://127.0.0.1:9", "token": "t", "config": "", "models": ""}
    state.write_text(json.dumps(stale))
    benchai("fleet", "status", cwd=tmp_path).refused("no server of this user runs")
    with launched(tmp_path, "--port", "0", home=tmp_path / "benchai-home") as server:
        until(lambda: server.record["pid"] == server.process.pid)
        assert server.models()["general"]["state"] == "remote"
        assert server.end().code == 0


def test_a_server_goes_on_when_nobody_reads_what_it_says(tmp_path: Path) -> None:
    write_config(tmp_path, engine_config(tmp_path, "streams"))
    read, write = os.pipe()
    os.close(read)
    with serving(tmp_path, stderr=write) as server:
        os.close(write)
        server.until_state("tiny", "ready")
        assert benchai("fleet", "restart", "tiny", cwd=tmp_path).out == "tiny: ready\n"
        assert server.end().code == 0


# ---- the address


def test_a_port_that_is_taken_is_named_with_its_owner(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = benchai("serve", "--port", str(port), cwd=tmp_path)
    done.refused(f"router.port {port} on 127.0.0.1 is in use by", f"pid {os.getpid()}", "0 takes a free one")


@pytest.mark.parametrize(
    ("host", "part"),
    [
        ("", "cannot listen on host ''"),
        ("a b", "cannot listen on host 'a b'"),
        # TEST-NET: nobody's
        ("192.0.2.1", "cannot listen on 192.0.2.1:0: Cannot assign"),
        ("ä..b", "is no address"),
        ("no-such-host.invalid", "cannot listen on no-such-host.invalid:0"),
    ],
)
def test_a_host_that_cannot_be_listened_on(tmp_path: Path, host: str, part: str) -> None:
    write_config(tmp_path, tiny_config())
    benchai("serve", "--port", "0", "--host", host, cwd=tmp_path).refused(part)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_a_privileged_port(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config())
    benchai("serve", "--port", "80", cwd=tmp_path).refused("cannot listen on 127.0.0.1:80: Permission denied")


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none(tmp_path: Path, port: str) -> None:
    done = benchai("serve", "--port", port, cwd=tmp_path)
    assert done.code == 2
    assert "--port" in done.err


def test_a_configuration_that_is_wrong(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config() | {"fleet": {"core": ["genral"]}})
    benchai("serve", "--port", "0", cwd=tmp_path).refused("fleet.core.0", "'genral'", "did you mean 'general'")


# ---- the key, and what is asked


def test_the_key_opens_the_fleet_and_nonsense_is_refused(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config() | {"fleet": {"core": []}})
    with serving(tmp_path) as server, server.client() as client:
        url, token = server.record["url"], server.record["token"]
        assert client.get("/health").json() == {"status": "ok"}
        asking = [("POST", "/lease"), ("POST", "/fit")]
        for key in (None, "", "Bearer", "Bearer wrong", f"Bearer {token}x", f"Basic {token}", "Bearer \xe9"):
            headers: dict[str, Any] = {} if key is None else {"Authorization": key.encode("latin-1")}
            for method, path in [("GET", ""), ("GET", "/events"), ("POST", "/models/tiny/stop"), *asking]:
                body: Any = {"role": "general", "models": ["tiny"]} if (method, path) in asking else None
                got = httpx.request(method, f"{url}/fleet{path}", headers=headers, json=body, trust_env=False)
                assert got.status_code == 401, (key, path, got.text)
                assert token not in got.text
        for body in (
            b"",
            b"{",
            b"[]",
            b"null",
            b'"x"',
            b"\xff\xfe",
            b"{}",
            b'{"role": "general"}',
            b'{"role": "general", "models": []}',
            b'{"role": "", "models": ["tiny"]}',
            b'{"role": 5, "models": "tiny"}',
            b'{"role": "general", "models": [5]}',
            b'{"role": ["\\ud800"], "models": ["tiny"]}',
        ):
            got = client.post("/fleet/lease", content=body, headers={"Content-Type": "application/json"})
            assert got.status_code in (400, 422), (body, got.status_code, got.text)
        lost = client.post("/fleet/lease", json={"role": "general", "models": ["tniy"]})
        assert json.loads(lost.text)["hint"] == "did you mean 'tiny'?"
        assert client.post(
            "/fleet/lease", json={"role": "\ud800".encode("utf-8", "replace").decode(), "models": ["no"]}
        )
        for path in ("/fleet/models/tniy/start", "/fleet/models/%00/stop", "/fleet/models/%F0%9F/restart"):
            got = client.post(path)
            assert (got.status_code, got.json()["error"]["kind"]) == (400, "UsageError"), got.text
        assert client.get("/fleet/models/tniy/logs").json()["error"]["hint"] == "did you mean 'tiny'?"
        assert client.post("/fleet/models/tiny/explode").status_code == 422
        for query in ("lines=-1", "lines=many", "follow=perhaps"):
            assert client.get(f"/fleet/models/tiny/logs?{query}").status_code == 422
        assert client.get(f"/fleet/events?last={10**30}").status_code in (200, 422)
        assert client.get("/fleet/events?last=0").text == ""
        assert client.get("/fleet/nothing").status_code == 404
        assert client.delete("/fleet").status_code == 405
        assert server.models()["tiny"]["state"] == "stopped"
        done = server.end()
    assert done.code == 0
    clean(done.err)
    assert token not in done.err


# ---- its configuration


def three(**changes: Any) -> dict[str, Any]:
    one, two = dict(TINY_MODEL), TINY_MODEL | {"context": 1024}
    return {"models": {"general": one, "code": two}, "fleet": {"memory": {"reserve": 0}}} | changes


def test_only_a_model_whose_settings_changed_is_restarted(tmp_path: Path) -> None:
    path = write_config(tmp_path, three())
    with serving(tmp_path) as server:
        before = {name: server.until_state(name, "ready")["pid"] for name in ("general", "code")}
        record = server.record

        # it sees the change by itself
        changed = three()
        changed["models"]["code"] = TINY_MODEL | {"context": 512}
        write_config(tmp_path, changed)
        server.until_said("the configuration was read again: restarted code")
        until(lambda: server.models()["code"]["pid"] not in (None, before["code"]))
        assert server.models()["general"]["pid"] == before["general"]
        assert server.until_state("code", "ready")["n_ctx"] == 512
        assert not group(before["code"])
        assert (server.record["url"], server.record["token"]) == (record["url"], record["token"])
        assert server.record["models"] != record["models"]

        # an invalid one changes nothing
        now, state = {name: one["pid"] for name, one in server.models().items()}, server.record
        path.write_text("models: {general: {contxt: 1}}\n", encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        server.until_said("the configuration is kept as it was", "contxt")
        path.unlink()
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.text.count("the configuration is kept as it was") >= 2)
        assert {name: one["pid"] for name, one in server.models().items()} == now
        assert server.record == state

        # a limit needs no restart
        write_config(tmp_path, changed | {"budgets": {"steps": 3}})
        server.process.send_signal(signal.SIGHUP)
        server.until_said("no model had to be restarted")
        assert {name: one["pid"] for name, one in server.models().items()} == now
        done = server.end()
    assert done.code == 0
    clean(done.err)


def test_a_model_that_goes_with_its_settings_and_one_that_comes(tmp_path: Path) -> None:
    changed = three()
    write_config(tmp_path, changed)
    with serving(tmp_path) as server:
        now = {name: server.until_state(name, "ready")["pid"] for name in ("general", "code")}
        models = {"general": changed["models"]["general"], "planner": TINY_MODEL}
        write_config(tmp_path, changed | {"models": models})
        server.process.send_signal(signal.SIGHUP)
        until(lambda: set(server.models()) == {"general", "planner"})
        server.until_state("planner", "ready")
        until(lambda: not group(now["code"]))
        assert server.models()["general"]["pid"] == now["general"]
        done = server.end()
    assert done.code == 0
    clean(done.err, "KeyError")


def test_a_reload_is_taken_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    write_config(tmp_path, three())
    body = {"model": "general", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0}
    with serving(tmp_path) as server, server.client() as client:
        for name in ("general", "code"):
            server.until_state(name, "ready")

        def state() -> str:
            reply = client.post("/v1/chat/completions", json=body)
            return str(reply.raise_for_status().json()["benchai"]["cache"])

        until(lambda: state() == "exact")
        # no model makes vectors: the rest of it must not count either
        write_config(tmp_path, three(cache={"exact": False, "similar": {"enabled": True}}, router={"max_queue": 7}))
        server.until_said("the configuration is kept as it was", "embed")
        assert state() == "exact"
        # and the next one is read
        write_config(tmp_path, three(cache={"exact": False}))
        server.until_said("the configuration was read again")
        assert state() == "none"
        done = server.end()
    assert done.code == 0
    clean(done.err)


def test_a_reload_while_it_ends_does_not_announce_it_again(tmp_path: Path) -> None:
    write_config(tmp_path, engine_config(tmp_path, "streams"))
    with serving(tmp_path) as server:
        server.until_state("tiny", "ready")
        with leased(server):
            server.process.send_signal(signal.SIGTERM)
            until(lambda: not server.state.exists())
            server.process.send_signal(signal.SIGHUP)
            with server_answers(server.text):
                assert not server.state.exists()
        assert server.process.wait(LIMIT) == 0
    assert "was read again" not in server.text
    assert not server.state.exists()


@contextlib.contextmanager
def server_answers(text: str) -> Any:
    """The server at the address it told still answers, before and after."""
    url = text.partition(" at ")[2].split()[0]
    for _ in range(2):
        assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
    yield
