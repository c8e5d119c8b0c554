"""Threads in PostgreSQL: what SQLite gives, and what only a server can do wrong."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint

from benchai.bench import Bench
from benchai.config.threads import ThreadsConfig
from benchai.errors import BenchAIError, ConfigError, UsageError
from benchai.graphs.checkpoints import ThreadStore, open_threads
from benchai.graphs.journal import UNSURE
from benchai.graphs.postgres_holder import is_another_alive, own_name
from benchai.tools.tool import ToolResult
from tests.integration import scripted
from tests.integration.helpers import benchai, benchai_afresh, commands, loaded, running, write_config
from tests.integration.postgres_server import PASSWORD, ask, url_of
from tests.integration.scripted import ScriptedServer, contents

__all__ = ["commands"]
pytestmark = pytest.mark.anyio
ADD = ("calculator", '{"expression": "1 + 1"}')
TABLES = (
    "checkpoints",
    "checkpoint_blobs",
    "checkpoint_writes",
    "benchai_threads",
    "benchai_calls",
    "benchai_events",
)


def at(url: str, **more: Any) -> ThreadsConfig:
    return ThreadsConfig.model_validate({"url": url, **more})


def connection_of(threads: ThreadStore) -> Any:
    """The connection below a store."""
    return threads.saver.conn  # type: ignore[attr-defined]


def break_off(url: str, threads: ThreadStore) -> None:
    """End the connection of a store from the server's side, as a restart of the server does."""
    assert ask(url, "SELECT pg_terminate_backend(%s, 10000)", connection_of(threads).info.backend_pid) == [(True,)]


def sessions(url: str) -> list[int]:
    """The backends that serve us."""
    found = ask(
        url, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'benchai %'"
    )
    return [pid for (pid,) in found]


def rows(url: str, thread: str) -> dict[str, int]:
    """How many rows of each table belong to a thread."""
    return {table: ask(url, f"SELECT count(*) FROM {table} WHERE thread_id = %s", thread)[0][0] for table in TABLES}


async def approve(_: object) -> str:
    return "approve"


async def test_the_commands_on_threads(tmp_path: Path, own_home: Path, postgres_url: str) -> None:
    write = ("write_file", '{"path": "a.txt", "content": "a"}')
    config = {"threads": {"url": postgres_url}, "tools": {"enabled": ["write_file"]}}
    with ScriptedServer(scripted.calls(write), scripted.text("Done \N{SNOWMAN}.")) as server:
        async with Bench.open(loaded(tmp_path, server.config(**config)), workspace=tmp_path) as bench:
            for thread in ("one", "two"):
                server.requests.clear()
                await bench.run("react", "Write it", thread_id=thread, approver=approve)
    assert not (own_home / "data" / "threads.sqlite").exists()
    listed = json.loads(benchai("threads", "list", "--json", cwd=tmp_path).out)
    assert [(row["thread_id"], row["state"], row["title"]) for row in listed] == [
        ("two", "completed", "Write it"),
        ("one", "completed", "Write it"),
    ]
    shown = benchai("threads", "show", "one", cwd=tmp_path)
    assert (shown.code, shown.err, shown.out.splitlines()[-1]) == (0, "", "ai: Done \N{SNOWMAN}.")
    events = json.loads(benchai("threads", "show", "one", "--events", "--json", cwd=tmp_path).out)
    kinds = [event["type"] for event in events]
    assert kinds[:2] + kinds[-1:] == ["run", "model_call", "result"]
    assert min(rows(postgres_url, "one").values()) > 0
    # elsewhere, --config names it
    (tmp_path / "elsewhere").mkdir()
    file = str(tmp_path / "benchai.yaml")
    assert benchai("threads", "delete", "one", "--config", file, cwd=tmp_path / "elsewhere").code == 0
    assert set(rows(postgres_url, "one").values()) == {0}
    assert min(rows(postgres_url, "two").values()) > 0
    benchai("threads", "show", "one", cwd=tmp_path).refused("'one'")


