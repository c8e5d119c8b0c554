"""What there is to read below a folder: its regular files, in order, and what is left out and why."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchai.config.paths import of_database
from benchai.errors import SourceError
from benchai.memory.ignored import FOLDERS, Rules, above, ignored, is_litter, is_secret, rules_of
from benchai.memory.loaders.choose import BINARY

_DEEPEST = 200  # folders within folders
_SECRET = "its name is that of a secret"  # noqa: S105
_NAME_IT = "name the file itself to read it all the same"


class Failure(NamedTuple):
    """A source that was not read, why, and the mend ("" where there is none)."""

    source: str
    reason: str
    hint: str = ""


class File(NamedTuple):
    """A file that can be read: its path as in `Document.source`, bytes, and time of change in ns since 1970."""

    source: str
    size: int
    mtime_ns: int


@dataclass(slots=True)
class Scan:
    """What was found.

    Attributes:
        root: The folder, or the file's own path: absolute, links resolved, forward slashes.
        files: Sorted by their paths, folder by folder.
        failures: Folders and files that can't be read: what is kept of them stays.
        left_out: What is there, but not meant: links that lead out of the root, secrets.
        passed: How many files were passed over: they are empty, databases in use, or their suffix is of no document.
    """

    root: str
    files: list[File] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    left_out: list[Failure] = field(default_factory=list)
    passed: int = 0


class _Folder(NamedTuple):
    path: Path
    prefix: str
    rules: list[Rules]
    depth: int


def scan(path: Path) -> Scan:
    """What there is to read at a path: a file, or a folder and all below it.

    Links within a folder are not followed: what they point to is read where it is, or it lies outside.

    Raises:
        SourceError: nothing is there, or it is neither file nor folder.
    """
    root = resolved(path)
    mode = _stat(root).st_mode
    if stat.S_ISDIR(mode):
        return _Scanner(root).run()
    return Scan(source_of(root), [file_of(root)])


def is_meant(root: Path, path: Path) -> bool:
    """Whether a scan of a folder would come upon a path below it, be it a file, a folder, or gone."""
    rules, prefix, folder = above(root), "", root
    *folders, name = path.relative_to(root).parts
    for part in folders:
        rules = _with_own(rules, folder, prefix)
        prefix, folder = f"{prefix}{part}/", folder / part
        if part in FOLDERS or is_secret(part, folder=True) or ignored(prefix, rules) or folder.is_symlink():
            return False
    rules = _with_own(rules, folder, prefix)
    if path.is_symlink() or name in FOLDERS or ignored(f"{prefix}{name}", rules):
        return False
    if name == ".gitignore":
        return True
    return not (is_litter(name) or is_secret(name) or path.suffix.lower() in BINARY or of_database(path))


def _with_own(rules: list[Rules], folder: Path, prefix: str) -> list[Rules]:
    try:
        own = rules_of(folder, prefix)
    except OSError:
        own = None
    return [*rules, own] if own else rules


def resolved(path: Path) -> Path:
    """The path that is the same for all ways to a file.

    Raises:
        SourceError: its links lead in a circle, or it can't be looked at.
    """
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"{str(path)!r} can't be read: {reason_of(error)}", hint="check the path") from error


def source_of(path: Path) -> str:
    """How a file is called in the memory.

    Raises:
        SourceError: its name is no text.
    """
    source = path.as_posix()
    try:
        source.encode()
    except UnicodeEncodeError:
        raise SourceError(f"the name {source!r} is not UTF-8", hint="rename it: convmv -f latin1 -t utf-8") from None
    return source


def file_of(path: Path) -> File:
    """A file that is named by itself.

    Raises:
        SourceError: it is not there, or no regular file.
    """
    found = _stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise SourceError(f"{str(path)!r} is neither a file nor a folder", hint="name a file, a folder, a URL, or -")
    return File(source_of(path), found.st_size, found.st_mtime_ns)


def reason_of(error: BaseException) -> str:
    """What an operating system's error says, without the path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def mend_of(error: BaseException) -> str:
    """What may help against an operating system's error of reading."""
    gone = isinstance(error, FileNotFoundError | NotADirectoryError)
    return "see whether it is still there" if gone else "check its permissions"


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceError(f"{str(path)!r} does not exist", hint="check the path") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"{str(path)!r} can't be read: {reason_of(error)}", hint=mend_of(error)) from error


