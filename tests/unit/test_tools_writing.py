"""write_file and edit_file: whole files or nothing, and nothing outside the workspace or in .git."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchai.errors import ToolError
from benchai.tools import ToolContext, confine
from benchai.tools.writing import EDIT_FILE, MAX_BYTES, WRITE_FILE, edit_text, write_text

try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]

SECRET = "the secret outside"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with files, links in and out, and a secret beside it."""
    root = tmp_path / "workspace"
    (root / "src").mkdir(parents=True)
    (root / ".git" / "hooks").mkdir(parents=True)
    (root / "src" / "main.py").write_text("a = 1\nb = 2\nc = 3\n")
    (root / "picture").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text(SECRET)
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "leak.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    (root / "new_leak.txt").symlink_to(tmp_path / "outside" / "new.txt")
    (root / "main_link").symlink_to("src/main.py")
    (root / "new_link").symlink_to("src/new.py")
    (root / "git_link").symlink_to(".git")
    (root / "loop").symlink_to("loop")
    return root.resolve()


def message_of(call: object, *args: object) -> str:
    assert callable(call)
    with pytest.raises(ToolError) as raised:
        call(*args)
    return f"{raised.value}; {raised.value.hint}"


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_write(workspace: Path) -> None:
    assert write_text(workspace, "src/main.py", "x\ny") == "wrote src/main.py (2 lines)"
    assert (workspace / "src" / "main.py").read_text() == "x\ny"
    assert write_text(workspace, "docs/deep/er/é.md", "") == "wrote docs/deep/er/é.md (0 lines)"
    assert write_text(workspace, str(workspace / "abs.txt"), "é\r\n") == "wrote abs.txt (1 line)"
    assert (workspace / "abs.txt").read_bytes() == "é\r\n".encode()
    assert not [name for name in tree(workspace) if "partial" in name]


def test_links_inside_are_followed(workspace: Path) -> None:
    assert write_text(workspace, "main_link", "x\n") == "wrote src/main.py (1 line)"
    assert write_text(workspace, "new_link", "y\n") == "wrote src/new.py (1 line)"
    assert (workspace / "main_link").is_symlink()
    assert (workspace / "src" / "new.py").read_text() == "y\n"


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_mode_is_kept(workspace: Path) -> None:
    file = workspace / "src" / "main.py"
    file.chmod(0o751)
    write_text(workspace, "src/main.py", "x\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o751
    edit_text(workspace, "src/main.py", "x", "y")
    assert stat.S_IMODE(file.stat().st_mode) == 0o751


def test_hard_links_outside_are_cut(workspace: Path) -> None:
    (workspace / "hard").hardlink_to(workspace.parent / "outside" / "secret.txt")
    write_text(workspace, "hard", "x\n")
    assert (workspace.parent / "outside" / "secret.txt").read_text() == SECRET


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "is a folder"),
        ("src", "'src' is a folder, not a file"),
        ("new/", "is a folder"),
        ("src/main.py/x", "goes through a file"),
        ("../outside/secret.txt", "leads outside the workspace"),
        ("leak.txt", "leads outside the workspace"),
        ("new_leak.txt", "leads outside the workspace"),
        ("out/new.txt", "leads outside the workspace"),
        ("/etc/passwd", "leads outside the workspace"),
        (".git/hooks/pre-commit", "lies in .git"),
        ("git_link/config", "lies in .git"),
        ("sub/.GIT/config", "lies in .git"),
        ("sub/.g\u200cit/config", "lies in .git"),
        (".git", "is a folder"),
        ("sub/.git", "lies in .git"),
        ("picture", "is a binary file"),
        ("loop", "loop of links"),
        ("a\0b", "a character that no path can have"),
        ("\ud800", "a character that no path can have"),
        ("x" * 5000, "too long"),
        ("a/" * 100 + "b", "more than 64 folders"),
    ],
)
def test_write_mistakes(workspace: Path, path: str, message: str) -> None:
    before = tree(workspace.parent)
    assert message in message_of(write_text, workspace, path, "x")
    assert message in message_of(edit_text, workspace, path, "", "x")
    assert tree(workspace.parent) == before
    assert (workspace.parent / "outside" / "secret.txt").read_text() == SECRET


@pytest.mark.parametrize(
    ("content", "message"),
    [("a\0", "NUL"), ("\ud800", "lone surrogate '\\ud800' at offset 0"), ("é" * MAX_BYTES, "10000000 bytes; at most")],
)
def test_content_mistakes(workspace: Path, content: str, message: str) -> None:
    assert message in message_of(write_text, workspace, "new.txt", content)
    assert message in message_of(edit_text, workspace, "new.txt", "", content)
    assert not (workspace / "new.txt").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in this file system")
def test_pipes_do_not_block(workspace: Path) -> None:
    os.mkfifo(workspace / "pipe")
    assert "is not a regular file" in message_of(write_text, workspace, "pipe", "x")
    assert "is not a regular file" in message_of(edit_text, workspace, "pipe", "x", "y")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everything")
def test_read_only(workspace: Path) -> None:
    (workspace / "src" / "main.py").chmod(0o444)
    assert "may not be written: permission denied" in message_of(write_text, workspace, "src/main.py", "x")
    (workspace / "src").chmod(0o555)
    assert "may not be written: permission denied" in message_of(write_text, workspace, "src/new.py", "x")
    (workspace / "src").chmod(0o755)


