"""What the planner, the coder and the reviewer are told. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchai.graphs.tasks import numbered

MOST_TITLE = 72


def with_wish(task: str, wish: str) -> str:
    """A task, and why its last plan was refused."""
    return f"{task}\n\nThe last plan was refused: {wish}" if wish else task


def for_tests(task: str, steps: Sequence[str]) -> str:
    """The request for tests of code that is not there yet."""
    return f"Write tests for: {task}\n\nPlan:\n{numbered(steps)}"


def to_write(task: str, steps: Sequence[str], seen: Mapping[str, str], tests: Sequence[str]) -> str:
    """The request for code.

    Args:
        task: The task.
        steps: The plan.
        seen: Files that the coder is shown, by path.
        tests: Texts of the test files.
    """
    parts = [task, "Plan:\n" + numbered(steps)]
    if seen:
        parts.append("Files:\n" + "\n".join(fenced(path, text) for path, text in seen.items()))
    if tests:
        parts.append("Tests:\n" + "\n".join(block(text) for text in tests))
    return "\n\n".join(parts)


def to_fix(task: str, code: str, failure: str, review: str) -> str:
    """The request for a repair: after a failure, or else after a review."""
    last = f"Failing test:\n{block(failure, '')}" if failure else f"Review:\n{review}"
    return f"Task: {task}\n\nCode:\n{code}\n\n{last}"


def to_review(task: str, code: str) -> str:
    """The request for a review."""
    return f"Task: {task}\n\nCode:\n{code}"


def verdict(review: str) -> str:
    """The last line of a review, where its verdict stands."""
    return review.strip().splitlines()[-1]


def shown(files: Mapping[str, str], main: str) -> str:
    """Code as it is now: one fence where it is the main file alone, else one for each file with its path before it."""
    if list(files) == [main]:
        return block(files[main], main.rpartition(".")[2])
    return "\n".join(fenced(path, text) for path, text in files.items()) or "(none yet)"


def fenced(path: str, text: str) -> str:
    """A file: its path, and its text in a fence."""
    return f"{path}\n{block(text, path.rpartition('/')[2].rpartition('.')[2])}"


def block(text: str, language: str = "python") -> str:
    """A text in a fence that is longer than every one in it."""
    runs = (len(line) - len(line.lstrip("`")) for line in map(str.lstrip, text.split("\n")))
    fence = "`" * max(3, max(runs) + 1)
    return f"{fence}{'python' if language == 'py' else language}\n{text.rstrip()}\n{fence}"


def commit_message(task: str, goal: str) -> str:
    """The message of the commit: what is made, and the task in full."""
    title = " ".join((goal.strip() or task).split())
    short = title if len(title) <= MOST_TITLE else title[: MOST_TITLE - 3].rstrip() + "..."
    return f"{short}\n\n{task.strip()}\n"
