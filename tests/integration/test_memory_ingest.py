"""Ingest into the real store: only what changed is read, what is gone goes, failures end nothing."""

from __future__ import annotations

import asyncio
import ctypes
import io
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchai.errors import SourceError, StoreFull
from benchai.memory import reading
from benchai.memory.cut import Cutting
from benchai.memory.database import Database
from benchai.memory.ingest import Batch, IngestReport, Progress, ingest
from benchai.memory.loaders import Reader
from benchai.memory.namespace import Namespace
from benchai.memory.reading import read_file
from benchai.memory.scan import File
from benchai.memory.store import Put, Store
from benchai.memory.types import Document, Stamp
from benchai.memory.worker import Worker

pytestmark = pytest.mark.anyio

NS = Namespace()
OLD = 1_600_000_000_000_000_000  # a time of change that no clock's step can reach

_opened: list[str] | None = None


def _note_open(event: str, args: tuple[object, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(args[0], str):
        _opened.append(args[0])


sys.addaudithook(_note_open)


@contextmanager
def opens() -> Iterator[list[str]]:
    """The names of all files that are opened meanwhile."""
    global _opened
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


class Sink:
    """The real store, on a thread of its own; `full` is what a disk that fills up makes of the nth put."""

    def __init__(self, store: Store, worker: Worker) -> None:
        self.store, self.worker = store, worker
        self.puts: list[int] = []
        self.full_after = 1000

    async def known(self, ns: Namespace, prefix: str = "") -> dict[str, Stamp]:
        return await self.worker.run(self.store.known, ns, prefix)

    async def put(self, ns: Namespace, documents: Sequence[Document]) -> Put:
        if len(self.puts) >= self.full_after:
            raise StoreFull("no space left")
        self.puts.append(len(documents))
        return await self.worker.run(self.store.put, ns, documents)

    async def drop(self, ns: Namespace, sources: Sequence[str]) -> int:
        return await self.worker.run(self.store.drop, ns, sources)


@pytest.fixture
async def sink(tmp_path: Path) -> AsyncIterator[Sink]:
    worker = Worker("store")
    database = await worker.run(Database, tmp_path / "memory.sqlite")
    yield Sink(Store(database), worker)
    await worker.run(database.close)
    worker.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = (tmp_path / "root").resolve()
    path.mkdir()
    return path


def write(path: Path, text: str = "some text", at: int = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, ns=(at, at))
    return path


def counts(report: IngestReport) -> tuple[int, int, int, int]:
    return report.added, report.changed, report.unchanged, report.removed


async def sources(sink: Sink, root: Path) -> list[str]:
    return sorted(source.removeprefix(f"{root.as_posix()}/") for source in await sink.known(NS))


async def test_only_what_changed_is_read_and_what_is_gone_goes(sink: Sink, root: Path) -> None:
    for name in ("a.md", "b.md", "sub/c.md", "sub/d.md"):
        write(root / name, f"text of {name}")
    first = await ingest(sink, NS, [root])
    assert counts(first) == (4, 0, 0, 0)
    assert first.passages == 4
    write(root / "b.md", "another text", OLD + 1)
    (root / "sub" / "c.md").unlink()
    (root / "a.md").rename(root / "z.md")
    with opens() as opened:
        second = await ingest(sink, NS, [root])
    assert counts(second) == (1, 1, 1, 2)
    assert {Path(name).name for name in opened if name.endswith(".md")} == {"b.md", "z.md"}
    assert await sources(sink, root) == ["b.md", "sub/d.md", "z.md"]


async def test_files_that_did_not_change_are_not_opened(sink: Sink, root: Path) -> None:
    for number in range(300):
        write(root / f"{number % 7}" / f"{number}.md", f"text {number}")
    await ingest(sink, NS, [root])
    with opens() as opened:
        report = await ingest(sink, NS, [root])
    assert counts(report) == (0, 0, 300, 0)
    assert [name for name in opened if name.endswith(".md")] == []
    assert report.passages == 0


async def test_a_touched_file_is_unchanged_by_its_hash_and_not_read_a_third_time(sink: Sink, root: Path) -> None:
    path = write(root / "a.md")
    await ingest(sink, NS, [root])
    os.utime(path, ns=(OLD + 5, OLD + 5))
    assert counts(await ingest(sink, NS, [root])) == (0, 0, 1, 0)
    with opens() as opened:
        assert counts(await ingest(sink, NS, [root])) == (0, 0, 1, 0)
    assert str(path) not in opened


async def test_a_file_changed_within_the_clocks_step_is_read_again(
    sink: Sink, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "a.md"
    path.write_text("before")
    at = time.time_ns() + 10_000_000_000  # a clock that is in step with the time of reading, however long that takes
    monkeypatch.setattr(reading.time, "time_ns", lambda: at)
    os.utime(path, ns=(at - 1, at - 1))
    await ingest(sink, NS, [root])
    path.write_text("behind")  # as long as the text before
    os.utime(path, ns=(at - 1, at - 1))
    assert counts(await ingest(sink, NS, [root])) == (0, 1, 0, 0)


def test_the_time_of_a_fresh_change_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("x")
    now = time.time_ns()
    future = now + 3_600_000_000_000
    for at, kept in ((OLD, OLD), (future, future)):
        os.utime(path, ns=(at, at))
        assert read_file(File(str(path), 1, at), 10).mtime_ns == kept
    assert reading._fresh(now - 1_000_001, now)
    assert not reading._fresh(now // 10**9 * 10**9 - 30_000_001, now // 10**9 * 10**9)
    assert reading._fresh(1_000_000_000, 2_900_000_000)


async def test_a_new_version_cuts_anew(sink: Sink, root: Path) -> None:
    write(root / "a.txt", "One sentence of it. " * 20)
    await ingest(sink, NS, [root])
    report = await ingest(sink, NS, [root], read=Reader(Cutting(100, 0)))
    assert counts(report) == (0, 1, 0, 0)
    assert report.passages > 3


async def test_failures_are_told_with_their_mend_and_end_nothing(sink: Sink, root: Path) -> None:
    write(root / "a.md")
    write(root / "broken.pdf", "%PDF-1.7 rubbish")
    (root / "holiday.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    write(root / "z.md")
    report = await ingest(sink, NS, [root])
    assert counts(report) == (2, 0, 0, 0)
    assert [Path(failure.source).name for failure in report.failures] == ["broken.pdf", "holiday.txt"]
    assert all(failure.hint for failure in report.failures)


async def test_a_file_of_two_gigabytes_is_refused_before_it_is_read(sink: Sink, root: Path) -> None:
    with (root / "huge.txt").open("wb") as file:
        file.truncate(2 << 30)
    write(root / "a.md")
    report = await ingest(sink, NS, [root])
    assert counts(report) == (1, 0, 0, 0)
    (failure,) = report.failures
    assert "2,147,483,648 bytes" in failure.reason
    assert report.seconds < 10


async def test_what_can_no_longer_be_read_is_not_found_as_it_was(sink: Sink, root: Path) -> None:
    path = write(root / "a.md")
    write(root / "b.md")
    await ingest(sink, NS, [root])
    write(path, "", OLD + 1)
    report = await ingest(sink, NS, [path])
    assert (counts(report), len(report.failures)) == ((0, 0, 0, 1), 1)
    write(root / "b.md", "", OLD + 1)
    assert counts(await ingest(sink, NS, [root])) == (0, 0, 0, 1)
    assert await sources(sink, root) == []


async def test_a_target_that_is_gone_goes_and_one_that_never_was_is_a_failure(sink: Sink, root: Path) -> None:
    write(root / "sub" / "a.md")
    write(root / "b.md")
    await ingest(sink, NS, [root])
    (root / "sub" / "a.md").unlink()
    (root / "sub").rmdir()
    assert counts(await ingest(sink, NS, [root / "sub"])) == (0, 0, 0, 1)
    report = await ingest(sink, NS, [root / "sub", root / "gone" / "deep.md"])
    assert [failure.reason.partition("' ")[2] for failure in report.failures] == ["does not exist"] * 2
    assert await sources(sink, root) == ["b.md"]


async def test_a_file_named_by_itself_stays_though_its_folder_would_leave_it_out(sink: Sink, root: Path) -> None:
    write(root / ".env", "KEY=value")
    write(root / "a.md")
    assert counts(await ingest(sink, NS, [root / ".env", root])) == (2, 0, 0, 0)
    assert counts(await ingest(sink, NS, [root, root / ".env"])) == (0, 0, 2, 0)
    assert await sources(sink, root) == [".env", "a.md"]


async def test_namespaces_do_not_see_each_others_files(sink: Sink, root: Path) -> None:
    write(root / "a.md")
    other = Namespace(project="other")
    assert counts(await ingest(sink, NS, [root])) == (1, 0, 0, 0)
    assert counts(await ingest(sink, other, [root])) == (1, 0, 0, 0)
    (root / "a.md").unlink()
    assert counts(await ingest(sink, other, [root])) == (0, 0, 0, 1)
    assert await sources(sink, root) == ["a.md"]


async def test_batches_are_bounded_and_progress_is_told(sink: Sink, root: Path) -> None:
    for number in range(10):
        write(root / f"{number}.md", "x" * (1000 if number == 4 else 100))
    told: list[Progress] = []
    await ingest(sink, NS, [root], progress=told.append, batch=Batch(3, 500))
    assert sink.puts == [3, 1, 1, 3, 2]
    assert [(step.done, step.size) for step in told] == [(3, 300), (4, 400), (5, 1400), (8, 1700), (10, 1900)]
    assert {step.total for step in told} == {10}
    assert told[-1].source == f"{root.as_posix()}/9.md"


async def test_a_run_that_broke_off_between_batches_is_mended_by_the_next(sink: Sink, root: Path) -> None:
    for number in range(10):
        write(root / f"{number}.md", f"text {number}")
    sink.full_after = 2
    with pytest.raises(StoreFull):
        await ingest(sink, NS, [root], batch=Batch(3))
    assert len(await sources(sink, root)) == 6
    sink.full_after = 1000
    assert counts(await ingest(sink, NS, [root], batch=Batch(3))) == (4, 0, 6, 0)


async def test_a_store_that_fails_is_no_failure_of_an_address(sink: Sink) -> None:
    async def fetch(url: str) -> tuple[str, str, bytes]:
        return url, "text/plain", b"text"

    sink.full_after = 0
    with pytest.raises(StoreFull):
        await ingest(sink, NS, ["https://example.org/a"], fetch=fetch)


async def test_addresses_are_fetched_and_kept_under_where_they_led_to(sink: Sink) -> None:
    pages = {"https://example.org/a": b"<title>A page</title><p>Hello</p>"}

    async def fetch(url: str) -> tuple[str, str, bytes]:
        if url not in pages:
            raise SourceError(f"{url!r} answered 404", hint="check the address")
        return "https://example.org/final#part", "text/html; charset=utf-8", pages[url]

    report = await ingest(sink, NS, ["https://example.org/a", "https://example.org/none"], fetch=fetch)
    assert counts(report) == (1, 0, 0, 0)
    assert [failure.reason for failure in report.failures] == ["'https://example.org/none' answered 404"]
    assert list(await sink.known(NS)) == ["https://example.org/final"]
    assert counts(await ingest(sink, NS, ["https://example.org/a"], fetch=fetch)) == (0, 0, 1, 0)
    pages["https://example.org/a"] = b"<p>Changed</p>"
    assert counts(await ingest(sink, NS, ["https://example.org/a"], fetch=fetch)) == (0, 1, 0, 0)
    assert "can't be fetched here" in (await ingest(sink, NS, ["http://example.org"])).failures[0].reason


async def test_the_standard_input_is_one_document_by_its_name_or_hash(sink: Sink) -> None:
    report = await ingest(sink, NS, ["-"], stdin=io.BytesIO(b"# Head\n\ntext"), name="notes.md")
    assert counts(report) == (1, 0, 0, 0)
    assert counts(await ingest(sink, NS, ["-"], stdin=io.BytesIO(b"text"))) == (1, 0, 0, 0)
    assert counts(await ingest(sink, NS, ["-"], stdin=io.BytesIO(b"text"))) == (0, 0, 1, 0)
    assert sorted(await sink.known(NS)) == ["stdin:982d9e3eb996", "stdin:notes.md"]
    empty = await ingest(sink, NS, ["-"], stdin=io.BytesIO(b""))
    assert "is empty" in empty.failures[0].reason


class _Writer:
    """Reads a file as `os.read` does, and changes it meanwhile a number of times."""

    def __init__(self, path: Path, times: int) -> None:
        self.path, self.times, self.read = path, times, os.read

    def __call__(self, descriptor: int, most: int) -> bytes:
        data = self.read(descriptor, most)
        if data and self.times:
            self.times -= 1
            write(self.path, f"changed tex{self.times}", OLD + self.times)
        return data


async def test_a_file_that_changes_while_it_is_read_is_read_once_more(
    sink: Sink, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(root / "a.md")
    monkeypatch.setattr(reading.os, "read", _Writer(path, 1))
    assert counts(await ingest(sink, NS, [path])) == (1, 0, 0, 0)
    monkeypatch.setattr(reading.os, "read", _Writer(path, 2))
    report = await ingest(sink, NS, [write(path, "another text", OLD + 9)])
    assert "changes while it is read" in report.failures[0].reason
    # what is kept of it stays until it can be read
    assert await sources(sink, root) == ["a.md"]


@contextmanager
def without_privileges() -> Iterator[None]:
    """Whoever may read everything, may not meanwhile: root without its capabilities, on Linux."""
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root reads everything here")
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    kept = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, kept) == 0
    less = (ctypes.c_uint32 * 6)(*kept)
    less[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    if libc.capset(header, less) != 0:
        pytest.skip("the capabilities of this process can't be put aside")
    try:
        yield
    finally:
        libc.capset(header, kept)


async def test_what_can_not_be_looked_into_is_told_and_kept(sink: Sink, root: Path) -> None:
    for name in ("open/a.md", "closed/b.md", "closed/deep/c.md", "d.md"):
        write(root / name)
    await ingest(sink, NS, [root])
    write(root / "d.md", "changed", OLD + 1)
    (root / "closed").chmod(0)
    (root / "d.md").chmod(0)
    try:
        with without_privileges():
            report = await ingest(sink, NS, [root])
    finally:
        (root / "closed").chmod(0o700)
    assert counts(report) == (0, 0, 1, 0)
    assert sorted(failure.source.removeprefix(f"{root.as_posix()}/") for failure in report.failures) == [
        "closed",
        "d.md",
    ]
    assert all("ermission denied" in failure.reason for failure in report.failures)
    assert {failure.hint for failure in report.failures} == {"check its permissions"}
    assert await sources(sink, root) == ["closed/b.md", "closed/deep/c.md", "d.md", "open/a.md"]


async def test_a_cancelled_run_waits_for_no_document(sink: Sink, root: Path) -> None:
    begun, let_go = threading.Event(), threading.Event()

    class Slow:
        version, cap = "slow", 1000

        def __call__(self, source: str, data: bytes, mtime_ns: int = 0, *, media_type: str = "") -> Document:
            begun.set()
            let_go.wait(20)
            return Reader()(source, data, mtime_ns)

    write(root / "a.md")
    task = asyncio.create_task(ingest(sink, NS, [root], read=Slow()))
    assert await asyncio.to_thread(begun.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not let_go.is_set()
    let_go.set()
    assert await sources(sink, root) == []


class Narrow(Sink):
    """Takes so many characters at once, as a server with a cap on requests."""

    most = 100

    async def put(self, ns: Namespace, documents: Sequence[Document]) -> Put:
        if sum(len(piece.text) for document in documents for piece in document.pieces) > self.most:
            raise SourceError("too much at once")
        return await super().put(ns, documents)


async def test_what_is_too_much_at_once_is_put_in_parts(sink: Sink, root: Path) -> None:
    for name in "abcdef":
        write(root / f"{name}.txt", name * (101 if name == "c" else 40))
    narrow = Narrow(sink.store, sink.worker)
    report = await ingest(narrow, NS, [root])
    assert counts(report) == (5, 0, 0, 0)
    assert [Path(one.source).name for one in report.failures] == ["c.txt"]
    assert "c.txt' can't be kept: too much at once" in report.failures[0].reason
    assert await sources(sink, root) == ["a.txt", "b.txt", "d.txt", "e.txt", "f.txt"]


async def test_an_empty_name_is_not_the_working_folder(sink: Sink, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "a.txt")
    monkeypatch.chdir(root)
    report = await ingest(sink, NS, [""])
    assert counts(report) == (0, 0, 0, 0)
    assert "is no path" in report.failures[0].reason
