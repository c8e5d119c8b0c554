"""The workflow planner-coder-reviewer on a scripted model, with real tests in the sandbox and a real git."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from benchai.agents.prompts import prompt
from benchai.bench import Bench
from benchai.errors import BenchAIError, ToolError, UsageError
from benchai.events import Event, Notice, Observation, Repair, Result
from benchai.graphs.coding.branch import make_branch
from benchai.graphs.coding.testing import run_tests
from benchai.graphs.guards import Budget
from benchai.testing import Reply, ScriptedServer, chosen, contents, text
from benchai.tools.sandbox import find_sandbox, landlock
from tests.integration.helpers import loaded

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux" or landlock.why_not() is not None, reason="no sandbox here"),
]

PLAN = json.dumps({"goal": "Add numbers", "steps": ["Write add", "Run the tests"]})
RIGHT = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a - b\n"
TESTS = "assert add(1, 2) == 3\nassert add(0, 0) == 0\n"
FAILURE = "assert add(1, 2) == 3\nAssertionError: got -1"


def fence(code: str, path: str = "") -> str:
    return f"{path}\n```python\n{code}```"


class Team:
    """Planner, coder and reviewer, each with its own replies, the last one for all further requests."""

    def __init__(self, *coder: str, reviewer: Sequence[str] = ("APPROVED",), plan: Sequence[str] = (PLAN,)) -> None:
        self.replies = {"planner": list(plan), "coder": list(coder), "reviewer": list(reviewer)}
        self.asked: dict[str, list[str]] = {name: [] for name in self.replies}

    def reply(self, request: dict[str, Any]) -> Reply:
        name = next(name for name in self.replies if contents(request, "system")[0] == prompt(name))
        self.asked[name].append(contents(request, "user")[-1])
        replies = self.replies[name]
        return text(replies[min(len(self.asked[name]), len(replies)) - 1])


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "ws"
    folder.mkdir()
    (folder / "test_add.py").write_text(TESTS, encoding="utf-8")
    return folder


@asynccontextmanager
async def opened(team: Team, tmp_path: Path, workspace: Path) -> AsyncIterator[Bench]:
    with ScriptedServer(chosen(team.reply)) as server:
        models = {"far": server.model()}
        config = loaded(tmp_path, {"models": models, "roles": dict.fromkeys(("general", "planner", "code"), "far")})
        async with Bench.open(config, workspace=workspace) as bench:
            yield bench


async def run_on(
    bench: Bench, task: str = "Write add(a, b).", **settings: Any
) -> tuple[Result, list[Event], BenchAIError | None]:
    events: list[Event] = []
    options = {
        name: settings.pop(name) for name in ("thread_id", "budget", "approver", "approve_plan") if name in settings
    }
    try:
        async for event in bench.stream("planner-coder-reviewer", task, inputs=settings, **options):
            events.append(event)
    except BenchAIError as error:
        last = events[-1]
        assert isinstance(last, Result)
        return last, events, error
    last = events[-1]
    assert isinstance(last, Result)
    return last, events, None


async def code(
    team: Team, tmp_path: Path, workspace: Path, task: str = "Write add(a, b).", **settings: Any
) -> tuple[Result, list[Event], BenchAIError | None]:
    async with opened(team, tmp_path, workspace) as bench:
        return await run_on(bench, task, **settings)


def git(folder: Path, *arguments: str, stdin: str | None = None) -> str:
    names = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    done = subprocess.run(
        ["git", *names, *arguments], cwd=folder, input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip("\n")


def repository(folder: Path) -> None:
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def notices(events: Sequence[Event]) -> str:
    return "\n".join(event.text for event in events if isinstance(event, Notice))


async def test_the_failing_tests_message_reaches_the_coder(tmp_path: Path, workspace: Path) -> None:
    team = Team(fence(WRONG), fence(RIGHT))
    before = snapshot(workspace)
    result, events, error = await code(team, tmp_path, workspace, tests=["test_add.py"])
    assert error is None
    assert (result.stop_reason, result.steps) == ("completed", 4)
    assert f"Failing test:\n```\n{FAILURE}\n```" in team.asked["coder"][1]
    assert f"Tests:\n```python\n{TESTS}```" in team.asked["coder"][0]
    assert team.asked["reviewer"] == [f"Task: Write add(a, b).\n\nCode:\n```python\n{RIGHT}```"]
    assert [event.ok for event in events if isinstance(event, Observation)] == [False, True]
    assert snapshot(workspace) == before
    git(workspace, "apply", stdin=result.output)
    assert snapshot(workspace) == before | {"solution.py": RIGHT.encode()}


async def test_tests_are_written_first_and_frozen(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("empty")
    (folder / "test_solution.py").write_text("assert False\n", encoding="utf-8")
    change = fence("assert True\n", "test_solution_2.py")
    team = Team(fence("x = 1\n"), fence(TESTS), change, fence(RIGHT))
    result, events, _ = await code(team, tmp_path, folder)
    assert result.stop_reason == "completed"
    assert "the tests assert nothing" in team.asked["coder"][1]
    assert [event.rung for event in events if isinstance(event, Repair)] == ["tests", "edit"]
    assert "test_solution_2.py holds the tests, which may not be changed" in team.asked["coder"][3]
    git(folder, "apply", stdin=result.output)
    assert snapshot(folder) == {
        "solution.py": RIGHT.encode(), "test_solution_2.py": TESTS.encode(), "test_solution.py": b"assert False\n"
    }  # fmt: skip


async def test_tests_that_can_not_be_used_twice_end_the_run(tmp_path: Path, tmp_path_factory: Any) -> None:
    _, _, error = await code(Team("I cannot."), tmp_path, tmp_path_factory.mktemp("empty"))
    assert isinstance(error, ToolError)
    assert "holds no code" in error.message


async def test_an_edit_that_does_not_match_is_mended_in_the_next_round(tmp_path: Path, workspace: Path) -> None:
    (workspace / "solution.py").write_text("# numbers\n" + WRONG, encoding="utf-8")
    block = "solution.py\n<<<<<<< SEARCH\n    return {}\n=======\n    return a + b\n>>>>>>> REPLACE\n"
    team = Team(block.format("a * b"), block.format("a - b"))
    result, _, _ = await code(team, tmp_path, workspace, "Mend solution.py.", tests=["test_add.py"])
    assert result.stop_reason == "completed"
    assert "Files:\nsolution.py\n```python\n# numbers" in team.asked["coder"][0]
    assert "nearest to it:\n3|     return a - b" in team.asked["coder"][1]
    assert "copy the lines exactly" in team.asked["coder"][1]
    git(workspace, "apply", stdin=result.output)
    assert (workspace / "solution.py").read_text(encoding="utf-8") == "# numbers\n" + RIGHT


async def test_the_same_failure_twice_ends_the_run(tmp_path: Path, workspace: Path) -> None:
    result, events, error = await code(Team(fence(WRONG)), tmp_path, workspace, tests=["test_add.py"])
    assert error is None
    assert (result.stop_reason, result.steps) == ("loop", 3)
    assert "the same failure 2 times; the tests fail: assert add(1, 2) == 3" in notices(events)
    assert "return a - b" in result.output


async def test_a_command_that_tells_its_time_fails_alike(tmp_path: Path, workspace: Path) -> None:
    command = 'echo "1 failed in 0.$(od -An -N2 -i /dev/urandom | tr -d " ")s at $PWD/x.py"; exit 1'
    result, events, _ = await code(Team(fence(WRONG)), tmp_path, workspace, command=command)
    assert result.stop_reason == "loop"
    told = [event.text for event in events if isinstance(event, Observation)]
    assert len(set(told)) == 2
    assert str(tmp_path) not in told[0]


@pytest.mark.parametrize("fixes", [0, 2])
async def test_the_number_of_fixes_is_limited(tmp_path: Path, workspace: Path, fixes: int) -> None:
    team = Team(*(fence(f"def add(a, b):\n    return {n}\n") for n in range(10, 20)))
    result, events, error = await code(team, tmp_path, workspace, tests=["test_add.py"], fixes=fixes)
    assert error is None
    assert (result.stop_reason, len(team.asked["coder"])) == ("budget_steps", fixes + 1)
    assert f"not done after {fixes} fixes (fixes); the tests fail: assert add(1, 2) == 3" in notices(events)


async def test_a_run_out_of_steps_gives_what_there_is(tmp_path: Path, workspace: Path) -> None:
    budget = Budget(2, 100_000, 60)
    result, _, error = await code(Team(fence(WRONG)), tmp_path, workspace, tests=["test_add.py"], budget=budget)
    assert error is None
    assert result.stop_reason == "budget_steps"
    assert WRONG.strip() in result.output


async def test_a_review_sends_the_code_back(tmp_path: Path, workspace: Path) -> None:
    other = "def add(a, b):\n    return sum((a, b))\n"
    team = Team(
        fence(other), fence(RIGHT), reviewer=["Body: no.\nREJECTED: The body must be return a + b.", "APPROVED"]
    )
    result, _, _ = await code(team, tmp_path, workspace, tests=["test_add.py"])
    assert result.stop_reason == "completed"
    assert team.asked["coder"][1].endswith("Review:\nREJECTED: The body must be return a + b.")
    assert "+    return a + b" in result.output


async def test_code_that_passed_is_kept_when_a_later_fix_breaks_it(tmp_path: Path, workspace: Path) -> None:
    team = Team(fence(RIGHT), fence(WRONG), reviewer=["REJECTED: Say it in other words."])
    result, events, _ = await code(team, tmp_path, workspace, tests=["test_add.py"], fixes=1)
    assert result.stop_reason == "budget_steps"
    assert "+    return a + b" in result.output
    assert "the answer is the last code that passed its tests" in notices(events)


async def test_a_thread_goes_on_with_a_second_task(tmp_path: Path, workspace: Path) -> None:
    team = Team(fence(WRONG), fence(RIGHT), fence("def sub(a, b):\n    return a - b\n", "sub.py"))
    (workspace / "test_sub.py").write_text("from sub import sub\nassert sub(3, 1) == 2\n", encoding="utf-8")
    async with opened(team, tmp_path, workspace) as bench:
        first, _, _ = await run_on(bench, tests=["test_add.py"], thread_id="one")
        second, _, _ = await run_on(bench, "Write sub(a, b).", tests=["test_sub.py"], file="sub.py", thread_id="one")
    assert [first.stop_reason, second.stop_reason] == ["completed", "completed"]
    assert "solution.py" in first.output
    assert "solution.py" not in second.output
    assert "Write sub(a, b).\n\nSaid before:\nuser: Write add(a, b)." in team.asked["planner"][1]


async def test_code_that_ends_the_program_has_not_passed(tmp_path: Path, workspace: Path) -> None:
    team = Team(fence("import os\nos._exit(0)\n"), fence(RIGHT))
    result, _, _ = await code(team, tmp_path, workspace, tests=["test_add.py"])
    assert result.stop_reason == "completed"
    assert "the tests ended early" in team.asked["coder"][1]


async def test_the_sandbox_holds_and_paths_are_short(tmp_path: Path, workspace: Path) -> None:
    outside = tmp_path / "outside.txt"
    source = f"open({str(outside)!r}, 'w')\n"
    outcome = await run_tests(workspace, {"solution.py": source}, "solution.py", ["test_add.py"], None)
    assert not outcome.passed
    assert "PermissionError" in outcome.message
    assert not outside.exists()
    broken = await run_tests(
        workspace, {"pkg/__init__.py": "x = (\n", "pkg/a.py": ""}, "pkg/a.py", ["test_add.py"], None
    )
    assert 'File "pkg/__init__.py", line 1' in broken.message


async def test_a_command_runs_the_tests_of_any_language(tmp_path: Path, workspace: Path) -> None:
    team = Team("```sh\necho 4\n```", "```sh\necho 3\n```")
    command = 'test "$(sh add.sh)" = 3 || { echo "add.sh must print 3"; exit 1; }'
    result, _, error = await code(team, tmp_path, workspace, file="add.sh", command=command)
    assert error is None
    assert result.stop_reason == "completed"
    assert "add.sh must print 3" in team.asked["coder"][1]
    assert "echo 3" in result.output


Change = tuple[str, bytes | None, str, bytes]
CHANGES: list[Change] = [
    ("new.py", None, "x = 1\n", b"x = 1\n"),
    ("src/deep/new.py", None, "x = 1\n", b"x = 1\n"),
    ("a b/my file.py", None, "x = 1\n", b"x = 1\n"),
    ("my file.py", b"x = 1\n", "x = 2\n", b"x = 2\n"),
    ("größe.py", b"x = 1\n", "x = 2\n", b"x = 2\n"),
    ("old.py", b"a\nb\nc\nd\ne\nf\ng\nh\n", "a\nb\nc\nd\nE\nf\ng\nh\n", b"a\nb\nc\nd\nE\nf\ng\nh\n"),
    ("no_end.py", b"a\nb", "a\nc\n", b"a\nc\n"),
    ("dos.py", b"a\r\nb\r\n", "a\nc\n", b"a\r\nc\r\n"),
    ("blank.py", b"a\nb\n\n", "c\nb\n\n", b"c\nb\n\n"),
    ("blanks.py", b"a\nb\n\n\n\nz\n", "c\nb\n\n\n\nz\n", b"c\nb\n\n\n\nz\n"),
    ("feed.py", b"a\x0cb\nc\n", "a\x0cb\nd\n", b"a\x0cb\nd\n"),
    ("same.py", b"a\n", "a\n", b"a\n"),
]


async def test_git_applies_the_diff(tmp_path: Path, workspace: Path) -> None:
    for path, old, _, _ in CHANGES:
        (workspace / path).parent.mkdir(parents=True, exist_ok=True)
        if old is not None:
            (workspace / path).write_bytes(old)
    repository(workspace)
    replies = "\n".join(f"`./{path}`\n```python\n{new}```" for path, _, new, _ in CHANGES)
    result, _, error = await code(Team(replies), tmp_path, workspace, command="true")
    assert error is None
    for check in (["apply", "--check"], ["apply", "--index"]):
        git(workspace, *check, stdin=result.output)
    for path, _, _, new in CHANGES:
        assert (workspace / path).read_bytes() == new, path


async def test_the_end_of_a_diff_that_is_blank_is_kept(tmp_path: Path, workspace: Path) -> None:
    (workspace / "blank.py").write_bytes(b"a\nb\n\n")
    result, _, _ = await code(Team(fence("c\nb\n\n", "blank.py")), tmp_path, workspace, command="true")
    assert result.output.endswith("\n b\n \n")
    git(workspace, "apply", stdin=result.output)


async def test_an_edit_keeps_the_line_ends(tmp_path: Path, workspace: Path) -> None:
    (workspace / "dos.py").write_bytes(b"a = 1\r\nb = 2\r\n\r\nc")
    block = "dos.py\n<<<<<<< SEARCH\nb = 2\n=======\nb = 3\n>>>>>>> REPLACE\n"
    result, _, _ = await code(Team(block), tmp_path, workspace, "Mend dos.py", command="true")
    git(workspace, "apply", stdin=result.output)
    assert (workspace / "dos.py").read_bytes() == b"a = 1\r\nb = 3\r\n\r\nc"


async def test_a_branch_of_one_commit(tmp_path: Path, workspace: Path) -> None:
    (workspace / "run.sh").write_text("echo 1\n", encoding="utf-8")
    (workspace / "run.sh").chmod(0o755)
    (workspace / "notes.txt").write_text("first\n", encoding="utf-8")
    repository(workspace)
    (workspace / "notes.txt").write_text("second\n", encoding="utf-8")
    (workspace / "staged.txt").write_text("staged\n", encoding="utf-8")
    git(workspace, "add", "staged.txt")
    files, status = snapshot(workspace), git(workspace, "status", "--porcelain")
    index = (workspace / ".git" / "index").read_bytes()
    replies = [f"{fence(RIGHT, 'solution.py')}\nrun.sh\n```sh\necho 2\n```\n`src/x y.py`\n```python\nx = 1\n```"]
    replies[0] += "\nnotes.txt\n```\nthird\n```"
    result, events, error = await code(Team(*replies), tmp_path, workspace, tests=["test_add.py"], branch="fix/add")
    assert error is None
    commit = git(workspace, "rev-parse", "fix/add")
    head, _, changes = result.output.partition("\n\n")
    assert head == f"branch fix/add: commit {commit} on {git(workspace, 'rev-parse', 'main')}"
    assert changes.startswith("diff --git a/notes.txt b/notes.txt\n")
    assert git(workspace, "rev-parse", "fix/add^") == git(workspace, "rev-parse", "main")
    assert git(workspace, "show", "fix/add:solution.py") + "\n" == RIGHT
    assert git(workspace, "show", "fix/add:src/x y.py") == "x = 1"
    assert git(workspace, "ls-tree", "fix/add", "run.sh").startswith("100755 ")
    assert "staged.txt" not in git(workspace, "ls-tree", "-r", "--name-only", "fix/add")
    assert git(workspace, "log", "-1", "--format=%s%n%b%an", "fix/add") == "Add numbers\nWrite add(a, b).\nBenchAI"
    assert "also holds what was not committed in: notes.txt" in notices(events)
    after = snapshot(workspace)
    assert {path: data for path, data in after.items() if not path.startswith(".git/")} == {
        path: data for path, data in files.items() if not path.startswith(".git/")
    }
    assert (workspace / ".git" / "index").read_bytes() == index
    assert git(workspace, "status", "--porcelain") == status
    assert git(workspace, "symbolic-ref", "HEAD") == "refs/heads/main"
    git(workspace, "fsck", "--strict")


async def test_a_branch_from_a_folder_of_a_repository(tmp_path: Path, workspace: Path) -> None:
    (workspace.parent / "top.txt").write_text("x", encoding="utf-8")
    git(workspace.parent, "init", "-q")
    (workspace.parent / ".git" / "hooks" / "reference-transaction").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (workspace.parent / ".gitattributes").write_text("*.py text\n", encoding="utf-8")
    git(workspace.parent, "add", "ws", "top.txt", ".gitattributes")
    git(workspace.parent, "commit", "-q", "-m", "first")
    (workspace.parent / ".git" / "hooks" / "reference-transaction").chmod(0o755)
    git(workspace.parent, "config", "user.name", "Eve")
    git(workspace.parent, "config", "user.email", "eve@example.org")
    team = Team(fence(RIGHT, "deep/solution.py"))
    settings = {"tests": ["test_add.py"], "file": "deep/solution.py", "branch": "add"}
    result, _, error = await code(team, tmp_path, workspace, **settings)
    assert error is None
    assert "diff --git a/deep/solution.py b/deep/solution.py" in result.output
    names = git(workspace.parent, "ls-tree", "-r", "--name-only", "add").splitlines()
    assert names == [".gitattributes", "top.txt", "ws/deep/solution.py", "ws/test_add.py"]
    assert git(workspace, "log", "-1", "--format=%an %ce", "add") == "Eve eve@example.org"


async def test_no_branch_is_made_of_code_that_is_not_done(tmp_path: Path, workspace: Path) -> None:
    repository(workspace)
    result, events, error = await code(Team(fence(WRONG)), tmp_path, workspace, tests=["test_add.py"], branch="add")
    assert error is None
    assert result.stop_reason == "loop"
    assert "no branch is made" in notices(events)
    assert result.output.startswith("diff ")
    assert git(workspace, "branch", "--format=%(refname:short)") == "main"


NO_BRANCHES = {
    "main": "the branch 'main' exists",
    "main/more": "can't be made beside 'main'",
    "a": "can't be made beside 'a/b'",
} | dict.fromkeys(("a b", "-D", "HEAD", "@{-1}", "x..y", "", "x" * 300, "x\0", "x.lock"), "is no name for a branch")


async def test_names_that_no_branch_can_have(tmp_path: Path, workspace: Path) -> None:
    repository(workspace)
    git(workspace, "branch", "a/b")
    team = Team(fence(RIGHT))
    async with opened(team, tmp_path, workspace) as bench:
        for name, about in NO_BRANCHES.items():
            _, _, error = await run_on(bench, tests=["test_add.py"], branch=name)
            assert isinstance(error, UsageError), name
            assert about in error.message
    assert team.asked["planner"] == []


async def test_a_branch_needs_a_repository(tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused() -> str:
        _, _, error = await code(Team(fence(RIGHT)), tmp_path, workspace, tests=["test_add.py"], branch="x")
        assert isinstance(error, UsageError)
        return error.message

    assert "git rev-parse refuses" in await refused()
    git(workspace, "init", "-q", "-b", "main")
    assert "has no commit to branch off from" in await refused()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await refused() == "the program git is not there"


async def test_a_branch_that_is_taken_meanwhile_is_not_overwritten(tmp_path: Path, workspace: Path) -> None:
    repository(workspace)

    class Meddling(Team):
        def reply(self, request: dict[str, Any]) -> Reply:
            if contents(request, "system")[0] == prompt("reviewer"):
                git(workspace, "branch", "add")
            return super().reply(request)

    async with opened(Meddling(fence(RIGHT)), tmp_path, workspace) as bench:
        _, _, error = await run_on(bench, tests=["test_add.py"], branch="add", thread_id="one")
        assert isinstance(error, UsageError)
        assert "git update-ref refuses" in error.message
        assert git(workspace, "rev-parse", "add") == git(workspace, "rev-parse", "main")
        git(workspace, "branch", "-D", "add")
        result = await bench.resume("one")
    assert result.output.startswith(f"branch add: commit {git(workspace, 'rev-parse', 'add')} on ")


async def test_a_branch_that_an_interrupted_run_had_made_counts(tmp_path: Path, workspace: Path) -> None:
    repository(workspace)
    first = await make_branch(workspace, "add", {"solution.py": RIGHT}, "Add")
    assert await make_branch(workspace, "add", {"solution.py": RIGHT}, "Add") == first
    with pytest.raises(UsageError, match="update-ref refuses"):
        await make_branch(workspace, "add", {"solution.py": WRONG}, "Add")
    assert git(workspace, "rev-parse", "add") == first.commit


WRONG_INPUTS: list[tuple[dict[str, Any], str]] = [
    ({"tests": ["none.py"]}, "there is no file 'none.py'"),
    ({"files": ["none.py"]}, "there is no file 'none.py'"),
    ({"tests": ["../test_add.py"]}, "no path in the workspace"),
    ({"tests": ["out.py"]}, "leads outside the workspace"),
    ({"files": [".git/config"]}, "no path in the workspace"),
    ({"file": "/tmp/x.py"}, "no path in the workspace"),
    ({"file": "folder"}, "'folder' is a folder"),
    ({"file": "test_add.py", "tests": ["test_add.py"]}, "can't be the code that is tested"),
    ({"file": "./test_add.py", "tests": ["test_add.py"], "command": "true"}, "is one of the tests"),
    ({"file": "add.js"}, "can't be the code that is tested"),
    ({"tests": ["bin.py"]}, "can't be read as text"),
    ({"tests": ["empty.py"]}, "empty.py: the tests assert nothing"),
    ({"tests": ["fixture.py"]}, "test_it takes arguments"),
    ({"fixes": -1}, "fixes = -1 is wrong"),
    ({"fixes": 51}, "fixes = 51 is wrong"),
    ({"branches": "x"}, "the input 'branches' is unknown"),
]


async def test_wrong_inputs(tmp_path: Path, workspace: Path) -> None:
    (workspace / "folder").mkdir()
    (workspace / "bin.py").write_bytes(b"\xff\xfe\0")
    (workspace / "empty.py").write_text("x = 1\n", encoding="utf-8")
    (workspace / "fixture.py").write_text("def test_it(tmp_path):\n    assert tmp_path\n", encoding="utf-8")
    (tmp_path / "secret.py").write_text("assert True\n", encoding="utf-8")
    (workspace / "out.py").symlink_to("../secret.py")
    team = Team(fence(RIGHT))
    async with opened(team, tmp_path, workspace) as bench:
        for settings, about in WRONG_INPUTS:
            with pytest.raises(UsageError) as raised:
                await bench.run("planner-coder-reviewer", "Write add(a, b).", inputs=settings)
            assert about in raised.value.message
    assert team.asked["planner"] == []


async def test_a_workspace_behind_a_link(tmp_path: Path, workspace: Path) -> None:
    (tmp_path / "link").symlink_to("ws")
    team = Team(fence("x = 1\n", "up/a.py"), fence(RIGHT))
    (workspace / "up").symlink_to("..")
    result, _, _ = await code(team, tmp_path, tmp_path / "link", tests=["test_add.py"])
    assert result.stop_reason == "completed"
    assert "'up/a.py' leads outside the workspace" in team.asked["coder"][1]
    assert not (tmp_path / "a.py").exists()


async def test_tests_in_a_folder_that_is_not_copied_run(tmp_path: Path, workspace: Path) -> None:
    (workspace / "build").mkdir()
    (workspace / "test_add.py").rename(workspace / "build" / "test_add.py")
    result, _, _ = await code(Team(fence(RIGHT)), tmp_path, workspace, tests=["build/test_add.py"])
    assert result.stop_reason == "completed"


async def test_a_huge_workspace_is_refused_before_anything_is_asked(tmp_path: Path, workspace: Path) -> None:
    with (workspace / "large.bin").open("wb") as file:
        file.truncate(65 * 1024**2)
    team = Team(fence(RIGHT))
    _, _, error = await code(team, tmp_path, workspace, tests=["test_add.py"])
    assert isinstance(error, UsageError)
    assert "more than 3000 files or 64 MiB" in error.message
    assert team.asked["planner"] == []


@pytest.fixture
def no_sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Takes both sandboxes away, as on a machine that has neither package nor program."""

    def take() -> None:
        monkeypatch.setitem(sys.modules, "sandlock", None)
        monkeypatch.setenv("PATH", str(tmp_path))
        find_sandbox.cache_clear()

    return take


