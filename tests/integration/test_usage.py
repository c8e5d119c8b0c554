"""Usage rows on a real disk: batches, threads, processes that are killed, files that are full, locked or moved away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchai.config.usage import UsageConfig
from benchai.errors import AmbiguousRequest, BenchAIError, UnknownRequest, UsageError
from benchai.events import Event, ModelState, Notice
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.usage import writer
from benchai.runtime.usage.gpu_use import GpuUse
from benchai.runtime.usage.log import BATCH_SECONDS, UsageLog
from benchai.runtime.usage.purge import count, purge
from benchai.runtime.usage.read import last_rows, report
from benchai.runtime.usage.row import UsageRow, new_id
from benchai.runtime.usage.schema import MIGRATIONS, connect, migrate, opened, usage_file
from benchai.runtime.usage.uptime import Uptime
from benchai.runtime.usage.writer import Flush, Writer
from tests.integration.fleet_helpers import Record, gpu_config, served
from tests.integration.helpers import LIMIT, until
from tests.integration.nvml import NOT_SUPPORTED, NvmlStub, StubGpu

SECRET = "the-secret-that-was-asked"
DAY = 86_400.0


def row(**known: Any) -> UsageRow:
    fields: dict[str, Any] = {"id": new_id(), "time": time.time(), "role": "code", "total_s": 1.0}
    return UsageRow(**(fields | known))


def stored(file: Path, query: str = "SELECT id FROM requests ORDER BY number") -> list[Any]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return [line[0] if len(line) == 1 else line for line in connection.execute(query)]


def on_disk(file: Path, text: str) -> list[str]:
    """The files in which a text stands."""
    return [one.name for one in file.parent.iterdir() if text.encode() in one.read_bytes()]


@pytest.fixture
def file() -> Path:
    return usage_file()


@pytest.fixture
def log(file: Path) -> Iterator[UsageLog]:
    with UsageLog() as opened_log:
        yield opened_log


def test_a_row_comes_back_as_it_was(log: UsageLog, file: Path) -> None:
    given = row(
        key="laptop",
        session="s",
        asked="auto",
        model="m",
        workflow="w",
        score=0.25,
        reason="code: a word",
        tokens_in=1,
        tokens_out=2,
        tokens_cached=3,
        queue_s=0.1,
        swap_s=0.2,
        first_token_s=0.3,
        tokens_per_s=40.0,
        cache="exact",
        outcome="QueueFull",
        status=429,
        feedback=0.5,
        comment="c",
    )
    log.append(given)
    log.append(row(id="bare"))
    assert log.flush()
    found = {one.id: one for one in last_rows(file, 10)}
    assert found[given.id] == given
    assert (found["bare"].key, found["bare"].tokens_in, found["bare"].outcome) == (None, None, "ok")
    assert log.counts == {"written": 2, "waiting": 0, "lost": 0}


def test_rows_are_written_soon_without_being_asked(log: UsageLog, file: Path) -> None:
    log.append(row(id="a"))
    until(lambda: log.counts["written"] == 1)
    assert stored(file) == ["a"]
    assert BATCH_SECONDS < 1


def commits(file: Path) -> int:
    """Transactions in the write-ahead log: frames that say how long the file is then."""
    log = file.with_name(f"{file.name}-wal").read_bytes()
    frames = range(32, len(log), 24 + 4096)
    return sum(log[frame + 4 : frame + 8] != bytes(4) for frame in frames)


def test_rows_of_a_moment_go_into_few_transactions(log: UsageLog, file: Path) -> None:
    log.append(row())
    assert log.flush()
    before = commits(file)
    for number in range(30):
        log.append(row(id=f"one of {number}"))
        # time enough to write it, if it were written by itself
        assert len(stored(file)) <= number + 2
    assert log.flush()
    assert commits(file) - before < 15


def test_many_threads_lose_nothing(log: UsageLog, file: Path) -> None:
    def work(name: str) -> None:
        for number in range(500):
            log.append(row(id=f"{name}-{number}"))

    threads = [threading.Thread(target=work, args=(str(name),)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.flush()
    assert sorted(stored(file)) == sorted(f"{name}-{number}" for name in range(4) for number in range(500))


def test_closing_writes_what_waits_and_later_rows_are_counted(file: Path) -> None:
    log = UsageLog()
    log.append(row(id="a"))
    log.close()
    assert stored(file) == ["a"]
    log.append(row())
    log.close()
    assert log.counts["lost"] == 1
    with pytest.raises(BenchAIError, match="closed"):
        log.feedback("a", "up")


def test_closing_writes_what_came_during_the_last_transaction(file: Path) -> None:
    log = UsageLog()
    log.append(row(id="a"))
    assert log.flush()
    with locked(file):
        log.append(row(id="b"))
        log._queue.put(Flush())
        log._hurry.set()
        until(log._queue.empty)
        # the thread has b in its hands, and waits for the lock
        log.append(row(id="c"))
        closing_it = threading.Thread(target=log.close)
        closing_it.start()
    closing_it.join()
    assert stored(file) == ["a", "b", "c"]


def test_the_files_are_for_this_user_alone(log: UsageLog, file: Path) -> None:
    log.append(row())
    assert log.flush()
    modes = {one.name: one.stat().st_mode & 0o777 for one in file.parent.iterdir()}
    assert modes == dict.fromkeys(("usage.sqlite", "usage.sqlite-wal", "usage.sqlite-shm"), 0o600)


def test_a_file_that_others_can_read_is_closed_to_them(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.touch(mode=0o644)
    with opened(file):
        assert file.stat().st_mode & 0o777 == 0o600


def test_nothing_is_kept_when_it_is_switched_off(file: Path) -> None:
    with UsageLog(UsageConfig(enabled=False, contents=True)) as log:
        assert not log.keeps_contents
        log.append(row())
        log.begin({"code": "m"})
        assert log.flush()
        with pytest.raises(UsageError, match=r"usage.enabled"):
            log.feedback("a", "up")
    assert not file.exists()


def test_contents_are_kept_only_if_the_user_opts_in(file: Path) -> None:
    with UsageLog() as log:
        assert not log.keeps_contents
        log.append(row(request=SECRET, reply=SECRET))
    assert stored(file, "SELECT * FROM contents") == []
    assert on_disk(file, SECRET) == []
    with UsageLog(UsageConfig(contents=True)) as log:
        assert log.keeps_contents
        log.append(row(id="a", request=SECRET))
        log.append(row(id="b"))
    assert stored(file, "SELECT id, request, reply FROM contents") == [("a", SECRET, None)]


def test_changed_settings_count_at_once(log: UsageLog, file: Path) -> None:
    log.apply(UsageConfig(contents=True))
    log.append(row(id="a", reply=SECRET))
    assert log.flush()
    assert stored(file, "SELECT reply FROM contents") == [SECRET]


def test_feedback_reaches_a_row_that_still_waits(log: UsageLog, file: Path) -> None:
    log.append(row(id="a"))
    log.feedback("a", "up", " well done ")
    assert stored(file, "SELECT feedback, comment FROM requests") == [(1.0, " well done ")]
    log.feedback("a", -0.5)
    assert stored(file, "SELECT feedback, comment FROM requests") == [(-0.5, None)]


def test_feedback_goes_to_the_last_row_of_an_id(log: UsageLog, file: Path) -> None:
    log.append(row(id="twice"))
    log.append(row(id="twice"))
    log.feedback("twice", "down")
    assert stored(file, "SELECT feedback FROM requests ORDER BY number") == [None, -1.0]


def test_feedback_by_what_a_client_calls_its_request(log: UsageLog, file: Path) -> None:
    for id, name in (("a", "mine"), ("b", "ours"), ("c", "ours"), ("d", "a")):
        log.append(row(id=id, request_id=name))
    log.feedback("mine", "up")
    assert stored(file, "SELECT id FROM requests WHERE feedback = 1") == ["a"]
    # a row's own id is nobody else's, whatever another client calls its request
    log.feedback("a", "down")
    assert stored(file, "SELECT id FROM requests WHERE feedback = -1") == ["a"]
    with pytest.raises(AmbiguousRequest, match="several requests are called 'ours'") as caught:
        log.feedback("ours", "up")
    assert "c, b" in str(caught.value.hint)
    assert stored(file, "SELECT count(feedback) FROM requests") == [1]


def test_a_file_of_the_first_version_takes_rows_and_feedback(file: Path) -> None:
    with closing(connect(file, wait=1, migrations=MIGRATIONS[:1])) as connection:
        known = (
            "INSERT INTO requests (id, time, total_s, cache, outcome, status) VALUES ('old', ?, 1, 'none', 'ok', 200)"
        )
        connection.execute(known, (time.time(),))
    with UsageLog() as log:
        log.append(row(id="new", request_id="mine"))
        log.feedback("old", "up")
        log.feedback("mine", "down")
    assert stored(file, "SELECT feedback FROM requests ORDER BY number") == [1.0, -1.0]


@pytest.mark.parametrize("unknown", ["nothing", "", "half \ud800", "%", "a' OR '1'='1"])
def test_feedback_for_an_unknown_request(log: UsageLog, file: Path, unknown: str) -> None:
    log.append(row(id="a"))
    with pytest.raises(UnknownRequest, match="there is no request") as caught:
        log.feedback(unknown, "up")
    assert caught.value.hint
    assert stored(file, "SELECT id, feedback FROM requests") == [("a", None)]


def test_feedback_that_cannot_be_used(log: UsageLog) -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        log.feedback("a", 2)


@pytest.mark.parametrize(
    ("bad", "kept"),
    [({"reason": "half \ud800"}, "half ?"), ({"tokens_in": 2**70}, None), ({"key": []}, None), ({"score": "x"}, "x")],
)
def test_what_cannot_be_kept_takes_nothing_else_with_it(file: Path, bad: dict[str, Any], kept: str | None) -> None:
    with UsageLog(UsageConfig(contents=True)) as log:
        log.append(row(id="a", request="r"))
        log.append(row(id="bad", request="r", **bad))
        log.append(row(id="b", request="half \ud800"))
        assert log.flush()
        assert log.counts == {"written": 3, "waiting": 0, "lost": 0}
    assert stored(file) == stored(file, "SELECT id FROM contents") == ["a", "bad", "b"]
    assert stored(file, f"SELECT {next(iter(bad))} FROM requests WHERE id = 'bad'") == [kept]


def test_a_row_that_cannot_be_kept_at_all_takes_no_other_with_it(file: Path) -> None:
    said: list[Event] = []
    with UsageLog(emit=said.append) as log:
        for _ in range(2):
            log.append(row(id="a"))
            log.append(row(id="bad", time=float("nan")))
            log.append(row(id="b"))
            assert log.flush()
        assert log.counts == {"written": 4, "waiting": 0, "lost": 2}
        # once, until a while later
        assert len(said) == 1
    assert stored(file) == ["a", "b", "a", "b"]
    assert [str(event.text) for event in said if isinstance(event, Notice)] == ["1 usage rows were lost"] * 2


@contextmanager
def locked(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_locked_file_hurts_no_request(file: Path) -> None:
    said: list[Event] = []
    with UsageLog(emit=said.append) as log:
        log.append(row(id="a"))
        assert log.flush()
        with locked(file):
            log.append(row(id="b"))
            assert not log.flush()
            with pytest.raises(BenchAIError, match="cannot be written now"):
                log.feedback("a", "up")
            assert log.counts == {"written": 1, "waiting": 1, "lost": 0}
        until(lambda: log.counts["written"] == 2)
        log.feedback("b", "up")
    texts = [event.text for event in said if isinstance(event, Notice)]
    assert len(texts) == 2, texts
    assert "locked" in texts[0]
    assert "again" in texts[1]
    assert stored(file) == ["a", "b"]


def test_rows_that_cannot_wait_any_longer_are_counted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MOST_WAITING", 3)
    said: list[str] = []
    file.mkdir(parents=True)
    slow = Writer(file, UsageConfig(), said.append)
    slow.write([row(id=str(number)) for number in range(5)])
    assert (slow.waiting, slow.lost, slow.written) == (3, 2, 0)
    assert slow.retry_in is not None
    file.rmdir()
    slow.write([], at_once=True)
    slow.close()
    assert stored(file) == ["2", "3", "4"]
    assert [text[:20] for text in said] == ["usage rows cannot be", "usage rows are writt", "2 usage rows were lo"]


def test_what_still_waits_at_the_end_is_counted(file: Path) -> None:
    said: list[Event] = []
    file.mkdir(parents=True)
    log = UsageLog(emit=said.append)
    log.append(row())
    log.close()
    assert log.counts == {"written": 0, "waiting": 0, "lost": 1}
    assert [event.text[:17] for event in said if isinstance(event, Notice)] == [
        "usage rows cannot",
        "1 usage rows were",
    ]


@pytest.fixture
def no_file(file: Path) -> None:
    """A folder in the file's place."""
    file.mkdir(parents=True)