class _Scanner:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._found = Scan(source_of(root))

    def run(self) -> Scan:
        waiting = [_Folder(self._root, "", above(self._root), 0)]
        while waiting:
            folder = waiting.pop()
            try:
                waiting += reversed(list(self._folder(folder)))
            except OSError as error:
                self._fail(self._name(folder.prefix.rstrip("/")), reason_of(error), mend_of(error))
        self._found.files.sort()
        return self._found

    def _folder(self, folder: _Folder) -> Iterator[_Folder]:
        own = rules_of(folder.path, folder.prefix)
        rules = [*folder.rules, own] if own else folder.rules
        with os.scandir(folder.path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = f"{folder.prefix}{entry.name}"
                if entry.is_symlink():
                    self._link(entry, name, rules)
                elif entry.is_dir(follow_symlinks=False):
                    if self._enters(entry, f"{name}/", rules, folder.depth):
                        yield _Folder(folder.path / entry.name, f"{name}/", rules, folder.depth + 1)
                elif entry.is_file(follow_symlinks=False):
                    self._file(entry, name, rules)

    def _enters(self, entry: os.DirEntry[str], name: str, rules: list[Rules], depth: int) -> bool:
        if entry.name in FOLDERS or ignored(name, rules):
            return False
        if is_secret(entry.name, folder=True):
            self._found.left_out.append(Failure(self._name(name), _SECRET, _NAME_IT))
            return False
        if depth >= _DEEPEST:
            self._fail(self._name(name), f"lies more than {_DEEPEST} folders deep", "name the folder itself")
            return False
        return True

    def _file(self, entry: os.DirEntry[str], name: str, rules: list[Rules]) -> None:
        if is_litter(entry.name) or ignored(name, rules):
            return
        # paths are slow to make, and files many
        if os.path.splitext(entry.name)[1].lower() in BINARY or of_database(entry.path):  # noqa: PTH122
            self._found.passed += 1
        elif is_secret(entry.name):
            self._found.left_out.append(Failure(self._name(name), _SECRET, _NAME_IT))
        else:
            self._add(entry, name)

    def _add(self, entry: os.DirEntry[str], name: str) -> None:
        try:
            name.encode()
            found = entry.stat(follow_symlinks=False)
        except UnicodeEncodeError:
            self._fail(self._name(name), "its name is not UTF-8", "rename it: convmv -f latin1 -t utf-8")
        except OSError as error:
            self._fail(self._name(name), reason_of(error), mend_of(error))
        else:
            self._found.passed += not found.st_size
            if found.st_size:
                self._found.files.append(File(self._name(name), found.st_size, found.st_mtime_ns))

    def _link(self, entry: os.DirEntry[str], name: str, rules: list[Rules]) -> None:
        if entry.name in FOLDERS or is_litter(entry.name) or ignored(name, rules):
            return
        try:
            target = (self._root / name).resolve(strict=True)
        except (OSError, RuntimeError) as error:
            self._found.left_out.append(Failure(self._name(name), f"a link that leads nowhere: {reason_of(error)}"))
            return
        if not target.is_relative_to(self._root):
            reason = f"a link that leads out of {self._found.root!r}"
            self._found.left_out.append(Failure(self._name(name), reason, "name what it points to"))

    def _name(self, inner: str) -> str:
        # a name that is no UTF-8 must not end the listing of all others
        shown = inner.encode("utf-8", "backslashreplace").decode()
        return f"{self._found.root.rstrip('/')}/{shown}".rstrip("/") or "/"

    def _fail(self, source: str, reason: str, hint: str) -> None:
        self._found.failures.append(Failure(source, reason, hint))
