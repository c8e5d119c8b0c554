"""One owner of a memory at a time: real processes, a real kill."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchai.errors import StoreError, StoreInUse
from benchai.memory.owner import Owner, holder

TAKES = """
import sys
from pathlib import Path
from benchai.memory.owner import Owner
with Owner.take(Path(sys.argv[1]), program="the other"):
    print("taken", flush=True)
    sys.stdin.read()
print("given back", flush=True)
"""


@contextmanager
def other_owner(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the folder until its standard input ends."""
    argv = [sys.executable, "-c", TAKES, str(folder)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "taken\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_told_who_has_it(tmp_path: Path) -> None:
    with other_owner(tmp_path) as other:
        with pytest.raises(StoreInUse, match=f"the other \\(pid {other.pid}\\)") as caught:
            Owner.take(tmp_path)
        assert f"kill {other.pid}" in str(caught.value.hint)
        found = holder(tmp_path)
        assert found is not None
        assert (found.pid, found.program) == (other.pid, "the other")


def test_a_killed_owner_has_it_no_longer(tmp_path: Path) -> None:
    with other_owner(tmp_path) as other:
        other.kill()
        other.wait()
        assert (tmp_path / "owner.json").exists()
        assert holder(tmp_path) is None
        with Owner.take(tmp_path):
            found = holder(tmp_path)
            assert found is not None
            assert found.pid == os.getpid()


def test_who_waits_gets_it_when_the_other_ends(tmp_path: Path) -> None:
    with other_owner(tmp_path) as other:
        assert other.stdin is not None
        other.stdin.close()
        with Owner.take(tmp_path, wait=20):
            assert other.wait(20) == 0


def test_a_second_owner_in_this_process(tmp_path: Path) -> None:
    with Owner.take(tmp_path):
        with pytest.raises(StoreInUse, match="this process already"):
            Owner.take(tmp_path)
    with Owner.take(tmp_path):
        pass


def test_closed_twice_it_does_not_take_it_from_the_next(tmp_path: Path) -> None:
    first = Owner.take(tmp_path)
    first.close()
    with Owner.take(tmp_path):
        first.close()
        assert holder(tmp_path) is not None
        with pytest.raises(StoreInUse):
            Owner.take(tmp_path)
    assert holder(tmp_path) is None


def test_a_new_folder_is_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "memory"
    with Owner.take(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "owner.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1e400, "started": 0, "program": ""}', "\x00"])
def test_a_broken_record_still_keeps_others_out(tmp_path: Path, text: str) -> None:
    with Owner.take(tmp_path):
        (tmp_path / "owner.json").write_text(text)
        with pytest.raises(StoreInUse, match="another process"):
            Owner.take(tmp_path)


def test_a_pid_that_came_again_is_no_holder(tmp_path: Path) -> None:
    (tmp_path / "owner.json").write_text(f'{{"pid": {os.getpid()}, "started": 1.0, "program": "old"}}')
    assert holder(tmp_path) is None


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("")
    with pytest.raises(StoreError, match="can't be locked") as caught:
        Owner.take(tmp_path / "memory")
    assert "memory.path" in str(caught.value.hint)
