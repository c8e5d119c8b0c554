"""A place that the vectors have left, emptied: not the one in use, nor another way to it, nor what others keep."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchai.errors import StoreError, StoreRefused
from benchai.memory import marker
from benchai.memory.chroma import DATABASE
from benchai.memory.index import OURS, prefix_of

if TYPE_CHECKING:
    from benchai.memory.chroma import Link
    from benchai.memory.opening import IndexPlace

#: Errors of SQLite after which nobody knows what a file holds.
_UNKNOWN = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
_STATUS = (401, 403)
#: How Chroma names the folder of a graph.
_GRAPH = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BUSY_SECONDS = 5.0


def empty(place: IndexPlace, present: IndexPlace | None, goes_on: Callable[[], bool] = lambda: True) -> None:
    """Delete all vectors of a memory in a place; blocks.

    A folder goes as a whole. On a server the collections of this memory go; what the server's own files keep of them
    is out of reach.

    Args:
        place: That is not used any more, and closed.
        present: That is used instead. Where both are the same server, by two names, nothing is deleted.
        goes_on: Asked before each deletion; False: nothing more is to be deleted.

    Raises:
        StoreError: it can't be done now; some of it may be deleted.
    """
    if place.chroma is None:
        _empty_folder(place, present, goes_on)
    else:
        _empty_server(place.chroma, place, present, goes_on)


def holds_vectors(folder: Path) -> bool:
    """Whether a folder is Chroma's and has collections of ours.

    Raises:
        StoreError: it can't be read now.
    """
    return any(name.startswith(OURS) for name in _collections(folder))


def see_link(folder: Path) -> None:
    """See that a folder, which may not be there, is no link that leads to nothing.

    Raises:
        StoreError: it is.
    """
    if folder.is_symlink() and not folder.is_dir():
        text = f"{str(folder)!r} is a link that leads to no folder: {str(folder.readlink())!r} is not there"
        raise StoreError(text, hint="mount the disk that it is on, or remove the link")


def delete(folder: Path) -> None:
    """Delete a folder of vectors, which may not be there; where it is a link, the vectors in the folder it leads to.

    Raises:
        StoreError: it can't be deleted, or what it leads to is not there.
    """
    see_link(folder)
    try:
        # first, since a folder without it is never opened: a crash leaves no half of an index
        (folder / DATABASE).unlink(missing_ok=True)
        if folder.is_symlink():
            _clear(folder)
        elif folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise StoreError(f"{str(folder)!r} can't be deleted: {error.strerror or error}") from error


def _clear(folder: Path) -> None:
    # a disk's own folder may have what is no business of ours
    for one in list(folder.iterdir()):
        if one.name.startswith(DATABASE) or one.name in (marker.NAME, "closed.partial"):
            one.unlink()
        elif _GRAPH.fullmatch(one.name) and one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)


def see_ours(folder: Path, store: str) -> None:
    """See that nobody else keeps collections in a folder, over which a server may have run.

    Raises:
        StoreError: somebody does; or it can't be read now.
    """
    if others := sorted(name for name in _collections(folder) if not name.startswith((prefix_of(), prefix_of(store)))):
        text = f"{str(folder)!r} can't be deleted: it holds collections of others: {', '.join(others[:5])}"
        raise StoreError(text, hint="move them elsewhere, or delete them")


def _empty_folder(place: IndexPlace, present: IndexPlace | None, goes_on: Callable[[], bool]) -> None:
    see_link(place.folder)
    if not place.folder.exists():
        return
    if present is not None and present.chroma is not None and (place.folder / DATABASE).exists():
        with _marked(present.chroma, present.prefix) as (link, name):
            if name in _collections(place.folder):
                # the server was started over the folder
                _drop(link, place.prefix, goes_on)
                return
    see_ours(place.folder, place.store)
    _see_goes_on(goes_on)
    delete(place.folder)


def _empty_server(url: str, place: IndexPlace, present: IndexPlace | None, goes_on: Callable[[], bool]) -> None:
    with _connected(url) as link:
        # in a folder ours have other names
        if present is None or present.chroma is None or not _same(link, present.chroma, present.prefix):
            _drop(link, place.prefix, goes_on)


def _same(link: Link, url: str, prefix: str) -> bool:
    """Whether a server is the one at an address: what is written there is found here."""
    with _marked(url, prefix) as (_, name):
        return name in link.names()


def _drop(link: Link, prefix: str, goes_on: Callable[[], bool]) -> None:
    for name in link.names():
        if name.startswith(prefix):
            _see_goes_on(goes_on)
            link.drop(name)


def _see_goes_on(goes_on: Callable[[], bool]) -> None:
    if not goes_on():
        raise StoreError("it was not emptied in time: the memory is closed")


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
        if isinstance(error, StoreRefused) or not _is_refused(error):
            raise
        text = f"the Chroma server {url!r} refuses the request: the key that it wants is not, or no longer, given"
        raise StoreRefused(text) from error


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
    see_link(folder)
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
