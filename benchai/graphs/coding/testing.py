"""Running the tests of a coding run in the sandbox."""

from __future__ import annotations

import ast
import asyncio
import re
import secrets
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchai.errors import ToolError
from benchai.graphs.coding.overlay import lay_out
from benchai.tools.run_code import report
from benchai.tools.sandbox import Limits, Ran, find_sandbox

RUNNER = Path(__file__).with_name("run_tests.py")
RUNNER_NAME = ".benchai_run_tests.py"
LIMITS = Limits(wall_seconds=120, cpu_seconds=120)
MOST_CHARS = 3_000
#: What differs from run to run though the failure is the same: durations and addresses.
_PASSING = re.compile(r"\b\d+(?:\.\d+)?\s?(?:s|ms|sec|seconds)\b|\b0x[0-9a-f]+\b", re.IGNORECASE)


@dataclass(frozen=True)
class Outcome:
    """Whether the tests passed, and what they said: the message of the first failure."""

    passed: bool
    message: str


async def check_sandbox() -> None:
    """Make sure that tests can be run here at all.

    Raises:
        ToolError: there is no sandbox on this machine.
    """
    await asyncio.to_thread(find_sandbox)


async def run_tests(
    workspace: Path, files: Mapping[str, str], main: str, tests: Sequence[str], command: str | None
) -> Outcome:
    """Run the tests on a copy of the workspace with the changed files.

    Args:
        workspace: Where the project lies.
        files: Changed files by path, the tests among them.
        main: The file whose names the tests may use without an import.
        tests: Paths of test files.
        command: A shell command that runs the tests instead; its exit code 0 means that they passed.

    Raises:
        ToolError: there is no sandbox on this machine.
        UsageError: the workspace is too large, or can't be copied.
    """
    sandbox = await asyncio.to_thread(find_sandbox)
    mark = f"verdict {secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory(prefix="benchai-tests-", ignore_cleanup_errors=True) as folder:
        copy = await asyncio.to_thread(_copied, workspace, files, Path(folder), command is None)
        argv = ["/bin/sh", "-c", command] if command else [sys.executable, "-I", RUNNER_NAME, mark, main, *tests]
        ran = await sandbox.run(argv, workspace=copy, limits=LIMITS)
    if command:
        return Outcome(ran.exit_code == 0, _clipped(report(ran, LIMITS).replace(f"{copy}/", "")))
    return _verdict(ran, mark, f"{copy}/")


def _copied(workspace: Path, files: Mapping[str, str], folder: Path, with_runner: bool) -> Path:
    folder = folder.resolve()
    runner = {RUNNER_NAME: RUNNER.read_text(encoding="utf-8")} if with_runner else {}
    lay_out(workspace, {**files, **runner}, folder)
    return folder


def _verdict(ran: Ran, mark: str, folder: str) -> Outcome:
    """The runner's own words; without them the tests did not end in order, whatever the exit code says."""
    _, found, said = ran.stdout.rpartition(f"\n{mark}\n")
    if not found:
        ended = "the tests ended early: the code must not end the program\n" if ran.ended_by == "exit" else ""
        return Outcome(False, _clipped(ended + report(ran, LIMITS).replace(folder, "")))
    return Outcome(ran.exit_code == 0, _clipped(said.strip().replace(folder, "")))


def _clipped(text: str) -> str:
    return text if len(text) <= MOST_CHARS else text[:1000] + "\n...\n" + text[-2000:]


def comparable(failure: str) -> str:
    """A failure without what differs from run to run, so that the same one is known again."""
    return _PASSING.sub("", failure)


def check_tests(text: str) -> None:
    """Make sure that tests test something, and can be run without a test framework.

    Raises:
        ToolError: they are no Python, hold no assert, or need fixtures.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ToolError(f"the tests are no Python: {error}") from error
    if not any(isinstance(node, ast.Assert) or _is_assertion(node) for node in ast.walk(tree)):
        raise ToolError("the tests assert nothing: write asserts")
    for test in (node for node in _tests_of(tree) if _needs_arguments(node)):
        raise ToolError(f"the test {test.name} takes arguments, which nothing gives it")


def _is_assertion(node: ast.AST) -> bool:
    """Whether a node calls unittest's assertEqual, pytest's raises or the like."""
    name = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
    return name.startswith("assert") or name == "raises"


def _tests_of(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test")]
    nodes = [*tree.body, *(node for one in classes for node in one.body)]
    functions = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [node for node in functions if node.name.startswith("test")]


def _needs_arguments(test: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    given = test.args
    names = [one.arg for one in (*given.posonlyargs, *given.args)][: -len(given.defaults) or None]
    needed = [default for default in given.kw_defaults if default is None]
    # a decorator such as unittest.mock.patch may give them
    return bool([name for name in names if name != "self"] or needed) and not _is_patched(test)


def _is_patched(test: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("patch" in ast.unparse(one) for one in test.decorator_list)
