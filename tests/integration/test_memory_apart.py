"""Reading apart: a parser that hangs, swells or dies costs one document, and leaves no process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from benchai.errors import SourceBusy, SourceError
from benchai.memory.apart import Apart, Bounds
from benchai.memory.ingest import IngestReport, ingest
from benchai.memory.loaders import Reader
from benchai.memory.memory import Memory
from benchai.memory.namespace import Namespace
from benchai.memory.types import Document
from benchai.memory.vault.reader import NoteReader
from tests.conftest import REPO
from tests.unit.test_memory_load_files import docx, paragraph

pytestmark = pytest.mark.anyio

NS = Namespace()
CODE = b"def f(a, b):\n    return a + b\n\n\n" * 30 + b"# some words of a comment\n" * 1_300
HARD = b"a<" * (1 << 18)  # as C++: seconds, and 1.6 GB
# html.parser takes the square of its length for it; its own limit is 20 s, for which it may run
ENDLESS = b"<a " * (1 << 18)


def readers() -> list[psutil.Process]:
    """The processes that read for this one."""
    return [one for one in psutil.Process().children() if "benchai.memory.apart_child" in one.cmdline()]


def test_a_document_is_the_same_read_apart() -> None:
    documents = {
        "a.py": CODE,
        "a.html": b"<title>T</title><h1>One</h1><p>" + b"some words \xe2\x80\xa8 here. " * 3_000,
        "a.docx": docx(paragraph("Head", "Heading1") + paragraph("text")),
        "a.md": b"---\ntags: [a, b]\nyear: 2026\nratio: 1.0\ndone: true\n---\n# Head\n"
        + b"A sentence of it. " * 16_000,
    }
    with closing(Apart(Reader())) as apart:
        for name, data in documents.items():
            document, here = apart(f"/x/{name}", data, 7), Reader()(f"/x/{name}", data, 7)
            assert document == here
            assert document.model_dump_json() == here.model_dump_json()
        assert len(readers()) == 1
    assert readers() == []


def test_a_note_is_the_same_read_apart() -> None:
    links = "".join(f"see [[Note {number}#Part|it]], ![[p.png]] #tag\n" for number in range(300))
    data = f"---\naliases: [b]\n---\n# Head\n{links}".encode() + b"A sentence. " * 22_000
    reader = NoteReader("/vault")
    with closing(Apart(reader)) as apart:
        note = apart("/vault/a.md", data, 7)
        assert len(readers()) == 1
    assert note == reader("/vault/a.md", data, 7)
    assert len(note.links) > 256


def test_a_broken_document_is_refused_as_it_is_here() -> None:
    broken = b"%PDF-1.7 rubbish"
    with closing(Apart(Reader())) as apart:
        for media_type, name in (("", "a.pdf"), ("application/pdf", "a")):
            with pytest.raises(SourceError) as here:
                Reader()(f"/x/{name}", broken, media_type=media_type)
            with pytest.raises(SourceError) as there:
                apart(f"/x/{name}", broken, media_type=media_type)
            assert (there.value.message, there.value.hint) == (here.value.message, here.value.hint)
        assert apart("/x/a.py", CODE).media == "code"
        assert len(readers()) == 1


def test_small_documents_start_no_process() -> None:
    apart = Apart(Reader())
    for name, data in (
        ("a.py", CODE[:1000]),
        ("a.md", b"# Head\n\ntext"),
        ("a.ipynb", b'{"cells": [{"source": "x"}]}'),
    ):
        assert apart(f"/x/{name}", data).pieces
    with pytest.raises(SourceError, match="more than the"):
        Apart(Reader(cap=10))("/x/a.pdf", b"%PDF-1.7 rubbish")
    assert readers() == []
    apart.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is bounded on Linux alone")
def test_a_parser_that_takes_too_much_memory_costs_its_document_alone() -> None:
    apart = Apart(Reader(), Bounds(memory=200 << 20))
    try:
        with pytest.raises(
            SourceError, match=r"'/x/a.cpp' can't be read: its parser ended by SIG\w+; .* 200 MiB"
        ) as died:
            apart("/x/a.cpp", HARD)
        with pytest.raises(SourceError, match=r"'/x/a.ipynb' needs more memory to read than it may take") as refused:
            apart("/x/a.ipynb", b'{"cells":[' + b"[]," * (2 << 20) + b"[]]}")
        assert died.value.hint == refused.value.hint == "split it, or save it as text"
        assert not isinstance(died.value, SourceBusy)
        assert apart("/x/a.py", CODE).media == "code"
    finally:
        apart.close()
    assert readers() == []


def test_a_process_that_somebody_ended_is_replaced() -> None:
    apart = Apart(Reader())
    try:
        apart("/x/a.py", CODE)
        (first,) = readers()
        first.kill()
        psutil.wait_procs([first])
        assert apart("/x/a.py", CODE).media == "code"
        assert [one.pid for one in readers()] != [first.pid]
    finally:
        apart.close()
    with pytest.raises(SourceBusy, match="the reading was ended"):
        apart("/x/a.py", CODE)
    assert readers() == []


def test_where_no_process_can_be_started_the_document_can_be_read_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/not/there")
    apart = Apart(Reader())
    with pytest.raises(SourceBusy, match=r"'/x/a.py' can't be read: no process for it: No such file"):
        apart("/x/a.py", CODE)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SourceBusy, match=r"'/x/a.py' can't be read: the process that reads it ended with status 1"):
        apart("/x/a.py", CODE)
    apart.close()


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Memory]:
    async with Memory.open(tmp_path / "memory") as opened:
        yield opened


async def reading(task: asyncio.Task[IngestReport]) -> psutil.Process:
    """The process that reads for a task, once it is there."""
    while not (found := readers()):
        assert not task.done(), task.result()
        await asyncio.sleep(0.01)
    return found[0]


async def test_the_memory_answers_while_a_document_is_read_that_takes_too_long(memory: Memory, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    for name, data in (("a.md", b"before"), ("b.html", ENDLESS), ("c.md", b"behind")):
        (folder / name).write_bytes(data)
    task = asyncio.create_task(ingest(memory, NS, [folder], bounds=Bounds(seconds=1)))
    child = await reading(task)
    meanwhile = Document(source="/z", title="z", media="text", hash="1", size=1)
    assert (await memory.put(NS, [meanwhile])).added == 1
    assert child.is_running()
    assert not task.done()
    report = await task
    assert report.added == 2
    assert [(Path(one.source).name, one.reason.partition("' ")[2], one.hint) for one in report.failures] == [
        ("b.html", "takes longer than 1 s to read", "split it, or save it as text")
    ]
    assert readers() == []


async def test_a_reading_that_is_broken_off_leaves_no_process(memory: Memory, tmp_path: Path) -> None:
    (tmp_path / "b.html").write_bytes(ENDLESS)
    task = asyncio.create_task(ingest(memory, NS, [tmp_path / "b.html"]))
    child = await reading(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not child.is_running()
    assert (await memory.verify()).problems == ()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells a child of its parent's death on Linux alone")
def test_a_process_that_is_killed_takes_its_reader_with_it() -> None:
    script = (
        "import sys; from benchai.memory.apart import Apart; from benchai.memory.loaders import Reader; "
        "apart = Apart(Reader()); apart('/x/a.py', sys.argv[1].encode()); "
        "print(apart._child._process.pid, flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", script, CODE.decode()]
    with subprocess.Popen(argv, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        # so that it does not see the end of its input
        child.suspend()
        parent.kill()
        gone, left = psutil.wait_procs([child], timeout=20)
        assert (len(gone), left) == (1, [])