@pytest.mark.usefixtures("store")
async def test_what_a_checkpoint_holds_comes_back(own_home: Path) -> None:
    """PostgreSQL's texts hold no NUL and its JSON no NaN; a run's state may hold both."""
    values = {
        "messages": [HumanMessage("a\0b"), AIMessage("\N{SNOWMAN}")],
        "nul": "a\0b",
        "plain": "caf\u00e9 \\u0000",
        "huge": 1e300,
        "score": 0.1,
        "whole": 7.0,
        "count": 2**40,
        "flag": True,
        "bytes": b"\0\xff",
        "unset": None,
        "nan": math.nan,
        "list": [math.inf, "\0"],
    }
    config: Any = {"configurable": {"thread_id": "one", "checkpoint_ns": ""}}
    versions = dict.fromkeys(values, "1.0")
    checkpoint: Any = {**empty_checkpoint(), "channel_values": values, "channel_versions": versions}
    async with open_threads(_from_environment()) as threads:
        await threads.begin("one", "react", "a\0b")
        after = await threads.saver.aput(config, checkpoint, {"source": "input", "step": -1}, versions)
        await threads.saver.aput_writes(after, [("nul", "c\0d"), ("nan", math.nan)], "task")
    async with open_threads(_from_environment()) as threads:
        found = await threads.saver.aget_tuple(config)
        messages = await threads.messages("one")
    assert found is not None
    kept = dict(found.checkpoint["channel_values"])
    assert math.isnan(kept.pop("nan"))
    assert {name: (type(value), value) for name, value in kept.items()} == {
        name: (type(value), value) for name, value in values.items() if name != "nan"
    }
    assert [(channel, str(value)) for _, channel, value in found.pending_writes or ()] == [
        ("nul", "c\0d"),
        ("nan", "nan"),
    ]
    assert messages[0].content == "a\0b"


def _from_environment() -> ThreadsConfig:
    from benchai.config import load_config

    return load_config().config.threads


@pytest.mark.usefixtures("store")
async def test_the_journal_outlives_the_store() -> None:
    async with open_threads(_from_environment()) as threads:
        journal = threads.journal("one")
        assert await journal.known("a") is None
        assert await journal.begin("a") is None
        assert await journal.begin("b") is None
        await journal.end("b", ToolResult(ok=False, text="no\0 \N{SNOWMAN}"))
    async with open_threads(_from_environment()) as threads:
        journal = threads.journal("one")
        assert await journal.begin("a") == ToolResult(ok=False, text=UNSURE)
        ended = await journal.begin("b")
        assert ended is not None
        assert (ended.ok, ended.text.replace("\ufffd", "\0")) == (False, "no\0 \N{SNOWMAN}")
        assert await threads.journal("two").known("a") is None


@pytest.mark.usefixtures("store")
async def test_a_thread_is_held_once() -> None:
    config = _from_environment()
    async with open_threads(config) as one, open_threads(config) as two:
        await one.begin("one", "react", "Hello")
        thread = await one.get("one")
        async with one.lock("one"):
            for other in (one, two):
                with pytest.raises(UsageError, match="under way on the thread 'one'"):
                    async with other.lock("one"):
                        pass
                assert await other.state_of(thread) == "running"
            async with two.lock("two"), one.lock("three"):
                pass
        for other in (one, two):
            assert await other.state_of(thread) == "interrupted"
            async with other.lock("one"):
                pass


