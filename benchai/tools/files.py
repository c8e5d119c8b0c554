"""The list_files and read_file tools: what the workspace holds, and nothing outside it.

`benchai.tools.confine` keeps paths inside. Reading streams: memory stays bounded by the window that is shown,
however large the file and however long its lines.
"""

from __future__ import annotations

import codecs
import heapq
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path

import anyio.to_thread
from pydantic import Field

from benchai.errors import ToolError
from benchai.tools import confine
from benchai.tools.tool import RESULTS, Tool, ToolArgs, ToolContext, shorten

__all__ = ["LIST_FILES", "READ_FILE", "list_folder", "read_lines"]

MAX_ENTRIES = 500
DEFAULT_LINES = 200
MAX_BYTES = 32 * 1024
SNIFF_BYTES = 8 * 1024
SEEK_BYTES = 1024**3  # how far into a file a window may start
COUNT_BYTES = 16 * 1024**2  # how far beyond the window lines, or the bytes of a line, are counted
_CHUNK = 1024**2


class ListArgs(ToolArgs):
    """Arguments of list_files."""

    path: str | None = Field(default=None, description="Folder, relative to the workspace. Default .")


class ReadArgs(ToolArgs):
    """Arguments of read_file."""

    path: str = Field(description="File, relative to the workspace")
    offset: int | None = Field(default=None, description="First line, from 1")
    limit: int | None = Field(default=None, description="How many lines")


def list_folder(workspace: Path, path: str = ".") -> str:
    """Return the sorted names in a folder of the resolved `workspace`, one a line; folders end with "/".

    At most 500 names. Raises ToolError when the folder is missing, outside, or none.
    """
    resolved = confine.resolve_inside(workspace, path)
    counter = _Counter()
    with confine.open_folder(workspace, resolved, path) as entries:
        names = heapq.nsmallest(MAX_ENTRIES, counter.count(entry.name for entry in entries))
    lines = [confine.printable(name) + _mark(workspace, resolved / name) for name in names]
    if counter.total > len(names):
        lines.append(f"[{len(names)} of {counter.total} entries]")
    return "\n".join(lines) or "[the folder is empty]"


def read_lines(workspace: Path, path: str, offset: int = 1, limit: int = DEFAULT_LINES) -> str:
    """At most `limit` lines and 32 KiB of a text file in the resolved `workspace`, from line `offset` on.

    A last line in brackets tells what was cut. Raises ToolError when the file is missing, outside, no
    regular file, or no UTF-8 text, and when `offset` is beyond its end.
    """
    if offset < 0 or limit < 1:
        raise ToolError(f"offset={offset} and limit={limit} must be 1 or more")
    first = max(offset, 1)
    resolved = confine.resolve_inside(workspace, path)
    with confine.open_file(workspace, resolved, path) as file:
        try:
            _seek_line(file, first, path)
            window = _read_window(file, first, limit)
            return _render(file, window)
        except UnicodeDecodeError as error:
            raise ToolError(f"{shorten(path)} is not UTF-8 text; read_file reads only text") from error
        except OSError as error:
            raise ToolError(f"{shorten(path)} cannot be read: {error.strerror}") from error


class _Counter:
    """Counts what passes through."""

    def __init__(self) -> None:
        self.total = 0

    def count(self, names: Iterable[str]) -> Iterator[str]:
        for name in names:
            self.total += 1
            yield name


def _mark(workspace: Path, path: Path) -> str:
    # A link to a folder outside can't be listed, so it is not shown as a folder
    return "/" if confine.inside(workspace, path) and path.is_dir() else ""


@dataclass(frozen=True)
class _Window:
    """The lines shown, from number `first`; `cut` tells that the last one is not whole."""

    first: int
    lines: list[bytes]
    cut: bool

    @property
    def last(self) -> int:
        return self.first + len(self.lines) - 1


