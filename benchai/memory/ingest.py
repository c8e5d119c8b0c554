"""Putting documents into a memory: what is new or changed is read, what is gone is dropped, the rest is not touched."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from benchai.errors import BenchAIError, SourceBusy, SourceError
from benchai.memory.apart import Apart, Bounds
from benchai.memory.loaders import Read, Reader, check_size
from benchai.memory.namespace import Namespace
from benchai.memory.reading import read_file
from benchai.memory.scan import Failure, File, Scan, reason_of, resolved, scan, source_of
from benchai.memory.types import Document, Stamp
from benchai.memory.vault.reader import NoteReader, is_of_note
from benchai.memory.worker import Worker

if TYPE_CHECKING:
    from benchai.memory.store import Put

__all__ = ["Batch", "Failure", "Fetch", "IngestReport", "Progress", "Sink", "ingest"]

#: Gets an address: where it led to in the end, its media type with parameters, and the data. Raises BenchAIError.
Fetch = Callable[[str], Awaitable[tuple[str, str, bytes]]]
_DROPPED = 500  # documents of one call
_NOTE = "it changed, and is kept as a note of a vault"
_NOTE_HINT = "`benchai memory add-vault` reads it"


class Sink(Protocol):
    """Where documents go: the memory, in this process or over HTTP."""

    async def known(self, ns: Namespace, prefix: str = "") -> dict[str, Stamp]:
        """Documents of this very namespace whose source begins with a prefix."""
        ...

    async def put(self, ns: Namespace, documents: Sequence[Document]) -> Put:
        """Keep documents, all of them or none; SourceError where they are too much at once."""
        ...

    async def drop(self, ns: Namespace, sources: Sequence[str]) -> int:
        """Forget documents; how many there were."""
        ...


class Batch(NamedTuple):
    """How much is put at once: documents, and bytes of their sources (a larger one goes alone)."""

    documents: int = 256
    size: int = 4 << 20


class Progress(NamedTuple):
    """How far it is: of the sources that are to be read, how many and how many bytes are done, and the last one."""

    done: int
    total: int
    size: int
    source: str


@dataclass(slots=True)
class IngestReport:
    """What came of it.

    Attributes:
        added, changed, unchanged, removed: Documents.
        failures: Sources that could not be read.
        passages: Of the documents that were put.
        seconds: It took.
        left_out: What was found and is not meant: links that lead out of a folder, secrets,
            notes of a vault that changed.
        passed: Files of folders that were passed over: they are empty, databases in use, or of a suffix of no document.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    failures: list[Failure] = field(default_factory=list)
    passages: int = 0
    seconds: float = 0.0
    left_out: list[Failure] = field(default_factory=list)
    passed: int = 0


async def ingest(
    sink: Sink,
    ns: Namespace,
    targets: Sequence[str | Path],
    *,
    read: Read | None = None,
    fetch: Fetch | None = None,
    stdin: BinaryIO | None = None,
    name: str = "",
    progress: Callable[[Progress], None] | None = None,
    batch: Batch | None = None,
    bounds: Bounds | None = None,
) -> IngestReport:
    """Make the memory hold what the targets hold now. Broken off at any moment, it is mended by doing it again.

    Args:
        sink: Where the documents go.
        ns: Namespace whose documents they are.
        targets: Files, folders, http(s) addresses, or ``-`` for the standard input.
        read: Makes documents of bytes; default: `Reader` with its settings.
        fetch: Gets addresses; without it they are failures.
        stdin: In place of the standard input.
        name: What the standard input is called: ``stdin:NAME``; its suffix tells its format. Default: by its hash.
        progress: Called after each batch.
        batch: How much is put at once.
        bounds: Of each document that is large, or of a format whose parser can hang or swell: `Reader` and
            `NoteReader` read it in a process of its own.

    Raises:
        StoreError: from the sink; what was put before stays.
    """
    run = _Run(sink, ns, _apart(read or Reader(), bounds), progress, batch or Batch())
    begin = time.monotonic()
    try:
        await run.all([str(target) for target in targets], fetch, stdin, name)
    finally:
        run.close()
    run.report.seconds = time.monotonic() - begin
    return run.report


