"""The way to Chroma: opened without its telemetry, its errors told as ours, and closed for good."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchai.errors import BenchAIError, CollectionGone, StoreDamaged, StoreError, StoreFull
from benchai.memory.room import ROOM, has_no_room, is_read_only, room_left

DATABASE = "chroma.sqlite3"
#: Seconds that a server may take for an answer.
ANSWER_SECONDS = 60.0
CONNECT_SECONDS = 5.0
#: Seconds that a call in a folder waits for another one.
TURN_SECONDS = 120.0
_CLOSE_SECONDS = 5.0
#: Bytes of a number, and those that SQLite may write for a row and its journal: some pages of each of its tables.
_NUMBER, _ROW = 4, 16 << 10
#: Rows that Chroma holds in memory, at most, before it writes them to the files of the graph.
_UNSAVED = 1000
_FULL = ("disk is full", "no space left", "disk full", "(code: 13)")
_ANEW = "`benchai memory rebuild` makes them anew; no text is lost"


class Link:
    """An open client of Chroma. In a folder one call is made at a time, whatever thread asks.

    A call that fails leaves a transaction open in one of Chroma's connections, now and then, and the next that writes
    waits 1000 s for it: so the client is closed where a call failed, and opened anew for the next one.

    Args:
        open: Opens a client of chromadb.
        failed: What a failure of it is.
        folder: Where the data are; None: on a server.

    Raises:
        StoreError: it can't be opened.
    """

    def __init__(
        self, open: Callable[[], Any], failed: Callable[[BaseException], StoreError], folder: Path | None = None
    ) -> None:
        self.folder = folder
        self._open = open
        self._failed = failed
        self._client: Any = None
        self._known: dict[str, Any] = {}
        self._damage: str | None = None
        self._failing = self._left = self._closed = False
        self._turn = threading.RLock()
        with self.told():
            self._client = open()
            #: Rows that one call may carry.
            self.batch: int = self._client.get_max_batch_size()

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turn what Chroma raises into a `StoreError`; nobody else calls it meanwhile, where it is in a folder."""
        from chromadb.errors import NotFoundError

        with self._alone():
            try:
                yield
            except BenchAIError:
                raise
            except NotFoundError as error:
                raise CollectionGone(str(error)) from error
            except Exception as error:
                raise self._broke(error) from error
            except BaseException as error:
                # a panic of its Rust part is no Exception
                if type(error).__name__ != "PanicException":
                    raise
                raise self._broke(error) from error

    def see_room(self, rows: int, dimension: int = 0) -> None:
        """See that a folder's disk takes so many rows more: Chroma does not fail well where it is full.

        Raises:
            StoreFull: it may not.
        """
        if self.folder is not None:
            need = ROOM + rows * (_ROW + 2 * _NUMBER * dimension) + _UNSAVED * _NUMBER * dimension
            if (free := room_left(self.folder)) is not None and free < need:
                raise _full(self.folder, f"the disk is full: {free} bytes are free, {need} may be needed")

    def collection(self, name: str) -> Any:
        """A collection, None if there is none of this name."""
        with contextlib.suppress(CollectionGone), self.told():
            client = self._opened()
            if name not in self._known:
                self._known[name] = client.get_collection(name, embedding_function=None)
            return self._known[name]
        return None

    def make(self, name: str, fingerprint: str) -> Any:
        """A new collection, or the one that somebody else has just made."""
        with self.told():
            self._known[name] = self._opened().get_or_create_collection(
                name,
                metadata={"fingerprint": fingerprint},
                configuration={"hnsw": {"space": "cosine"}},
                embedding_function=None,
            )
            return self._known[name]

    def lose(self, name: str) -> None:
        """Look for a collection again when it is needed next: somebody else has dropped it."""
        self._known.pop(name, None)

    def drop(self, name: str) -> None:
        """Delete a collection; one that is not there is no error."""
        self.lose(name)
        with contextlib.suppress(CollectionGone), self.told():
            self.see_room(0)
            self._opened().delete_collection(name)

    def names(self) -> list[str]:
        """Of all collections."""
        with self.told():
            return [collection.name for collection in self._opened().list_collections()]

    def close(self) -> bool:
        """End the client with its threads and files; whether it was open until now, and nothing had failed."""
        with self._alone():
            was_open, self._closed = self._client is not None, True
            with self.told():
                self._end()
            # a disk that is full while a graph is written leaves half of it
            return was_open and not self._failing and not self._left

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self.folder is None:
            yield
            return
        if not self._turn.acquire(timeout=TURN_SECONDS):
            raise StoreError(
                f"the vectors in {str(self.folder)!r} can't be used: another call has taken {TURN_SECONDS:g} s so far",
                hint="see whether the disk answers, and start this program anew; all else goes on by words alone",
            )
        try:
            yield
        finally:
            self._turn.release()

    def _broke(self, error: BaseException) -> StoreError:
        self._failing = True
        if self.folder is not None:
            try:
                self._end()
            except Exception:
                self._left = True
        return self._failed(error)

    def _end(self) -> None:
        client, self._client = self._client, None
        self._known.clear()
        if client is None:
            return
        # its connections stay open else: two sets of them, one for the questions at its start
        servers = (client._server, client._admin_client._server)
        client.close()
        for session in [server._session for server in servers if hasattr(server, "_session")]:
            session.close()
        self._left = self.folder is not None and not _files_closed(self.folder)

    def _opened(self) -> Any:
        """The client, opened anew where a call has failed.

        Raises:
            StoreError: it can't be.
        """
        if self._client is None:
            if self.folder is not None:
                self._see_folder(self.folder)
            self._client = self._open()
        return self._client

    def _see_folder(self, folder: Path) -> None:
        """See that what a call that failed has left behind can be opened."""
        from benchai.memory.probe import probe

        if self._closed or (self._left and not _files_closed(folder)):
            why = "they are closed" if self._closed else "what failed still has their files open"
            raise StoreError(f"the vectors in {str(folder)!r} can't be used: {why}", hint="start this program anew")
        self.see_room(0)
        # half a graph can end the process that opens it
        self._damage = self._damage or probe(folder)
        if self._damage is not None:
            raise StoreDamaged(f"the vectors in {str(folder)!r} can't be used: {self._damage}", hint=_ANEW)
        self._left = self._failing = False


