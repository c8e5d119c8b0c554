"""Disks that are full or can't be written: a clear error, a memory that is whole, and the work goes on with room."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchai.errors import SourceBusy, StoreError
from benchai.memory.database import Database
from benchai.memory.reading import read_file
from benchai.memory.scan import File, scan
from benchai.memory.store import Store
from benchai.memory.upkeep import verify
from tests.conftest import REPO
from tests.integration.memory_helpers import A, check, document, texts_found
from tests.integration.test_hub_fetch import largest_file

FREE = "free space on the disk; nothing of this call was kept"
OWN = ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a program says that fills a disk of its own, see `memory_full`."""
    if shutil.which("unshare") is None or subprocess.run([*OWN, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file systems of one's own here: a disk that is really full can't be had")
    disk = tmp_path_factory.mktemp("full") / "disk"
    disk.mkdir()
    argv = [*OWN, sys.executable, "-P", "-m", "tests.integration.memory_full", str(disk)]
    env = os.environ | {"PYTHONPATH": str(REPO)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def whole(passages: int, vectors: int | None = None) -> dict[str, Any]:
    return {"problems": [], "passages": passages, "vectors": passages if vectors is None else vectors}


def test_a_full_disk_keeps_nothing_of_any_call_and_all_that_was_there(told: dict[str, Any]) -> None:
    full = told["full"]
    for name, (kind, message, hint) in full["told"].items():
        assert (kind, hint) == ("StoreFull", FREE), name
        assert message.endswith("memory.sqlite': database or disk is full"), name
    assert full["before"] == full["middle"]
    assert full["middle"]["verify"] == whole(36)
    assert full["middle"]["sources"] == ["/0", "/1", "/2"]
    assert (full["middle"]["found"], full["exported"]) == (10, 4)


def test_with_room_again_the_same_memory_goes_on(told: dict[str, Any]) -> None:
    full = told["full"]
    assert full["again"]["put"] == {"added": 6, "changed": 0, "unchanged": 0, "passages": 72}
    assert full["again"]["add"].startswith("IngestReport(added=1,")
    assert len(full["after"]["sources"]) == 10
    assert full["after"]["verify"]["problems"] == []
    assert full["after"]["verify"]["vectors"] == full["after"]["verify"]["passages"] > 100


def test_a_memory_on_a_full_disk_opens_with_room_again(told: dict[str, Any]) -> None:
    for name in ("memory", "new"):
        kind, message, hint = told["opening"][name]
        assert (kind, hint) == ("StoreFull", FREE)
        assert "memory.sqlite'" in message
    assert told["opening"]["new with room"] == {"problems": [], "passages": 0, "vectors": None}


def test_vectors_on_a_full_disk_are_not_thrown_away(told: dict[str, Any]) -> None:
    opening = told["opening"]
    for name in ("index", "index again"):
        kind, message, hint = opening[name]
        assert (kind, hint) == ("StoreFull", "make room on the disk")
        assert "vectors' can't be kept: " in message
        assert "disk is full" in message
    assert opening["found"] == 10
    assert opening["index with room"].startswith("Reindexed(embedded=0,")
    assert opening["kept"]
    assert opening["after"]["verify"] == told["full"]["after"]["verify"]


def test_without_the_room_to_prove_it_nothing_is_forgotten(told: dict[str, Any]) -> None:
    kind, message, hint = told["proving"]["refused"]
    assert kind == "StoreFull"
    assert "needs" in message
    assert hint == "free space on the disk, or forget without --prove; nothing was forgotten"
    assert "/0" in told["proving"]["sources"]


def test_a_proof_that_breaks_off_says_that_it_is_forgotten_and_how_its_bytes_go(told: dict[str, Any]) -> None:
    proving = told["proving"]
    kind, message, hint = proving["late"]
    assert kind == "StoreFull"
    assert message.startswith("it is forgotten, but not proved, and its bytes may still be in the files: ")
    assert hint == "mend that, then `benchai memory rebuild` and `benchai memory vacuum` write the files anew"
    assert proving["middle"]["verify"]["problems"] == []
    assert "/0" not in proving["middle"]["sources"]
    assert proving["left"] == []
    assert proving["proved"]
    assert proving["after"]["verify"]["problems"] == []


@pytest.mark.parametrize("name", ["looked", "not looked"])
def test_no_call_to_the_vectors_hangs_once_the_disk_was_full(told: dict[str, Any], name: str) -> None:
    came = told["hanging"][name]
    assert len(came["full"]) >= 4
    for message, hint in came["full"]:
        assert "can't be kept: " in message
        assert hint == "make room on the disk"
    if name == "looked":
        assert all("the disk is full: " in message for message, _ in came["full"])
    assert (came["lost"], came["whole"], came["found"]) == (0, True, 5)


def test_a_folder_that_can_not_be_written_is_named(told: dict[str, Any]) -> None:
    for name in ("memory", "other"):
        kind, message, hint = told["read_only"][name]
        assert kind == "StoreError"
        assert f"{name}' can't be locked: " in message
        assert "Read-only file system" in message
        assert hint == "name a folder of a local disk that you may write to (memory.path)"


def test_vectors_that_can_not_be_written_are_no_damage(told: dict[str, Any]) -> None:
    found = told["read_only"]
    kind, message, hint = found["index"]
    assert kind == "StoreError"
    assert "vectors' can't be written: " in message
    assert hint == "check the permissions of the folder; what is asked is answered by words alone"
    assert found["found"] == 10
    assert "can't be written" in found["off"]["dense"]
    assert found["kept"]
    assert found["index after"].startswith("Reindexed(embedded=0,")
    assert found["after"]["verify"]["problems"] == []


def test_notes_stay_as_they_are(told: dict[str, Any]) -> None:
    full, closed, again = (told["notes"][name] for name in ("full", "read-only", "writable"))
    for name, note in (("create", "New"), ("append", "Pump")):
        assert full[name] == ["StoreFull", f"the note {note!r} can't be written: the disk is full", "free space on it"]
        message = f"the note {note!r} can't be read or written: Read-only file system"
        assert closed[name] == ["SourceError", message, "check its permissions, and those of its disk"]
    for state in (full, closed):
        assert (state["read"], state["files"]) == ("# Log\n\nfirst\n", [".obsidian", "Pump.md"])
    assert (again["create"], again["append"]) == ("New.md", "Pump.md")
    assert again["read"].startswith("# Log\n\nfirst\nword")


def test_a_limit_on_files_is_told_and_does_no_harm(tmp_path: Path) -> None:
    with Database(tmp_path / "memory.sqlite") as database:
        store = Store(database)
        store.put(A, [document("/a", "the cat sleeps")])
        with largest_file((tmp_path / "memory.sqlite-wal").stat().st_size + 10_000):
            with pytest.raises(StoreError, match=r"memory\.sqlite': disk I/O error") as raised:
                store.put(
                    A, [document("/b", *[f"the dog barks {number}" + " and barks" * 100 for number in range(50)])]
                )
        assert raised.value.hint == "see whether its disk fails, or a quota or a limit on the size of files is met"
        check(database)
        assert verify(database).problems == ()
        assert texts_found(database, A, "cat dog") == ["the cat sleeps"]
        assert store.put(A, [document("/b", "the dog barks")]).added == 1
        check(database)


def test_what_vanishes_while_it_is_looked_at_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path.resolve() / "b"
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.md").write_text("text")
    opened = os.scandir

    def scandir(path: Path) -> Any:
        if path == gone:  # another program removes it at this moment
            gone.joinpath("x.md").unlink()
            gone.rmdir()
        return opened(path)

    monkeypatch.setattr("benchai.memory.scan.os.scandir", scandir)
    found = scan(tmp_path)
    root = tmp_path.resolve().as_posix()
    assert [file.source.removeprefix(root) for file in found.files] == ["/a/x.md", "/c/x.md"]
    assert [(one.source.removeprefix(root), one.reason, one.hint) for one in found.failures] == [
        ("/b", "No such file or directory", "see whether it is still there")
    ]
    with pytest.raises(SourceBusy, match=r"x\.md' can't be read: No such file") as raised:
        read_file(File(f"{root}/b/x.md", 4, 0), 100)
    assert raised.value.hint == "see whether it is still there"
