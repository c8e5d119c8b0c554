"""list_files and read_file: windows on files, and confinement to the workspace."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchai.errors import ToolError
from benchai.tools import ToolContext, builtin_tools
from benchai.tools.confine import open_file
from benchai.tools.files import MAX_BYTES, list_folder, read_lines

SECRET = "the secret outside"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with files, links in and out, and a secret beside it."""
    root = tmp_path / "workspace"
    (root / "src" / "deep").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "README.md").write_text("one\ntwo\nthree\n")
    (root / "src" / "main.py").write_text("print()\n")
    (root / ".git" / "HEAD").write_text("ref\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text(SECRET)
    (tmp_path / "workspace2").mkdir()
    (tmp_path / "workspace2" / "secret.txt").write_text(SECRET)
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "leak.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    (root / "src" / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")
    return root.resolve()


def message_of(call: object, *args: object) -> str:
    assert callable(call)
    with pytest.raises(ToolError) as raised:
        call(*args)
    assert len(str(raised.value)) < 600
    return f"{raised.value}; {raised.value.hint}"


def test_list(workspace: Path) -> None:
    expected = [".git/", "README.md", "leak.txt", "loop", "out", "src/"]
    assert list_folder(workspace).split("\n") == expected
    assert list_folder(workspace, "src") == "deep/\nmain.py\nup/"
    assert list_folder(workspace, str(workspace / "src")) == list_folder(workspace, "src/deep/..")
    assert list_folder(workspace, "src/deep") == "[the folder is empty]"


def test_list_many(workspace: Path) -> None:
    for number in range(502):
        (workspace / "src" / "deep" / f"f{number:03}").touch()
    lines = list_folder(workspace, "src/deep").split("\n")
    assert lines[0] == "f000"
    assert lines[499:] == ["f499", "[500 of 502 entries]"]


def test_odd_names_stay_on_one_line(workspace: Path) -> None:
    folder = workspace / "src" / "deep"
    (folder / "two\nlines").touch()
    try:
        (folder / os.fsdecode(b"\xff")).touch()
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    text = list_folder(workspace, "src/deep")
    assert text.split("\n") == ["two\\nlines", "\\udcff"]
    text.encode()


@pytest.mark.parametrize(
    ("offset", "limit", "text"),
    [
        (1, 200, "one\ntwo\nthree"),
        (0, 200, "one\ntwo\nthree"),
        (1, 2, "one\ntwo\n[lines 1-2 of 3; go on with offset=3]"),
        (2, 1, "two\n[lines 2-2 of 3; go on with offset=3]"),
        (3, 1, "three"),
    ],
)
@pytest.mark.parametrize("content", ["one\ntwo\nthree\n", "one\ntwo\nthree", "one\r\ntwo\r\nthree\r\n"])
def test_read_window(workspace: Path, content: str, offset: int, limit: int, text: str) -> None:
    (workspace / "f").write_bytes(content.encode())
    assert read_lines(workspace, "f", offset, limit) == text


def test_read_default_window(workspace: Path) -> None:
    (workspace / "f").write_text("".join(f"{n}\n" for n in range(1, 951)))
    lines = read_lines(workspace, "f").split("\n")
    assert lines[199:] == ["200", "[lines 1-200 of 950; go on with offset=201]"]
    assert read_lines(workspace, "f", 950) == "950"
    message = message_of(read_lines, workspace, "f", 951)
    assert "line 951 is beyond the end: 'f' has 950 lines" in message
    assert "950 lines" in message_of(read_lines, workspace, "f", 5000)


def test_read_is_capped_in_bytes(workspace: Path) -> None:
    (workspace / "f").write_text(("x" * 999 + "\n") * 100)
    text = read_lines(workspace, "f")
    assert text.endswith("[lines 1-32 of 100; go on with offset=33]")
    assert len(text) < MAX_BYTES + 100


def test_read_long_line(workspace: Path) -> None:
    (workspace / "f").write_text("short\n" + "é" * 600_000 + "\nend\n")
    assert read_lines(workspace, "f") == "short\n[lines 1-1 of 3; go on with offset=2]"
    text = read_lines(workspace, "f", 2)
    assert text.startswith("éé")
    assert f"\n[line 2 cut: {MAX_BYTES} of 1200000 bytes]\n[lines 2-2 of 3; go on" in text
    (workspace / "g").write_text("a" + "é" * MAX_BYTES)
    assert read_lines(workspace, "g").endswith(f"é\n[line 1 cut: {MAX_BYTES} of {2 * MAX_BYTES + 1} bytes]")
    (workspace / "h").write_text("x" * MAX_BYTES + "\n")
    assert read_lines(workspace, "h") == "x" * MAX_BYTES


def test_read_sparse_giant_is_refused_at_once(workspace: Path) -> None:
    with (workspace / "giant").open("wb") as file:
        file.truncate(50 * 1024**3)
    assert "binary" in message_of(read_lines, workspace, "giant")


