"""API keys and what is left of their limits."""

from __future__ import annotations

import hmac
import json
from typing import Any

import pytest
from pydantic import ValidationError

from benchai.config.server import CorsConfig, KeyConfig, ServerConfig
from benchai.errors import ConfigError
from benchai.server.auth import Allowance, Keyring, check_reach, digest, is_loopback, needs_key, new_key, refusal


def key(name: str = "ann", secret: str = "one", **limits: int) -> KeyConfig:
    return KeyConfig(name=name, sha256=digest(secret), **limits)


def name_of(ring: Keyring, **headers: str) -> str | None:
    found = ring.caller({name.replace("_", "-").encode(): value.encode() for name, value in headers.items()})
    return found.name if found else None


def test_keys_are_random_and_long() -> None:
    assert new_key() != new_key()
    assert len(new_key()) >= 48


def test_the_sum_is_sha256_of_the_key() -> None:
    # printf %s one | sha256sum
    assert digest("one") == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"authorization": "Bearer one"}, "ann"),
        ({"authorization": "bearer  two "}, "bob"),
        ({"api_key": "one"}, "ann"),
        ({"x_api_key": "two"}, "bob"),
        ({"authorization": "Basic b25l", "x_api_key": "two"}, "bob"),
        ({"authorization": "Bearer two", "api_key": "one"}, "bob"),
        ({"authorization": "Bearer three", "api_key": "one"}, None),
        ({"authorization": "one"}, None),
        ({"authorization": "Bearer"}, None),
        ({"authorization": "Bearer "}, None),
        ({"authorization": "Bearer ONE"}, None),
        ({"authorization": f"Bearer {digest('one')}"}, None),
        ({"api_key": ""}, None),
        ({}, None),
    ],
)
def test_who_asks(headers: dict[str, str], name: str | None) -> None:
    ring = Keyring([key(), key("bob", "two")], 0)
    assert name_of(ring, **headers) == name


def test_a_key_that_is_no_text() -> None:
    assert Keyring([key()], 0).caller({b"authorization": b"Bearer \xff\xfe\x80"}) is None