async def test_a_killed_process_holds_nothing(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nobody waits for a process that lives, everybody for the server to notice that one has died
    monkeypatch.setattr("benchai.graphs.postgres.PATIENCE", 3600.0)
    with ScriptedServer(scripted.silent(), scripted.text("Hello")) as server:
        write_config(tmp_path, server.config(threads={"url": postgres_url}))
        async with open_threads(at(postgres_url)) as threads:
            with running("run", "react", "Hi", "--thread", "one", "--json", cwd=tmp_path) as cli:
                assert await asyncio.to_thread(server.wait_for_requests, 1)
                assert await threads.state_of(await threads.get("one")) == "running"
                with pytest.raises(UsageError, match="under way on the thread 'one'"):
                    await threads.delete("one")
                cli.process.send_signal(signal.SIGKILL)
                cli.process.wait()
            # the server may not have noticed yet: whoever wants the thread waits that long
            async with threads.lock("one"):
                pass
            assert await threads.state_of(await threads.get("one")) == "interrupted"
        done = benchai("run", "--resume", "one", cwd=tmp_path)
    assert (done.code, done.out) == (0, "Hello\n"), done


def test_who_holds_a_lock() -> None:
    """Only a process that lives, and is not this one, is not worth waiting for."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = psutil.Process(process.pid).create_time()
        name = f"benchai {process.pid} {started:.2f}"
        assert is_another_alive(name)
        for other in (None, "", "benchai", "psql 1", name.replace("benchai", "psql"), f"benchai {process.pid} 1.00"):
            assert not is_another_alive(other), other
        process.kill()
        # it is dead before its parent has asked how it ended
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not is_another_alive(name)
    assert not is_another_alive(name)
    assert own_name().startswith(f"benchai {os.getpid()} ")
    assert not is_another_alive(own_name())


async def test_a_connection_that_was_lost_is_made_anew(postgres_url: str) -> None:
    async with open_threads(at(postgres_url)) as threads:
        for use in (threads.threads, lambda: threads.begin("one", "react", "Hello")):
            break_off(postgres_url, threads)
            await use()
        assert [thread.thread_id for thread in await threads.threads()] == ["one"]
        break_off(postgres_url, threads)
        async with threads.lock("one"):
            assert await threads.state_of((await threads.threads())[0]) == "running"


async def test_a_lost_lock_ends_its_run_alone(postgres_url: str) -> None:
    """Somebody else may run on the thread by now: nothing more is written."""
    async with open_threads(at(postgres_url)) as threads:
        async with threads.lock("one"):
            await threads.begin("one", "react", "Hello")
            break_off(postgres_url, threads)
            with pytest.raises(BenchAIError, match="database of the threads failed"):
                await threads.journal("one").begin("a")
            # the store has a connection again, but not for this thread
            await threads.begin("two", "react", "Hello")
            with pytest.raises(BenchAIError, match="the right to run on the thread"):
                await threads.journal("one").begin("a")
            async with open_threads(at(postgres_url)) as other, other.lock("one"):
                await other.journal("one").begin("b")
        async with threads.lock("one"):
            assert await threads.journal("one").known("a") is None
            assert await threads.journal("one").known("b") == ToolResult(ok=False, text=UNSURE)


async def test_copies_of_a_saver_share_its_connection(postgres_url: str) -> None:
    """LangGraph copies a checkpointer for each graph: a copy that kept a lost connection never had a lock again."""
    async with open_threads(at(postgres_url)) as threads:
        copies: list[Any] = [threads.saver.with_allowlist([("module", name)]) for name in ("One", "Other")]
        assert threads.saver not in copies
        for use in (threads.threads, copies[0].flush):
            break_off(postgres_url, threads)
            await use()
            async with threads.lock("one"):
                await threads.begin("one", "react", "Hello")
                for saver in copies:
                    config: Any = {"configurable": {"thread_id": "one", "checkpoint_ns": ""}}
                    after = await saver.aput(config, empty_checkpoint(), {"source": "input", "step": -1}, {})
                    assert await threads.saver.aget_tuple(after) is not None
            assert sessions(postgres_url) == [connection_of(threads).info.backend_pid]


async def test_the_history_of_a_channel_from_the_last_checkpoint(postgres_url: str) -> None:
    async with open_threads(at(postgres_url)) as threads:
        config: Any = {"configurable": {"thread_id": "one", "checkpoint_ns": ""}}
        saver: Any = threads.saver
        assert await saver.aget_delta_channel_history(config=config, channels=["messages"]) == {
            "messages": {"writes": []}
        }
        after = await saver.aput(config, empty_checkpoint(), {"source": "input", "step": -1}, {})
        await saver.aput_writes(after, [("messages", "Hello")], "task")
        await saver.aput(after, empty_checkpoint(), {"source": "loop", "step": 0}, {})
        history = await saver.aget_delta_channel_history(config=config, channels=["messages"])
    assert [value for _, _, value in history["messages"]["writes"]] == ["Hello"]


async def test_a_closed_store_connects_no_more(postgres_url: str) -> None:
    async with open_threads(at(postgres_url)) as threads:
        break_off(postgres_url, threads)
    with pytest.raises(BenchAIError, match="the connection is closed"):
        await threads.threads()


async def run_and_break_off(url: str, bench: Bench) -> None:
    async for event in bench.stream("react", "What is 1 + 1?", thread_id="one"):
        if event.type == "tool_call":
            break_off(url, bench.threads)


async def test_a_server_that_goes_away_in_a_run(tmp_path: Path, postgres_url: str) -> None:
    with ScriptedServer(scripted.calls(ADD), scripted.text("It is 2.")) as server:
        config = loaded(tmp_path, server.config(threads={"url": postgres_url}))
        async with Bench.open(config, workspace=tmp_path) as bench:
            with pytest.raises(BenchAIError, match="database of the threads failed") as caught:
                await run_and_break_off(postgres_url, bench)
            assert "--resume" in str(caught.value.hint)
            result = await bench.resume("one")
            events = await bench.threads.events("one")
            assert sessions(postgres_url) == [connection_of(bench.threads).info.backend_pid]
    assert (result.output, result.stop_reason) == ("It is 2.", "completed")
    assert contents(server.requests[-1], "tool") == ["2"]
    assert (events[-1]["type"], events[-1]["output"]) == ("result", "It is 2.")


async def test_a_cancelled_caller_leaves_the_connection_whole(postgres_url: str) -> None:
    async with open_threads(at(postgres_url)) as threads:
        saver: Any = threads.saver
        begun = asyncio.Event()

        async def slowly() -> None:
            begun.set()
            await saver.conn.execute("SELECT pg_sleep(0.2)")
            await saver.conn.execute("CREATE TABLE finished ()")

        caller = asyncio.create_task(saver.link.do(slowly))
        await begun.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert await threads.threads() == []
    assert ask(postgres_url, "SELECT * FROM finished") == []


async def test_many_open_an_empty_database_at_once(postgres_url: str) -> None:
    async with AsyncExitStack() as stack:
        opening = [stack.enter_async_context(open_threads(at(postgres_url))) for _ in range(5)]
        stores = await asyncio.gather(*opening)
        await asyncio.gather(*(store.begin(str(n), "react", "Hello") for n, store in enumerate(stores)))
        assert len(await stores[0].threads()) == 5


async def test_how_durable(postgres_url: str) -> None:
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    ask(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    for durable, expected in (("normal", "off"), ("full", "on")):
        async with open_threads(at(postgres_url, durable=durable)) as threads:
            cursor = await connection_of(threads).execute("SHOW synchronous_commit")
            assert await cursor.fetchone() == {"synchronous_commit": expected}


async def test_a_password_from_the_environment(
    postgres_server: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = postgres_url.replace("benchai@", "guarded@")
    monkeypatch.setenv("THREADS_PASSWORD", PASSWORD)
    async with open_threads(at(guarded, password_env="THREADS_PASSWORD")) as threads:
        assert await threads.threads() == []
        break_off(postgres_url, threads)
        assert await threads.threads() == []
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    async with open_threads(at(guarded)) as threads:
        assert await threads.threads() == []


async def test_a_wrong_password_is_not_told(tmp_path: Path, postgres_url: str) -> None:
    guarded = postgres_url.replace("benchai@", "guarded@")
    config = {"models": {"a": {"file": "builtin:tiny"}}, "threads": {"url": guarded, "password_env": "SECRET_WORD"}}
    write_config(tmp_path, config)
    done = benchai("threads", "list", cwd=tmp_path, env={"SECRET_WORD": "s3cret"})
    done.refused(guarded, "guarded", "threads.password_env", code=1)
    assert "s3cret" not in done.err
    benchai("threads", "list", cwd=tmp_path).refused("threads.password_env", "'SECRET_WORD' is not set")
    shown = benchai("config", "show", cwd=tmp_path, env={"SECRET_WORD": "s3cret"})
    assert (shown.code, guarded in shown.out, "s3cret" in shown.out) == (0, True, False)


async def test_no_server(tmp_path: Path) -> None:
    url = url_of(tmp_path, "threads")
    with pytest.raises(BenchAIError, match="cannot be opened") as caught:
        async with open_threads(at(url)):
            pass
    assert url in caught.value.message
    assert "\n" not in caught.value.message


async def test_a_database_in_another_encoding(postgres_server: Path, postgres_url: str) -> None:
    ask(postgres_url, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(BenchAIError, match="LATIN1") as caught:
        async with open_threads(at(url_of(postgres_server, "latin"))):
            pass
    assert "UTF8" in str(caught.value.hint)


async def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name.startswith(("psycopg", "benchai.graphs.postgres"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match="'psycopg', which is not installed") as caught:
        async with open_threads(at(url_of(tmp_path, "threads"))):
            pass
    assert caught.value.hint == "pip install 'benchai[postgres]'"


async def test_without_the_client_library(tmp_path: Path) -> None:
    write_config(tmp_path, {"models": {"a": {"file": "builtin:tiny"}}, "threads": {"url": url_of(tmp_path, "threads")}})
    # an implementation that is not installed stands for a libpq that is not
    done = benchai_afresh("threads", "list", cwd=tmp_path, env={"PSYCOPG_IMPL": "c"})
    done.refused("libpq", "psycopg[binary]")