@pytest.mark.skipif(resource is None, reason="no limits of POSIX")
def test_a_write_that_fails_leaves_what_was_there(workspace: Path) -> None:
    assert resource is not None
    before, limits = tree(workspace), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        message = message_of(write_text, workspace, "src/main.py", "x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"'src/main.py' cannot be written: {os.strerror(errno.EFBIG)}" in message
    assert (workspace / "src" / "main.py").read_text() == "a = 1\nb = 2\nc = 3\n"
    assert tree(workspace) == before


def test_errors_of_the_system() -> None:
    known = [(errno.EROFS, "the file system is read-only"), (errno.ENOSPC, "the disk is full")]
    for code, message in [*known, (errno.EIO, os.strerror(errno.EIO))]:
        assert message in str(confine._unwritable("f", OSError(code, os.strerror(code))))


@pytest.mark.skipif(not confine._BY_COMPONENT, reason="this system opens whole paths only")
def test_link_put_in_place_after_the_check(workspace: Path) -> None:
    outside = workspace.parent / "outside"
    resolved = confine.resolve_target(workspace, "src/secret.txt")
    (workspace / "src").rename(workspace / "moved")
    (workspace / "src").symlink_to(outside)
    assert "link" in message_of(confine.replace_file, workspace, resolved, "src/secret.txt", b"x")
    resolved = confine.resolve_target(workspace, "moved/leaf")
    (workspace / "moved" / "leaf").symlink_to(outside / "secret.txt")
    message_of(confine.replace_file, workspace, resolved, "moved/leaf", b"x")
    assert tree(outside) == ["secret.txt"]
    assert (outside / "secret.txt").read_text() == SECRET


def test_no_descriptor_is_left(workspace: Path) -> None:
    def count() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir()) if Path("/proc/self/fd").exists() else 0

    before = count()
    for path in ("src/a/b/c.py", "src/main.py", "src/main.py/x", "out/x", ".git/x", "picture"):
        try:
            confine.replace_file(workspace, workspace / path, path, b"x\n")
        except ToolError:
            continue
    assert count() == before


@pytest.mark.parametrize(
    ("search", "replace", "answer"),
    [
        ("b = 2\n", "b = 3\nd = 4\n", "edited src/main.py: lines 2-3 in place of 1 line"),
        ("b = 2\nc = 3\n", "", "edited src/main.py: 2 lines removed at line 2"),
        ("2", "7", "edited src/main.py: line 2 in place of 1 line"),
    ],
)
def test_edit(workspace: Path, search: str, replace: str, answer: str) -> None:
    text = (workspace / "src" / "main.py").read_text()
    assert edit_text(workspace, "src/main.py", search, replace) == answer
    assert (workspace / "src" / "main.py").read_text() == text.replace(search, replace)


def test_edit_makes_files(workspace: Path) -> None:
    assert edit_text(workspace, "new/a.py", "", "x\n") == "wrote new/a.py (1 line)"
    assert "search is empty, but" in message_of(edit_text, workspace, "new/a.py", "", "y\n")
    assert "did you mean 'main.py'?" in message_of(edit_text, workspace, "src/mian.py", "a", "b")


def test_edit_mistakes(workspace: Path) -> None:
    (workspace / "latin").write_bytes("naïve".encode("latin-1"))
    assert "is not UTF-8 text" in message_of(edit_text, workspace, "latin", "a", "b")
    with (workspace / "giant").open("wb") as file:
        file.truncate(50 * 1024**3)
    assert "too large to edit" in message_of(edit_text, workspace, "giant", "a", "b")
    assert "2| b = 2" in message_of(edit_text, workspace, "src/main.py", "bb = 2\n", "x\n")


def test_edits_at_one_time_are_all_made(workspace: Path) -> None:
    (workspace / "f").write_text("".join(f"line {n};\n" for n in range(20)))
    work = [threading.Thread(target=edit_text, args=(workspace, "f", f"line {n};", f"done {n};")) for n in range(20)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert (workspace / "f").read_text() == "".join(f"done {n};\n" for n in range(20))


PARTS = ["..", ".", "src", "out", "leak.txt", "secret.txt", "outside", "workspace", "loop", ".git", "git_link", "x", ""]
PATHS = st.lists(st.sampled_from(PARTS) | st.text(max_size=3), max_size=6).map("/".join)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=PATHS, absolute=st.booleans())
def test_nothing_outside_is_written(workspace: Path, path: str, absolute: bool) -> None:
    with contextlib.suppress(ToolError):
        write_text(workspace, f"{workspace}/{path}" if absolute else path, "x")
    assert sorted(path.name for path in workspace.parent.iterdir()) == ["outside", "workspace"]
    assert (workspace.parent / "outside" / "secret.txt").read_text() == SECRET
    assert tree(workspace.parent / "outside") == ["secret.txt"]
    assert tree(workspace / ".git") == ["hooks"]


@pytest.mark.anyio
async def test_as_tools(workspace: Path) -> None:
    ctx = ToolContext(workspace)
    assert WRITE_FILE.permission == EDIT_FILE.permission == "write"
    result = await WRITE_FILE.invoke({"path": "a.txt", "content": "one\n"}, ctx)
    assert result.ok
    assert result.text == "wrote a.txt (1 line)"
    result = await EDIT_FILE.invoke({"path": "a.txt", "search": "one", "replace": "two"}, ctx)
    assert result.text == "edited a.txt: line 1 in place of 1 line"
    result = await EDIT_FILE.invoke({"path": "leak.txt", "search": "secret", "replace": "x"}, ctx)
    assert not result.ok
    assert SECRET not in result.text