def open_folder(folder: Path) -> Link:
    """Chroma in a folder, made for this user alone if it is not there.

    Raises:
        StoreDamaged: it can't be read.
        StoreFull: the disk is full.
        StoreError: the folder can't be written, or Chroma itself can't be loaded.
    """
    library = _library()
    settings = _settings(chroma_api_impl="chromadb.api.rust.RustBindingsAPI")

    def client() -> Any:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return library.PersistentClient(str(folder.resolve()), settings=settings)
        except BaseException:
            _forget(library, folder)
            raise

    return Link(client, lambda error: _failed_in(folder, error), folder)


def _forget(library: Any, folder: Path) -> None:
    """Make Chroma forget what failed to open: it would give the broken rest to whoever opens the folder again."""
    known = getattr(library.api.shared_system_client.SharedSystemClient, "_identifier_to_system", {})
    known.pop(str(folder.resolve()), None)


def connect(url: str) -> Link:
    """Chroma on a server.

    Raises:
        StoreError: it can't be reached.
    """
    import httpx

    def failed(error: BaseException) -> StoreError:
        return StoreError(
            f"the Chroma server {url!r} failed: {error!s:.300}",
            hint="see that it runs (`chroma run --host HOST --port PORT`) and that memory.chroma names it",
        )

    encrypted = urlsplit(url).scheme == "https"
    _library()
    from benchai.memory.chroma_client import Limited

    try:
        # a short word first: most servers that are away are known by it
        alive = f"{url.rstrip('/')}/api/v2/heartbeat"
        httpx.get(alive, timeout=CONNECT_SECONDS, verify=encrypted).raise_for_status()
        client: Any = Limited(_server_settings(url), CONNECT_SECONDS)
    except Exception as error:
        raise failed(error) from error
    client._server._session.timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    return Link(lambda: client, failed)


def _server_settings(url: str) -> Any:
    parts = urlsplit(url)
    encrypted = parts.scheme == "https"
    # reading the certificates takes 0.05 s for each of three clients
    more = {} if encrypted else {"chroma_server_ssl_verify": False}
    return _settings(
        chroma_api_impl="chromadb.api.fastapi.FastAPI",
        chroma_server_host=parts.hostname or "",
        chroma_server_http_port=parts.port or (443 if encrypted else 80),
        chroma_server_ssl_enabled=encrypted,
        **more,
    )


def _library() -> Any:
    try:
        import chromadb
    except Exception as error:
        # it reads the .env of the folder that a user happens to be in
        raise StoreError(
            f"Chroma can't be loaded: {error!s:.300}",
            hint="see `pip show chromadb`, and whether a file .env here is no text",
        ) from error
    return chromadb


def _settings(**own: Any) -> Any:
    from chromadb.config import Settings

    # named here, for the environment and a .env would be asked otherwise
    return Settings(_env_file=None, anonymized_telemetry=False, **own)


def _failed_in(folder: Path, error: BaseException) -> StoreError:
    text = f"{error!s:.300}"
    # the part that writes graphs does not tell why it failed
    if any(words in text.lower() for words in _FULL) or has_no_room(folder):
        return _full(folder, text)
    if is_read_only(folder, folder / DATABASE):
        hint = "check the permissions of the folder; what is asked is answered by words alone"
        return StoreError(f"the vectors in {str(folder)!r} can't be written: {text}", hint=hint)
    return StoreDamaged(f"the vectors in {str(folder)!r} can't be used: {text}", hint=_ANEW)


def _full(folder: Path, why: str) -> StoreFull:
    return StoreFull(f"the vectors in {str(folder)!r} can't be kept: {why}", hint="make room on the disk")


def _files_closed(folder: Path) -> bool:
    """Wait until its threads have closed the SQLite file, which they do a moment after its own close."""
    import psutil

    own, until = str(folder.resolve()), time.monotonic() + _CLOSE_SECONDS
    while any(Path(opened.path).is_relative_to(own) for opened in psutil.Process().open_files()):
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True