def test_lines_after_the_bound_are_more(workspace: Path) -> None:
    with (workspace / "big").open("wb") as file:
        file.write(b"first\n")
        file.write(b"\n" * MAX_BYTES)
        file.truncate(20 * 1024**2)
    assert read_lines(workspace, "big", 1, 1) == "first\n[lines 1-1 of more; go on with offset=2]"


@pytest.mark.parametrize(
    ("content", "text"), [(b"", "[the file is empty]"), (b"\n", "[an empty line]"), (b"\xef\xbb\xbfa", "a")]
)
def test_read_edges(workspace: Path, content: bytes, text: str) -> None:
    (workspace / "f").write_bytes(content)
    assert read_lines(workspace, "f") == text


@pytest.mark.parametrize("content", [b"\x89PNG\0\0", "text".encode("utf-16")])
def test_binary(workspace: Path, content: bytes) -> None:
    (workspace / "f").write_bytes(content)
    assert "'f' is a binary file" in message_of(read_lines, workspace, "f")


def test_not_utf8(workspace: Path) -> None:
    (workspace / "f").write_bytes("naïve".encode("latin-1"))
    assert "'f' is not UTF-8 text" in message_of(read_lines, workspace, "f")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("READNE.md", "'READNE.md' is not there: '.' has no 'READNE.md'; did you mean 'README.md'?"),
        ("src/mian.py", "'src' has no 'mian.py'; did you mean 'main.py'?"),
        ("scr/main.py", "'.' has no 'scr'; did you mean 'src'?"),
        ("zzzz", "list_files shows what '.' holds"),
        ("src", "'src' is a folder, not a file; list_files lists it"),
        ("README.md/x", "goes through a file"),
        ("../outside/secret.txt", "leads outside the workspace"),
        ("../workspace2/secret.txt", "leads outside the workspace"),
        ("leak.txt", "leads outside the workspace"),
        ("out/secret.txt", "leads outside the workspace"),
        ("src/up/src/up/../outside/secret.txt", "leads outside the workspace"),
        ("/etc/passwd", "leads outside the workspace"),
        ("out/nothing", "leads outside the workspace"),
        ("loop", "loop of links"),
        ("a\0b", "a character that no path can have"),
        ("\ud800", "a character that no path can have"),
        ("x" * 5000, "too long"),
    ],
)
def test_read_mistakes(workspace: Path, path: str, message: str) -> None:
    assert message in message_of(read_lines, workspace, path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("README.md", "'README.md' is a file, not a folder; read_file reads it"),
        ("..", "leads outside"),
        ("out", "leads outside"),
        ("sr", "did you mean 'src'?"),
    ],
)
def test_list_mistakes(workspace: Path, path: str, message: str) -> None:
    assert message in message_of(list_folder, workspace, path)


@pytest.mark.parametrize(("offset", "limit"), [(-1, 5), (1, 0)])
def test_bad_window(workspace: Path, offset: int, limit: int) -> None:
    assert "must be 1 or more" in message_of(read_lines, workspace, "README.md", offset, limit)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in this file system")
def test_pipes_and_sockets_do_not_block(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(workspace / "pipe")
    assert "is not a regular file" in message_of(read_lines, workspace, "pipe")
    # Paths of sockets are limited to about 100 characters
    monkeypatch.chdir(workspace)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert "is not a regular file" in message_of(read_lines, workspace, "socket")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_not_readable(workspace: Path) -> None:
    (workspace / "README.md").chmod(0)
    assert "permission denied" in message_of(read_lines, workspace, "README.md")


def test_link_put_in_place_after_the_check(workspace: Path) -> None:
    resolved = workspace / "src" / "main.py"
    (workspace / "src").rename(workspace / "moved")
    (workspace.parent / "outside" / "main.py").write_text(SECRET)
    (workspace / "src").symlink_to(workspace.parent / "outside")
    with pytest.raises(ToolError), open_file(workspace, resolved, "src/main.py"):
        pass


PARTS = ["..", ".", "src", "deep", "up", "out", "leak.txt", "secret.txt", "outside", "workspace", "loop", ""]
PATHS = st.lists(st.sampled_from(PARTS) | st.text(max_size=3), max_size=8).map("/".join)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=PATHS, absolute=st.booleans())
def test_nothing_outside_is_read(workspace: Path, path: str, absolute: bool) -> None:
    path = f"{workspace}/{path}" if absolute else path
    for call in (read_lines, list_folder):
        try:
            text = call(workspace, path)
        except ToolError as error:
            text = str(error)
            assert str(workspace.parent / "outside") not in text.replace(path, "")
        assert SECRET not in text
        assert "secret.txt" not in text.replace(repr(path), "").split("\n")


@pytest.mark.anyio
async def test_as_tools(workspace: Path) -> None:
    tools, ctx = builtin_tools(), ToolContext(workspace)
    assert (await tools.invoke("list_files", "", ctx)).text == list_folder(workspace)
    result = await tools.invoke("read_file", {"path": "README.md", "offset": 2, "limit": 1}, ctx)
    assert result.ok
    assert result.text == "two\n[lines 2-2 of 3; go on with offset=3]"
    result = await tools.invoke("read_file", {"path": "leak.txt"}, ctx)
    assert not result.ok
    assert SECRET not in result.text
