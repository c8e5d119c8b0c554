"""What is read below a folder: .gitignore, links, secrets, litter, odd names; all in order."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchai.errors import SourceError
from benchai.memory.scan import File, Scan, is_meant, scan


def write(root: Path, *names: str, text: str = "x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(found: Scan) -> list[str]:
    return [file.source.removeprefix(f"{found.root}/") for file in found.files]


def left_out(found: Scan) -> list[tuple[str, str]]:
    return [(failure.source.removeprefix(f"{found.root}/"), failure.reason) for failure in found.left_out]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path.resolve()


def test_files_are_listed_in_order_with_their_stats(root: Path) -> None:
    write(root, "b.md", "a/z.md", "a/y/x.md", "a.md")
    os.utime(root / "a.md", ns=(5, 17))
    found = scan(root)
    assert names(found) == ["a.md", "a/y/x.md", "a/z.md", "b.md"]
    assert found.files[0] == File(f"{root.as_posix()}/a.md", 1, 17)
    assert found.root == root.as_posix()


def test_gitignore_files_count_from_the_inside_out(root: Path) -> None:
    write(
        root,
        "a.log",
        "keep.log",
        "sub/b.log",
        "sub/c.txt",
        "sub/deep/b.log",
        "build/x.md",
        "sub/build/y.md",
        "only/x.md",
    )
    write(root, "anywhere/only/x.md", "caf\u00e9.md", "space .md")
    (root / ".gitignore").write_text("# a comment\n*.log\n!keep.log\nbuild/\n/only\ncaf\u00e9.md\n\n[broken\n\\\n")
    (root / "sub" / ".gitignore").write_text("!b.log\nc.txt\n")
    assert names(scan(root)) == ["anywhere/only/x.md", "keep.log", "space .md", "sub/b.log", "sub/deep/b.log"]


def test_the_gitignore_files_above_a_part_of_a_working_tree_count_too(root: Path) -> None:
    (root / ".git").mkdir()
    write(root, "docs/a.md", "docs/out/b.md", "docs/c.tmp", "skipped/d.md", "skipped/e.tmp")
    (root / ".gitignore").write_text("docs/out\n*.tmp\n/skipped\n")
    assert names(scan(root / "docs")) == ["a.md"]
    # whoever names an ignored folder wants it
    assert names(scan(root / "skipped")) == ["d.md", "e.tmp"]


def test_what_programs_made_for_themselves_is_passed_over(root: Path) -> None:
    write(root, ".git/config", "node_modules/m/index.js", "__pycache__/a.pyc", ".venv/lib/x.py", ".obsidian/app.json")
    write(root, "a.md~", ".a.md.swp", ".DS_Store", "~$plan.docx", "picture.PNG", "lib.so", ".github/ci.yml", "a.md")
    (root / "empty.py").touch()
    found = scan(root)
    assert names(found) == [".github/ci.yml", "a.md"]
    assert found.passed == 3
    assert found.failures == found.left_out == []


def test_secrets_are_left_out_and_told_but_not_if_they_are_named(root: Path) -> None:
    write(root, ".env", ".env.example", "id_rsa", "server.key", ".ssh/config", "keys.md")
    found = scan(root)
    assert names(found) == [".env.example", "keys.md"]
    assert [name for name, _ in left_out(found)] == [".env", ".ssh", "id_rsa", "server.key"]
    assert names(scan(root / ".env")) == [f"{root.as_posix()}/.env"]


def test_links_are_not_followed_so_that_no_loop_has_an_end_to_find(root: Path, tmp_path: Path) -> None:
    write(root, "real/a.md")
    write(tmp_path, "outside/b.md", "c.md")
    (root / "real" / "loop").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "again").symlink_to("real")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "c.md").symlink_to(tmp_path / "c.md")
    (root / "dangling").symlink_to("nowhere")
    found = scan(root)
    assert names(found) == ["real/a.md"]
    told = dict(left_out(found))
    assert set(told) == {"self", "out", "c.md", "dangling"}
    assert "leads out of" in told["out"]
    assert "leads out of" in told["c.md"]
    assert "nowhere" in told["dangling"]
    assert found.failures == []


def test_a_root_that_is_a_link_is_the_folder_itself(root: Path, tmp_path: Path) -> None:
    write(root, "a.md")
    (tmp_path / "alias").symlink_to(root)
    assert scan(tmp_path / "alias") == scan(root)


def test_pipes_are_no_documents(root: Path) -> None:
    os.mkfifo(root / "pipe.md")
    write(root, "a.md")
    assert names(scan(root)) == ["a.md"]
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        scan(root / "pipe.md")


def test_what_is_not_there_or_turns_in_a_circle_is_refused(root: Path) -> None:
    (root / "self").symlink_to("self")
    with pytest.raises(SourceError, match="does not exist"):
        scan(root / "missing")
    with pytest.raises(SourceError, match="self"):
        scan(root / "self")
    with pytest.raises(SourceError, match="can't be read"):
        scan(Path("a\0b"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are UTF-8")
def test_a_name_that_is_no_utf_8_is_a_failure_and_ends_nothing(root: Path) -> None:
    write(root, "a.md")
    (root / os.fsdecode(b"caf\xe9.md")).write_text("x")
    found = scan(root)
    assert names(found) == ["a.md"]
    (failure,) = found.failures
    assert failure.source.endswith("caf\\udce9.md")
    failure.source.encode()


def test_a_path_is_judged_as_a_scan_judges_it(root: Path) -> None:
    write(root, "a.md", "sub/b.md", "sub/b.log", "build/c.md", ".git/d.md", "e.png", ".env", "sub/.gitignore")
    write(root, "f.sqlite-wal", "sub/f.db-shm", "History", "History-wal")
    (root / ".gitignore").write_text("*.log\n/build/\n")
    (root / "link.md").symlink_to("a.md")
    everything = [path for path in root.rglob("*") if not path.is_dir()]
    meant = {path.relative_to(root).as_posix() for path in everything if is_meant(root, path)}
    assert meant == {*names(scan(root)), ".gitignore", "sub/.gitignore"}
    assert is_meant(root, root / "sub" / "gone.md")
    assert not is_meant(root, root / "sub" / "gone.log")
    assert scan(root).passed == 5
