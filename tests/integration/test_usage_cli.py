"""``benchai stats`` and ``benchai feedback`` as commands, and ``POST /v1/feedback``."""

from __future__ import annotations

import json
import os
import pty
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image

from benchai.config.usage import UsageConfig
from benchai.runtime.usage.log import UsageLog
from benchai.runtime.usage.row import UsageRow
from benchai.runtime.usage.schema import usage_file
from benchai.server.feedback import MOST_BYTES, feedback_router
from tests.integration.helpers import benchai, commands, running  # noqa: F401

SECRET = "what-was-asked"


@pytest.fixture
def rows(own_home: Path) -> list[UsageRow]:
    """Ten requests of the last ten days."""
    now = time.time()
    made = [
        UsageRow(
            id=f"req-{number}",
            time=now - number * 86_400 - 60,
            key="laptop" if number % 2 else None,
            asked="auto",
            role="code" if number < 4 else "general",
            model="m",
            score=0.2,
            total_s=12.0 if number == 3 else 1.5,
            tokens_in=100,
            tokens_out=10,
            outcome="QueueFull" if number == 9 else "ok",
            request=SECRET,
        )
        for number in range(10)
    ]
    with UsageLog(UsageConfig(contents=True)) as log:
        for row in made:
            log.append(row)
    return made


def feedback_of(request: str) -> tuple[float | None, str | None]:
    with closing(sqlite3.connect(usage_file())) as connection:
        found: tuple[float | None, str | None] = connection.execute(
            "SELECT feedback, comment FROM requests WHERE id = ?", (request,)
        ).fetchone()
        return found


@pytest.mark.parametrize(
    "words",
    [
        ["stats"],
        ["stats", "--json"],
        ["stats", "--last", "3"],
        ["stats", "--png", "x.png"],
        ["stats", "purge", "--all"],
    ],
    ids=" ".join,
)
def test_without_rows_it_says_how_they_come_about(tmp_path: Path, words: list[str]) -> None:
    done = benchai(*words, cwd=tmp_path)
    assert done.code == 0, done
    assert done.out.strip() == ("{}" if "--json" in words else "")
    assert "benchai serve" in done.err
    assert not usage_file().exists()
    assert not (tmp_path / "x.png").exists()


def test_the_tables(rows: list[UsageRow], tmp_path: Path) -> None:
    done = benchai("stats", cwd=tmp_path)
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert lines[0].startswith("10 requests, 1 error, 0 cancelled, ")
    assert [line.split()[:3] for line in lines if line.startswith(("general", "code "))] == [
        ["general", "6", "1"],
        ["code", "4", "0"],
    ]
    [code] = [line for line in lines if "code response" in line]
    assert code.split()[:7] == ["fail", "code", "response", "<", "10", "s", "p95"]
    assert SECRET not in done.out


def test_a_period_and_another_grouping(rows: list[UsageRow], tmp_path: Path) -> None:
    done = benchai("stats", "--since", "60h", "--by", "key", "--json", cwd=tmp_path)
    assert done.code == 0, done
    found = json.loads(done.out)
    assert {group["name"]: group["requests"] for group in found["groups"]} == {None: 2, "laptop": 1}
    assert found["by"] == "key"
    assert [target["verdict"] for target in found["targets"]] == ["pass", "no data", "no data", "no data", "no data"]
    nothing = benchai("stats", "--since", "2100-01-01", cwd=tmp_path)
    assert nothing.out.startswith("0 requests")


def test_the_last_requests(rows: list[UsageRow], tmp_path: Path) -> None:
    done = benchai("stats", "--last", "2", cwd=tmp_path)
    assert [line.split()[0] for line in done.out.splitlines()] == ["id", "req-0", "req-1"]
    found = json.loads(benchai("stats", "--last", "2", "--json", cwd=tmp_path).out)
    assert [one["id"] for one in found] == ["req-0", "req-1"]
    assert "request" not in found[0]


def test_the_picture(rows: list[UsageRow], tmp_path: Path) -> None:
    done = benchai("stats", "--png", "stats.png", cwd=tmp_path)
    assert (done.code, done.out) == (0, ""), done
    with Image.open(tmp_path / "stats.png") as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--since", "soon"], "is no moment"),
        (["--json", "--png", "a.png"], "exclude each other"),
        (["--png", "/proc/none/a.png"], "cannot be written"),
        (["purge"], "either --before"),
        (["purge", "--all", "--before", "3d"], "either --before"),
        (["purge", "--before", "soon"], "is no moment"),
        (["purge", "--all"], "--yes"),
    ],
)
def test_what_is_refused(rows: list[UsageRow], tmp_path: Path, words: list[str], part: str) -> None:
    benchai("stats", *words, cwd=tmp_path).refused(part)
    assert json.loads(benchai("stats", "--json", cwd=tmp_path).out)["total"]["requests"] == 10


def test_groupings_that_do_not_exist(tmp_path: Path) -> None:
    done = benchai("stats", "--by", "colour", cwd=tmp_path)
    assert done.code == 2
    assert "workflow" in done.err


def test_purging_old_rows(rows: list[UsageRow], tmp_path: Path) -> None:
    done = benchai("stats", "purge", "--before", "5d", "--yes", cwd=tmp_path)
    assert (done.code, done.err) == (0, "deleted 5 requests\n"), done
    assert json.loads(benchai("stats", "--json", cwd=tmp_path).out)["total"]["requests"] == 5


