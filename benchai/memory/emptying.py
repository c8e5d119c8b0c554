"""A place that the vectors have left, emptied: not the one in use, nor another way to it, nor what others keep."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchai.errors import StoreError
from benchai.memory.chroma import DATABASE
from benchai.memory.index import OURS

if TYPE_CHECKING:
    from benchai.memory.chroma import Link
    from benchai.memory.opening import IndexPlace

#: Errors of SQLite after which nobody knows what a file holds.
_UNKNOWN = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
_STATUS = (401, 403)
_BUSY_SECONDS = 5.0


class _Refused(StoreError):
    """A server wants a key."""


def empty(place: IndexPlace, present: IndexPlace | None) -> None:
    """Delete all vectors of a memory in a place; blocks.

    A folder goes as a whole. On a server the collections of this memory go; what the server's own files keep of them
    is out of reach.

    Args:
        place: That is not used any more, and closed.
        present: That is used instead. Where both are the same server, by two names, nothing is deleted.

    Raises:
        StoreError: it can't be done now; some of it may be deleted.
    """
    if place.chroma is None:
        _empty_folder(place, present)
    else:
        _empty_server(place.chroma, place, present)


def holds_vectors(folder: Path) -> bool:
    """Whether a folder is Chroma's and has collections of ours alone."""
    try:
        names = _collections(folder)
    except StoreError:
        return False
    return bool(names) and all(name.startswith(OURS) for name in names)


def _empty_folder(place: IndexPlace, present: IndexPlace | None) -> None:
    if not place.folder.exists():
        return
    if present is not None and present.chroma is not None and (place.folder / DATABASE).exists():
        with _marked(present.chroma, present.prefix) as (link, name):
            if name in _collections(place.folder):
                # the server was started over the folder
                _drop(link, place.prefix)
                return
    try:
        # first, since a folder without it is never opened: a crash leaves no half of an index
        (place.folder / DATABASE).unlink(missing_ok=True)
        shutil.rmtree(place.folder)
    except OSError as error:
        raise StoreError(f"{str(place.folder)!r} can't be deleted: {error.strerror or error}") from error


def _empty_server(url: str, place: IndexPlace, present: IndexPlace | None) -> None:
    with _connected(url) as link:
        # in a folder ours have other names
        if present is None or present.chroma is None or not _same(link, present.chroma, present.prefix):
            _drop(link, place.prefix)


def _same(link: Link, url: str, prefix: str) -> bool:
    """Whether a server is the one at an address: what is written there is found here."""
    with _marked(url, prefix) as (_, name):
        return name in link.names()


def _drop(link: Link, prefix: str) -> None:
    for name in link.names():
        if name.startswith(prefix):
            link.drop(name)


@contextlib.contextmanager
def _marked(url: str, prefix: str) -> Iterator[tuple[Link, str]]:
    """A server with a new, empty collection, for a while; one that a crash leaves goes when the place is opened."""
    with _connected(url) as link:
        name = f"{prefix}way-{uuid.uuid4().hex}"
        link.make(name, "")
        try:
            yield link, name
        finally:
            link.drop(name)


@contextlib.contextmanager
def _connected(url: str) -> Iterator[Link]:
    from benchai.memory import chroma

    try:
        link = chroma.connect(url)
        try:
            yield link
        finally:
            link.close()
    except StoreError as error:
        # the error of another server passes as it is
        if isinstance(error, _Refused) or not _is_refused(error):
            raise
        text = f"the Chroma server {url!r} refuses the request: the key that it wants is not, or no longer, given"
        raise _Refused(text) from error


def _is_refused(error: BaseException | None) -> bool:
    seen = 0
    while error is not None and seen < 10:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in _STATUS or type(error).__name__ in ("ChromaAuthError", "AuthorizationError"):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def _collections(folder: Path) -> set[str]:
    """The names of those in a folder that nobody here has open; none where it is damaged.

    Raises:
        StoreError: it can't be read now.
    """
    file = folder / DATABASE
    if not file.is_file():
        return set()
    try:
        opened = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
        with contextlib.closing(opened) as connection:
            return {row[0] for row in connection.execute("SELECT name FROM collections")}
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNKNOWN:
            raise StoreError(f"{str(file)!r} can't be read: {error}") from error
        return set()
