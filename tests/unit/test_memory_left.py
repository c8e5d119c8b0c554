"""Notes of the places that vectors have left: one for each that may hold some, and no way to lose one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from benchai.errors import StoreError, UsageError
from benchai.memory import emptying
from benchai.memory.chroma import DATABASE
from benchai.memory.database import Database
from benchai.memory.emptying import holds_vectors
from benchai.memory.index import OURS, prefix_of
from benchai.memory.left import AGAIN_SECONDS, LEFT, Left, Note, leave, mend, noted
from benchai.memory.opening import FOLDER, IndexPlace
from benchai.memory.prove import _files
from benchai.memory.worker import Worker

pytestmark = pytest.mark.anyio


def moved(database: Database, *places: str) -> set[str]:
    """What is to be emptied after the vectors went to one place after the other."""
    for place in places:
        with database.writing():
            leave(database, place)
    return set(noted(database))


def broken_off(database: Database, place: str) -> None:
    with database.writing():
        leave(database, place)
        raise RuntimeError


@pytest.mark.parametrize(
    ("places", "left"),
    [
        ((FOLDER,), set()),
        ((FOLDER, FOLDER), set()),
        ((FOLDER, "a"), {FOLDER}),
        ((FOLDER, "a", "b"), {FOLDER, "a"}),
        ((FOLDER, "a", FOLDER), {"a"}),
        (("a", "b", "a", "b"), {"a"}),
        (("a", FOLDER, "b", "a"), {FOLDER, "b"}),
    ],
)
def test_each_place_but_the_one_in_use_is_noted(tmp_path: Path, places: tuple[str, ...], left: set[str]) -> None:
    with Database(tmp_path / "memory.sqlite") as database:
        assert moved(database, *places) == left


def test_a_move_that_is_not_kept_notes_nothing(tmp_path: Path) -> None:
    with Database(tmp_path / "memory.sqlite") as database:
        moved(database, FOLDER)
        with pytest.raises(RuntimeError):
            broken_off(database, "a")
        assert moved(database, "b") == {FOLDER}


def test_what_failed_is_not_tried_again_at_once() -> None:
    assert Note().due(now=1000)
    failed = Note(problem="it is away", tried=1000)
    assert [failed.due(now) for now in (1000, 999 + AGAIN_SECONDS, 1000 + AGAIN_SECONDS, 999)] == [
        False,
        False,
        True,
        True,
    ]


def test_what_failed_is_told_with_its_mend() -> None:
    assert "--give-up http://a:1`" in mend("http://a:1", "it is away")
    assert "give-up" not in mend("http://a:1", "")


async def test_a_place_is_given_up_by_the_name_that_people_know(tmp_path: Path) -> None:
    place = IndexPlace(tmp_path / "vectors", "http://b:1", "id")
    with Database(tmp_path / "memory.sqlite") as database, whole(database, place) as left:
        moved(database, FOLDER, "http://a:1", "http://b:1")
        assert await left.places() == {str(tmp_path / "vectors"): "", "http://a:1": ""}
        with pytest.raises(UsageError) as caught:
            await left.give_up("http://b:1")
        assert "http://a:1" in str(caught.value.hint)
        await left.give_up("http://a:1/")
        await left.give_up(str(tmp_path / "vectors"))
        assert await left.places() == {}


@pytest.mark.parametrize(("names", "ours"), [([OURS], True), ([OURS, "mine"], True), (["mine"], False), ([], False)])
def test_a_folder_has_vectors_where_one_in_it_is_ours(tmp_path: Path, names: list[str], ours: bool) -> None:
    assert not holds_vectors(tmp_path)
    collections(tmp_path, *names)
    assert holds_vectors(tmp_path) is ours


def test_a_file_that_is_no_database_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("notes", encoding="utf-8")
    assert not holds_vectors(tmp_path)


def test_a_folder_that_was_left_before_there_were_notes_is_noted_by_the_first_move(tmp_path: Path) -> None:
    collections(tmp_path / "vectors", OURS)
    with Database(tmp_path / "memory.sqlite") as database:
        assert moved(database, "a", "b") == {FOLDER, "a"}
    with Database(tmp_path / "back.sqlite") as database:
        assert moved(database, FOLDER) == set()


async def test_a_folder_that_somebody_has_locked_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emptying, "_BUSY_SECONDS", 0.01)
    collections(tmp_path / "vectors", OURS)
    here = IndexPlace(tmp_path / "vectors", "http://a:1", "id")
    with Database(tmp_path / "memory.sqlite") as database, whole(database, here) as left:
        with closing(sqlite3.connect(tmp_path / "vectors" / DATABASE, isolation_level=None)) as rows:
            rows.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreError, match="locked"):
                await left.empty(here)
        assert database.setting(LEFT) is None
        assert moved(database, "http://a:1") == {FOLDER}


async def test_what_others_keep_in_a_folder_stays(tmp_path: Path) -> None:
    here = IndexPlace(tmp_path / "vectors", None, "id")
    collections(here.folder, prefix_of() + "1-2", prefix_of("id") + "1-2", "somebody-elses")
    for delete in (lambda: emptying.empty(here, None), here.remove):
        with pytest.raises(StoreError, match="others: somebody-elses"):
            delete()
    with closing(sqlite3.connect(here.folder / DATABASE)) as rows, rows:
        rows.execute("DELETE FROM collections WHERE name = 'somebody-elses'")
    emptying.empty(here, None)
    assert not here.folder.exists()


def test_a_folder_that_is_a_link_is_emptied_of_vectors_and_stays_a_link(tmp_path: Path) -> None:
    here, disk = IndexPlace(tmp_path / "vectors", None, "id"), tmp_path / "disk"
    here.folder.symlink_to(disk)
    for delete in (lambda: emptying.empty(here, None), here.remove):
        collections(disk, prefix_of() + "1-2")
        graph = disk / "911a3490-0bde-4a7b-994d-8245c6044ce4"
        graph.mkdir()
        for name in (graph / "data", disk / f"{DATABASE}-wal", disk / "notes"):
            name.write_bytes(b"1")
        (disk / "lost+found").mkdir()
        delete()
        assert (here.folder.is_symlink(), {one.name for one in disk.iterdir()}) == (True, {"notes", "lost+found"})
        shutil.rmtree(disk)
        # it is not mounted: nobody knows what is there
        with pytest.raises(StoreError, match="leads to no folder"):
            delete()


def test_a_proof_looks_through_what_links_lead_to(tmp_path: Path) -> None:
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    memory.mkdir()
    collections(disk / "big", OURS)
    (disk / "rows").write_bytes(b"1")
    (disk / "rows-wal").write_bytes(b"1")
    (memory / "vectors").symlink_to(disk / "big")
    (memory / "memory.sqlite").symlink_to(disk / "rows")
    (memory / "away").symlink_to(disk / "none")
    (memory / "round").symlink_to(memory)
    assert set(_files(memory)) == {
        memory / "away",
        memory / "vectors" / DATABASE,
        disk / "rows",
        disk / "rows-wal",
    }


async def test_what_is_in_use_again_is_not_emptied(tmp_path: Path) -> None:
    here = IndexPlace(tmp_path / "vectors", None, "id")
    collections(here.folder, prefix_of() + "1-2")
    with Database(tmp_path / "memory.sqlite") as database, whole(database, here) as left:
        moved(database, FOLDER)
        assert "made there again" in (await left.empty_all(used=True, unused=lambda: False))[here.shown]
        assert await left.empty_all(used=False) == {}
        assert here.folder.exists()
        assert (await left.empty_all(used=True), here.folder.exists()) == ({}, False)


async def test_a_memory_that_never_had_vectors_is_not_written_to(tmp_path: Path) -> None:
    with Database(tmp_path / "memory.sqlite") as database, whole(database, None) as left:
        assert (await left.places(), await left.server(), await left.served()) == ({}, None, [])


def collections(folder: Path, *names: str) -> None:
    """A folder as Chroma makes it, as far as it is looked at."""
    folder.mkdir(exist_ok=True, parents=True)
    with closing(sqlite3.connect(folder / DATABASE)) as rows, rows:
        rows.execute("CREATE TABLE collections (name TEXT)")
        rows.executemany("INSERT INTO collections VALUES (?)", [(name,) for name in names])


@contextmanager
def whole(database: Database, place: IndexPlace | None) -> Iterator[Left]:
    """What empties the places of a memory; without a place nobody may ask for one."""

    async def own() -> IndexPlace:
        assert place is not None
        return place

    worker = Worker("test")
    left = Left(database, worker, own)
    yield left
    worker.close()
    if left._thread is not None:
        left._thread.close()
