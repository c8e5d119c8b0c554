"""A vault in a real memory: what changed is read, renames and deletions follow, what Obsidian hides stays out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchai.errors import SourceError, UsageError
from benchai.memory.ingest import ingest
from benchai.memory.memory import Memory
from benchai.memory.namespace import Namespace
from benchai.memory.search import Query
from benchai.memory.types import Document
from benchai.memory.vault.ingest import VaultReport, ingest_vault
from benchai.memory.vault.vault import find_vault, read_graph, scan_vault

pytestmark = pytest.mark.anyio
NS = Namespace(project="notes")
LONG_AGO = 1_700_000_000_000_000_000


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    folder = tmp_path / "My vault"
    write(folder, ".obsidian/app.json", json.dumps({"userIgnoreFilters": ["Templates/", "/\\.excalidraw\\.md$/"]}))
    write(
        folder, "Home.md", "---\naliases: [Start]\ntags: [hub]\n---\n# Home\nSee [[Plan#Next|the plan]] and [[gone]].\n"
    )
    write(folder, "jobs/Plan.md", "# Plan\n## Next\nBuy zirconium bolts. ^b1 ![[pic.png]]\n")
    write(folder, "jobs/Empty.md", "")
    write(folder, "jobs/pic.png", "no picture")
    write(folder, "Templates/T.md", "template zirconium")
    write(folder, "d.excalidraw.md", "drawing zirconium")
    write(folder, ".trash/old.md", "trash zirconium")
    write(folder, ".hidden/x.md", "hidden zirconium")
    return folder


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Memory]:
    async with Memory.open(tmp_path / "memory") as opened:
        yield opened


def write(vault: Path, name: str, text: str) -> None:
    path = vault / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    # of a file that was changed just now, a later change might not be seen
    os.utime(path, ns=(LONG_AGO, LONG_AGO + len(text)))


def counts(report: VaultReport) -> tuple[int, int, int, int]:
    return report.added, report.changed, report.unchanged, report.removed


async def found(memory: Memory, text: str) -> list[tuple[str, str, int | None]]:
    passages = (await memory.search(NS, Query(text=text))).passages
    return sorted((Path(one.source).name, one.heading, one.line) for one in passages)


async def test_notes_are_found_and_what_is_hidden_is_not(memory: Memory, vault: Path) -> None:
    report = await ingest_vault(memory, NS, vault)
    assert counts(report) == (3, 0, 0, 0)
    assert report.failures == []
    assert report.root == vault.as_posix()
    assert await found(memory, "zirconium") == [("Plan.md", "Plan > Next", 1)]


def spoil(vault: Path) -> None:
    """Change all notes so that neither their size nor their time tells."""
    for path in list(vault.rglob("*.md")):
        stamp = path.stat()
        path.write_bytes(b"X" * stamp.st_size)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


async def test_a_second_time_nothing_is_read(memory: Memory, vault: Path) -> None:
    await ingest_vault(memory, NS, vault)
    spoil(vault)
    assert counts(await ingest_vault(memory, NS, vault)) == (0, 0, 3, 0)
    assert await found(memory, "zirconium") == [("Plan.md", "Plan > Next", 1)]


async def test_changes_and_deletions_follow(memory: Memory, vault: Path) -> None:
    await ingest_vault(memory, NS, vault)
    write(vault, "jobs/Plan.md", "# Plan\nBuy titanium.\n")
    (vault / "Home.md").unlink()
    write(vault, "New.md", "Hafnium.\n")
    assert counts(await ingest_vault(memory, NS, vault)) == (1, 1, 1, 1)
    assert await found(memory, "zirconium") == []
    assert await found(memory, "titanium") == [("Plan.md", "Plan", 1)]
    assert sorted(Path(source).name for source in await memory.known(NS)) == ["Empty.md", "New.md", "Plan.md"]


async def test_a_renamed_note_keeps_its_identity(memory: Memory, vault: Path) -> None:
    await ingest_vault(memory, NS, vault)
    before = (await memory.search(NS, Query(text="zirconium"))).passages[0]
    shutil.move(vault / "jobs", vault / "done")
    (vault / "done" / "Plan.md").rename(vault / "done" / "Old plan.md")
    report = await ingest_vault(memory, NS, vault)
    assert counts(report) == (0, 0, 1, 0)
    assert [(Path(one.old).name, Path(one.new).name) for one in report.moved] == [
        ("Empty.md", "Empty.md"),
        ("Plan.md", "Old plan.md"),
    ]
    after = (await memory.search(NS, Query(text="zirconium"))).passages
    assert [(one.owner, one.source, one.title) for one in after] == [
        (before.owner, f"{vault.as_posix()}/done/Old plan.md", "Old plan")
    ]
    assert counts(await ingest_vault(memory, NS, vault)) == (0, 0, 3, 0)


async def test_a_copy_is_new(memory: Memory, vault: Path) -> None:
    await ingest_vault(memory, NS, vault)
    shutil.copy2(vault / "jobs" / "Plan.md", vault / "Copy.md")
    report = await ingest_vault(memory, NS, vault)
    assert counts(report) == (1, 0, 3, 0)
    assert report.moved == []


async def test_what_is_excluded_later_goes(memory: Memory, vault: Path) -> None:
    await ingest_vault(memory, NS, vault)
    write(vault, ".obsidian/app.json", json.dumps({"userIgnoreFilters": ["jobs/"]}))
    assert counts(await ingest_vault(memory, NS, vault)) == (2, 0, 1, 2)
    assert await found(memory, "zirconium") == [("T.md", "", 1), ("d.excalidraw.md", "", 1)]


async def test_other_documents_of_the_folder_stay(memory: Memory, vault: Path) -> None:
    other = Document(source=f"{vault.as_posix()}/jobs/paper.pdf", title="Paper", media="pdf", hash="0" * 64, size=1)
    await memory.put(NS, [other])
    await ingest_vault(memory, NS, vault)
    assert other.source in await memory.known(NS)


async def test_a_note_that_cannot_be_read_is_told_and_the_rest_goes_on(memory: Memory, vault: Path) -> None:
    (vault / "Binary.md").write_bytes(b"\0\1\2" * 100)
    report = await ingest_vault(memory, NS, vault)
    assert counts(report) == (3, 0, 0, 0)
    assert [Path(failure.source).name for failure in report.failures] == ["Binary.md"]


async def test_links_out_of_the_vault_are_not_followed(memory: Memory, vault: Path, tmp_path: Path) -> None:
    write(tmp_path, "outside/secret.md", "secret zirconium")
    (vault / "out").symlink_to(tmp_path / "outside")
    (vault / "out.md").symlink_to(tmp_path / "outside" / "secret.md")
    (vault / "loop").symlink_to(vault)
    assert counts(await ingest_vault(memory, NS, vault)) == (3, 0, 0, 0)


async def test_a_folder_that_is_no_vault_is_refused(memory: Memory, vault: Path) -> None:
    shutil.rmtree(vault / ".obsidian")
    with pytest.raises(UsageError, match="no Obsidian vault") as caught:
        await ingest_vault(memory, NS, vault)
    assert "benchai memory add" in str(caught.value.hint)
    assert "--force" in str(caught.value.hint)
    assert counts(await ingest_vault(memory, NS, vault, force=True)) == (5, 0, 0, 0)


def test_where_a_vault_is(vault: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(vault)
    assert find_vault(tmp_path / "way") == vault
    with pytest.raises(UsageError) as caught:
        find_vault(vault / "jobs")
    assert str(vault) in str(caught.value.hint)
    with pytest.raises(UsageError, match="no folder"):
        find_vault(vault / "Home.md")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises((UsageError, SourceError)):
        find_vault(tmp_path / "loop")


ALL = ["Home.md", "Templates/T.md", "d.excalidraw.md", "jobs/Empty.md", "jobs/Plan.md"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("", ALL),
        ("[1]", ALL),
        ('{"userIgnoreFilters": null}', ALL),
        ('{"userIgnoreFilters": ["templates", 7, "/(/", ""]}', [name for name in ALL if name != "Templates/T.md"]),
        ('{"userIgnoreFilters": ["jobs/Plan.md", "/^[td]/"]}', ["Home.md", "jobs/Empty.md"]),
    ],
)
def test_what_settings_exclude(vault: Path, settings: str, expected: list[str]) -> None:
    (vault / ".obsidian" / "app.json").write_text(settings)
    scanned = scan_vault(vault)
    assert [file.source.removeprefix(f"{scanned.root}/") for file in scanned.notes] == expected


def test_a_folder_that_cannot_be_read_is_told(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refused(path: Path) -> object:
        if Path(path).name == "jobs":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    scanned = scan_vault(vault)
    assert [(failure.source, failure.reason) for failure in scanned.failures] == [
        (f"{vault.as_posix()}/jobs", "Permission denied")
    ]


def test_the_graph_of_a_vault(vault: Path) -> None:
    graph = read_graph(vault)
    assert graph.linked("Home.md") == ["jobs/Plan.md"]
    assert graph.neighbours("jobs/Plan.md") == ["jobs/pic.png", "Home.md"]
    assert [(one.note, one.link.target) for one in graph.unresolved] == [("Home.md", "gone")]


async def test_notes_stay_notes_when_their_folder_is_added(memory: Memory, vault: Path) -> None:
    await ingest_vault(memory, NS, vault)
    before = await memory.known(NS)
    write(vault, "jobs/Plan.md", "# Plan\nOther words than before, and [[Home]].\n")
    for target in (vault, vault / "jobs/Plan.md"):
        report = await ingest(memory, NS, [target])
        plan = (vault / "jobs/Plan.md").as_posix()
        assert [left.source for left in report.left_out] == [plan]
        assert "add-vault" in report.left_out[0].hint
    after = await memory.known(NS)
    # one without text, which no folder would be asked for, is there, too
    assert {source: after[source] for source in before} == before
    assert (await ingest_vault(memory, NS, vault)).changed == 1