def _seek_line(file: BufferedReader, number: int, path: str) -> None:
    """Move to the start of a line. Refuses binary files, and lines beyond the end."""
    if b"\0" in file.read(SNIFF_BYTES):
        raise ToolError(f"{shorten(path)} is a binary file; read_file reads only text")
    file.seek(0)
    missing, last = number - 1, b"\n"
    while missing:
        start = file.tell()
        chunk = file.read(_CHUNK)
        if not chunk or start >= SEEK_BYTES:
            raise _beyond(path, number, number - 1 - missing + (last != b"\n"), bool(chunk))
        passed, last = chunk.count(b"\n"), chunk[-1:]
        if passed >= missing:
            file.seek(start + _after_line(chunk, missing))
            passed = missing
        missing -= passed
    if number > 1 and not file.peek(1):
        raise _beyond(path, number, number - 1, False)


def _after_line(chunk: bytes, number: int) -> int:
    at = 0
    for _ in range(number):
        at = chunk.index(b"\n", at) + 1
    return at


def _beyond(path: str, number: int, lines: int, more: bool) -> ToolError:
    if more:
        return ToolError(f"line {number} of {shorten(path)} is too far into the file; try one up to {lines}")
    return ToolError(f"line {number} is beyond the end: {shorten(path)} has {lines} lines")


def _read_window(file: BufferedReader, first: int, limit: int) -> _Window:
    lines: list[bytes] = []
    left = MAX_BYTES
    while len(lines) < limit and left > 0:
        line = file.readline(left + 1)
        if not line:
            break
        if len(line) > left and not line.endswith(b"\n"):
            if lines:
                file.seek(-len(line), os.SEEK_CUR)
                break
            file.seek(-1, os.SEEK_CUR)
            return _Window(first, [line[:left]], cut=True)
        lines.append(line)
        left -= len(line)
    return _Window(first, lines, cut=False)


def _render(file: BufferedReader, window: _Window) -> str:
    if not window.lines:
        return "[the file is empty]"
    decoder = codecs.getincrementaldecoder("utf-8-sig" if window.first == 1 else "utf-8")()
    # A cut line may end within a character, which only an unfinished decoder forgives
    text = decoder.decode(b"".join(window.lines), final=not window.cut)
    parts = [text.replace("\r\n", "\n").removesuffix("\n")]
    if window.cut:
        size = _size_of_line(file)
        parts.append(f"[line {window.first} cut: {MAX_BYTES} of {size or 'more'} bytes]")
        if size is None:
            return "\n".join(parts)
    more, known = _count_lines(file)
    if more:
        total = str(window.last + more) if known else "more"
        parts.append(f"[lines {window.first}-{window.last} of {total}; go on with offset={window.last + 1}]")
    return "\n".join(parts) or "[an empty line]"


def _size_of_line(file: BufferedReader) -> int | None:
    """Return the bytes of a line whose first 32 KiB are read, or None when there are too many to count."""
    size = MAX_BYTES
    while size < MAX_BYTES + COUNT_BYTES:
        line = file.readline(_CHUNK)
        size += len(line.rstrip(b"\r\n"))
        if len(line) < _CHUNK or line.endswith(b"\n"):
            return size
    return None


def _count_lines(file: BufferedReader) -> tuple[int, bool]:
    """Return the lines from here on, and whether that is all of them."""
    lines, last, seen = 0, b"\n", 0
    while seen < COUNT_BYTES:
        chunk = file.read(_CHUNK)
        if not chunk:
            return lines + (last != b"\n"), True
        lines, last, seen = lines + chunk.count(b"\n"), chunk[-1:], seen + len(chunk)
    return max(lines, 1), False


async def _list(args: ListArgs, ctx: ToolContext) -> str:
    return await anyio.to_thread.run_sync(partial(list_folder, ctx.workspace, args.path or "."))


async def _read(args: ReadArgs, ctx: ToolContext) -> str:
    offset = 1 if args.offset is None else args.offset
    limit = DEFAULT_LINES if args.limit is None else args.limit
    root, path = _root_of(args.path, ctx)
    return await anyio.to_thread.run_sync(partial(read_lines, root, path, offset, limit))


def _root_of(path: str, ctx: ToolContext) -> tuple[Path, str]:
    """The folder that a path is confined to: the workspace, or that of kept results."""
    if ctx.results is not None and path.startswith(RESULTS):
        return ctx.results.resolve(), path.removeprefix(RESULTS)
    return ctx.workspace, path


LIST_FILES = Tool("list_files", "List the files and folders in a folder of the workspace.", ListArgs, _list)
READ_FILE = Tool("read_file", "Read a text file of the workspace.", ReadArgs, _read)
