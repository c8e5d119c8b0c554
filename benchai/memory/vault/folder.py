"""Files of a vault, confined to it: names checked, links followed no further than the vault, replaced as a whole.

A folder is opened one name at a time without following links, so that a link put in its way after the check leads
nowhere. While it is `locked`, other agents' writes wait; what replaces a file has a name that Obsidian ignores.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchai.config.paths import make_like
from benchai.errors import SourceError, StoreFull, UnknownMemory, UsageError, nearest
from benchai.memory.vault.resolve import folded

try:
    import fcntl
except ImportError:  # no POSIX system: only the check before the replacement guards there
    fcntl = None  # type: ignore[assignment]

#: Bytes of a note's whole file.
MAX_BYTES = 5_000_000
_MAX_DEPTH = 32
_NEAREST_OF = 2_000  # notes that are compared with a misspelt one
_MAX_NAME = 240  # bytes: most file systems take 255, and a copy needs some more
_FORBIDDEN = re.compile(r'[\\/:*?"<>|#^\[\]\x00-\x1f\x7f\ud800-\udfff]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(?:\..*)?", re.IGNORECASE)
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | _SAFE
_BY_NAME = os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY")


@dataclass(frozen=True, slots=True)
class Folder:
    """An open folder of a vault."""

    number: int | None
    path: Path

    def spelled(self, name: str) -> str:
        """A name as the folder has it: case does not count, as on the file systems that vaults are synchronised to."""
        names = self._names()
        return name if name in names else next((one for one in names if folded(one) == folded(name)), name)

    def read(self, name: str) -> tuple[bytes, os.stat_result]:
        """A file's bytes, and what it is like.

        Raises:
            SourceError: it is no regular file, or too large.
            OSError: it can't be read.
        """
        descriptor = os.open(self._of(name), _READ, dir_fd=self.number)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SourceError(f"{name!r} is no regular file", hint="name a note")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(MAX_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(data) > MAX_BYTES:
            raise SourceError(f"{name!r} has more than {MAX_BYTES:,} bytes", hint="split the note")
        return data, status

    def create(self, name: str, data: bytes) -> None:
        """Write a new file. Raises OSError; FileExistsError where there is one, which stays as it is."""
        with self._partial(data, None) as partial:
            try:
                os.link(self._of(partial), self._of(name), src_dir_fd=self.number, dst_dir_fd=self.number)
            except FileExistsError:
                raise
            except OSError as error:  # a file system without hard links
                if name in self._names():
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
                self._rename(partial, name)

    def replace(self, name: str, data: bytes, before: bytes) -> bool:
        """Write a file whole, with the mode it has; False, and nothing done, where it is not what it was before.

        Raises:
            OSError: it can't be written; what was there is still there.
        """
        # a renamed file would take the place of a read-only one, so ask the system
        os.close(os.open(self._of(name), os.O_WRONLY | _SAFE, dir_fd=self.number))
        status = self.read(name)[1]
        with self._partial(data, status) as partial:
            if self.read(name)[0] != before:
                return False
            self._rename(partial, name)
        return True

    def open(self, name: str, make: bool = False) -> Folder:
        """The folder of that name in this one. Raises OSError."""
        if make:
            # another agent may make it at this moment, spelt in another way
            with self.locked():
                name = self.spelled(name)
                with suppress(FileExistsError):
                    os.mkdir(self._of(name), dir_fd=self.number)
        path = self.path / name
        if self.number is None:
            return Folder(None, path)
        return Folder(os.open(name, os.O_RDONLY | os.O_DIRECTORY | _SAFE, dir_fd=self.number), path)

    def close(self) -> None:
        """Close it."""
        if self.number is not None:
            os.close(self.number)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Other agents' writes in this folder wait meanwhile; a file system that can't lock lets them through."""
        if fcntl is None or self.number is None:
            yield
            return
        with suppress(OSError):
            fcntl.flock(self.number, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(self.number, fcntl.LOCK_UN)

    def _names(self) -> list[str]:
        with os.scandir(self.path if self.number is None else self.number) as entries:
            return sorted(entry.name for entry in entries)

    def _rename(self, partial: str, name: str) -> None:
        os.replace(self._of(partial), self._of(name), src_dir_fd=self.number, dst_dir_fd=self.number)
        if self.number is not None:
            with suppress(OSError):  # some file systems have no fsync of folders
                os.fsync(self.number)

    @contextmanager
    def _partial(self, data: bytes, like: os.stat_result | None) -> Iterator[str]:
        partial = f".{secrets.token_hex(8)}.partial"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE
        try:
            with os.fdopen(os.open(self._of(partial), flags, 0o666, dir_fd=self.number), "wb") as file:
                if like is not None:
                    make_like(file.fileno(), like)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield partial
        finally:
            with suppress(FileNotFoundError):
                os.unlink(self._of(partial), dir_fd=self.number)

    def _of(self, name: str) -> Any:
        return name if self.number is not None else self.path / name


def note_parts(path: str) -> list[str]:
    """The folders and the name of a note, from the vault's root; ``.md`` is put behind the name where it is not.

    Raises:
        UsageError: the path is none that a note can have on all systems.
    """
    parts = unicodedata.normalize("NFC", path.strip()).split("/")
    if not parts[-1].lower().endswith(".md"):
        parts[-1] += ".md"
    for part in parts:
        if reason := _bad(part, last=part is parts[-1]):
            raise UsageError(
                f"{path[:200]!r} is no path of a note: {reason}", hint="give it from the vault's root: Folder/Name"
            )
    if len(parts) > _MAX_DEPTH:
        raise UsageError(f"{path[:200]!r} goes through more than {_MAX_DEPTH} folders", hint="give a shorter path")
    return parts


def _bad(part: str, last: bool) -> str:
    """Why a name is none; "" for a good one."""
    name = part[:-3] if last else part
    if not name.strip():
        return "a name in it is empty"
    if found := _FORBIDDEN.search(part):
        return f"{found[0]!r} can't stand in a name"
    # some file systems skip characters without a width, and so would find what is hidden
    if "".join(char for char in part if unicodedata.category(char) != "Cf").lstrip().startswith("."):
        return "names that begin with a dot are hidden, and Obsidian's own"
    if name != name.strip() or name.endswith(".") or _RESERVED.fullmatch(part):
        return f"not all systems can store {part[:80]!r}"
    return f"{part[:80]!r} is too long" if len(part.encode()) > _MAX_NAME else ""


@contextmanager
def parent_of(vault: Path, path: str, *, make: bool = False) -> Iterator[tuple[Folder, str]]:
    """The open folder of a note, and the note's name there.

    Args:
        vault: Its folder.
        path: Of the note, from the vault's root.
        make: Whether folders that are not there are made.

    Raises:
        UsageError: the path is none of a note, or leads out of the vault or into what is hidden.
        UnknownMemory: a folder, or the note, is not there.
        StoreFull: the disk is full.
        SourceError: the note can't be read or written.
    """
    parts = note_parts(path)
    try:
        folder = Folder(*_root(vault))
        try:
            *folders, name = _resolved(folder.path, parts, path)
            for part in folders:
                inner = folder.open(part, make)
                folder.close()
                folder = inner
            yield folder, name
        finally:
            folder.close()
    except OSError as error:
        raise _in_our_words(vault, path, error) from error


def _root(vault: Path) -> tuple[int | None, Path]:
    root = vault.resolve(strict=True)
    return (os.open(root, os.O_RDONLY | os.O_DIRECTORY) if _BY_NAME else None), root


def _resolved(root: Path, parts: Sequence[str], path: str) -> tuple[str, ...]:
    """The names from the root, as they are spelt there, links followed."""
    here = root
    for part in parts:
        here = here / (Folder(None, here).spelled(part) if here.is_dir() else part)
    try:
        here = here.resolve()
    except RuntimeError as error:  # how pathlib before Python 3.13 tells of a loop
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error
    inside = here.relative_to(root).parts if here.is_relative_to(root) else ()
    if not inside or any(part.startswith(".") for part in inside):
        raise UsageError(f"{path[:200]!r} leads out of the vault, or into a hidden folder", hint="name another note")
    return inside


def _names_in(vault: Path) -> Iterator[str]:
    """The notes of a vault without their suffix, in no order."""
    for folder, folders, names in os.walk(vault):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = Path(folder).relative_to(vault)
        yield from ((prefix / name[:-3]).as_posix() for name in names if name.endswith(".md"))


def _in_our_words(vault: Path, path: str, error: OSError) -> Exception:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        if not vault.is_dir():
            return SourceError(f"the vault {str(vault)!r} is not there", hint="check the path of the vault")
        guess = nearest(path[:200], islice(_names_in(vault), _NEAREST_OF))
        return UnknownMemory(
            f"the vault has no note {path[:200]!r}", hint=f"did you mean {guess!r}?" if guess else "check its path"
        )
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return StoreFull(f"the note {path[:200]!r} can't be written: the disk is full", hint="free space on it")
    reason, hint = error.strerror or str(error), "check its permissions, and those of its disk"
    return SourceError(f"the note {path[:200]!r} can't be read or written: {reason}", hint=hint)
