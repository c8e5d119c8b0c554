"""Fetch a file of the Hugging Face hub: resumed where it was cut off, checked against the SHA-256 that the hub tells.

The hub's own client begins a file anew when its process ends, and checks no hash.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from benchai.config import paths
from benchai.config.hub_errors import WriteFailed, reason, status_of, told
from benchai.errors import ModelFileError

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

#: Is told a file's name, the bytes that are there, and its bytes in all.
Progress = Callable[[str, int, int], None]

#: Connections in a row that bring nothing, and seconds between them.
TRIES, PAUSE = 5, 1.0
MIB = 1024 * 1024
_CHUNK = 4 * MIB
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class HubFile:
    """One file of a repository; ``size`` in bytes, ``sha256`` None where the hub tells none (small text files)."""

    repo: str
    name: str
    size: int
    sha256: str | None


def list_files(repo: str) -> list[HubFile]:
    """All files of a repository.

    Raises:
        ModelFileError: no such repository, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    with told(repo):
        found = HfApi().list_repo_tree(repo, recursive=True)
        files = [one for one in found if isinstance(one, RepoFile)]
        return [HubFile(repo, one.path, one.size, one.lfs.sha256 if one.lfs else None) for one in files]


def fetch(file: HubFile, target: Path, progress: Progress | None = None) -> Path:
    """Fetch a file to a path, where it appears whole or not at all.

    What was fetched before a cut is kept beside the target, and the next call goes on there.

    Args:
        file: What to fetch.
        target: Where to; what is there already stays, and nothing is fetched.
        progress: Is told how far it is.

    Raises:
        ModelFileError: the hub cannot be reached or cuts off, the disk is full, the folder cannot be written, another
            process fetches the same, or the file has another hash: then it is removed.
    """
    if paths.is_file(target):
        return target
    partial = _partial(file, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _held(file, partial) as opened:
            sink = _Sink(opened, file, progress)
            _check_space(file, target, file.size - sink.resume())
            _get(file, sink)
            opened.flush()
            os.fsync(opened.fileno())
            _check_hash(file, sink, partial)
            partial.replace(target)
    except WriteFailed as failed:
        raise _os_error(file, target, partial, failed.error) from failed
    except OSError as error:
        raise _os_error(file, target, partial, error) from error
    return target


def missing_bytes(file: HubFile, target: Path) -> int:
    """What a fetch would still have to bring."""
    if paths.is_file(target):
        return 0
    try:
        kept = _partial(file, target).stat().st_size if file.sha256 is not None else 0
    except OSError:
        kept = 0
    return file.size - kept if kept <= file.size else file.size


def _partial(file: HubFile, target: Path) -> Path:
    # a file of another content must not be continued with this one
    return target.with_name(f".{target.name}.{(file.sha256 or 'unchecked')[:12]}.part")


@contextlib.contextmanager
def _held(file: HubFile, partial: Path) -> Iterator[BinaryIO]:
    """The partial file, opened for this process alone.

    Raises:
        ModelFileError: another process has it.
    """
    with os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666), "r+b") as opened:
        if fcntl is not None:
            try:
                fcntl.flock(opened.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                # the other may have finished between our opening and our lock: then this is the finished file
                free = partial.exists() and os.fstat(opened.fileno()).st_ino == partial.stat().st_ino
            except BlockingIOError:
                free = False
            if not free:
                message = f"{file.name}: another process is fetching it now"
                raise ModelFileError(message, hint="wait until that one has finished, then call again")
        yield opened


class _Sink:
    """What the hub's client writes to: a file, its hash, and its progress."""

    def __init__(self, opened: BinaryIO, file: HubFile, progress: Progress | None) -> None:
        self._opened, self._file, self._progress = opened, file, progress
        self.hash = hashlib.sha256()

    def resume(self) -> int:
        """Go to the end of what is there; returns its bytes."""
        size = os.fstat(self._opened.fileno()).st_size
        if self._file.sha256 is None or size > self._file.size:
            # nothing would tell whether the two parts belong together
            self._opened.truncate(0)
        while chunk := self._opened.read(_CHUNK):
            self.hash.update(chunk)
        self._tell()
        return self.tell()

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        try:
            self._opened.write(data)
        except OSError as error:
            raise WriteFailed(error) from error
        self.hash.update(data)
        self._tell()

    def tell(self) -> int:
        """The bytes that are there."""
        return self._opened.tell()

    def restart(self) -> None:
        """Back to nothing, for a server that cannot go on in the middle."""
        self._opened.seek(0)
        self._opened.truncate()
        self.hash = hashlib.sha256()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._file.name, self.tell(), self._file.size)


