"""API keys with ``benchai serve`` and ``benchai keys`` as processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.helpers import benchai, commands, until, write_config
from tests.integration.serve_helpers import Served, clean, serving

__all__ = ["commands"]
pytestmark = pytest.mark.timeout(60)
#: Nothing of it is started: requests do not get that far.
FAR: dict[str, Any] = {"models": {"general": {"endpoint": "http://127.0.0.1:9/v1", "model": "m"}}}


def made(folder: Path, name: str, *options: str) -> tuple[str, dict[str, Any]]:
    """A new key, and its entry of benchai.yaml as the command told it."""
    done = benchai("keys", "new", name, *options, cwd=folder)
    assert done.code == 0, done
    key = done.out.strip()
    assert key not in done.err
    [entry] = yaml.safe_load(done.err.partition("needs:")[2])["server"]["keys"]
    return key, entry


def status_of(server: Served, path: str, **headers: str) -> int:
    with server.client(headers=headers) as client:
        return client.get(path).status_code


def test_a_key_from_its_making_to_its_end(tmp_path: Path) -> None:
    write_config(tmp_path, FAR)
    ann, entry = made(tmp_path, "ann", "--requests-per-minute", "1000", "--concurrent", "4")
    assert (entry["name"], entry["requests_per_minute"], entry["concurrent"]) == ("ann", 1000, 4)
    bob, other = made(tmp_path, "bob")
    write_config(tmp_path, FAR | {"server": {"keys": [entry, other]}})
    told = benchai("keys", "list", cwd=tmp_path).out.splitlines()
    assert [line.split() for line in told] == [
        ["ann", "1000/min", "4", "at", "a", "time", entry["sha256"][:12]],
        ["bob", "any/min", "any", "at", "a", "time", other["sha256"][:12]],
    ]
    benchai("keys", "new", "ann", cwd=tmp_path).refused("'ann'", "already")
    with serving(tmp_path, "--access-log") as server:
        assert status_of(server, "/health") == 200
        assert status_of(server, "/v1/nothing") == 401
        assert [status_of(server, "/v1/nothing", Authorization=f"Bearer {key}") for key in (ann, bob)] == [404, 404]
        with server.client() as client:
            assert client.get("/fleet").status_code == 200
            assert client.get("/v1/nothing").status_code == 401, "the key of /fleet opens nothing else"
        # a key that is taken out does not open any more
        write_config(tmp_path, FAR | {"server": {"keys": [other]}})
        until(lambda: status_of(server, "/v1/nothing", Authorization=f"Bearer {ann}") == 401)
        assert status_of(server, "/v1/nothing", Authorization=f"Bearer {bob}") == 404
        assert server.end().code == 0
    clean(server.text)
    assert "GET /v1/nothing 404" in server.text
    assert "key=ann" in server.text
    for secret in (ann, bob):
        assert secret not in server.text
        assert secret not in (tmp_path / "benchai.yaml").read_text()


def test_nobody_else_can_reach_it_without_a_key(tmp_path: Path) -> None:
    write_config(tmp_path, FAR)
    for host in ("0.0.0.0", "::"):
        refused = benchai("serve", "--host", host, "--port", "0", cwd=tmp_path)
        refused.refused("can be reached from other machines", "server.keys is empty", "benchai keys new NAME")
    _, entry = made(tmp_path, "ann")
    write_config(tmp_path, FAR | {"server": {"keys": [entry]}})
    with serving(tmp_path, "--host", "0.0.0.0") as server:
        url = server.record["url"].replace("0.0.0.0", "127.0.0.1")
        with server.client(base_url=url, headers={}) as client:
            assert client.get("/v1/nothing").status_code == 401
            # to take all keys out would open it to everybody
            write_config(tmp_path, FAR)
            server.until_said("the configuration is kept as it was", "can be reached from other machines")
            assert client.get("/v1/nothing").status_code == 401
        assert server.end().code == 0


def test_a_server_without_keys_on_loopback(tmp_path: Path) -> None:
    write_config(tmp_path, FAR)
    with serving(tmp_path) as server:
        with server.client(headers={}) as client:
            missing = client.get("/v1/nothing")
            assert missing.json()["error"]["message"] == "Not Found: GET /v1/nothing"
            assert client.get("/health", headers={"Host": "evil.example"}).status_code == 403
            assert client.get("/fleet").json() == {"detail": "the key of this server's state file is needed"}
            assert "server" not in missing.headers
        assert server.end().code == 0
    assert "GET /" not in server.text, "the access log is off"
    clean(server.text)


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 65, "a\nb", "ä"])
def test_a_name_that_cannot_be(tmp_path: Path, name: str) -> None:
    write_config(tmp_path, FAR)
    done = benchai("keys", "new", "--", name, cwd=tmp_path)
    done.refused("cannot have the name")


def test_keys_as_json(tmp_path: Path) -> None:
    write_config(tmp_path, FAR)
    done = benchai("keys", "new", "ann", "--concurrent", "2", "--json", cwd=tmp_path)
    entry = json.loads(done.out)
    assert entry.pop("key").startswith("benchai-")
    write_config(tmp_path, FAR | {"server": {"keys": [entry]}})
    listed = json.loads(benchai("keys", "list", "--json", cwd=tmp_path).out)
    assert listed == [entry | {"requests_per_minute": None}]
    write_config(tmp_path, FAR)
    none = benchai("keys", "list", cwd=tmp_path)
    assert (none.code, none.out) == (0, "")
    assert "benchai keys new NAME" in none.err
