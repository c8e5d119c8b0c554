"""The way to Chroma: opened without its telemetry, its errors told as ours, and closed for good."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchai.errors import BenchAIError, CollectionGone, StoreDamaged, StoreError, StoreFull

#: Seconds that a server may take for an answer.
ANSWER_SECONDS = 60.0
CONNECT_SECONDS = 5.0
_CLOSE_SECONDS = 5.0
#: Bytes below which a disk is called full when writing has failed.
_ROOM = 1 << 20
_FULL = ("disk is full", "no space left", "disk full", "(code: 13)")


class Link:
    """An open client of Chroma.

    Args:
        client: Of chromadb.
        failed: What a failure of it is.
        folder: Where the data are; None: on a server.
    """

    def __init__(self, client: Any, failed: Callable[[BaseException], StoreError], folder: Path | None = None) -> None:
        self.folder = folder
        self.failures = 0
        self._client = client
        self._failed = failed
        with self.told():
            #: Rows that one call may carry.
            self.batch: int = client.get_max_batch_size()

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turn what Chroma raises into a `StoreError`."""
        from chromadb.errors import NotFoundError

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

    def collection(self, name: str) -> Any:
        """A collection, None if there is none of this name."""
        with contextlib.suppress(CollectionGone), self.told():
            return self._client.get_collection(name, embedding_function=None)
        return None

    def make(self, name: str, fingerprint: str) -> Any:
        """A new collection, or the one that somebody else has just made."""
        with self.told():
            return self._client.get_or_create_collection(
                name,
                metadata={"fingerprint": fingerprint},
                configuration={"hnsw": {"space": "cosine"}},
                embedding_function=None,
            )

    def drop(self, name: str) -> None:
        """Delete a collection; one that is not there is no error."""
        with contextlib.suppress(CollectionGone), self.told():
            self._client.delete_collection(name)

    def names(self) -> list[str]:
        """Of all collections."""
        with self.told():
            return [collection.name for collection in self._client.list_collections()]

    def close(self) -> bool:
        """End the client with its threads and files; whether it was open until now, and nothing had failed."""
        client, self._client = self._client, None
        if client is None:
            return False
        with self.told():
            # its connections stay open else: two sets of them, one for the questions at its start
            servers = (client._server, client._admin_client._server)
            client.close()
            for session in [server._session for server in servers if hasattr(server, "_session")]:
                session.close()
        # a disk that is full while a graph is written leaves half of it
        return self.failures == 0 and (self.folder is None or _files_closed(self.folder))

    def _broke(self, error: BaseException) -> StoreError:
        self.failures += 1
        return self._failed(error)


def open_folder(folder: Path) -> Link:
    """Chroma in a folder, made for this user alone if it is not there.

    Raises:
        StoreDamaged: it can't be read.
        StoreFull: the disk is full.
        StoreError: Chroma itself can't be loaded.
    """

    def failed(error: BaseException) -> StoreError:
        return _failed_in(folder, error)

    library = _library()
    settings = _settings(chroma_api_impl="chromadb.api.rust.RustBindingsAPI")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Link(library.PersistentClient(str(folder.resolve()), settings=settings), failed, folder)
    except StoreError:
        raise
    except Exception as error:
        raise failed(error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise failed(error) from error


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

    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    library = _library()
    settings = _settings(chroma_server_host=host, chroma_server_http_port=port)
    try:
        # Chroma's own client waits for ever
        httpx.get(f"{url.rstrip('/')}/api/v2/heartbeat", timeout=CONNECT_SECONDS).raise_for_status()
        client = library.HttpClient(host, port, ssl=parts.scheme == "https", settings=settings)
    except Exception as error:
        raise failed(error) from error
    client._server._session.timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    return Link(client, failed)


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
    if any(words in text.lower() for words in _FULL) or _no_room(folder):
        return StoreFull(f"the vectors in {str(folder)!r} can't be kept: {text}", hint="make room on the disk")
    return StoreDamaged(
        f"the vectors in {str(folder)!r} can't be used: {text}",
        hint="`benchai memory rebuild` makes them anew; no text is lost",
    )


def _no_room(folder: Path) -> bool:
    # the part that writes graphs does not tell why it failed
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < _ROOM
    return False


def _files_closed(folder: Path) -> bool:
    """Wait until its threads have closed the SQLite file, which they do a moment after its own close."""
    import psutil

    own, until = str(folder.resolve()), time.monotonic() + _CLOSE_SECONDS
    while any(Path(opened.path).is_relative_to(own) for opened in psutil.Process().open_files()):
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True
