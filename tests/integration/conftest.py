"""Fixtures of several modules: a PostgreSQL server, and the two databases that threads are kept in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.postgres_server import PASSWORD, ask, programs, running_server, url_of

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server(nothing_left_behind: None) -> Iterator[Path]:
    """The folder of the socket of a PostgreSQL server that runs for the session, once somebody asks for it."""
    pytest.importorskip("psycopg", reason="needs the extra postgres")
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL server: initdb is neither on PATH nor below /usr/lib/postgresql")
    with running_server(found) as folder:
        ask(url_of(folder, "postgres"), f"CREATE ROLE guarded LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
        yield folder


@pytest.fixture
def postgres_url(postgres_server: Path) -> Iterator[str]:
    """An empty database."""
    name, server = f"threads{next(_numbers)}", url_of(postgres_server, "postgres")
    ask(server, f"CREATE DATABASE {name}")
    yield url_of(postgres_server, name)
    # removing the folder of all of them at the end would take seconds
    ask(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whatever is run keeps its threads in SQLite, and once more in PostgreSQL."""
    if request.param == "postgres":
        monkeypatch.setenv("BENCHAI_THREADS__URL", request.getfixturevalue("postgres_url"))
    return str(request.param)
