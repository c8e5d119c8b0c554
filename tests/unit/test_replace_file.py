"""Files in folders of the user's are replaced whole, and nothing beside them is touched."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchai.config.paths import replace_file


def test_a_link_stays_one_and_a_file_keeps_its_mode(tmp_path: Path) -> None:
    real = tmp_path / "kept" / "benchai.yaml"
    replace_file(real, "one")
    real.chmod(0o640)
    beside = tmp_path / "kept" / "benchai.partial"
    beside.write_text("the user's own")
    link = tmp_path / "benchai.yaml"
    link.symlink_to(real)
    replace_file(link, "two é")
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8") == "two é"
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in real.parent.iterdir()) == ["benchai.partial", "benchai.yaml"]
    assert beside.read_text() == "the user's own"


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "benchai.yaml"
    replace_file(file, "one")
    with pytest.raises(UnicodeEncodeError):
        replace_file(file, "\ud800")
    assert [path.name for path in tmp_path.iterdir()] == ["benchai.yaml"]
    assert file.read_text() == "one"


def test_two_who_write_at_once_each_write_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "benchai.yaml"
    texts = [letter * 50_000 for letter in "ab"]
    with ThreadPoolExecutor(2) as threads:
        for _ in range(20):
            list(threads.map(lambda text: replace_file(file, text), texts))
            assert file.read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["benchai.yaml"]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as thread:
        read = thread.submit(pipe.read_text)
        replace_file(pipe, "one")
        assert read.result() == "one"
    assert pipe.is_fifo()


def test_a_folder_refuses(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path, "one")
    assert not list(tmp_path.iterdir())