@dataclass(slots=True)
class _Plan:
    """What has to be done: files to be read, what is known of them, and what is gone."""

    files: list[File] = field(default_factory=list)
    known: dict[str, Stamp] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Load:
    """What was read of one batch; `spoiled` is kept in a state that is no more."""

    documents: list[Document] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    spoiled: list[str] = field(default_factory=list)


class _Run:
    def __init__(
        self, sink: Sink, ns: Namespace, read: Read, progress: Callable[[Progress], None] | None, batch: Batch
    ) -> None:
        self.report = IngestReport()
        self._sink, self._ns, self._read = sink, ns, read
        self._progress, self._batch = progress, batch
        self._worker = Worker("reading")
        self._stop = threading.Event()

    def close(self) -> None:
        """End the reading; not waited for, because one document can take long."""
        self._stop.set()
        if isinstance(self._read, Apart):
            self._read.close()
        self._worker.close(wait=False)

    async def all(self, targets: list[str], fetch: Fetch | None, stdin: BinaryIO | None, name: str) -> None:
        plan = _Plan()
        for target in dict.fromkeys(targets):
            if not _is_url(target) and target != "-":
                await self._look(target, plan)
        await self._files(plan)
        for target in dict.fromkeys(targets):
            if _is_url(target):
                await self._url(target, fetch)
            elif target == "-":
                await self._stdin(stdin or sys.stdin.buffer, name)
        await self._drop([source for source in plan.gone if source not in plan.seen])

    async def _look(self, target: str, plan: _Plan) -> None:
        if not target.strip():
            # a variable that is not set must not mean the working folder
            self._failed(target, SourceError(f"{target!r} is no path", hint="write . for the working folder"))
            return
        try:
            found = await self._worker.run(scan, Path(target))
        except SourceError as error:
            await self._missing(target, error, plan)
            return
        alone = [file.source for file in found.files] == [found.root]
        known = await self._sink.known(self._ns, found.root if alone else f"{found.root.rstrip('/')}/")
        self.report.failures += found.failures
        self.report.left_out += found.left_out
        self.report.passed += found.passed
        self._compare(found, known, plan)
        if not alone:
            plan.gone += _gone(found, known)

    def _compare(self, found: Scan, known: dict[str, Stamp], plan: _Plan) -> None:
        for file in found.files:
            if file.source in plan.seen:
                continue
            plan.seen.add(file.source)
            stamp = known.get(file.source)
            note = stamp is not None and is_of_note(stamp.version) and not is_of_note(self._read.version)
            if stamp and _same(file, stamp, stamp.version if note else self._read.version):
                self.report.unchanged += 1
                continue
            if note:
                # read as plain Markdown it would lose its links and properties
                self.report.left_out.append(Failure(file.source, _NOTE, _NOTE_HINT))
                continue
            plan.files.append(file)
            if stamp:
                plan.known[file.source] = stamp

    async def _missing(self, target: str, error: SourceError, plan: _Plan) -> None:
        """A target that is not there: what is kept of it goes, if the folder that it was in is still there."""
        try:
            path = await self._worker.run(resolved, Path(target))
            source = source_of(path)
        except SourceError:
            self._failed(target, error)
            return
        known = await self._sink.known(self._ns, source)
        kept = [one for one in known if one == source or one.startswith(f"{source}/")]
        if kept and path.parent.is_dir() and not path.exists():
            plan.gone += kept
        else:
            self._failed(source, error)

    async def _files(self, plan: _Plan) -> None:
        done = size = 0
        for files in _batches(plan.files, self._batch):
            loaded = await self._worker.run(self._load, files, plan.known)
            self.report.failures += loaded.failures
            await self._put(loaded.documents)
            await self._drop(loaded.spoiled)
            done, size = done + len(files), size + sum(file.size for file in files)
            if self._progress:
                self._progress(Progress(done, len(plan.files), size, files[-1].source))

    def _load(self, files: list[File], known: dict[str, Stamp]) -> _Load:
        loaded = _Load()
        for file in files:
            if self._stop.is_set():
                break
            try:
                content = read_file(file, self._read.cap)
                loaded.documents.append(self._read(file.source, content.data, content.mtime_ns))
            except SourceError as error:
                loaded.failures.append(Failure(file.source, error.message, error.hint or ""))
                if file.source in known and not isinstance(error, SourceBusy):
                    loaded.spoiled.append(file.source)
        return loaded

    async def _url(self, url: str, fetch: Fetch | None) -> None:
        try:
            if fetch is None:
                raise SourceError(f"{url!r} can't be fetched here", hint="save the page, and add the file")
            final, media_type, data = await fetch(url)
        except BenchAIError as error:
            self._failed(url, error)
        except OSError as error:
            self._failed(url, SourceError(f"{url!r} can't be fetched: {reason_of(error)}", hint="try again"))
        else:
            await self._one(final.partition("#")[0], data, media_type)

    async def _stdin(self, stdin: BinaryIO, name: str) -> None:
        try:
            data = await self._worker.run(stdin.read, self._read.cap + 1)
        except OSError as error:
            self._failed("-", SourceError(f"the standard input can't be read: {reason_of(error)}"))
        else:
            await self._one(f"stdin:{name or hashlib.sha256(data).hexdigest()[:12]}", data, "")

    async def _one(self, source: str, data: bytes, media_type: str) -> None:
        stamp = (await self._sink.known(self._ns, source)).get(source)
        now = (hashlib.sha256(data).hexdigest(), self._read.version)
        if stamp and (stamp.hash, stamp.version) == now:
            self.report.unchanged += 1
            return
        try:
            check_size(source, len(data), self._read.cap)
            document = await self._worker.run(self._read, source, data, 0, media_type=media_type)
        except SourceError as error:
            self._failed(source, error)
            await self._drop([source] if stamp else [])
        else:
            await self._put([document])

    async def _put(self, documents: list[Document]) -> None:
        if not documents:
            return
        try:
            put = await self._sink.put(self._ns, documents)
        except SourceError as error:
            await self._put_less(documents, error)
            return
        self.report.added += put.added
        self.report.changed += put.changed
        self.report.unchanged += put.unchanged
        self.report.passages += put.passages

    async def _put_less(self, documents: list[Document], error: SourceError) -> None:
        """Halves of what was too much at once; a document that is too much alone is a failure."""
        if len(documents) == 1:
            source = documents[0].source
            self._failed(source, SourceError(f"{source!r} can't be kept: {error.message}", hint=error.hint))
            return
        half = len(documents) // 2
        await self._put(documents[:half])
        await self._put(documents[half:])

    async def _drop(self, sources: list[str]) -> None:
        for start in range(0, len(sources), _DROPPED):
            self.report.removed += await self._sink.drop(self._ns, sources[start : start + _DROPPED])

    def _failed(self, source: str, error: BenchAIError) -> None:
        self.report.failures.append(Failure(source, error.message, error.hint or ""))


