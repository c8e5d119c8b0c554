"""What a coding run is given and keeps, and the checks of what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages
from pydantic import BaseModel, Field, ValidationError

from benchai.errors import ToolError, UsageError
from benchai.events import StopReason
from benchai.graphs.coding.branch import check_branch
from benchai.graphs.coding.overlay import check_size, place_of, text_of_file
from benchai.graphs.coding.testing import check_sandbox, check_tests
from benchai.graphs.registry import TaskInput


class CodePlan(BaseModel):
    """How the code is made."""

    goal: str
    steps: list[str] = Field(min_length=1, max_length=20)


class CodingInput(TaskInput):
    """A task, and how its code is tested."""

    file: str = Field("solution.py", description="File that code without a path goes to")
    files: list[str] = Field(default_factory=list, description="Files that the coder sees, beside those the task names")
    tests: list[str] = Field(default_factory=list, description="Test files of the workspace; they are not changed")
    command: str | None = Field(None, description="Shell command that runs the tests; default: Python's asserts")
    fixes: int = Field(5, ge=0, le=50, description="Times that the code is repaired at most")
    branch: str | None = Field(
        None,
        description="New git branch for the changes, one commit on HEAD, made once tests and review pass; "
        "working tree and index stay as they are. The answer names the commit, and the diff follows all the same",
    )


class CodingState(TypedDict, total=False):
    """``changed`` are the files that differ from the workspace, ``best`` those that passed the tests last.

    ``failure`` and ``review`` say what has to be repaired.
    """

    messages: Annotated[list[AnyMessage], add_messages]
    file: str
    files: list[str]
    tests: list[str]
    command: str | None
    fixes: int
    branch: str | None
    plan: dict[str, Any]
    wish: str
    changed: dict[str, str]
    best: dict[str, str]
    given: bool
    failure: str
    review: str
    failures: list[str]
    passed: bool
    approved: bool
    round: int
    stop_reason: StopReason | None


async def checked_input(state: CodingState, workspace: Path) -> CodingState:
    """The paths of the input as they are in the workspace.

    Raises:
        UsageError: one leads outside or is missing, tests that can't be run as they are, a workspace that is too
            large, a branch that can't be made.
        ToolError: there is no sandbox on this machine.
    """
    file = _place(state["file"], workspace)
    files = list(dict.fromkeys(_place(path, workspace) for path in state["files"]))
    tests = list(dict.fromkeys(_place(path, workspace) for path in state["tests"]))
    texts = {path: _text(path, workspace) for path in (*files, *tests)}
    if not state["command"]:
        _check_code_and_tests(file, {path: texts[path] for path in tests})
    elif file in tests:
        raise UsageError(f"file = {file!r} is one of the tests", hint="name the file that the code goes to")
    await check_sandbox()
    await asyncio.to_thread(check_size, workspace)
    if state["branch"] is not None:
        await check_branch(workspace, state["branch"])
    return {"file": file, "files": files, "tests": tests}


def _place(path: str, workspace: Path) -> str:
    try:
        return place_of(path, workspace, {})
    except ToolError as error:
        raise UsageError(error.message, hint=error.hint) from error


def _text(path: str, workspace: Path) -> str:
    try:
        text = text_of_file(path, {}, workspace)
    except ToolError as error:
        raise UsageError(error.message, hint="name a text file") from error
    if text is None:
        raise UsageError(f"there is no file {path!r} in the workspace", hint="name it relative to --workspace")
    return text


def _check_code_and_tests(file: str, tests: Mapping[str, str]) -> None:
    if file in tests or not file.endswith(".py"):
        hint = "name a Python file that is none of the tests, or give the command that runs the tests"
        raise UsageError(f"file = {file!r} can't be the code that is tested", hint=hint)
    for path, text in tests.items():
        try:
            check_tests(text)
        except ToolError as error:
            raise UsageError(f"{path}: {error.message}", hint="or give the command that runs them") from error


def edited_plan(arguments: Mapping[str, Any]) -> CodePlan:
    """The plan as the user wrote it.

    Raises:
        UsageError: it is none.
    """
    try:
        return CodePlan.model_validate(arguments)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = ".".join(map(str, first["loc"]))
        raise UsageError(f"the edited plan is wrong: {what}: {first['msg']}") from error
