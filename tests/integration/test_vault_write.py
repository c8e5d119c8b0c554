"""Notes written by agents, on a real disk: whole or not at all, nobody's change lost, never out of the vault."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchai.errors import BenchAIError, NoteChanged, SourceError, UnknownMemory, UsageError
from benchai.memory.vault.notes import VaultNotes
from benchai.memory.vault.write import append_note, create_note, read_note
from benchai.tools.notes import note_tools
from benchai.tools.permissions import Permissions
from benchai.tools.registry import ToolRegistry
from benchai.tools.tool import ToolContext, ToolResult

pytestmark = pytest.mark.anyio

APPENDS = """
import sys
from pathlib import Path
from benchai.errors import NoteChanged
from benchai.memory.vault.write import append_note, read_note
vault, name = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
refused = 0
for number in range(100):
    while True:
        _, seen = read_note(vault, "Log")
        try:
            append_note(vault, "Log", f"- {name} {number}", heading="Log", expected_hash=seen)
            break
        except NoteChanged:
            refused += 1
print(refused, flush=True)
"""


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    folder = tmp_path / "vault"
    (folder / ".obsidian").mkdir(parents=True)
    (folder / ".obsidian" / "app.json").write_text("{}")
    (folder / "Log.md").write_text("# Log\n\n# Next\n")
    return folder


def files(vault: Path) -> dict[str, bytes]:
    return {path.relative_to(vault).as_posix(): path.read_bytes() for path in vault.rglob("*") if path.is_file()}


def hashed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_note_is_made_with_properties_and_read_again(vault: Path) -> None:
    properties = {"tags": ["a", "b"], "due": "2024-01-02", "done": False, "up": "[[Log]]", "ü": "é: x"}
    made = create_note(vault, "Neu/Tag für Tag", "Text [[Log]]", properties=properties)
    data = (vault / "Neu" / "Tag für Tag.md").read_bytes()
    assert made == hashed(data)
    _, front, body = data.decode().split("---\n")
    assert yaml.safe_load(front) == properties
    assert body == "Text [[Log]]\n"
    assert read_note(vault, "neu/tag FÜR tag.md") == (data.decode(), made)
    assert sorted(files(vault)) == [".obsidian/app.json", "Log.md", "Neu/Tag für Tag.md"]


@pytest.mark.parametrize("path", ["Log", "log.md", "LOG"])
def test_a_note_that_is_there_is_never_overwritten(vault: Path, path: str) -> None:
    before = files(vault)
    with pytest.raises(UsageError, match="there is a note"):
        create_note(vault, path, "new")
    assert files(vault) == before


def test_folders_are_found_whatever_their_case(vault: Path) -> None:
    create_note(vault, "Ideas/One", "1")
    create_note(vault, "ideas/Two", "2")
    assert sorted(path.name for path in (vault / "Ideas").iterdir()) == ["One.md", "Two.md"]
    assert not [path for path in vault.iterdir() if path.name == "ideas"]


@pytest.mark.parametrize(
    ("before", "heading", "after"),
    [
        (b"a\nb", None, b"a\nb\nnew\n"),
        (b"\xef\xbb\xbfa\r\n", None, b"\xef\xbb\xbfa\r\nnew\r\n"),
        (b"---\na: 1\n---\n", None, b"---\na: 1\n---\nnew\n"),
        (b"# A\r\nx\r\n# B\r\n", "A", b"# A\r\nx\r\nnew\r\n\r\n# B\r\n"),
        (b"", "A", b"## A\n\nnew\n"),
    ],
)
def test_appending_changes_nothing_else(vault: Path, before: bytes, heading: str | None, after: bytes) -> None:
    note = vault / "n.md"
    note.write_bytes(before)
    note.chmod(0o640)
    told = append_note(vault, "n", "new", heading=heading, expected_hash=hashed(before))
    assert note.read_bytes() == after
    assert told == hashed(after)
    assert note.stat().st_mode & 0o777 == 0o640
    assert len(files(vault)) == 3


def test_a_note_that_changed_is_left_as_it_is(vault: Path) -> None:
    _, seen = read_note(vault, "Log")
    (vault / "Log.md").write_text("by a person\n")
    with pytest.raises(NoteChanged) as caught:
        append_note(vault, "Log", "by an agent", expected_hash=seen)
    assert hashed(b"by a person\n") in caught.value.message
    assert (vault / "Log.md").read_text() == "by a person\n"


def test_a_change_between_reading_and_renaming_is_seen(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, seen = read_note(vault, "Log")
    synced = os.fsync

    def person_saves(descriptor: int) -> None:
        # what replaces the note is written, and not yet renamed
        (vault / "Log.md").write_text("by a person\n")
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", person_saves)
    with pytest.raises(NoteChanged, match=hashed(b"by a person\n")):
        append_note(vault, "Log", "by an agent", expected_hash=seen)
    assert sorted(files(vault)) == [".obsidian/app.json", "Log.md"]
    assert (vault / "Log.md").read_text() == "by a person\n"


def test_a_failure_in_writing_leaves_the_note_and_nothing_else(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(vault)
    _, seen = read_note(vault, "Log")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BenchAIError, match="the disk is full"):
        append_note(vault, "Log", "x", expected_hash=seen)
    with pytest.raises(BenchAIError, match="the disk is full"):
        create_note(vault, "New", "x")
    assert files(vault) == before


@pytest.mark.timeout(120)  # a disk may take long to sync four hundred times
def test_two_processes_lose_no_line(vault: Path) -> None:
    argv = [sys.executable, "-c", APPENDS, str(vault)]
    writers = [
        subprocess.Popen([*argv, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in "ab"
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        told = _released(writers)
        assert [writer.returncode for writer in writers] == [0, 0], told
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    lines = (vault / "Log.md").read_text().splitlines()
    under = lines[1 : lines.index("# Next")]
    for name in "ab":
        assert [line for line in under if line.startswith(f"- {name}")] == [f"- {name} {n}" for n in range(100)]
    assert sorted(files(vault)) == [".obsidian/app.json", "Log.md"]


def _released(writers: list[subprocess.Popen[str]]) -> list[str]:
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    return [writer.communicate(timeout=100)[0] for writer in writers]


MAKES = """
import sys
from pathlib import Path
from benchai.errors import UsageError
from benchai.memory.vault.write import create_note
print("ready", flush=True)
for line in sys.stdin:
    try:
        create_note(Path(sys.argv[1]), sys.argv[2] + line.strip(), "x")
        print("made", flush=True)
    except UsageError:
        print("refused", flush=True)
