"""``benchai threads``: list, show, delete."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchai.bench import Bench
from tests.integration import scripted
from tests.integration.helpers import benchai, commands, loaded, write_config
from tests.integration.scripted import ScriptedServer

__all__ = ["commands"]
ADD = ("calculator", '{"expression": "1 + 1"}')


@pytest.fixture
async def two_threads(tmp_path: Path) -> None:
    with ScriptedServer(scripted.calls(ADD), scripted.text("It is 2."), scripted.text("Hello you.")) as server:
        async with Bench.open(loaded(tmp_path, server.config()), workspace=tmp_path) as bench:
            await bench.run("react", "What is 1 + 1?\nTell me.", thread_id="sum")
            await bench.run("react", "[bold]Hello[/bold]", thread_id="hello")


@pytest.mark.anyio
@pytest.mark.usefixtures("two_threads")
async def test_the_list_shows_the_last_used_first(tmp_path: Path) -> None:
    done = benchai("threads", "list", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    first, second = done.out.splitlines()
    assert re.fullmatch(r"hello  \d{4}-\d\d-\d\d \d\d:\d\d  react  completed  \[bold\]Hello\[/bold\]", first)
    assert second.endswith("What is 1 + 1? Tell me.")
    rows = json.loads(benchai("threads", "list", "--json", cwd=tmp_path).out)
    assert [row["thread_id"] for row in rows] == ["hello", "sum"]
    assert {"workflow", "title", "created", "updated", "stop_reason"} <= set(rows[0])


@pytest.mark.anyio
@pytest.mark.usefixtures("two_threads")
async def test_a_thread_is_shown_and_deleted(tmp_path: Path) -> None:
    shown = benchai("threads", "show", "sum", cwd=tmp_path)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("human: What is 1 + 1?\nTell me.\n")
    assert "calculator({'expression': '1 + 1'})" in shown.out
    assert shown.out.endswith("tool: 2\nai: It is 2.\n")
    messages = json.loads(benchai("threads", "show", "sum", "--json", cwd=tmp_path).out)
    assert [message["type"] for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[1]["tool_calls"][0]["name"] == "calculator"
    gone = benchai("threads", "delete", "sum", cwd=tmp_path)
    assert (gone.code, gone.out) == (0, "")
    assert "sum" in gone.err
    benchai("threads", "show", "sum", cwd=tmp_path).refused("'sum'")
    left = json.loads(benchai("threads", "list", "--json", cwd=tmp_path).out)
    assert [row["thread_id"] for row in left] == ["hello"]


@pytest.mark.anyio
@pytest.mark.usefixtures("store", "two_threads")
async def test_the_checkpoints_of_a_thread(tmp_path: Path) -> None:
    done = benchai("threads", "show", "sum", "--history", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    lines = [line.split("  ") for line in done.out.splitlines()]
    points = json.loads(benchai("threads", "show", "sum", "--history", "--json", cwd=tmp_path).out)
    assert [line[0] for line in lines] == [point["checkpoint_id"] for point in points]
    assert [point["nodes"] for point in points] == [[], [], ["think"], ["act"], ["think"]]
    assert [point["next"] for point in points] == [[], ["think"], ["act"], ["think"], []]
    assert points[3]["tools"] == ["calculator"]
    assert points[-1]["last"] == lines[-1][-1] == "It is 2."
    assert "calculator(" in lines[2][-1]
    # any of them can be branched off from
    with ScriptedServer(scripted.text("Two.")) as server:
        write_config(tmp_path, server.config())
        again = benchai("run", "--resume", "sum", "--from", lines[3][0], cwd=tmp_path)
        assert (again.code, again.out) == (0, "Two.\n")
    after = json.loads(benchai("threads", "show", "sum", "--history", "--json", cwd=tmp_path).out)
    assert after[: len(points)] == points
    assert [point["source"] for point in after[len(points) :]] == ["fork", "loop"]
    drawn = benchai("threads", "show", "sum", "--graph", cwd=tmp_path).out
    assert "n3 -. fork .-> n5" in drawn


@pytest.mark.anyio
@pytest.mark.usefixtures("two_threads")
async def test_the_path_of_a_thread(tmp_path: Path) -> None:
    done = benchai("threads", "show", "sum", "--graph", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert [line.strip() for line in done.out.splitlines()] == [
        "flowchart TD",
        'n1(["What is 1 + 1? Tell me."])',
        'n2["think"]',
        "n1 --> n2",
        'n3["act<br/>calculator"]',
        "n2 --> n3",
        'n4["think"]',
        "n3 --> n4",
        'ended(["completed"])',
        "n4 --> ended",
    ]
    data = json.loads(benchai("threads", "show", "sum", "--graph", "--json", cwd=tmp_path).out)
    assert (data["state"], data["mermaid"] + "\n") == ("completed", done.out)


@pytest.mark.anyio
@pytest.mark.usefixtures("two_threads")
async def test_the_events_of_a_thread(tmp_path: Path) -> None:
    kept = json.loads(benchai("threads", "show", "sum", "--events", "--json", cwd=tmp_path).out)
    assert [event["type"] for event in kept] == [
        "run",
        "model_call",
        "tool_call",
        "observation",
        "model_call",
        "answer",
        "result",
    ]
    assert (kept[-1]["stop_reason"], kept[-1]["thread_id"]) == ("completed", "sum")
    assert len({event["run_id"] for event in kept}) == 1
    done = benchai("threads", "show", "sum", "--events", cwd=tmp_path)
    assert (done.code, len(done.out.splitlines())) == (0, len(kept))
    assert '"name": "calculator"' in done.out
    benchai("threads", "show", "sum", "--events", "--graph", cwd=tmp_path).refused("exclude each other")
    for option in ("--history", "--events", "--graph"):
        benchai("threads", "show", "none", option, cwd=tmp_path).refused("'none'")


@pytest.mark.anyio
async def test_deleting_takes_everything(tmp_path: Path, own_home: Path) -> None:
    text = "x" * 40_000
    (tmp_path / "long.txt").write_text(text, encoding="utf-8")
    write = ("write_file", '{"path": "a.txt", "content": "a"}')
    read = ("read_file", '{"path": "long.txt"}')
    config = {"tools": {"enabled": ["read_file", "write_file"]}}
    with ScriptedServer(scripted.calls(write, read), scripted.text("Done.")) as server:
        async with Bench.open(loaded(tmp_path, server.config(**config)), workspace=tmp_path) as bench:
            for thread in ("one", "two"):
                server.requests.clear()
                await bench.run("react", "Do it", thread_id=thread, approver=_approve)
            folder = bench.threads.results("one")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "kept.txt").write_text(text, encoding="utf-8")
    assert _rows(own_home, "one") == _rows(own_home, "two")
    assert min(_rows(own_home, "two").values()) > 0
    gone = benchai("threads", "delete", "one", cwd=tmp_path)
    assert (gone.code, gone.err) == (0, "deleted one\nthe memory forgot turns: 2\n")
    listed = json.loads(benchai("memory", "show", "--json", cwd=tmp_path).out)
    assert [row["thread"] for row in listed] == ["two"]
    assert set(_rows(own_home, "one").values()) == {0}
    assert min(_rows(own_home, "two").values()) > 0
    assert not folder.exists()


async def _approve(_: object) -> str:
    return "approve"


def _rows(home: Path, thread: str) -> dict[str, int]:
    """How many rows of each table belong to a thread."""
    tables = ("checkpoints", "writes", "benchai_threads", "benchai_calls", "benchai_events")
    with closing(sqlite3.connect(home / "data" / "threads.sqlite")) as database:
        query = "SELECT count(*) FROM {} WHERE thread_id = ?"
        return {table: database.execute(query.format(table), (thread,)).fetchone()[0] for table in tables}


@pytest.mark.anyio
@pytest.mark.usefixtures("two_threads")
async def test_an_unknown_thread_names_the_nearest(tmp_path: Path) -> None:
    benchai("threads", "show", "helo", cwd=tmp_path).refused("'helo'", "did you mean 'hello'?")
    benchai("threads", "delete", "helo", cwd=tmp_path).refused("'helo'", "did you mean 'hello'?")


def test_no_threads_yet(tmp_path: Path) -> None:
    done = benchai("threads", "list", cwd=tmp_path)
    assert (done.code, done.out) == (0, "")
    assert benchai("threads", "list", "--json", cwd=tmp_path).out == "[]\n"
    benchai("threads", "show", "one", cwd=tmp_path).refused("'one'", "none yet")


def test_a_damaged_file_of_threads(tmp_path: Path, own_home: Path) -> None:
    file = own_home / "data" / "threads.sqlite"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"this is no database" * 400)
    done = benchai("threads", "list", cwd=tmp_path)
    done.refused(str(file), "hint: ", code=1)
    assert file.read_bytes() == b"this is no database" * 400


def test_a_home_that_is_a_file(tmp_path: Path, own_home: Path) -> None:
    own_home.write_text("no folder", encoding="utf-8")
    benchai("threads", "list", cwd=tmp_path).refused(str(own_home), "BENCHAI_HOME", code=1)
