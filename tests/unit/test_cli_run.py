"""What ``benchai run`` takes: task, roles, workspace, limits."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from benchai.cli.app import main
from benchai.cli.run import parse_roles, read_task
from benchai.errors import UsageError
from benchai.graphs.checks import MAX_TASK_BYTES, check_task, check_thread_id, check_workspace


class Stdin(io.TextIOWrapper):
    """Standard input with given bytes, a terminal or not."""

    def __init__(self, data: bytes, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def test_roles() -> None:
    assert parse_roles([]) == {}
    assert parse_roles(["general=tiny", "code=a-b"]) == {"general": "tiny", "code": "a-b"}
    assert parse_roles(["code=a=b"]) == {"code": "a=b"}


@pytest.mark.parametrize("pair", ["general", "general=", "=tiny", "=", ""])
def test_no_roles(pair: str) -> None:
    with pytest.raises(UsageError, match="is not of the form ROLE=MODEL") as raised:
        parse_roles(["code=tiny", pair])
    assert repr(pair) in raised.value.message
    assert raised.value.hint


def test_a_task_from_the_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(b"from stdin", terminal=True))
    assert read_task("Grüße, 你好") == "Grüße, 你好"
    assert read_task("") == ""


@pytest.mark.parametrize("task", [None, "-"])
def test_a_task_from_stdin(monkeypatch: pytest.MonkeyPatch, task: str | None) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin("Grüße\nzwei".encode()))
    assert read_task(task) == "Grüße\nzwei"


def test_no_task_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(b"", terminal=True))
    with pytest.raises(UsageError, match="the task is missing") as raised:
        read_task(None)
    assert "benchai run" in str(raised.value.hint)


def test_no_stdin_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """``benchai run react <&-``: Python leaves ``sys.stdin`` None."""
    monkeypatch.setattr(sys, "stdin", None)
    for task in (None, "-"):
        with pytest.raises(UsageError):
            read_task(task)


@pytest.mark.parametrize(
    ("data", "part"), [(b"abc\xff", "byte 0xff at offset 3"), ("a".encode("utf-16"), "byte 0xff at offset 0")]
)
def test_stdin_that_is_no_text(monkeypatch: pytest.MonkeyPatch, data: bytes, part: str) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(data))
    with pytest.raises(UsageError, match=f"stdin is not UTF-8: {part}"):
        read_task(None)


def test_an_argument_that_is_no_text() -> None:
    """An undecodable byte of the command line arrives as a lone surrogate."""
    with pytest.raises(UsageError, match="the task is not UTF-8 at character 3"):
        read_task("abc\udcff")


@pytest.mark.parametrize("task", ["", " ", "\n\t ", "\u2003"])
def test_an_empty_task(task: str) -> None:
    with pytest.raises(UsageError, match="the task is empty") as raised:
        check_task(task)
    assert raised.value.exit_code == 2


def test_the_size_of_a_task_counts_in_bytes() -> None:
    check_task("x" * MAX_TASK_BYTES)
    check_task("ä" * (MAX_TASK_BYTES // 2))
    for task in ("x" * (MAX_TASK_BYTES + 1), "ä" * (MAX_TASK_BYTES // 2 + 1)):
        with pytest.raises(UsageError, match="at most 1,048,576 are taken") as raised:
            check_task(task)
        assert len(raised.value.message) < 200


def test_a_task_of_the_library_that_is_no_text() -> None:
    with pytest.raises(UsageError):
        check_task("abc\udcff")


@pytest.mark.parametrize("thread_id", ["", "a\nb", "a\0", "x" * 201, "\udcff", "\u202e"])
def test_thread_ids_that_could_not_be_typed_again(thread_id: str) -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        check_thread_id(thread_id)


@pytest.mark.parametrize("thread_id", [None, "a", "x" * 200, "notes 1/2", "größe"])
def test_thread_ids(thread_id: str | None) -> None:
    check_thread_id(thread_id)


def test_a_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert check_workspace(Path()) == check_workspace(tmp_path / "link") == tmp_path.resolve()


@pytest.mark.parametrize(
    ("name", "part"),
    [("no", "is not there"), ("file", "is no folder"), ("file/x", "is not there"), ("x" * 300, "x"), ("a\0b", "a")],
)
def test_no_workspace(tmp_path: Path, name: str, part: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=part) as raised:
        check_workspace(tmp_path / name)
    assert raised.value.hint


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--timeout", "nan"], "timeout"),
        (["--timeout", "0"], "timeout"),
        (["--timeout", "-1"], "timeout"),
        (["--max-steps", "0"], "max-steps"),
        (["--max-tokens", "0"], "max-tokens"),
        (["--max-steps", "1.5"], "max-steps"),
        (["--role", "general"], "ROLE=MODEL"),
        (["--role", "general=big"], "there is no model 'big'"),
        (["--workspace", "no-such-folder"], "is not there"),
        (["--config", "no.yaml"], "no.yaml"),
    ],
)
def test_options_that_are_refused_before_any_model_starts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    part: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    # the empty task is refused last of all: none of these may get so far
    monkeypatch.setattr(sys, "argv", ["benchai", "run", "react", "", *options])
    with pytest.raises(SystemExit) as raised:
        main()
    captured = capsys.readouterr()
    assert raised.value.code == 2
    assert captured.out == ""
    assert part in captured.err


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["reactt", "x"], "did you mean 'react'?"),
        (["react", " "], "the task is empty"),
        (["react", "\udcff"], "UTF-8"),
        (["react", "x", "--thread", ""], "cannot be used"),
        (["react", "x", "--thread", "a\nb"], "cannot be used"),
        (["react", "x", "--thread", "\udcff"], "cannot be used"),
    ],
)
def test_runs_that_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str], part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchai", "run", *args])
    with pytest.raises(SystemExit) as raised:
        main()
    captured = capsys.readouterr()
    assert (raised.value.code, captured.out) == (2, "")
    assert part in captured.err
    assert "Traceback" not in captured.err
