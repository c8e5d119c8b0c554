"""What a run is given, checked before anything is started."""

from __future__ import annotations

from pathlib import Path

from benchai.config import paths
from benchai.errors import UsageError

MAX_TASK_BYTES = 1024 * 1024
MAX_THREAD_ID = 200


def check_task(task: str) -> None:
    """Refuse a task that no model can be given.

    Raises:
        UsageError: it is empty, or larger than 1 MiB.
    """
    if not task.strip():
        raise UsageError("the task is empty", hint='say what to do, for example: benchai run react "What is 12 * 7?"')
    try:
        size = len(task.encode())
    except UnicodeEncodeError as error:
        raise UsageError(f"the task is no text at character {error.start}", hint="decode it as UTF-8") from error
    if size > MAX_TASK_BYTES:
        hint = "put the text into a file of the workspace and name the file in the task"
        raise UsageError(f"the task has {size:,} bytes, at most {MAX_TASK_BYTES:,} are taken", hint=hint)


def check_thread_id(thread_id: str | None) -> None:
    """Refuse an id that could not be typed again.

    Raises:
        UsageError: it is empty, longer than 200 characters, or not printable.
    """
    if thread_id is not None and not (0 < len(thread_id) <= MAX_THREAD_ID and thread_id.isprintable()):
        hint = f"1 to {MAX_THREAD_ID} printable characters, for example --thread notes"
        raise UsageError(f"the thread id {thread_id[:80]!r} cannot be used", hint=hint)


def check_workspace(folder: Path) -> Path:
    """The resolved workspace.

    Raises:
        UsageError: it is not there, or no folder.
    """
    if paths.is_file(folder):
        raise UsageError(f"the workspace {str(folder)!r} is no folder", hint="name the folder that the file lies in")
    if not paths.is_dir(folder):
        raise UsageError(f"the workspace {str(folder)!r} is not there", hint="make the folder, or name another")
    return folder.resolve()
