"""``threads:`` in benchai.yaml: which URLs it takes, and that it tells no password."""

from __future__ import annotations

import pytest

from benchai.config.load import validate
from benchai.config.source import parse_yaml
from benchai.config.threads import ThreadsConfig
from benchai.errors import ConfigError

MODELS = "models: {a: {file: a.gguf}}\n"


def read(section: str) -> ThreadsConfig:
    return validate(parse_yaml(f"{MODELS}threads: {section}\n", "b.yaml")).threads


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada@db.example.org:5432/threads",
        "postgres://localhost/threads",
        "postgresql:///threads",
        "postgresql://",
        "postgresql://ada@/threads?host=/run/postgresql&connect_timeout=3",
        "postgresql://%2Frun%2Fpostgresql/threads",
        "postgresql://[::1]:5433/threads?sslmode=verify-full&passfile=/home/ada/.pgpass",
        "postgresql://one:5432,two:5433/threads?target_session_attrs=primary",
    ],
)
def test_a_database(url: str) -> None:
    assert read(f"{{url: '{url}', durable: full}}").url == url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:s3cret@localhost/threads",
        "postgresql://ada:s3cret/x@localhost/threads",
        "postgresql://ada:s3cret#x@localhost/threads",
        "postgresql://:s3cret@localhost/threads",
        "postgresql://ada:s3cret",
        "postgresql://localhost/threads?password=s3cret",
        "postgresql://localhost/threads?user=ada&PASSWORD=s3cret",
        "postgresql://localhost/threads?sslpassword=s3cret",
        "postgresql://localhost/threads?p%61ssword=s3cret",
        "postgresql://localhost/threads?oauth_client_secret=s3cret",
        "mysql://ada:s3cret@localhost/threads",
        "host=localhost password=s3cret",
        "s3cret",
        "",
    ],
)
def test_what_is_none_or_holds_a_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"b\.yaml:2:1: threads: url ") as caught:
        read(f"{{url: '{url}'}}")
    assert "password_env" in caught.value.message
    assert "s3cret" not in caught.value.message


def test_a_password_needs_a_database() -> None:
    with pytest.raises(ConfigError, match="password_env goes with url"):
        read("{password_env: DB_PASSWORD}")


def test_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://localhost/threads"
    assert read(f"{{url: '{url}'}}").password() is None
    config = read(f"{{url: '{url}', password_env: DB_PASSWORD}}")
    monkeypatch.delenv("DB_PASSWORD", raising=False)
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"threads\.password_env: the environment variable 'DB_PASSWORD'"):
            config.password()
        monkeypatch.setenv("DB_PASSWORD", "")
    monkeypatch.setenv("DB_PASSWORD", " s3cret ")
    assert config.password() == " s3cret "
    assert "s3cret" not in f"{config!r} {config.model_dump()}"
