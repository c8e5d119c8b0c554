"""A database that this process has open loses no row to a tool, a search or a scan that comes upon its files."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from benchai.config import paths
from benchai.errors import BenchAIError
from benchai.graphs.coding.overlay import lay_out, text_of_file
from benchai.memory.reading import read_file
from benchai.memory.scan import file_of, scan
from benchai.tools.files import read_lines
from benchai.tools.search import search
from benchai.tools.writing import edit_text, write_text

COUNT = """
import sqlite3, sys
opened = sqlite3.connect(sys.argv[1])
print(*opened.execute("SELECT count(*) FROM t").fetchone())
opened.close()
"""


def searched(workspace: Path, files: list[str]) -> None:
    assert search(workspace, "needle") == "notes.md:1: needle"
    for file in files:
        assert search(workspace, "needle", file) == "[no line matches]"


def ingested(workspace: Path, files: list[str]) -> None:
    assert [Path(file.source).name for file in scan(workspace).files] == ["notes.md"]
    for file in files:
        with suppress(BenchAIError):
            read_file(file_of(workspace / file), 1 << 20)


def copied(workspace: Path, files: list[str]) -> None:
    copy = workspace.with_name("copy")
    copy.mkdir()
    lay_out(workspace, {}, copy)
    assert [path.name for path in copy.rglob("*") if path.is_file()] == ["notes.md"]


def named(call: Callable[[Path, str], object]) -> Callable[[Path, list[str]], None]:
    """Each of the files in turn."""

    def use(workspace: Path, files: list[str]) -> None:
        for file in files:
            with pytest.raises(BenchAIError, match=r"BenchAI's own state|database in use"):
                call(workspace, file)

    return use


@pytest.mark.parametrize("place", ["own", "elsewhere"])
@pytest.mark.parametrize(
    "use",
    [
        searched,
        ingested,
        copied,
        named(read_lines),
        named(lambda workspace, file: write_text(workspace, file, "x")),
        named(lambda workspace, file: edit_text(workspace, file, "x", "y")),
        named(lambda workspace, file: text_of_file(file, {}, workspace)),
    ],
    ids=["search", "ingest", "copy", "read_file", "write_file", "edit_file", "coding"],
)
def test_what_is_written_after_a_look_at_the_files_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[Path, list[str]], None], place: str
) -> None:
    workspace = tmp_path.resolve() / "workspace"
    monkeypatch.setenv("BENCHAI_HOME", str(workspace / "benchai"))
    file = paths.threads_file() if place == "own" else workspace / "kept" / "memory.sqlite"
    file.parent.mkdir(parents=True)
    (workspace / "notes.md").write_text("needle\n")
    with closing(sqlite3.connect(file, isolation_level=None)) as opened:
        opened.execute("PRAGMA journal_mode=WAL")
        opened.execute("CREATE TABLE t (x)")
        opened.execute("INSERT INTO t VALUES ('needle')")
        use(workspace, [f"{file.relative_to(workspace)}{end}" for end in ("", "-wal", "-shm")])
        assert _rows_for_another_process(file) == 1
        opened.executemany("INSERT INTO t VALUES (?)", [("needle",)] * 5)
        assert _rows_for_another_process(file) == 6


def _rows_for_another_process(file: Path) -> int:
    command = [sys.executable, "-c", COUNT, str(file)]
    return int(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