@pytest.mark.parametrize("secret", ["first", "last", "none"])
def test_every_key_is_compared(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    compared, original = [], hmac.compare_digest

    def compare(one: bytes, two: bytes) -> bool:
        compared.append(one)
        return original(one, two)

    ring = Keyring([key("a", "first"), key("b", "middle"), key("c", "last")], 0)
    monkeypatch.setattr(hmac, "compare_digest", compare)
    ring.caller({b"x-api-key": secret.encode()})
    assert len(compared) == 3


def test_a_refusal_tells_neither_key_nor_names() -> None:
    status, headers, body = refusal({b"authorization": b"Bearer wrong"})
    assert (status, json.loads(body)["error"]["code"]) == (401, "invalid_api_key")
    assert (b"www-authenticate", b'Bearer realm="benchai"') in headers
    assert b'"wrong"' not in body
    assert json.loads(refusal({})[2])["error"]["code"] == "missing_api_key"


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/", "/health/", "/ready2", "/fleets", "/v1/../fleet"])
def test_paths_that_need_a_key(path: str) -> None:
    assert needs_key(path)


@pytest.mark.parametrize("path", ["/health", "/ready", "/fleet", "/fleet/models/a/start"])
def test_paths_that_need_none_of_these(path: str) -> None:
    assert not needs_key(path)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback_needs_no_keys(address: str) -> None:
    assert is_loopback(address)
    check_reach(address, [])


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.2", "fe80::1%eth0", "::ffff:192.168.1.2"])
def test_what_others_can_reach_needs_keys(address: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.keys is empty") as caught:
        check_reach(address, [])
    assert "benchai keys new" in str(caught.value.hint)
    check_reach(address, [key()])


# ---- limits


def taken(allowance: Allowance, now: float) -> int:
    """The status that a request gets; it ends at once."""
    refused = allowance.take(now)
    if refused is None:
        allowance.give_back()
        return 200
    return refused[0]


def told(allowance: Allowance) -> tuple[str, ...]:
    return tuple(value.decode() for _, value in allowance.headers())


def test_a_minute_has_so_many_requests() -> None:
    allowance = Allowance(key(requests_per_minute=2), 100)
    assert [taken(allowance, 100) for _ in range(4)] == [200, 200, 429, 429]
    assert taken(allowance, 129.9) == 429
    # one every 30 seconds comes back, and what was refused cost nothing
    assert [taken(allowance, 130.1), taken(allowance, 130.1)] == [200, 429]
    assert [taken(allowance, 1000) for _ in range(3)] == [200, 200, 429]


def test_what_is_left_is_told() -> None:
    allowance = Allowance(key(requests_per_minute=120), 0)
    assert told(allowance) == ("120", "120", "0ms")
    taken(allowance, 0)
    assert told(allowance) == ("120", "119", "500ms")
    for _ in range(119):
        taken(allowance, 0)
    assert told(allowance) == ("120", "0", "1m0s")
    slow = Allowance(key(requests_per_minute=1), 0)
    taken(slow, 50)
    assert told(slow) == ("1", "0", "1m0s")
    taken(slow, 57.5)
    assert told(slow) == ("1", "0", "53s")
    assert Allowance(key(), 0).headers() == []


def test_a_refusal_says_when_to_come_again() -> None:
    allowance = Allowance(key(requests_per_minute=4), 0)
    for _ in range(4):
        taken(allowance, 0)
    refused = allowance.take(3)
    assert refused is not None
    _, headers, body = refused
    assert (b"retry-after", b"12") in headers
    assert json.loads(body)["error"] == {
        "message": "this key may send 4 requests per minute; the next one in 12.0 s",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }


def test_so_many_requests_at_a_time() -> None:
    allowance = Allowance(key(concurrent=2, requests_per_minute=3), 0)
    assert [allowance.take(0), allowance.take(0)] == [None, None]
    refused = allowance.take(0)
    assert refused is not None
    assert json.loads(refused[2])["error"]["code"] == "concurrency_limit_exceeded"
    assert (b"retry-after", b"1") in refused[1]
    allowance.give_back()
    # the refused one took none of the requests of the minute
    assert allowance.take(0) is None
    assert allowance.active == 2


def test_limits_outlive_a_reload_unless_they_changed() -> None:
    one, two = key(requests_per_minute=1), key("bob", "two", requests_per_minute=1)
    before = Keyring([one, two], 0)
    for secret in (b"one", b"two"):
        caller = before.caller({b"api-key": secret})
        assert caller is not None
        assert caller.allowance.take(0) is None
    after = Keyring([one, key("bob", "two", requests_per_minute=5)], 0, before)
    statuses = []
    for secret in (b"one", b"two"):
        caller = after.caller({b"api-key": secret})
        assert caller is not None
        statuses.append(taken(caller.allowance, 0))
    assert statuses == [429, 200]
    assert not Keyring([], 0, after)


# ---- the section


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"keys": [{"name": "a", "sha256": "x" * 64}]}, "sha256"),
        ({"keys": [{"name": "a", "sha256": digest("x").upper()}]}, "sha256"),
        ({"keys": [{"name": "a b", "sha256": digest("x")}]}, "name"),
        ({"keys": [{"name": "", "sha256": digest("x")}]}, "name"),
        ({"keys": [{"name": "a", "sha256": digest("x"), "concurrent": 0}]}, "concurrent"),
        ({"keys": [{"name": "a", "key": "x"}]}, "key"),
        ({"keys": [{"name": "a", "sha256": digest("x")}, {"name": "a", "sha256": digest("y")}]}, "two keys"),
        ({"keys": [{"name": "a", "sha256": digest("x")}, {"name": "b", "sha256": digest("x")}]}, "two keys"),
        ({"hosts": ["box:80"]}, "hosts"),
        ({"hosts": ["http://box"]}, "hosts"),
        ({"max_body": 0}, "max_body"),
        ({"header_timeout": 0}, "header_timeout"),
        ({"cors": {"origins": ["https://a.example/"]}}, "without a path"),
        ({"cors": {"origins": ["a.example"]}}, "is no origin"),
        ({"cors": {"origins": ["null"]}}, "is no origin"),
        ({"cors": {"origins": ["https://A.example"]}}, "small letters"),
        ({"cors": {"origins": ["*"], "credentials": True}}, "contradicts"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        ServerConfig.model_validate(settings)


def test_nothing_is_open_by_default() -> None:
    settings = ServerConfig()
    assert (settings.keys, settings.hosts, settings.cors, settings.access_log) == ([], [], CorsConfig(), False)
    assert settings.cors.origins == []