@pytest.mark.anyio
async def test_notices_come_on_the_event_loop(no_file: None) -> None:
    told: asyncio.Queue[tuple[Event, threading.Thread]] = asyncio.Queue()
    log = UsageLog(emit=lambda event: told.put_nowait((event, threading.current_thread())))
    try:
        log.append(row())
        event, thread = await asyncio.wait_for(told.get(), LIMIT)
    finally:
        log.close()
    assert isinstance(event, Notice)
    assert thread is threading.current_thread()


def test_a_file_that_is_no_database(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no database at all" * 1000)
    with pytest.raises(BenchAIError, match="cannot be used") as caught:
        report(file)
    assert "move the file away" in str(caught.value.hint)
    with UsageLog() as log:
        log.append(row())
        assert not log.flush()
        file.unlink()
        assert log.flush()
    assert len(stored(file)) == 1


def test_a_file_that_was_moved_away_is_made_anew(log: UsageLog, file: Path) -> None:
    log.append(row(id="a"))
    assert log.flush()
    file.rename(file.with_name("moved"))
    log.append(row(id="b"))
    assert log.flush()
    assert stored(file) == ["b"]


CHILD = """
import json, resource, sys, time
from benchai.config.usage import UsageConfig
from benchai.runtime.usage.log import UsageLog
from benchai.runtime.usage.row import UsageRow
from benchai.runtime.usage.schema import usage_file

def row(number, **more):
    return UsageRow(id=f"{sys.argv[2]}-{number}", time=time.time(), **more)

def say(*words):
    print(json.dumps(words), flush=True)

def endless(log):
    number = 0
    while True:
        log.append(row(number))
        number += 1
        if number % 100 == 0:
            say(log.counts["written"])
            time.sleep(0.01)

def some(log):
    say("ready")
    sys.stdin.readline()
    for number in range(500):
        log.append(row(number))

def full(log):
    log.append(row("before"))
    say(log.flush())
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (usage_file().stat().st_size, hard))
    for number in range(200):
        log.append(row(number, reason="x" * 2000))
    say(log.flush(), log.flush(), log.counts)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    say(log.flush(), log.counts)

with UsageLog(emit=lambda event: say("notice", event.text)) as log:
    globals()[sys.argv[1]](log)
"""


@contextmanager
def child(what: str, name: str = "row") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", CHILD, what, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str]) -> Iterator[list[Any]]:
    assert process.stdout is not None
    return (json.loads(line) for line in process.stdout)


def test_a_killed_process_loses_only_what_came_last(file: Path) -> None:
    with child("endless") as process:
        written = next(count for (count,) in lines(process) if count >= 200)
        process.send_signal(signal.SIGKILL)
        process.wait(LIMIT)
    # the rows that were written, in their order, none missing in between, none twice
    found = stored(file)
    assert found == [f"row-{number}" for number in range(len(found))]
    assert len(found) >= written
    assert stored(file, "PRAGMA integrity_check") == ["ok"]
    with UsageLog() as log:
        log.append(row(id="next"))
    assert stored(file)[-1] == "next"


def test_several_processes_write_one_file(file: Path) -> None:
    with child("some", "a") as first, child("some", "b") as second:
        for process in (first, second):
            assert next(lines(process)) == ["ready"]
        for process in (first, second):
            # the file is made by whoever comes first
            process.communicate("go\n", LIMIT)
            assert process.returncode == 0
    found = stored(file)
    assert len(found) == 1000
    assert [one for one in found if one.startswith("b")] == [f"b-{number}" for number in range(500)]


def test_a_full_disk_hurts_no_request(file: Path) -> None:
    with child("full") as process:
        told = list(lines(process))
        assert process.wait(LIMIT) == 0
    notices = [line[1] for line in told if line[0] == "notice"]
    before, during, after = (line for line in told if line[0] != "notice")
    assert before == [True]
    assert during == [False, False, {"written": 1, "waiting": 200, "lost": 0}]
    assert after == [True, {"written": 201, "waiting": 0, "lost": 0}]
    assert [text[:20] for text in notices] == ["usage rows cannot be", "usage rows are writt"], notices
    assert len(stored(file)) == 201


def test_an_older_file_is_brought_up_to_date(file: Path) -> None:
    with UsageLog() as log:
        log.append(row(id="old"))
    newer = (*MIGRATIONS, ("ALTER TABLE requests ADD COLUMN colour TEXT", "UPDATE requests SET colour = 'red'"))
    with closing(connect(file, wait=1, migrations=newer)) as connection:
        assert connection.execute("SELECT id, colour FROM requests").fetchall() == [("old", "red")]
        migrate(connection, newer)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)


