"""Files of SQLite's: those that may be open are known without being opened, and are made for one user alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchai.config import paths


@pytest.mark.parametrize(
    ("names", "held"),
    [
        (["notes.md"], []),
        (["app.sqlite", "app.db", "app.sqlite3"], []),
        (
            ["app.sqlite-wal", "app.DB-shm", "app.sqlite3-journal"],
            ["app.DB-shm", "app.sqlite-wal", "app.sqlite3-journal"],
        ),
        (["app.sqlite", "app.sqlite-wal"], ["app.sqlite", "app.sqlite-wal"]),
        (["app.db", "app.db-journal"], ["app.db", "app.db-journal"]),
        (["History", "History-wal", "History-shm"], ["History", "History-shm", "History-wal"]),
        (["trip", "trip-journal", "great-wal", "-wal", "wal"], []),
    ],
)
def test_databases_in_use_are_known_by_names(tmp_path: Path, names: list[str], held: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert sorted(path.name for path in tmp_path.iterdir() if paths.of_database(path)) == held


def test_a_database_under_another_name_counts_while_it_is_open(tmp_path: Path) -> None:
    file = tmp_path / "anything.txt"
    with closing(sqlite3.connect(file)) as opened:
        opened.execute("PRAGMA journal_mode=WAL")
        opened.execute("CREATE TABLE t (x)")
        assert all(paths.of_database(path) for path in tmp_path.iterdir() if path.name.startswith("anything"))
    assert not paths.of_database(file)


@pytest.mark.parametrize("folder", [paths.data_dir, paths.cache_dir, paths.state_dir, paths.log_dir])
def test_databases_of_our_own_always_count(folder: object, own_home: Path, tmp_path: Path) -> None:
    assert callable(folder)
    assert paths.ours(folder() / "memory" / "a.sqlite")
    assert paths.of_database(folder() / "memory" / "a.sqlite")
    assert paths.ours(folder() / "general.log")
    assert not paths.of_database(folder() / "general.log")
    (tmp_path / "link").symlink_to(own_home)
    assert paths.ours(tmp_path / "link" / folder().name / "a.sqlite")
    assert not paths.ours(tmp_path / "a.sqlite")
    assert not paths.ours(own_home / f"{folder().name}2" / "a.sqlite")


def test_a_link_to_a_file_that_is_still_to_be_made_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link, file = tmp_path / "cache" / "replies.sqlite", tmp_path / "disk" / "replies.sqlite"
    link.parent.mkdir()
    link.symlink_to(file)
    for _ in range(2):
        paths.make_private(link)
        assert link.is_symlink()
        assert file.stat().st_mode & 0o777 == 0o600
        file.chmod(0o644)


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "away.sqlite").symlink_to(tmp_path / "unmounted" / "replies.sqlite")
    (tmp_path / "loop.sqlite").symlink_to("loop.sqlite")
    for name, about in (("away", "unmounted"), ("loop", "loop")):
        with pytest.raises(OSError, match=about):
            paths.make_private(tmp_path / f"{name}.sqlite")
    assert not (tmp_path / "unmounted").exists()