"""


def test_two_processes_that_make_one_note_make_it_once(vault: Path) -> None:
    argv = [sys.executable, "-c", MAKES, str(vault)]
    writers = [
        subprocess.Popen([*argv, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("New", "new")
    ]
    try:
        for writer in writers:
            assert _line(writer) == "ready\n"
        for number in range(30):
            for writer in writers:
                assert writer.stdin is not None
                # each in a new folder, which they make at the same time, too
                writer.stdin.write(f"{number}/x\n")
                writer.stdin.flush()
            assert sorted(map(_line, writers)) == ["made\n", "refused\n"]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert len(files(vault)) == 2 + 30


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.fixture
def outside(vault: Path) -> Iterator[Path]:
    """A folder beside the vault, which stays as it is."""
    folder = vault.parent / "outside"
    folder.mkdir()
    (folder / "secret.md").write_text("secret\n")
    yield folder
    assert files(folder) == {"secret.md": b"secret\n"}


@pytest.mark.parametrize("path", ["out/secret", "out/new", "link", "dangling", "in/app", "hidden"])
def test_links_out_of_the_vault_or_into_hidden_folders_are_refused(vault: Path, outside: Path, path: str) -> None:
    (vault / "out").symlink_to(outside)
    (vault / "link.md").symlink_to(outside / "secret.md")
    (vault / "dangling.md").symlink_to(outside / "new.md")
    (vault / "in").symlink_to(vault / ".obsidian")
    (vault / "hidden.md").symlink_to(vault / ".obsidian" / "app.json")
    before = files(vault)
    for call in (
        lambda: read_note(vault, path),
        lambda: create_note(vault, path, "x"),
        lambda: append_note(vault, path, "x", expected_hash=hashed(b"secret\n")),
    ):
        with pytest.raises(UsageError, match="leads out of the vault"):
            call()
    assert files(vault) == before


def test_a_link_within_the_vault_is_followed(vault: Path) -> None:
    (vault / "also.md").symlink_to("Log.md")
    _, seen = read_note(vault, "also")
    append_note(vault, "also", "x", expected_hash=seen)
    assert (vault / "also.md").is_symlink()
    assert (vault / "Log.md").read_text().endswith("x\n")


def test_a_loop_of_links_is_told(vault: Path) -> None:
    (vault / "a.md").symlink_to("b.md")
    (vault / "b.md").symlink_to("a.md")
    with pytest.raises(SourceError, match="can't be read or written"):
        read_note(vault, "a")


@pytest.mark.parametrize(
    ("text", "said"),
    [("a\0b", "NUL"), ("a\ud800", "half a character"), ("x" * 5_000_001, "bytes"), ("  \n", "nothing")],
)
def test_texts_that_no_note_can_hold(vault: Path, text: str, said: str) -> None:
    _, seen = read_note(vault, "Log")
    with pytest.raises(UsageError, match=said):
        append_note(vault, "Log", text, expected_hash=seen)
    if text.strip():
        with pytest.raises(UsageError, match=said):
            create_note(vault, "New", text)
    assert sorted(files(vault)) == [".obsidian/app.json", "Log.md"]


def test_what_is_no_note_is_told(vault: Path) -> None:
    (vault / "latin.md").write_bytes(b"Gr\xfc\xdfe\n")
    (vault / "folder.md").mkdir()
    os.mkfifo(vault / "pipe.md")
    with pytest.raises(SourceError, match="no UTF-8"):
        read_note(vault, "latin")
    with pytest.raises(SourceError, match="no regular file"):
        read_note(vault, "folder")
    with pytest.raises(SourceError, match="no regular file"):
        read_note(vault, "pipe")
    with pytest.raises(UnknownMemory, match="'Lag'") as caught:
        read_note(vault, "Lag")
    assert "'Log'" in str(caught.value.hint)
    with pytest.raises(UnknownMemory):
        read_note(vault, "no/such/folder")
    with pytest.raises(SourceError, match="is not there"):
        read_note(vault.parent / "gone", "Log")


def test_properties_and_a_frontmatter_do_not_go_together(vault: Path) -> None:
    with pytest.raises(UsageError, match="frontmatter"):
        create_note(vault, "New", "---\na: 1\n---\n", properties={"b": 2})
    with pytest.raises(UsageError, match="properties"):
        create_note(vault, "New", "x", properties={"b": object()})
    assert not (vault / "New.md").exists()


async def call(tools: ToolRegistry, name: str, vault: Path, **arguments: str) -> ToolResult:
    return await tools.invoke(name, arguments, ToolContext(vault.parent))


async def test_the_tools_make_append_and_read(vault: Path) -> None:
    notes = VaultNotes(vault)
    tools = ToolRegistry(note_tools(notes))
    try:
        made = await call(tools, "note_create", vault, path="Ideas/New", text="# Plan\n\n# Other")
        assert made == ToolResult(True, "created Ideas/New.md")
        added = await call(tools, "note_append", vault, path="Ideas/New", text="- one", heading="Plan")
        assert added == ToolResult(True, "appended to Ideas/New.md")
        read = await call(tools, "note_read", vault, path="ideas/new")
        assert read == ToolResult(True, "# Plan\n- one\n\n# Other\n")
        refused = await call(tools, "note_create", vault, path="Ideas/new", text="again")
        assert not refused.ok
        assert "there is a note 'Ideas/new'; append to it" in refused.text
        out = await call(tools, "note_read", vault, path="../x")
        assert out.error == "ToolError"
    finally:
        await notes.close()


async def test_the_tools_ask_before_they_write_and_what_notes_say_is_data(vault: Path) -> None:
    notes = VaultNotes(vault)
    try:
        create, append, read = note_tools(notes)
    finally:
        await notes.close()
    decided = [
        Permissions().decide(tool, {"path": "A/b", "text": "x"}, vault.parent).decision
        for tool in (create, append, read)
    ]
    assert decided == ["ask", "ask", "allow"]
    assert not read.trusted


async def test_agents_append_at_the_same_time(vault: Path) -> None:
    notes = [VaultNotes(vault) for _ in range(3)]
    try:
        await asyncio.gather(*(one.append("Log", f"- {n}", "") for n in range(10) for one in notes))
    finally:
        for one in notes:
            await one.close()
    assert (vault / "Log.md").read_text().count("- ") == 30


async def test_appending_tries_again_when_a_person_saves(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, saves = os.fsync, iter("ab")

    def person_saves(descriptor: int) -> None:
        if (said := next(saves, None)) is not None:
            (vault / "Log.md").write_text(f"{said}\n")
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", person_saves)
    notes = VaultNotes(vault)
    try:
        await notes.append("Log", "by an agent", "")
    finally:
        await notes.close()
    assert (vault / "Log.md").read_text() == "b\nby an agent\n"
