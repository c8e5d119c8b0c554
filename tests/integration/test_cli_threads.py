"""``benchai threads``: list, show, delete."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchai.bench import Bench
from tests.integration import scripted
from tests.integration.helpers import benchai, commands, loaded
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
