"""The files that a coding run changes: what a reply may change, what is copied for the tests, and the diff."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.errors import ToolError, UsageError
from benchai.graphs.coding import overlay, wording
from benchai.graphs.coding.overlay import applied, check_size, clean_path, diff, lay_out, mentioned, place_of
from benchai.tools.blocks import WholeFile, parse

CODE = "def add(a, b):\n    return a - b\n"
FENCE = f"```python\n{CODE}```\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = (tmp_path / "ws").resolve()
    (folder / "src").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "src" / "a.py").write_text(CODE, encoding="utf-8")
    (folder / "tests" / "test_a.py").write_text("assert True\n", encoding="utf-8")
    (tmp_path / "secret.py").write_text("KEY = 1\n", encoding="utf-8")
    return folder


def refused(reply: str, workspace: Path, about: str, protected: tuple[str, ...] = ("tests/test_a.py",)) -> None:
    with pytest.raises(ToolError, match=about):
        applied(reply, {}, workspace, "solution.py", protected)


def test_what_a_reply_changes(workspace: Path) -> None:
    edit = "src/a.py\n<<<<<<< SEARCH\n    return a - b\n=======\n    return a + b\n>>>>>>> REPLACE\n"
    assert applied(FENCE, {}, workspace, "solution.py", ()) == {"solution.py": CODE}
    assert applied(edit, {}, workspace, "solution.py", ()) == {"src/a.py": CODE.replace("-", "+")}
    assert applied(f"{FENCE}\nUse it:\n```python\nadd(1, 2)\n```\n", {}, workspace, "s.py", ()) == {"s.py": CODE}
    assert applied(f"b.py\n{FENCE}\n```sh\nls\n```\n", {"c.py": "x\n"}, workspace, "s.py", ()) == {
        "b.py": CODE,
        "c.py": "x\n",
    }
    assert (workspace / "src" / "a.py").read_text(encoding="utf-8") == CODE


def test_an_edit_sees_what_was_changed_before(workspace: Path) -> None:
    edit = "src/a.py\n<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n>>>>>>> REPLACE\n"
    assert applied(edit, {"src/a.py": "x = 1\n"}, workspace, "s.py", ()) == {"src/a.py": "x = 2\n"}
    refused(edit, workspace, "nor anything like it|nearest to it")


def test_an_edit_that_does_not_match_names_the_nearest_lines(workspace: Path) -> None:
    edit = "src/a.py\n<<<<<<< SEARCH\n    return a * b\n=======\n    return a + b\n>>>>>>> REPLACE\n"
    refused(edit, workspace, r"nearest to it:\n2\|     return a - b")


@pytest.mark.parametrize(
    "path",
    ["tests/test_a.py", "./tests/test_a.py", "tests//test_a.py", "tests/./test_a.py", "Tests/TEST_A.py",
     "tests\\test_a.py", "alias.py", "more/test_a.py"],
)  # fmt: skip
def test_tests_are_protected_however_they_are_named(workspace: Path, path: str) -> None:
    (workspace / "alias.py").symlink_to("tests/test_a.py")
    (workspace / "more").symlink_to("tests")
    refused(f"`{path}`\n```python\nassert 1\n```\n", workspace, "holds the tests, which may not be changed")
    block = f"`{path}`\n<<<<<<< SEARCH\nassert True\n=======\nassert 1\n>>>>>>> REPLACE\n"
    refused(block, workspace, "holds the tests, which may not be changed")


@pytest.mark.parametrize(
    ("path", "about"),
    [
        ("../secret.py", "no path in the workspace"),
        ("/etc/passwd.py", "no path in the workspace"),
        ("C:/a.py", "no path in the workspace"),
        (".git/hooks/a.py", "no path in the workspace"),
        (".GIT/config.py", "no path in the workspace"),
        ("a/.git /b.py", "no path in the workspace"),
        ("out.py", "leads outside"),
        ("up/secret.py", "leads outside"),
        ("round.py", "can't be a path|loop"),
        ("src/a.py/b.py", "is a file, no folder"),
        ("x" * 400 + ".py", "can't be"),
        ("a\x07b.py", "printable"),
        ("", "no path"),
    ],
)
def test_paths_outside_are_refused(workspace: Path, path: str, about: str) -> None:
    (workspace / "out.py").symlink_to("../secret.py")
    (workspace / "up").symlink_to("..")
    (workspace / "round.py").symlink_to("round.py")
    with pytest.raises(ToolError, match=about):
        place_of(path, workspace, {})


def test_files_and_folders_do_not_take_each_others_place(workspace: Path) -> None:
    with pytest.raises(ToolError, match="'src' is a folder"):
        place_of("src", workspace, {})
    with pytest.raises(ToolError, match=r"'lib\.py' is a file"):
        place_of("lib.py/a.py", workspace, {"lib.py": ""})
    with pytest.raises(ToolError, match="'lib' is a folder"):
        place_of("lib", workspace, {"lib/a.py": ""})


def test_a_link_stands_for_its_file(workspace: Path) -> None:
    (workspace / "link.py").symlink_to("src/a.py")
    assert applied(f"link.py\n{FENCE}", {}, workspace, "s.py", ()) == {"src/a.py": CODE}


def test_replies_that_hold_no_code(workspace: Path) -> None:
    refused("I cannot do that.", workspace, "holds no code")
    refused("```python\nx = 1\n", workspace, "never closed")
    refused("```python\nx = '\0'\n```\n", workspace, "no text file")
    refused(f"```python\n{'x' * overlay.MOST_TEXT}\n```\n", workspace, "no text file of at most")


def test_line_ends_of_a_file_stay(workspace: Path) -> None:
    (workspace / "dos.py").write_bytes(b"a\r\nb\r\n")
    assert applied("dos.py\n```python\na\nc\n```\n", {}, workspace, "s.py", ()) == {"dos.py": "a\r\nc\r\n"}


def test_files_that_can_not_be_changed(workspace: Path) -> None:
    (workspace / "bin.py").write_bytes(b"\xff\xfe")
    (workspace / "nul.py").write_bytes(b"a\0b")
    (workspace / "big.py").write_bytes(b"x" * (overlay.MOST_TEXT + 1))
    refused(f"bin.py\n{FENCE}", workspace, "can't be read as text")
    refused(f"nul.py\n{FENCE}", workspace, "can't be read as text")
    refused(f"big.py\n{FENCE}", workspace, "larger than 1 MiB")


def test_files_that_a_task_mentions(workspace: Path) -> None:
    (workspace / "logo.png").write_bytes(b"\xff\xfe")
    (workspace / "data.csv").write_bytes(b"1\n" * overlay.MOST_MENTIONED)
    (workspace / ".git").mkdir()
    (workspace / ".git" / "config.txt").write_text("token", encoding="utf-8")
    (workspace / "out.py").symlink_to("../secret.py")
    task = (
        "Mend ./src/a.py. Then see tests/test_a.py, src/../src/a.py, ../secret.py, out.py, .git/config.txt, logo.png,"
    )
    assert mentioned(f"{task} data.csv, none.py, e.g. 3.14 and a/b.c/d.e", workspace) == ["src/a.py", "tests/test_a.py"]


def test_the_copy(workspace: Path, tmp_path: Path) -> None:
    for name in (".git", "node_modules", "src/__pycache__"):
        (workspace / name).mkdir()
        (workspace / name / "x.py").write_text("x", encoding="utf-8")
    (workspace / "in.py").symlink_to(workspace / "src" / "a.py")
    (workspace / "more").symlink_to("src")
    (workspace / "out.py").symlink_to("../secret.py")
    os.mkfifo(workspace / "pipe")
    for name in ("live.db", "live.db-wal", "live.db-shm", "data.sqlite"):
        (workspace / name).touch()
    copy = tmp_path / "copy"
    copy.mkdir()
    lay_out(workspace, {"src/a.py": "changed\n", "new/deep/b.py": "b\r\n"}, copy)
    found = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if not path.is_dir()}
    assert found == {"src/a.py", "tests/test_a.py", "in.py", "new/deep/b.py", "data.sqlite"}
    assert (copy / "in.py").resolve() == (copy / "src" / "a.py").resolve()
    assert (copy / "more" / "a.py").read_text(encoding="utf-8") == "changed\n"
    assert (copy / "new" / "deep" / "b.py").read_bytes() == b"b\r\n"
    assert (workspace / "src" / "a.py").read_text(encoding="utf-8") == CODE


def test_a_huge_workspace_is_refused(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_size(workspace)
    monkeypatch.setattr(overlay, "MOST_FILES", 1)
    with pytest.raises(UsageError, match="holds more than 1 files"):
        check_size(workspace)
    monkeypatch.setattr(overlay, "MOST_FILES", 10)
    monkeypatch.setattr(overlay, "MOST_BYTES", 20)
    with pytest.raises(UsageError, match="MiB"):
        check_size(workspace)


def test_the_diff(workspace: Path) -> None:
    assert diff(workspace, {"src/a.py": CODE}) == ""
    assert diff(workspace, {"src/a.py": CODE.replace("-", "+"), "b.py": "x"}) == (
        "diff --git a/b.py b/b.py\nnew file mode 100644\n--- /dev/null\n+++ b/b.py\n@@ -0,0 +1 @@\n+x\n"
        "\\ No newline at end of file\n"
        "diff --git a/src/a.py b/src/a.py\n--- a/src/a.py\n+++ b/src/a.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n"
        "-    return a - b\n+    return a + b\n"
    )


@given(st.text())
def test_clean_paths_stay_inside(path: str) -> None:
    try:
        cleaned = clean_path(path)
    except ToolError:
        return
    assert not {"", ".", "..", ".git"} & set(cleaned.casefold().split("/"))
    assert clean_path(cleaned) == cleaned


TEXTS = st.text(st.sampled_from("ab`\n ~"), max_size=60)


@given(st.dictionaries(st.sampled_from(["a.py", "b/c.js", "README.md"]), TEXTS, min_size=1))
def test_files_shown_are_read_back(files: dict[str, str]) -> None:
    items = parse("\n".join(wording.fenced(path, text) for path, text in files.items()))
    assert [item.path for item in items] == list(files)
    for item, text in zip(items, files.values(), strict=True):
        assert isinstance(item, WholeFile)
        assert item.text.rstrip() == text.rstrip()


def test_wording() -> None:
    assert wording.to_write("Add.", ["One", "Two"], {}, []) == "Add.\n\nPlan:\n1. One\n2. Two"
    assert wording.to_write("Add.", ["One"], {"a.js": "x\n"}, ["assert y\n"]) == (
        "Add.\n\nPlan:\n1. One\n\nFiles:\na.js\n```js\nx\n```\n\nTests:\n```python\nassert y\n```"
    )
    assert wording.to_fix("Add.", "CODE", "assert 1 == 2\nAssertionError: got 1", "REJECTED: no") == (
        "Task: Add.\n\nCode:\nCODE\n\nFailing test:\n```\nassert 1 == 2\nAssertionError: got 1\n```"
    )
    assert wording.to_fix("Add.", "CODE", "", "REJECTED: no") == "Task: Add.\n\nCode:\nCODE\n\nReview:\nREJECTED: no"
    assert wording.shown({"solution.py": "x\n"}, "solution.py") == "```python\nx\n```"
    assert wording.shown({}, "solution.py") == "(none yet)"
    assert wording.block("````\nx", "md").startswith("`````md\n")
    assert wording.commit_message("Task\nin full", "goal " * 40).split("\n")[0].endswith("...")
    assert wording.commit_message("Task\nin full", " ") == "Task in full\n\nTask\nin full\n"