def test_a_migration_that_fails_leaves_the_file_as_it_was(file: Path) -> None:
    with UsageLog() as log:
        log.append(row(id="old"))
    broken = (*MIGRATIONS, ("ALTER TABLE requests ADD COLUMN colour TEXT", "nonsense"))
    with pytest.raises(sqlite3.OperationalError, match="nonsense"):
        connect(file, wait=1, migrations=broken).close()
    assert stored(file, "PRAGMA user_version") == [len(MIGRATIONS)]
    assert "colour" not in str(stored(file, "SELECT sql FROM sqlite_master WHERE name = 'requests'"))


def test_a_newer_file_is_left_alone(file: Path) -> None:
    with UsageLog() as log:
        log.append(row(id="old"))
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(BenchAIError, match="newer BenchAI") as caught:
        report(file)
    assert "upgrade" in str(caught.value.hint)
    with UsageLog() as log:
        log.append(row())
        assert not log.flush()
    assert stored(file) == ["old"]


def test_purged_rows_leave_no_trace(file: Path) -> None:
    with UsageLog(UsageConfig(contents=True)) as log:
        for number in range(50):
            age = DAY * 10 if number % 2 else 0.0
            words = f"{SECRET}-{'old' if number % 2 else 'new'}" * 50
            log.append(row(time=time.time() - age, session=words, request=words, reply=words, comment=words))
        assert log.flush()
        assert on_disk(file, f"{SECRET}-old")
        # the log is open all the while
        assert count(file, time.time() - 5 * DAY) == purge(file, time.time() - 5 * DAY) == 25
        assert on_disk(file, f"{SECRET}-old") == []
        assert on_disk(file, f"{SECRET}-new")
        log.append(row(id="later"))
        assert log.flush()
        assert (count(file, None), purge(file, None)) == (26, 26)
        assert on_disk(file, SECRET) == []
    assert stored(file) == []
    assert file.stat().st_size < 100_000