def test_purging_all_leaves_no_trace(rows: list[UsageRow], tmp_path: Path) -> None:
    assert SECRET.encode() in usage_file().read_bytes()
    done = benchai("stats", "purge", "--all", "--yes", cwd=tmp_path)
    assert (done.code, done.err) == (0, "deleted 10 requests\n"), done
    for file in usage_file().parent.iterdir():
        assert SECRET.encode() not in file.read_bytes()
    assert "benchai serve" in benchai("stats", cwd=tmp_path).err


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 10), ("", 10)])
def test_it_asks_before_it_purges(rows: list[UsageRow], tmp_path: Path, answer: str, left: int) -> None:
    terminal, theirs = pty.openpty()
    try:
        with running("stats", "purge", "--all", cwd=tmp_path, stdin=theirs) as cli:
            os.write(terminal, f"{answer}\n".encode())
            done = cli.end()
    finally:
        os.close(terminal)
        os.close(theirs)
    assert "delete all usage rows (10 requests)?" in done.err
    assert done.code == (0 if left == 0 else 1), done
    with closing(sqlite3.connect(usage_file())) as connection:
        assert connection.execute("SELECT count(*) FROM requests").fetchone() == (left,)


def test_feedback_by_command(rows: list[UsageRow], tmp_path: Path) -> None:
    done = benchai("feedback", "req-1", "up", "--comment", "well done", cwd=tmp_path)
    assert (done.code, done.err) == (0, "noted +1 for req-1\n"), done
    assert feedback_of("req-1") == (1.0, "well done")
    assert benchai("feedback", "--", "req-1", "-0.5", cwd=tmp_path).code == 0
    assert feedback_of("req-1") == (-0.5, None)
    assert feedback_of("req-2") == (None, None)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["req-77", "up"], "there is no request 'req-77'"),
        (["req-1", "great"], "'great' cannot be used"),
        (["req-1", "nan"], "cannot be used"),
        (["req-1", "up", "--comment", "x" * 5000], "5000 characters"),
    ],
)
def test_feedback_that_is_refused(rows: list[UsageRow], tmp_path: Path, words: list[str], part: str) -> None:
    benchai("feedback", *words, cwd=tmp_path).refused(part)
    assert feedback_of("req-1") == (None, None)


@pytest.fixture
def log(own_home: Path) -> Iterator[UsageLog]:
    with UsageLog() as opened:
        yield opened


@pytest.fixture
async def client(log: UsageLog) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(feedback_router(log))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://benchai") as opened:
        yield opened


pytestmark = pytest.mark.anyio


async def test_feedback_over_http(log: UsageLog, client: httpx.AsyncClient) -> None:
    log.append(UsageRow(id="a", time=time.time()))
    reply = await client.post("/v1/feedback", json={"id": "a", "value": "down", "comment": "wrong"})
    assert (reply.status_code, reply.json()) == (200, {"id": "a", "object": "feedback", "value": -1.0})
    assert feedback_of("a") == (-1.0, "wrong")
    reply = await client.post("/v1/feedback", json={"id": "a", "value": 1})
    assert reply.json()["value"] == 1.0
    assert feedback_of("a") == (1.0, None)


def error_of(reply: httpx.Response) -> dict[str, Any]:
    data = reply.json()
    assert set(data) == {"error"}, data
    assert set(data["error"]) == {"message", "type", "param", "code"}
    assert re.fullmatch(r"[\x20-\x7e]+", data["error"]["message"]), data
    error: dict[str, Any] = data["error"]
    return error


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"null", None),
        (b'"\xff"', None),
        (b'{"value": "up"}', "id"),
        (b'{"id": "", "value": "up"}', "id"),
        (b'{"id": 3, "value": "up"}', "id"),
        (b'{"id": "\\ud800", "value": "up"}', None),
        (b'{"id": "a"}', "value"),
        (b'{"id": "a", "value": "good"}', "value"),
        (b'{"id": "a", "value": true}', "value"),
        (b'{"id": "a", "value": 1.5}', "value"),
        (b'{"id": "a", "value": 1e999}', "value"),
        (b'{"id": "a", "value": NaN}', "value"),
        (b'{"id": "a", "value": -99999999999999999999999999}', "value"),
        (b'{"id": "a", "value": null}', "value"),
        (b'{"id": "a", "value": "up", "comment": 5}', "comment"),
        (b'{"id": "a", "value": "up", "comment": "%s"}' % (b"x" * 4001), "comment"),
        (b'{"id": "a", "value": "up", "more": 5}', None),
        (b"[" * 50_000, None),
    ],
)
async def test_bodies_that_are_wrong(log: UsageLog, client: httpx.AsyncClient, body: bytes, param: str | None) -> None:
    log.append(UsageRow(id="a", time=time.time()))
    reply = await client.post("/v1/feedback", content=body)
    assert reply.status_code == 400, reply.text
    error = error_of(reply)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


async def test_feedback_over_http_for_an_unknown_request(client: httpx.AsyncClient) -> None:
    reply = await client.post("/v1/feedback", json={"id": "nothing", "value": "up"})
    assert reply.status_code == 404
    error = error_of(reply)
    assert (error["param"], error["code"]) == ("id", "request_not_found")
    assert "'nothing'" in error["message"]


async def test_a_body_that_is_too_long(client: httpx.AsyncClient) -> None:
    reply = await client.post("/v1/feedback", content=b" " * (MOST_BYTES + 1))
    assert reply.status_code == 413
    error_of(reply)


async def test_feedback_that_cannot_be_written(own_home: Path, log: UsageLog, client: httpx.AsyncClient) -> None:
    usage_file().mkdir(parents=True)
    reply = await client.post("/v1/feedback", json={"id": "a", "value": "up"})
    assert reply.status_code == 503
    assert int(reply.headers["Retry-After"]) > 0
    assert error_of(reply)["type"] == "server_error"


async def test_the_route_is_described(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()["paths"]["/v1/feedback"]["post"]
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["id", "value"]
    assert {"200", "400", "404", "413", "503"} <= set(described["responses"])
