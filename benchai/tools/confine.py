"""Paths that a model wrote, confined to the workspace.

`resolve_inside` follows every symlink and `..` and then asks whether the result lies in the workspace.
`open_file` and `open_folder` open the resolved path one component at a time without following links, so that
a link put in place after the check leads nowhere; and they never wait on a pipe or a device. `resolve_target` and
`replace_file` do the same for writing. A link at the end of a path is followed when it leads inside; the file that
is replaced is then the one that it leads to. Databases that this process may have open are left alone, see
`benchai.config.paths.of_database`.
"""

from __future__ import annotations

import difflib
import errno
import itertools
import os
import secrets
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from benchai.config.paths import make_like, of_database, ours
from benchai.errors import ToolError
from benchai.tools.tool import shorten

__all__ = [
    "inside",
    "open_file",
    "open_folder",
    "printable",
    "refuse_database",
    "replace_file",
    "resolve_inside",
    "resolve_target",
    "shown_path",
]

NEAREST_OF = 2_000  # names of a folder that are compared with a misspelt one
MAX_DEPTH = 64  # folders above a file that is written

_LEAF = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
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


def resolve_target(workspace: Path, path: str) -> Path:
    """Return the absolute path without links at which a file called `path` is to be written; it may be new.

    Raises ToolError when it leads outside or into a folder `.git`, names a folder or a database in use, or cannot be
    a path.
    """
    try:
        resolved = (workspace / path).resolve()
        if not resolved.is_relative_to(workspace):
            raise _outside(path)
        if resolved == workspace or path.endswith(("/", os.sep)) or resolved.is_dir():
            raise ToolError(f"{shorten(path)} is a folder, not a file", hint="give the path of a file")
        # A loop of links is left as it is by resolve() since Python 3.13
        if resolved.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    except (OSError, RuntimeError, ValueError) as error:
        raise _unwritable(path, error) from error
    parts = resolved.relative_to(workspace).parts
    if any(map(_is_git, parts)):
        raise ToolError(f"{shorten(path)} lies in .git, which is not for tools to write")
    if len(parts) > MAX_DEPTH:
        raise ToolError(f"path {shorten(path)} goes through more than {MAX_DEPTH} folders")
    refuse_database(resolved, path)
    return resolved


def replace_file(workspace: Path, resolved: Path, path: str, data: bytes) -> None:
    """Write a whole file, and the folders above it, so that a reader never sees half of it.

    An existing file keeps its mode, and its owner where the system lets it. `resolved` comes from
    `resolve_target`; a link put in its way since is not followed. Raises ToolError when it cannot be written;
    what was there is still there.
    """
    try:
        with _parent(workspace, resolved) as (folder, prefix):
            _replace(folder, prefix, resolved.name, path, data)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error


def refuse_database(resolved: Path, path: str) -> None:
    """Raise ToolError for a database that this process may have open: closing a file of it would drop its locks."""
    if not of_database(resolved):
        return
    if ours(resolved):
        hint = "`benchai memory`, `benchai threads` and `benchai stats` show it"
        raise ToolError(f"{shorten(path)} is BenchAI's own state, which is not for tools", hint=hint)
    hint = "the program `sqlite3` reads it"
    raise ToolError(f"{shorten(path)} is a SQLite database in use, or belongs to one", hint=hint)


@contextmanager
def open_file(workspace: Path, resolved: Path, path: str) -> Iterator[BufferedReader]:
    """Open a regular file for reading; `path` is what the model called it.

    Raises ToolError when it is a folder, a pipe, a device, a socket or a database in use, or may not be read.
    """
    try:
        _require_file(os.lstat(resolved).st_mode, path)
        refuse_database(resolved, path)
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


@contextmanager
def _parent(workspace: Path, resolved: Path) -> Iterator[tuple[int | None, str]]:
    """Open the folder of a file, made where it is missing; also what to put before names in it."""
    if not _BY_COMPONENT:
        resolved.parent.mkdir(parents=True, exist_ok=True)
        yield None, f"{resolved.parent}{os.sep}"
        return
    folder = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | _SAFE)
    for part in resolved.relative_to(workspace).parts[:-1]:
        folder = _step_or_make(folder, part)
    try:
        yield folder, ""
    finally:
        os.close(folder)


def _step_or_make(folder: int, part: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | _SAFE
    try:
        with suppress(FileNotFoundError):
            return os.open(part, flags, dir_fd=folder)
        with suppress(FileExistsError):
            os.mkdir(part, dir_fd=folder)
        return os.open(part, flags, dir_fd=folder)
    finally:
        os.close(folder)


def _replace(folder: int | None, prefix: str, name: str, path: str, data: bytes) -> None:
    before = _status(folder, prefix + name, path)
    partial = f"{prefix}.{secrets.token_hex(8)}.partial"
    descriptor = os.open(partial, _CREATE | _SAFE, 0o666, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if before is not None:
                make_like(file.fileno(), before)
            file.write(data)
        os.replace(partial, prefix + name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial, dir_fd=folder)
        raise


def _status(folder: int | None, name: str, path: str) -> os.stat_result | None:
    """Return what an existing file is like. Raises when it is no regular file, or may not be written."""
    try:
        _require_file(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode, path)
        # A renamed file would take the place of one that is read-only, so ask the system
        flags = os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
        descriptor = os.open(name, flags | _SAFE, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    _require_file(status.st_mode, path)
    return status


def _is_git(part: str) -> bool:
    # Spellings that file systems without case, or the one of Windows, take for .git
    plain = "".join(c for c in part if unicodedata.category(c) != "Cf").casefold().split(":")[0].rstrip(" .")
    return plain in {".git", "git~1"}


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


def _unwritable(path: str, error: Exception) -> ToolError:
    code = getattr(error, "errno", None)
    if isinstance(error, PermissionError):
        return ToolError(f"{shorten(path)} may not be written: permission denied")
    if isinstance(error, NotADirectoryError):
        return ToolError(f"path {shorten(path)} goes through a file or a link as if it were a folder")
    if code == errno.EROFS:
        return ToolError(f"{shorten(path)} cannot be written: the file system is read-only")
    if code in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}:
        return ToolError(f"{shorten(path)} cannot be written: the disk is full")
    if code in {errno.ENAMETOOLONG, errno.ELOOP} or not isinstance(error, OSError):
        return _unusable(path, error)
    return ToolError(f"{shorten(path)} cannot be written: {error.strerror or error}")


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
