"""The write_file and edit_file tools: text files of the workspace, replaced as a whole or in one place.

`benchai.tools.confine` keeps paths inside and out of `.git`; `benchai.tools.edits` finds the place of an edit. A
file is there as it was, or as it is to be: never half of it. Changes of one process are made one after another,
so that two edits of one file at a time are both made.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import anyio.to_thread
from pydantic import Field

from benchai.errors import ToolError
from benchai.tools import confine, edits
from benchai.tools.tool import Tool, ToolArgs, ToolContext, shorten

__all__ = ["EDIT_FILE", "MAX_BYTES", "WRITE_FILE", "edit_text", "write_text"]

MAX_BYTES = 5_000_000
SNIFF_BYTES = 8 * 1024

_one_at_a_time = threading.Lock()


class WriteArgs(ToolArgs):
    """Arguments of write_file."""

    path: str = Field(description="File, relative to the workspace")
    content: str = Field(description="All text of the file")


class EditArgs(ToolArgs):
    """Arguments of edit_file."""

    path: str = Field(description="File, relative to the workspace")
    search: str = Field(description="Text to replace, exactly as it is; enough lines to fit one place")
    replace: str = Field(description="Text to put there")


def write_text(workspace: Path, path: str, content: str) -> str:
    """Write a text file in the resolved `workspace`, and the folders above it; return what was done.

    At most 5 MB. Raises ToolError when the path leads outside, into `.git`, to a binary file or to none, and
    when the file cannot be written.
    """
    data = _encoded(content, path)
    with _one_at_a_time:
        resolved = confine.resolve_target(workspace, path)
        _require_text(workspace, resolved, path)
        confine.replace_file(workspace, resolved, path, data)
    return _wrote(workspace, resolved, content)


def edit_text(workspace: Path, path: str, search: str, replace: str) -> str:
    """Replace the one place of a text file that fits `search`, see `edits.apply`; return what was done.

    An empty `search` makes a new file. Raises ToolError as `write_text` and `edits.apply` do.
    """
    with _one_at_a_time:
        resolved = confine.resolve_target(workspace, path)
        text = _text_of(workspace, resolved, path, new=not search.strip())
        splice = edits.locate(text, edits.Edit(path, search, replace))
        edited = text[: splice.start] + splice.new + text[splice.end :]
        confine.replace_file(workspace, resolved, path, _encoded(edited, path))
    if not text:
        return _wrote(workspace, resolved, edited)
    return f"edited {confine.shown_path(workspace, resolved)}: {_changed(text, splice)}"


def _encoded(text: str, path: str) -> bytes:
    if "\0" in text:
        raise ToolError(f"the text for {shorten(path)} contains a NUL character; only text can be written")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        what = f"a lone surrogate {text[error.start]!a} at offset {error.start}"
        raise ToolError(f"the text for {shorten(path)} contains {what}, which no file can hold") from error
    if len(data) > MAX_BYTES:
        raise ToolError(f"{shorten(path)} would have {len(data)} bytes; at most {MAX_BYTES} can be written")
    return data


def _require_text(workspace: Path, resolved: Path, path: str) -> None:
    """Refuse a binary file, and what is no file."""
    if resolved.exists():
        with confine.open_file(workspace, resolved, path) as file:
            _refuse_binary(file.read(SNIFF_BYTES), path)


def _refuse_binary(data: bytes, path: str) -> None:
    if b"\0" in data:
        raise ToolError(f"{shorten(path)} is a binary file; only text files can be written")


def _text_of(workspace: Path, resolved: Path, path: str, new: bool) -> str:
    """Return the text of a file; a `new` one may be missing."""
    if not resolved.exists():
        if new:
            return ""
        confine.resolve_inside(workspace, path)  # tells of the names that are nearest
    with confine.open_file(workspace, resolved, path) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ToolError(f"{shorten(path)} is larger than {MAX_BYTES} bytes, which is too large to edit")
    _refuse_binary(data, path)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ToolError(f"{shorten(path)} is not UTF-8 text; edit_file edits only text") from error


def _wrote(workspace: Path, resolved: Path, text: str) -> str:
    return f"wrote {confine.shown_path(workspace, resolved)} ({_count(_line_count(text))})"


def _line_count(text: str) -> int:
    return text.count("\n") + (not text.endswith("\n") if text else 0)


def _count(lines: int) -> str:
    return f"{lines} line{'' if lines == 1 else 's'}"


def _changed(text: str, splice: edits.Splice) -> str:
    """Name the lines that a splice puts in place of others, by their numbers afterwards."""
    old = text[splice.start : splice.end]
    first = text.count("\n", 0, splice.start) + 1
    lines = _line_count(splice.new)
    if not lines:
        return f"{_count(_line_count(old))} removed at line {first}"
    span = f"line {first}" if lines == 1 else f"lines {first}-{first + lines - 1}"
    return f"{span} in place of {_count(_line_count(old))}"


async def _write(args: WriteArgs, ctx: ToolContext) -> str:
    return await anyio.to_thread.run_sync(partial(write_text, ctx.workspace, args.path, args.content))


async def _edit(args: EditArgs, ctx: ToolContext) -> str:
    return await anyio.to_thread.run_sync(partial(edit_text, ctx.workspace, args.path, args.search, args.replace))


WRITE_FILE = Tool("write_file", "Write a whole text file of the workspace.", WriteArgs, _write, permission="write")
EDIT_FILE = Tool("edit_file", "Replace text in a file of the workspace.", EditArgs, _edit, permission="write")
