"""Watching real folders: what changes is read again, what is not meant is not, and a cancelled task ends it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest

from benchai.errors import SourceError
from benchai.memory.ingest import IngestReport
from benchai.memory.watch import _targets, watch
from tests.integration.test_memory_ingest import NS, Sink, counts, root, sink, sources, write

__all__ = ["root", "sink"]

pytestmark = pytest.mark.anyio


async def until(reports: AsyncGenerator[IngestReport, None], wanted: tuple[int, int, int]) -> None:
    """Take reports until what was added, changed and removed adds up: one change may come in one report or in two."""
    total = (0, 0, 0)
    while total != wanted:
        report = await anext(reports)
        total = (total[0] + report.added, total[1] + report.changed, total[2] + report.removed)
        assert all(got <= most for got, most in zip(total, wanted, strict=True)), (total, report)


@pytest.mark.parametrize("polling", [False, True])
async def test_changes_are_followed(sink: Sink, root: Path, polling: bool) -> None:
    write(root / "a.md")
    write(root / "sub" / "b.md")
    async with aclosing(watch(sink, NS, [root], polling=polling)) as reports:
        assert counts(await anext(reports)) == (2, 0, 0, 0)
        (root / "c.md").write_text("new")
        await until(reports, (1, 0, 0))
        (root / "a.md").write_text("changed")
        await until(reports, (0, 1, 0))
        (root / "c.md").rename(root / "d.md")
        await until(reports, (1, 0, 1))
        (root / "sub" / "b.md").unlink()
        (root / "sub").rmdir()
        await until(reports, (0, 0, 1))
        assert await sources(sink, root) == ["a.md", "d.md"]


async def test_what_is_not_meant_is_not_read(sink: Sink, root: Path) -> None:
    write(root / ".gitignore", "*.log\n")
    write(root / "a.md")
    async with aclosing(watch(sink, NS, [root])) as reports:
        assert counts(await anext(reports)) == (1, 0, 0, 0)
        write(root / "x.log")
        write(root / ".git" / "index.md")
        write(root / "new" / "b.md")
        await until(reports, (1, 0, 0))
        (root / ".gitignore").write_text("new/\n")
        await until(reports, (1, 0, 1))
        assert await sources(sink, root) == ["a.md", "x.log"]


async def test_a_single_file_is_followed_through_its_replacement(sink: Sink, root: Path) -> None:
    path = write(root / "a.md")
    async with aclosing(watch(sink, NS, [path])) as reports:
        assert counts(await anext(reports)) == (1, 0, 0, 0)
        write(root / "other.md")
        write(root / "a.md.new", "saved").replace(path)
        await until(reports, (0, 1, 0))
        assert await sources(sink, root) == ["a.md"]


async def test_a_cancelled_task_ends_the_thread(sink: Sink, root: Path) -> None:
    write(root / "a.md")
    begun = asyncio.Event()

    async def follow() -> None:
        async for _ in watch(sink, NS, [root]):
            begun.set()

    task = asyncio.create_task(follow())
    await begun.wait()
    (watching,) = [thread for thread in threading.enumerate() if thread.name == "watching"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(watching.join, 20)
    assert not watching.is_alive()


async def test_a_target_that_is_not_there_is_refused(sink: Sink, root: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        await anext(watch(sink, NS, [root / "missing"]))


def test_what_has_to_be_read_again(root: Path) -> None:
    write(root / "a.md")
    write(root / "empty.md", "")
    (root / "sub").mkdir()
    changed = [str(root / name) for name in ("a.md", "a.log", ".git/x")]
    (root / ".gitignore").write_text("*.log\n")
    assert _targets(changed, [root]) == [root / "a.md"]
    assert _targets([str(root / "gone" / "deep" / "x.md")], [root]) == [root / "gone"]
    assert _targets([str(root / "sub")], [root]) == [root]
    assert _targets([str(root / "empty.md")], [root]) == [root]
    assert _targets([str(root / ".gitignore")], [root]) == [root]
    assert _targets([str(root / f"{number}.md") for number in range(300)], [root]) == [root]
    assert _targets([str(root.parent / "x.md")], [root]) == []
