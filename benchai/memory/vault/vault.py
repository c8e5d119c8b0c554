"""Where a vault is, and what lies in it: its notes, and the files that they may link."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchai.errors import SourceError, UsageError
from benchai.memory.reading import read_file
from benchai.memory.scan import Failure, File, mend_of, reason_of, resolved, source_of
from benchai.memory.types import Link
from benchai.memory.vault.reader import NoteReader
from benchai.memory.vault.resolve import Graph, Names

SETTINGS = ".obsidian"
_DEEPEST = 64
_LONGEST_PATTERN = 1_000
Passes = Callable[[str], bool]


@dataclass(slots=True)
class VaultScan:
    """What a vault holds.

    Attributes:
        root: Its folder as in `Document.source`.
        notes: In the order of their paths.
        attachments: Paths from the root of all other files, for links.
        failures: What can't be read: what is kept of it stays.
    """

    root: str
    notes: list[File] = field(default_factory=list)
    attachments: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def find_vault(path: Path, *, force: bool = False) -> Path:
    """The folder of the vault that a path names, links resolved.

    Args:
        path: Its folder.
        force: Whether a folder without ``.obsidian`` will do.

    Raises:
        UsageError: it is none: a vault has a folder ``.obsidian``.
        SourceError: the path can't be looked at.
    """
    root = resolved(path)
    if not root.is_dir():
        raise UsageError(f"{str(path)!r} is no folder", hint="give the folder of an Obsidian vault")
    if force or (root / SETTINGS).is_dir():
        return root
    above = next((folder for folder in root.parents if (folder / SETTINGS).is_dir()), None)
    hint = (
        f"the vault is {str(above)!r}"
        if above
        else "`benchai memory add` takes a plain folder, --force takes it as one"
    )
    raise UsageError(f"{str(path)!r} is no Obsidian vault: it has no folder {SETTINGS}", hint=hint)


def scan_vault(root: Path) -> VaultScan:
    """Notes and other files of a vault, without hidden ones and those that Obsidian's settings exclude.

    Links within the vault are not followed: a note is read where it is.
    """
    found = VaultScan(source_of(root))
    passes = exclusions(root)
    waiting = [("", 0)]
    while waiting:
        prefix, depth = waiting.pop()
        try:
            waiting += [(name, depth + 1) for name in _folder(root, prefix, passes, found) if depth < _DEEPEST]
        except OSError as error:
            found.failures.append(Failure(_source(found, prefix.rstrip("/")), reason_of(error), mend_of(error)))
    found.notes.sort()
    found.attachments.sort()
    return found


def read_graph(root: Path) -> Graph:
    """Which notes of a vault link which, and what leads nowhere, read from its files.

    A note that can't be read has no links, and is no place that links lead to.
    """
    found = scan_vault(root)
    reader = NoteReader(found.root)
    links: dict[str, tuple[Link, ...]] = {}
    aliases: dict[str, list[str]] = {}
    for file in found.notes:
        path = file.source[len(found.root.rstrip("/")) + 1 :]
        with suppress(SourceError):
            note = reader(file.source, read_file(file, reader.cap).data if file.size else b"")
            links[path] = note.links
            named = note.meta.get("aliases")
            aliases[path] = named if isinstance(named, list) else []
    return Graph(Names([*links, *found.attachments], aliases), links)


def exclusions(root: Path) -> Passes:
    """Whether Obsidian's settings leave a path in: ``userIgnoreFilters`` are beginnings, or expressions in slashes."""
    try:
        settings = json.loads((root / SETTINGS / "app.json").read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return lambda path: True
    filters = settings.get("userIgnoreFilters") if isinstance(settings, dict) else None
    texts = [text for text in filters if isinstance(text, str)] if isinstance(filters, list) else []
    tests = [test for text in texts if (test := _filter(text)) is not None]
    return lambda path: not any(test(path) for test in tests)


def _filter(text: str) -> Callable[[str], Any] | None:
    if len(text) > 2 and text.startswith("/") and text.endswith("/"):
        try:
            return re.compile(text[1:-1][:_LONGEST_PATTERN], re.IGNORECASE).search
        except (re.error, RecursionError, OverflowError):
            return None
    begin = text.strip().lstrip("/").lower()
    return (lambda path: path.lower().startswith(begin)) if begin else None


def _folder(root: Path, prefix: str, passes: Passes, found: VaultScan) -> Iterator[str]:
    """The folders in one; its files go to what is found."""
    with os.scandir(root / prefix) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = f"{prefix}{entry.name}"
            if entry.name.startswith(".") or entry.is_symlink():
                continue
            if entry.is_dir(follow_symlinks=False):
                if passes(f"{name}/"):
                    yield f"{name}/"
            elif entry.is_file(follow_symlinks=False) and passes(name):
                _file(entry, name, found)


def _file(entry: os.DirEntry[str], name: str, found: VaultScan) -> None:
    source = _source(found, name)
    if not name.lower().endswith(".md"):
        found.attachments.append(name.encode("utf-8", "backslashreplace").decode())
        return
    try:
        name.encode()
        status = entry.stat(follow_symlinks=False)
    except UnicodeEncodeError:
        found.failures.append(Failure(source, "its name is not UTF-8", "rename it: convmv -f latin1 -t utf-8"))
    except OSError as error:
        found.failures.append(Failure(source, reason_of(error), mend_of(error)))
    else:
        found.notes.append(File(source, status.st_size, status.st_mtime_ns))


def _source(found: VaultScan, name: str) -> str:
    # a name that is no UTF-8 must not end the listing of all others
    return f"{found.root.rstrip('/')}/{name.encode('utf-8', 'backslashreplace').decode()}"