def test_a_purge_beside_a_reader_says_that_traces_are_left(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with UsageLog() as log:
        log.append(row())
    monkeypatch.setattr("benchai.runtime.usage.purge.WAIT_SECONDS", 0.1)
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM requests").fetchall()
        with pytest.raises(BenchAIError, match=r"another process reads|locked"):
            purge(file, None)
    assert purge(file, None) == 0


def test_rows_end_with_their_retention(file: Path) -> None:
    with UsageLog(UsageConfig(retention=2, contents=True)) as log:
        log.append(row(id="old", time=time.time() - 3 * DAY, request=SECRET))
        log.append(row(id="new", time=time.time() - DAY, request="kept"))
        assert log.flush()
        assert stored(file) == ["new"]
        assert on_disk(file, SECRET) == []
    assert stored(file, "SELECT request FROM contents") == ["kept"]


def state(model: str, previous: str, now: str, moment: float) -> ModelState:
    return ModelState(model=model, previous=previous, state=now, cause="", time=moment)


def test_states_of_models_become_uptime(file: Path) -> None:
    with UsageLog() as log:
        # what happened before the server said who its core roles are is known, too
        log.observe(state("coder", "stopped", "ready", time.time()))
        log.begin({"code": "coder", "planner": "remote"})
        log.observe(Notice(text="no state"))
        log.append(row())
        assert log.flush()
    found = report(file)
    assert found is not None
    assert [(one.role, one.share, one.up > 0) for one in found.uptimes] == [("code", 1.0, True)]
    assert found.targets[2].verdict == "pass"
    assert stored(file, "SELECT ended, core FROM services") == [(1, '{"code": "coder", "planner": "remote"}')]
    assert stored(file, "SELECT previous, state FROM states") == [("stopped", "ready")]


def test_a_changed_configuration_begins_anew(file: Path) -> None:
    with UsageLog() as log:
        log.begin({"code": "a"})
        log.observe(state("a", "stopped", "ready", time.time()))
        log.begin({"code": "a", "general": "a"})
        log.append(row())
        assert log.flush()
        assert sorted(stored(file, "SELECT ended FROM services")) == [0, 1]
    found = report(file)
    assert found is not None
    assert [one.role for one in found.uptimes] == ["code", "general"]


def test_a_killed_server_is_told(file: Path) -> None:
    with UsageLog() as log:
        log.begin({"code": "a"})
        log.observe(state("a", "starting", "ready", time.time()))
        log.append(row())
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE services SET ended = 0, seen = seen + 10")
    found = report(file, now=time.time() + 500)
    assert found is not None
    assert "killed 1 time" in found.targets[2].detail
    # it counts until it was last seen
    assert 9 < found.uptimes[0].up < 60


@pytest.mark.anyio
async def test_a_fleet_that_swaps_is_not_down_and_one_that_is_killed_is(tmp_path: Path, file: Path) -> None:
    record = Record()
    with UsageLog() as log:
        log.begin({"general": "general", "code": "code"})

        def emit(event: Event) -> None:
            record(event)
            log.observe(event)

        def times() -> dict[str, Uptime]:
            log.append(row())
            assert log.flush()
            found = report(file)
            assert found is not None
            return {one.role: one for one in found.uptimes}

        async with Fleet(gpu_config(tmp_path, ["general", "code"], fit=1), emit) as fleet:
            await served(fleet, "general")
            await served(fleet, "code")
            swapped = times()
            os.kill(record.pids()[-1], signal.SIGKILL)
            await record.state("code", "backoff")
            await served(fleet, "code")
        ended = times()
    assert [(one.up > 0, one.down, one.away > 0) for one in swapped.values()] == [(True, 0, True)] * 2
    assert ended["code"].down > 0
    assert ended["code"].share is not None
    assert 0 < ended["code"].share < 1
    assert (ended["general"].down, ended["general"].share) == (0, 1.0)


def test_samples_of_the_gpus(file: Path) -> None:
    with UsageLog(sample=lambda: GpuUse(0.75, None)) as log:
        log.append(row())
        assert log.flush()
        assert stored(file, "SELECT * FROM gpus") == []
        log.begin({})
        until(lambda: stored(file, "SELECT memory, compute FROM gpus") == [(0.75, None)])
    found = report(file)
    assert found is not None
    assert (found.targets[3].verdict, found.targets[3].value) == ("pass", 0.75)


def test_a_driver_that_hangs_holds_up_nothing(file: Path) -> None:
    looked, answers = threading.Event(), threading.Event()

    def hangs() -> None:
        looked.set()
        answers.wait(LIMIT)

    with UsageLog(sample=hangs) as log:
        log.begin({})
        assert looked.wait(LIMIT)
        log.append(row(id="a"))
        assert log.flush()
    assert stored(file) == ["a"]
    answers.set()


def test_a_look_at_the_gpus_that_fails_ends_nothing(file: Path) -> None:
    def fails() -> GpuUse:
        raise RuntimeError("the driver is gone")

    with UsageLog(sample=fails) as log:
        log.begin({})
        log.append(row(id="a"))
        assert log.flush()
        log.append(row(id="b"))
    assert stored(file) == ["a", "b"]


PROBE = """
import dataclasses, json
from benchai.runtime.placement.gpu import Nvml
from benchai.runtime.usage.gpu_use import gpu_use
with Nvml() as nvml:
    found = gpu_use(nvml)
print(json.dumps(dataclasses.asdict(found) if found else None))
"""


def probed(env: dict[str, str]) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env={**os.environ, **env}, capture_output=True, timeout=LIMIT, check=True
    )
    return json.loads(done.stdout)


