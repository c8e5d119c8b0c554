"""Webhooks: which URLs are taken, which secrets, and the signature."""

from __future__ import annotations

import base64

import pytest
from pydantic import ValidationError

from benchai.config.agent import AgentConfig
from benchai.errors import ConfigError
from benchai.server.agent.service import Unprocessable
from benchai.server.agent.webhooks import Webhooks, signature, signing_key

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
REFUSED = [
    "http://127.0.0.1/",
    "http://localhost.:22/",
    "http://10.1.2.3/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::1]/",
    "http://2130706433/",
    "http://127.1/",
    "https://user:secret@example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "example.com",
    "/hook",
    "https://example.com:22/",
]


def webhooks(*hosts: str) -> Webhooks:
    return Webhooks(AgentConfig(webhook_hosts=list(hosts)), lambda run_id, ok, why: None)


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # made with the package standardwebhooks 1.0
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    assert signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}') == expected


@pytest.mark.parametrize("prefix", ["whsec_", ""])
def test_the_secret_comes_from_the_environment(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKS", prefix + base64.b64encode(b"k" * 24).decode())
    assert signing_key("HOOKS") == b"k" * 24
    assert signing_key(None) is None


@pytest.mark.parametrize("value", ["", "whsec_", "whsec_no base64!", base64.b64encode(b"short").decode(), "QUJD" * 30])
def test_a_secret_that_is_none_is_refused_and_not_told(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKS", value)
    with pytest.raises(ConfigError, match="'HOOKS'") as refused:
        Webhooks(AgentConfig(webhook_secret_env="HOOKS"), lambda run_id, ok, why: None)
    secret = value.removeprefix("whsec_")
    assert not secret or secret not in f"{refused.value.message} {refused.value.hint}"


@pytest.mark.parametrize("url", REFUSED)
def test_urls_that_are_refused_before_a_run_begins(url: str) -> None:
    with pytest.raises(Unprocessable, match="the webhook cannot be sent") as refused:
        webhooks("10.1.2.4", "*.lan").check(url)
    assert "web_fetch" not in refused.value.message


@pytest.mark.parametrize("url", ["https://example.com/a?b=c", "http://example.com:8080", "https://bücher.example/"])
def test_public_urls_are_taken(url: str) -> None:
    webhooks().check(url)


@pytest.mark.parametrize(
    ("glob", "taken", "refused"),
    [
        ("10.1.2.3", "http://10.1.2.3:9000/x", "http://10.1.2.33/"),
        ("10.1.2.3:9000", "http://10.1.2.3:9000/x", "http://10.1.2.3/"),
        ("10.1.2.*:80", "http://10.1.2.7", "http://10.1.2.7:81/"),
        ("[::1]:*", "http://[::1]:7/", "http://[fd00::1]:7/"),
        ("xn--bcher-kva.lan", "http://bücher.lan:5/", "http://bucher.lan:5/"),
        ("*.Hooks.LAN", "http://a.hooks.lan:5/", "http://hooks.lan:5/"),
    ],
)
def test_hosts_that_the_configuration_allows(glob: str, taken: str, refused: str) -> None:
    webhooks(glob).check(taken)
    with pytest.raises(Unprocessable):
        webhooks(glob).check(refused)


def test_another_configuration_is_taken_whole_or_not_at_all() -> None:
    found = webhooks("10.1.2.3")
    with pytest.raises(ConfigError):
        found.apply(AgentConfig(webhook_secret_env="NOT_SET_ANYWHERE", webhook_hosts=["10.9.9.9"]))
    found.check("http://10.1.2.3/")
    found.apply(AgentConfig())
    with pytest.raises(Unprocessable):
        found.check("http://10.1.2.3/")


@pytest.mark.parametrize("glob", ["http://hooks.lan", "a/b", "", "a b", "host:", "host:123456"])
def test_what_is_no_host_is_refused(glob: str) -> None:
    with pytest.raises(ValidationError):
        AgentConfig(webhook_hosts=[glob])
