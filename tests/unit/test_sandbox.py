"""Sandboxes without running anything: limits, what may be read, arguments, and what a model is told."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from benchai.errors import ToolError
from benchai.tools.run_code import MAX_CHARS, PYTHON, SHELL, report
from benchai.tools.sandbox import Limits, Ran, access, bwrap, find_sandbox, landlock, syscalls
from benchai.tools.sandbox.base import EndedBy
from benchai.tools.sandbox.launch import Kept
from benchai.tools.tool import Tool, ToolContext


def ran(stdout: str = "", stderr: str = "", code: int | None = 0, ended_by: EndedBy = "exit") -> Ran:
    return Ran(code, stdout, stderr, 0.1, ended_by)


@pytest.mark.parametrize("name", list(vars(Limits())))
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})


def test_what_fits_is_kept_whole() -> None:
    kept = Kept(10)
    for chunk in (b"abc", b"defg", b"hij"):
        kept.add(chunk)
    assert (kept.text(), kept.truncated) == ("abcdefghij", False)


def test_a_flood_keeps_its_ends_and_no_more_memory() -> None:
    kept = Kept(10)
    for number in range(1000):
        kept.add(b"%03d." % number)
    assert kept.text() == "000.0\n[... 3990 bytes left out ...]\n.999."
    assert len(kept._head) + len(kept._tail) == 10


def test_one_large_chunk_is_cut_as_well() -> None:
    kept = Kept(5)
    kept.add(b"abcdefghij")
    assert kept.text() == "abc\n[... 5 bytes left out ...]\nij"


def test_bytes_that_are_no_text_are_replaced() -> None:
    kept = Kept(10)
    kept.add(b"a\xff\xfeb")
    assert kept.text() == "a\ufffd\ufffdb"


def test_nothing_is_inherited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    env = access.clean_environment(tmp_path, {"MORE": "1"})
    assert "secret" not in env.values()
    assert (env["HOME"], env["TMPDIR"], env["MORE"]) == (str(tmp_path), str(tmp_path), "1")


def test_home_and_etc_are_not_readable_as_a_whole() -> None:
    readable = {Path(path) for path in (*access.system_paths(), *access.python_paths())}
    home = Path.home()
    assert not {path for path in readable if home.is_relative_to(path) or Path("/etc").is_relative_to(path)}
    assert Path("/usr") in readable
    assert any(Path(importlib.util.__file__).is_relative_to(path) for path in readable)


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_a_workspace_that_holds_home_is_refused(tmp_path: Path, levels: int) -> None:
    home = tmp_path / "a" / "home"
    home.mkdir(parents=True)
    with pytest.raises(ToolError, match="holds your home folder"):
        access.require_workspace([home, *home.parents][levels], home)


def test_a_workspace_in_home_is_fine_even_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "home" / "project").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "home" / "project")
    assert access.require_workspace(tmp_path / "link", tmp_path / "home") == tmp_path / "home" / "project"


def test_a_link_to_home_is_refused_as_a_workspace(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "home")
    with pytest.raises(ToolError, match="home folder"):
        access.require_workspace(tmp_path / "link", tmp_path / "home")


def test_a_workspace_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="not a folder"):
        access.require_workspace(tmp_path / "nowhere")


def mounts(words: list[str], option: str) -> list[tuple[str, str]]:
    return [(words[at + 1], words[at + 2]) for at, word in enumerate(words) if word == option]


def test_bwrap_shares_no_namespace_and_mounts_the_workspace_last(tmp_path: Path) -> None:
    words = bwrap.arguments(tmp_path / "ws", tmp_path / "temp")
    assert {"--unshare-all", "--die-with-parent", "--new-session"} <= set(words)
    assert "--share-net" not in words
    assert mounts(words, "--bind") == [(str(tmp_path / "temp"), "/tmp"), (str(tmp_path / "ws"), str(tmp_path / "ws"))]
    assert words[-2:] == ["--chdir", str(tmp_path / "ws")]
    # What is mounted later hides what was mounted below it before
    assert max(at for at, word in enumerate(words) if word == "--ro-bind") < words.index(str(tmp_path / "ws"))
    assert words.index("/tmp") < words.index("--ro-bind")


def test_bwrap_mounts_a_workspace_for_reading_alone(tmp_path: Path) -> None:
    words = bwrap.arguments(tmp_path / "ws", tmp_path / "temp", writable=False)
    assert mounts(words, "--bind") == [(str(tmp_path / "temp"), "/tmp")]
    assert (str(tmp_path / "ws"), str(tmp_path / "ws")) in mounts(words, "--ro-bind")


@pytest.mark.parametrize("writable", [True, False])
def test_landlock_lets_write_the_workspace_only_if_asked(tmp_path: Path, writable: bool) -> None:
    workspace, temp = tmp_path / "ws", tmp_path / "temp"
    rules = landlock.policy(workspace, temp, Limits(), writable, {})
    assert set(rules["fs_writable"]) == {str(temp), "/dev/null"} | ({str(workspace)} if writable else set())
    assert str(workspace) in rules["fs_readable"]
    assert not {"net_allow", "net_deny", "net_allow_bind"} & set(rules)


def test_registers_are_read_as_c_ints() -> None:
    assert [syscalls.number(value) for value in (7, 2**32 - 100, 2**64 - 100)] == [7, -100, -100]


def test_without_any_sandbox_each_reason_and_the_mend_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find_sandbox.cache_clear()
    monkeypatch.setitem(sys.modules, "sandlock", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError) as caught:
        find_sandbox()
    assert "landlock: the package sandlock is not installed; bwrap: the program bwrap is not" in caught.value.message
    assert "install bubblewrap" in (caught.value.hint or "")


def test_there_is_no_sandbox_but_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    find_sandbox.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ToolError, match="none for 'darwin'"):
        find_sandbox()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (ran(), "(no output)"),
        (ran("\n \n"), "(no output)"),
        (ran("out\n", "err\n"), "out\nerr"),
        (ran("out\n", code=3), "out\nexit code 3"),
        (ran(code=1), "(no output)\nexit code 1"),
        (ran("part", code=None, ended_by="wall"), "part\nended after 60 s (limit)"),
        (ran(code=None, ended_by="memory"), "(no output)\nended with more than 1024 MiB of memory (limit)"),
        (ran(code=None, ended_by="signal"), "(no output)\nended by a signal"),
        (ran("\x1b[31mred\x1b[0m \x1b]0;title\x07x\x00\x08y\n"), "red xy"),
        (ran("10%\r50%\r100%\nnext\r\nlast\r"), "100%\nnext\nlast"),
        (ran("a\u202eb\tc"), "ab\tc"),
    ],
)
def test_a_model_is_told_what_came_out(given: Ran, told: str) -> None:
    assert report(given, Limits()) == told


def test_a_model_is_shown_both_ends_of_much_output() -> None:
    text = report(ran("a" * MAX_CHARS + "b" * 10, "error at the end", code=1), Limits())
    assert text.startswith("aaa")
    assert text.endswith("error at the end\nexit code 1")
    assert "[... 27 characters left out ...]" in text
    assert len(text) < MAX_CHARS + 100


@pytest.mark.parametrize(("tool", "name"), [(SHELL, "command"), (PYTHON, "code")])
@pytest.mark.anyio
async def test_a_timeout_that_is_too_long_is_a_mistake(tool: Tool, name: str, tmp_path: Path) -> None:
    result = await tool.invoke({name: "x", "timeout": 601}, ToolContext(tmp_path))
    assert not result.ok
    assert "timeout" in result.text


def test_both_tools_need_the_permission_to_execute() -> None:
    assert {SHELL.permission, PYTHON.permission} == {"execute"}