def test_the_use_of_gpus_as_the_driver_tells_it(tmp_path: Path) -> None:
    stub = NvmlStub()
    env = stub.build(tmp_path)
    stub.set(StubGpu(total_mib=1000, free_mib=400), StubGpu(total_mib=3000, free_mib=3000))
    # this library does not tell how much was computed, nor do old drivers
    assert probed(env) == {"memory": 0.15, "compute": None}
    stub.set(StubGpu(errors={"nvmlDeviceGetMemoryInfo": NOT_SUPPORTED}))
    assert probed(env) is None


@pytest.mark.gpu
def test_the_use_of_a_real_gpu() -> None:
    found = probed({})
    assert 0 <= found["memory"] <= 1
    assert found["compute"] is None or 0 <= found["compute"] <= 1


def test_reports_of_a_period(file: Path) -> None:
    assert report(file) is None
    assert last_rows(file, 3) == []
    assert not file.exists()
    now = time.time()
    with UsageLog() as log:
        for days, name in ((40, "a"), (5, "b"), (1, "a"), (0.5, "")):
            log.append(row(id=f"{days}", time=now - days * DAY, model=name, key="laptop"))
    found = report(file, "model", now - 7 * DAY, now)
    assert found is not None
    assert [(group.name, group.requests) for group in found.summary.groups] == [(None, 1), ("a", 1), ("b", 1)]
    everything = report(file, "key")
    assert everything is not None
    assert abs(everything.since - (now - 40 * DAY)) < 1
    assert [(group.name, group.requests) for group in everything.summary.groups] == [("laptop", 4)]
    assert [one.id for one in last_rows(file, 2)] == ["0.5", "1"]
    assert json.dumps(everything.as_json(), allow_nan=False)