def _check_space(file: HubFile, target: Path, missing: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if missing > free:
        need = f"{missing / MIB:,.0f} MiB are missing, {free / MIB:,.0f} MiB are free"
        message = f"{file.name}: {str(target.parent)!r} has too little space: {need}"
        raise ModelFileError(message, hint="make room, or use a folder on another disk")


def _get(file: HubFile, sink: _Sink) -> None:
    """Bring what is missing through the hub's own client; a broken connection is made again."""
    failures = 0
    with told(f"{file.repo}:{file.name}"), _kept(file, sink):
        while sink.tell() < file.size:
            before, broken = sink.tell(), None
            try:
                _stream(file, sink)
            except Exception as error:  # whatever breaks a connection: the client's errors have no public base
                # an answer that says no, or the disk; a hub with a fault may have none in a moment
                if isinstance(error, OSError | WriteFailed) and status_of(error) < HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise
                broken = error
            # a page of a hotel's network ends in order, too
            failures = 0 if sink.tell() > before else failures + 1
            if failures >= TRIES:
                raise broken or ValueError("what comes ends before the file does")
            time.sleep(min(failures, 1) * PAUSE)
        if sink.tell() > file.size:
            raise ValueError(f"more came than the {file.size} bytes that the hub tells")


def _stream(file: HubFile, sink: _Sink) -> None:
    """One connection, from where the file ends to where that breaks."""
    from huggingface_hub.constants import HF_HUB_DOWNLOAD_TIMEOUT
    from huggingface_hub.utils import get_session, hf_raise_for_status  # type: ignore[attr-defined]

    start = sink.tell()
    # asked anew each time: what the hub sends one to is signed for an hour
    url, headers = _place(file)
    asked = headers | ({"Range": f"bytes={start}-"} if start else {})
    with get_session().stream("GET", url, headers=asked, timeout=HF_HUB_DOWNLOAD_TIMEOUT) as response:
        hf_raise_for_status(response)
        if response.status_code != HTTPStatus.PARTIAL_CONTENT:
            length = response.headers.get("Content-Length", "")
            if length.isdigit() and int(length) != file.size:
                # what is kept must not go for a page of a hotel's network
                raise ValueError(f"{length} bytes come in place of {file.size}")
            sink.restart()
        for chunk in response.iter_bytes():
            sink.write(chunk)


def _place(file: HubFile) -> tuple[str, dict[str, str]]:
    """Where a file lies now, and the headers to ask for it with."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(file.repo, file.name)
    found = get_hf_file_metadata(url).location
    # a range counts bytes as they are stored
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if urlsplit(found).netloc != urlsplit(url).netloc:
        # a token is for the hub, not for where its files lie
        headers.pop("authorization", None)
    return found, headers


@contextlib.contextmanager
def _kept(file: HubFile, sink: _Sink) -> Iterator[None]:
    """Say of a broken transfer what is kept; a full disk is told further up."""
    try:
        yield
    except Exception as error:
        if isinstance(error, WriteFailed) or not sink.tell():
            raise
        done = f"{sink.tell() / MIB:,.1f} of {file.size / MIB:,.1f} MiB"
        hint = "call again: it goes on where it stopped" if file.sha256 else "call again"
        raise ModelFileError(
            f"hf: {file.repo}:{file.name}: cut off after {done}: {reason(error)}", hint=hint
        ) from error


def _check_hash(file: HubFile, sink: _Sink, partial: Path) -> None:
    got = sink.hash.hexdigest()
    if file.sha256 is not None and got != file.sha256:
        partial.unlink(missing_ok=True)
        message = f"{file.name}: its SHA-256 is {got}, the hub's is {file.sha256}: it was removed"
        raise ModelFileError(message, hint="call again; should that not help, something changes it on the way")


def _os_error(file: HubFile, target: Path, partial: Path, error: OSError) -> ModelFileError:
    if error.errno not in _FULL:
        hint = "use a folder that can be written"
        return ModelFileError(f"{str(target)!r} cannot be written: {error.strerror or error}", hint=hint)
    with contextlib.suppress(OSError):
        size = partial.stat().st_size
        done = f"{size / MIB:,.1f} of {file.size / MIB:,.1f} MiB"
        hint = "make room and call again: it goes on where it stopped"
        return ModelFileError(f"{file.name}: the disk is full after {done}", hint=hint)
    return ModelFileError(f"{file.name}: the disk is full", hint="make room and call again")