async def test_without_a_sandbox_nothing_runs(
    tmp_path: Path, workspace: Path, no_sandbox: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    team = Team(fence("open('ran', 'w')\n" + RIGHT))
    try:
        no_sandbox()
        _, _, error = await code(team, tmp_path, workspace, tests=["test_add.py"])
        with pytest.raises(ToolError):
            await run_tests(workspace, {}, "solution.py", ["test_add.py"], None)
    finally:
        monkeypatch.undo()
        find_sandbox.cache_clear()
    assert isinstance(error, ToolError)
    assert "no sandbox works" in error.message
    assert team.asked["planner"] == []


async def test_a_plan_is_approved_edited_or_refused(tmp_path: Path, workspace: Path) -> None:
    decisions = iter(
        [
            {"decision": "reject", "message": "shorter"},
            {"decision": "edit", "arguments": {"goal": "g", "steps": ["My own step"]}},
        ]
    )

    async def approver(asked: Any) -> Any:
        return next(decisions)

    team = Team(fence(RIGHT))
    settings = {"tests": ["test_add.py"], "approver": approver, "approve_plan": True}
    result, _, _ = await code(team, tmp_path, workspace, **settings)
    assert result.stop_reason == "completed"
    assert "The last plan was refused: shorter" in team.asked["planner"][1]
    assert "Plan:\n1. My own step" in team.asked["coder"][0]


async def test_an_edited_plan_that_is_none_is_refused(tmp_path: Path, workspace: Path) -> None:
    async def approver(asked: Any) -> Any:
        return {"decision": "edit", "arguments": {"steps": []}}

    settings = {"tests": ["test_add.py"], "approver": approver, "approve_plan": True}
    _, _, error = await code(Team(fence(RIGHT)), tmp_path, workspace, **settings)
    assert isinstance(error, UsageError)
    assert "the edited plan is wrong: goal" in error.message
