"""Notes of the places that vectors have left: one for each that may hold some, and no way to lose one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchai.errors import UsageError
from benchai.memory.chroma import DATABASE
from benchai.memory.database import Database
from benchai.memory.emptying import holds_vectors
from benchai.memory.left import AGAIN_SECONDS, Left, Note, leave, mend, noted
from benchai.memory.opening import FOLDER, IndexPlace
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
    place, worker = IndexPlace(tmp_path / "vectors", "http://b:1", "id"), Worker("test")

    async def own() -> IndexPlace:
        return place

    with Database(tmp_path / "memory.sqlite") as database:
        moved(database, FOLDER, "http://a:1", "http://b:1")
        left = Left(database, worker, own)
        assert await left.places() == {str(tmp_path / "vectors"): "", "http://a:1": ""}
        with pytest.raises(UsageError) as caught:
            await left.give_up("http://b:1")
        assert "http://a:1" in str(caught.value.hint)
        await left.give_up("http://a:1/")
        await left.give_up(str(tmp_path / "vectors"))
        assert await left.places() == {}
    worker.close()


@pytest.mark.parametrize(
    ("names", "ours"), [(["benchai-1-2-3"], True), (["benchai-1-2-3", "mine"], False), ([], False)]
)
def test_a_folder_is_ours_where_all_in_it_is(tmp_path: Path, names: list[str], ours: bool) -> None:
    assert not holds_vectors(tmp_path)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as rows, rows:
        rows.execute("CREATE TABLE collections (name TEXT)")
        rows.executemany("INSERT INTO collections VALUES (?)", [(name,) for name in names])
    assert holds_vectors(tmp_path) is ours


def test_a_file_that_is_no_database_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("notes", encoding="utf-8")
    assert not holds_vectors(tmp_path)
