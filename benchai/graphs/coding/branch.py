"""Delivering changes as a git branch of one commit; working tree, index and current branch stay as they are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchai.errors import UsageError

HEADS = "refs/heads/"
NOTHING = "0" * 40
MOST_NAME = 200
KEPT = ("GIT_AUTHOR_", "GIT_COMMITTER_", "GIT_CONFIG")
# nothing that the repository configures is run, and no question is asked
SAFE = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false")


@dataclass(frozen=True)
class Made:
    """A branch that was made: its commit, what it branches off from, and changed files that were not committed."""

    commit: str
    base: str
    uncommitted: list[str]


async def check_branch(workspace: Path, name: str) -> None:
    """Make sure that a branch of this name can be made.

    Raises:
        UsageError: git or the repository is missing, it has no commit, or the name is invalid or taken.
    """
    if await _git(workspace, "rev-parse", "--is-inside-work-tree") != "true":
        raise UsageError(f"the workspace {str(workspace)!r} is no working tree of git", hint="leave branch out")
    await _base(workspace)
    wrong = len(name) > MOST_NAME or name.startswith("-") or name == "HEAD" or not name.isprintable()
    if wrong or not await _is_ref(workspace, HEADS + name):
        raise UsageError(f"branch = {name[:MOST_NAME]!r} is no name for a branch", hint="for example fix/rounding")
    heads = (await _git(workspace, "for-each-ref", "--format=%(refname)", HEADS)).splitlines()
    for other in (head.removeprefix(HEADS) for head in heads):
        if other == name:
            raise UsageError(f"the branch {name!r} exists", hint="choose another name, or delete it")
        if other.startswith(f"{name}/") or name.startswith(f"{other}/"):
            raise UsageError(f"the branch {name!r} can't be made beside {other!r}", hint="choose another name")


async def make_branch(workspace: Path, name: str, files: Mapping[str, str], message: str) -> Made:
    """Make a branch of the commit that is checked out and the changed files; the same one twice is made once.

    Args:
        workspace: A folder of the repository.
        name: The branch.
        files: Texts of changed files, by path in the workspace.
        message: Of the commit.

    Raises:
        UsageError: it can't be made, as ``check_branch`` says, or for git's own reason.
    """
    base = await _base(workspace)
    prefix = await _git(workspace, "rev-parse", "--show-prefix")
    with tempfile.TemporaryDirectory(prefix="benchai-index-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        await _git(workspace, "read-tree", base, env=index)
        uncommitted = await _git(workspace, "diff", *_PLAIN, "--relative", base, "--", *_literal(files), env=index)
        entries = [await _entry(workspace, path, prefix, text, index) for path, text in sorted(files.items())]
        await _git(workspace, "update-index", "-z", "--index-info", stdin="".join(entries), env=index)
        tree = await _git(workspace, "write-tree", env=index)
    made = await _existing(workspace, name, tree, base)
    if made is None:
        identity = await _identity(workspace)
        made = await _git(workspace, "commit-tree", tree, "-p", base, stdin=message, env=identity)
        await _git(workspace, "update-ref", "-m", "branch: made by benchai", HEADS + name, made, NOTHING)
    return Made(made, base, uncommitted.splitlines())


_PLAIN = ("--name-only", "--no-ext-diff", "--no-textconv", "--diff-filter=MT")


def _literal(paths: Mapping[str, str]) -> list[str]:
    return [f":(literal){path}" for path in sorted(paths)]


async def _base(workspace: Path) -> str:
    try:
        return await _git(workspace, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    except UsageError as error:
        hint = "commit something first, or leave branch out"
        raise UsageError(f"the repository of {str(workspace)!r} has no commit to branch off from", hint=hint) from error


async def _is_ref(workspace: Path, ref: str) -> bool:
    try:
        await _git(workspace, "check-ref-format", ref)
    except UsageError:
        return False
    return True


async def _entry(workspace: Path, path: str, prefix: str, text: str, index: Mapping[str, str]) -> str:
    """A line for update-index: a file keeps the mode that it has."""
    known = await _git(workspace, "ls-files", "-s", "-z", "--", f":(literal){path}", env=index)
    mode = known[:6] if known.startswith("100") else "100644"
    # as git add would store it: with the line ends that the repository asks for
    blob = await _git(workspace, "hash-object", "-w", "--stdin", "--path", path, stdin=text)
    return f"{mode} {blob}\t{prefix}{path}\0"


async def _existing(workspace: Path, name: str, tree: str, base: str) -> str | None:
    """The commit of the branch where an interrupted run has made it already."""
    try:
        found = await _git(workspace, "rev-parse", "--verify", "--quiet", f"{HEADS}{name}^{{commit}}")
        same = await _git(workspace, "rev-parse", f"{found}^{{tree}}", f"{found}^1")
    except UsageError:
        return None
    return found if same.split() == [tree, base] else None


async def _identity(workspace: Path) -> dict[str, str]:
    """The user's own name where git knows it."""
    try:
        await _git(workspace, "var", "GIT_COMMITTER_IDENT")
    except UsageError:
        names = {"NAME": "BenchAI", "EMAIL": "benchai@localhost"}
        return {f"GIT_{who}_{key}": value for who in ("AUTHOR", "COMMITTER") for key, value in names.items()}
    return {}


async def _git(workspace: Path, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
    """What a git command writes, without the line end.

    Raises:
        UsageError: there is no git, or it refuses.
    """
    # a git hook that runs us names its own repository and index; who the user is may stay
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key.startswith(KEPT)}
    settings = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", **(env or {})}
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *("git", *SAFE, *arguments), cwd=workspace, env=clean | settings, stdin=pipe, stdout=pipe, stderr=pipe
        )
    except FileNotFoundError as error:
        raise UsageError("the program git is not there", hint="install git, or leave branch out") from error
    try:
        out, said = await process.communicate(stdin.encode())
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())
        raise
    if process.returncode:
        why = said.decode(errors="replace").strip() or f"exit code {process.returncode}"
        raise UsageError(f"git {arguments[0]} refuses in {str(workspace)!r}: {why}", hint="leave branch out")
    return out.decode(errors="replace").removesuffix("\n")
