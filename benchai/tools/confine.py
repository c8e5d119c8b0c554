"""Paths that a model wrote, confined to the workspace.

`resolve_inside` follows every symlink and `..` and then asks whether the result lies in the workspace.
`open_file` and `open_folder` open the resolved path one component at a time without following links, so that
a link put in place after the check leads nowhere; and they never wait on a pipe or a device.
"""

from __future__ import annotations

import difflib
import errno
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from benchai.errors import ToolError
from benchai.tools.tool import shorten

__all__ = ["inside", "open_file", "open_folder", "printable", "resolve_inside", "shown_path"]

NEAREST_OF = 2_000  # names of a folder that are compared with a misspelt one

_LEAF = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_BY_COMPONENT = os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY")


def resolve_inside(workspace: Path, path: str) -> Path:
    """Return the absolute path without links that `path`, relative to the workspace, leads to.

    Raises ToolError when it leads outside, cannot be a path, or is not there.
    """
    try:
        resolved = (workspace / path).resolve()
        if not resolved.is_relative_to(workspace):
            raise _outside(path)
        if stat.S_ISLNK(os.lstat(resolved).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    except FileNotFoundError as error:
        raise _missing(workspace, resolved, path) from error
    except NotADirectoryError as error:
        raise ToolError(f"path {shorten(path)} goes through a file as if it were a folder") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise _unusable(path, error) from error
    return resolved


def inside(workspace: Path, path: Path) -> bool:
    """Whether a path leads into the workspace once all links are followed."""
    try:
        return path.resolve().is_relative_to(workspace)
    except (OSError, RuntimeError, ValueError):
        return False


@contextmanager
def open_file(workspace: Path, resolved: Path, path: str) -> Iterator[BufferedReader]:
    """Open a regular file for reading; `path` is what the model called it.

    Raises ToolError when it is a folder, a pipe, a device or a socket, or may not be read.
    """
    try:
        _require_file(os.lstat(resolved).st_mode, path)
        descriptor = _open(workspace, resolved, _LEAF)
    except OSError as error:
        raise _unusable(path, error) from error
    with os.fdopen(descriptor, "rb") as file:
        _require_file(os.fstat(file.fileno()).st_mode, path)
        yield file


@contextmanager
def open_folder(workspace: Path, resolved: Path, path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """Open a folder for listing. Raises ToolError when it is none or may not be read."""
    try:
        if not stat.S_ISDIR(os.lstat(resolved).st_mode):
            raise ToolError(f"{shorten(path)} is a file, not a folder", hint="read_file reads it")
        if not _BY_COMPONENT or os.scandir not in os.supports_fd:
            with os.scandir(resolved) as entries:
                yield entries
            return
        descriptor = _open(workspace, resolved, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(descriptor) as entries:
                yield entries
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unusable(path, error) from error


def printable(name: str) -> str:
    """Return a file name on one line: line ends, control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def shown_path(workspace: Path, resolved: Path) -> str:
    """Return a resolved path as a model should write it: relative to the workspace."""
    return printable(resolved.relative_to(workspace).as_posix())


def _open(workspace: Path, resolved: Path, flags: int) -> int:
    if not _BY_COMPONENT:
        return os.open(resolved, flags | _SAFE)
    parts = resolved.relative_to(workspace).parts
    folder = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | _SAFE)
    for part in parts[:-1]:
        folder = _step(folder, part, os.O_RDONLY | os.O_DIRECTORY)
    return _step(folder, parts[-1], flags) if parts else folder


def _step(folder: int, part: str, flags: int) -> int:
    try:
        return os.open(part, flags | _SAFE, dir_fd=folder)
    finally:
        os.close(folder)


def _require_file(mode: int, path: str) -> None:
    if stat.S_ISDIR(mode):
        raise ToolError(f"{shorten(path)} is a folder, not a file", hint="list_files lists it")
    if not stat.S_ISREG(mode):
        raise ToolError(f"{shorten(path)} is not a regular file but a pipe, socket or device")


def _outside(path: str) -> ToolError:
    return ToolError(
        f"path {shorten(path)} leads outside the workspace",
        hint="give a path relative to the workspace, '.' for the workspace itself",
    )


def _unusable(path: str, error: Exception) -> ToolError:
    if isinstance(error, PermissionError):
        return ToolError(f"{shorten(path)} may not be read: permission denied")
    code = getattr(error, "errno", None)
    if code == errno.ENAMETOOLONG:
        return ToolError(f"path {shorten(path)} is too long")
    # RuntimeError is how pathlib before Python 3.13 reports a loop
    if code == errno.ELOOP or isinstance(error, RuntimeError):
        return ToolError(f"path {shorten(path)} runs through a loop of links")
    if isinstance(error, ValueError):
        return ToolError(f"path {shorten(path)} contains a character that no path can have")
    return ToolError(f"{shorten(path)} cannot be opened: {getattr(error, 'strerror', None) or error}")


def _missing(workspace: Path, resolved: Path, path: str) -> ToolError:
    parent = resolved
    while not parent.is_dir() and parent != workspace:
        missing, parent = parent, parent.parent
    if parent == resolved:
        return ToolError("the workspace itself is not there")
    folder = shown_path(workspace, parent)
    nearest = _nearest(parent, missing.name)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"list_files shows what {folder!r} holds"
    what = printable(missing.name)
    return ToolError(f"{shorten(path)} is not there: {shorten(folder)} has no {shorten(what)}", hint=hint)


def _nearest(folder: Path, name: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = {entry.name.casefold(): entry.name for entry in itertools.islice(entries, NEAREST_OF)}
    except OSError:
        return []
    found = difflib.get_close_matches(name.casefold()[:100], names, n=3)
    return [repr(printable(names[key])) for key in found]
