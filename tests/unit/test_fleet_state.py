"""What a note on engines may say, and what is read from it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.runtime.fleet.state import EngineRecord, ProcessId, _process, _read, end_leftovers

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["pid", "started", "x"]), inner),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"pid": 5, "started": 1.5}, ProcessId(5, 1.5)),
        ({"pid": 5, "started": 1, "model": "m"}, ProcessId(5, 1)),
        ({"pid": 5}, None),
        ({"started": 5}, None),
        ({"pid": "5", "started": 1}, None),
        ({"pid": 5, "started": "1"}, None),
        ({"pid": 5, "started": None}, None),
        ({"pid": 5.0, "started": 1}, None),
        # a signal to 1, 0 or -1 would reach others
        ({"pid": 1, "started": 1}, None),
        ({"pid": 0, "started": 1}, None),
        ({"pid": -1, "started": 1}, None),
        ({"pid": True, "started": 1}, None),
        (None, None),
        ([], None),
        (5, None),
        ("x", None),
    ],
)
def test_a_process_is_named_by_pid_and_start(data: object, expected: ProcessId | None) -> None:
    assert _process(data) == expected


@given(data=JSON)
def test_nothing_that_is_noted_raises(data: object) -> None:
    found = _process(data)
    assert found is None or found.pid > 1


@given(data=JSON, engines=JSON)
def test_what_is_read_has_a_list_of_engines(
    tmp_path_factory: pytest.TempPathFactory, data: object, engines: object
) -> None:
    file = tmp_path_factory.mktemp("state") / "note.json"
    for content in (data, {"owner": data, "engines": engines}):
        file.write_text(json.dumps(content), encoding="utf-8")
        read = _read(file)
        assert isinstance(read, dict)
        assert isinstance(read.get("engines", []), list)


def test_a_process_runs_only_as_itself() -> None:
    me = ProcessId.of(os.getpid())
    assert me is not None
    assert me.runs
    assert not ProcessId(me.pid, me.started - 60).runs
    assert not ProcessId(me.pid, me.started + 60).runs
    assert ProcessId.of(2**22 + 1) is None
    assert not ProcessId(2**22 + 1, 0).runs


@pytest.mark.parametrize("pid", [2**31, 2**63, 2**70])
def test_a_pid_that_cannot_be_is_not_running(pid: int) -> None:
    assert not ProcessId(pid, 1.0).runs
    assert ProcessId.of(pid) is None


def test_ones_own_engines_are_not_ended(tmp_path: Path) -> None:
    record = EngineRecord(tmp_path)
    parent = psutil.Process().ppid()
    record.add("m", parent)
    [file] = tmp_path.iterdir()
    written: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    assert written["owner"]["pid"] == os.getpid()
    assert [one["pid"] for one in written["engines"]] == [parent]
    assert end_leftovers(tmp_path) == []
    assert file.exists()
    record.remove(parent)
    assert not list(tmp_path.iterdir())


def test_a_process_that_is_gone_is_not_recorded(tmp_path: Path) -> None:
    EngineRecord(tmp_path).add("m", 2**22 + 1)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    record = EngineRecord(tmp_path / "file")
    record.add("m", psutil.Process().ppid())
    record.remove(psutil.Process().ppid())
    assert end_leftovers(tmp_path / "file") == []
