"""Notes read and written by agents: a note is there as it was, or as it is to be, and nobody's change is lost.

A change names the hash of what was read, and is refused where the note is another by then. Agents wait for each other
(`Folder.locked`). Obsidian does not: a change that it saves in the moment between the last check and the renaming,
some microseconds, would be lost; nothing that can be done from outside closes that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchai.errors import NoteChanged, SourceError, UsageError
from benchai.memory.vault.edit import appended
from benchai.memory.vault.folder import MAX_BYTES, Folder, parent_of
from benchai.memory.vault.frontmatter import begins_with_front, written_front

_MARK = "\ufeff"


def read_note(vault: Path, path: str) -> tuple[str, str]:
    """The text of a note, and the SHA-256 of its bytes, hexadecimal.

    Args:
        vault: Its folder.
        path: From the vault's root, with or without ``.md``; case does not count.

    Raises:
        UsageError: the path is none that a note can have, or leads out of the vault.
        UnknownMemory: there is no such note.
        SourceError: it can't be read.
    """
    with parent_of(vault, path) as (folder, name):
        data, _ = folder.read(name)
    return _text(data, path).removeprefix(_MARK), _hash(data)


def create_note(vault: Path, path: str, text: str, *, properties: Mapping[str, Any] | None = None) -> str:
    """Write a new note, and the folders above it; the SHA-256 of its bytes.

    Args:
        vault: Its folder.
        path: From the vault's root; ``.md`` is put behind it where it is not.
        text: Of the note.
        properties: Its frontmatter.

    Raises:
        UsageError: the path is none, there is such a note, or the text has a frontmatter beside the properties.
        SourceError, StoreFull: it can't be written.
    """
    if properties and begins_with_front(text):
        raise UsageError("the text begins with a frontmatter, and properties are given, too", hint="give one of them")
    whole = (written_front(properties) if properties else "") + text
    data = _bytes(whole if whole.endswith("\n") or not whole else f"{whole}\n", path)
    with parent_of(vault, path, make=True) as (folder, name), folder.locked():
        try:
            _refuse_existing(folder, name)
            folder.create(name, data)
        except FileExistsError as error:
            raise UsageError(f"there is a note {path[:200]!r}", hint="append to it, or take another name") from error
    return _hash(data)


def append_note(vault: Path, path: str, text: str, *, heading: str | None = None, expected_hash: str | None) -> str:
    """Add lines to a note, as `edit.appended` does; the SHA-256 of its bytes afterwards.

    Args:
        vault: Its folder.
        path: From the vault's root, with or without ``.md``.
        text: One or more lines.
        heading: Under which they go; without one they go to the end.
        expected_hash: What `read_note` told, or the last change; None: whatever it is, as lines that stand for
            themselves can be added to any state of a note.

    Raises:
        NoteChanged: the note is not what was read; it stays as it is.
        UsageError: the path or the heading is none, or there is no text.
        UnknownMemory: there is no such note.
        SourceError, StoreFull: it can't be read or written.
    """
    if not text.strip():
        raise UsageError(f"there is nothing to append to {path[:200]!r}", hint="give a text")
    with parent_of(vault, path) as (folder, name), folder.locked():
        before, _ = folder.read(name)
        expected = _hash(before) if expected_hash is None else expected_hash
        if _hash(before) != expected:
            raise _changed(path, _hash(before), expected)
        data = _bytes(appended(_text(before, path), text, heading), path)
        if not folder.replace(name, data, before):
            raise _changed(path, _hash(folder.read(name)[0]), expected)
    return _hash(data)


def _refuse_existing(folder: Folder, name: str) -> None:
    if folder.spelled(name) != name:
        raise FileExistsError(name)


def _changed(path: str, found: str, expected: str) -> NoteChanged:
    return NoteChanged(
        f"the note {path[:200]!r} has the hash {found!r}, not {expected[:64]!r}", hint="read it again, then change it"
    )


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _text(data: bytes, path: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"the note {path[:200]!r} is no UTF-8", hint="save it as UTF-8 in Obsidian") from error


def _bytes(text: str, path: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        what = f"{text[error.start]!a} at offset {error.start}"
        raise UsageError(f"the text for {path[:200]!r} holds {what}, half a character", hint="leave it out") from error
    if b"\0" in data:
        raise UsageError(f"the text for {path[:200]!r} holds a NUL character", hint="leave it out")
    if len(data) > MAX_BYTES:
        raise UsageError(
            f"the note {path[:200]!r} would have {len(data):,} bytes, more than {MAX_BYTES:,}", hint="split it"
        )
    return data
