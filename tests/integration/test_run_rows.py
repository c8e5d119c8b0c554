"""Usage rows of runs without a server's address between: one for each call of a model, whoever holds the model."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchai.bench import Bench
from benchai.errors import EndpointError
from benchai.events import ModelCall
from benchai.runtime.usage.read import last_rows
from benchai.runtime.usage.row import UsageRow
from benchai.runtime.usage.schema import usage_file
from tests.integration import scripted
from tests.integration.helpers import benchai, commands, loaded, tiny_config, write_config
from tests.integration.scripted import ScriptedServer
from tests.integration.serve_helpers import serving

__all__ = ["commands"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]
ADD = ("calculator", '{"expression": "7391 * 482"}')
SECRET = "the-secret-words"


def scripted_config(server: ScriptedServer, **extra: Any) -> dict[str, Any]:
    return {"models": {"far": server.model()}, "roles": {"general": "far"}, **extra}


async def run(folder: Path, config: dict[str, Any], task: str = "Add.") -> list[ModelCall]:
    """The calls of a run to its end; its bench is closed."""
    async with Bench.open(loaded(folder, config), workspace=folder) as bench:
        return [event async for event in bench.stream("react", task) if isinstance(event, ModelCall)]


def rows() -> list[UsageRow]:
    """All rows, the oldest first."""
    return last_rows(usage_file(), 100)[::-1]


async def test_each_call_of_a_run_leaves_a_row(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(ADD), scripted.text("It is 3562462.")) as server:
        calls = await run(tmp_path, scripted_config(server))
    found = rows()
    assert len(found) == len(calls) == 2
    for row, call in zip(found, calls, strict=True):
        assert (row.role, row.model, row.workflow, row.asked) == ("general", "far", "react", "workflow:react")
        assert (row.tokens_in, row.tokens_out) == (call.prompt_tokens, call.completion_tokens)
        assert row.tokens_in
        assert row.tokens_out
        assert (row.outcome, row.status, row.cache, row.key) == ("ok", 200, "none", None)
        assert row.total_s == call.seconds
        assert row.first_token_s is not None
        assert 0 < row.first_token_s <= row.total_s
        assert row.time <= call.time
    assert found[0].id != found[1].id
    assert len({row.session for row in found}) == 1


async def test_calls_that_fail_leave_rows_with_their_ends(tmp_path: Path) -> None:
    with ScriptedServer(scripted.error(500, message="broken")) as server:
        with pytest.raises(EndpointError):
            await run(tmp_path, scripted_config(server))
    [row] = rows()
    assert (row.outcome, row.status, row.model) == ("EndpointError", EndpointError.status, "far")
    assert (row.tokens_in, row.tokens_out, row.first_token_s) == (None, None, None)


async def test_no_rows_are_kept_where_they_are_off(tmp_path: Path) -> None:
    with ScriptedServer(scripted.text("Hello")) as server:
        await run(tmp_path, scripted_config(server, usage={"enabled": False}))
    assert not usage_file().exists()


@pytest.mark.parametrize("wanted", [True, False])
async def test_contents_are_kept_only_where_the_user_wants_them(tmp_path: Path, wanted: bool) -> None:
    with ScriptedServer(scripted.text(f"So {SECRET}")) as server:
        await run(tmp_path, scripted_config(server, usage={"contents": wanted}), SECRET)
    with closing(sqlite3.connect(usage_file())) as opened:
        found = opened.execute("SELECT id, request, reply FROM contents").fetchall()
    if not wanted:
        assert not found
        return
    [(id, request, reply)] = found
    assert id == rows()[0].id
    assert json.loads(request)["messages"][-1] == {"role": "user", "content": SECRET}
    assert json.loads(reply)["content"] == f"So {SECRET}"


@pytest.mark.timeout(60)
def test_a_run_on_a_servers_models_leaves_one_row_for_each_call(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config())
    with serving(tmp_path) as server:
        server.until_state("tiny", "ready")
        done = benchai("run", "react", "What is 2 + 3?", "--json", cwd=tmp_path)
        assert done.code == 0
        calls = [event for event in done.events() if event["type"] == "model_call"]
        # a workflow that the server runs for a client is one request
        body = {"model": "workflow:react", "messages": [{"role": "user", "content": "What is 2 + 3?"}]}
        with server.client() as client:
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        server.end()
    found = rows()
    assert len(found) == len(calls) + 1
    assert {row.workflow for row in found} == {"react"}
    assert sum(row.tokens_out or 0 for row in found[:-1]) == sum(call["completion_tokens"] for call in calls)
    told = json.loads(benchai("stats", "--by", "workflow", "--json", cwd=tmp_path).out)
    assert [(group["name"], group["requests"]) for group in told["groups"]] == [("react", len(found))]