def _apart(read: Read, bounds: Bounds | None) -> Read:
    # another process knows these alone
    return Apart(read, bounds) if type(read) is Reader or type(read) is NoteReader else read


def _is_url(target: str) -> bool:
    return target.lower().startswith(("http://", "https://"))


def _same(file: File, stamp: Stamp, version: str) -> bool:
    return (stamp.size, stamp.mtime_ns, stamp.version) == (file.size, file.mtime_ns, version)


def _gone(found: Scan, known: dict[str, Stamp]) -> list[str]:
    """What is kept of a folder and is there no more; of what can't be looked into nobody knows.

    Notes go by ``add-vault``, which sees what else may lie in a vault, and whether they were renamed.
    """
    there = {file.source for file in found.files}
    unknown = tuple(failure.source for failure in found.failures)
    below = tuple(f"{source.rstrip('/')}/" for source in unknown)
    files = (one for one, stamp in known.items() if not is_of_note(stamp.version))
    return [one for one in files if one not in there and one not in unknown and not one.startswith(below)]


def _batches(files: list[File], batch: Batch) -> Iterator[list[File]]:
    held: list[File] = []
    size = 0
    for file in files:
        if held and (len(held) >= batch.documents or size + file.size > batch.size):
            yield held
            held, size = [], 0
        held.append(file)
        size += file.size
    if held:
        yield held
