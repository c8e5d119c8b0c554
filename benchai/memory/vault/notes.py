"""A vault as tools see it: its notes made, appended to and read, in a thread of their own."""

from __future__ import annotations

from pathlib import Path

from benchai.errors import NoteChanged
from benchai.memory.vault.folder import note_parts
from benchai.memory.vault.write import append_note, create_note, read_note
from benchai.memory.worker import Worker

TRIES = 5


class VaultNotes:
    """The notes of a vault for agents; `close` it when nothing is under way.

    Args:
        vault: Its folder.
    """

    def __init__(self, vault: Path) -> None:
        self.vault = vault
        self._worker = Worker("vault-notes")

    async def create(self, path: str, text: str) -> str:
        """Make a new note; its path from the vault's root.

        Raises:
            BenchAIError: as `create_note`.
        """
        await self._worker.run(create_note, self.vault, path, text)
        return "/".join(note_parts(path))

    async def append(self, path: str, text: str, heading: str) -> str:
        """Add lines under a heading, or at the end where that is ""; the note's path.

        Raises:
            NoteChanged: Obsidian changed it in the moment of writing, again and again.
            BenchAIError: as `append_note`.
        """
        await self._worker.run(self._append, path, text, heading)
        return "/".join(note_parts(path))

    async def read(self, path: str) -> str:
        """The text of a note.

        Raises:
            BenchAIError: as `read_note`.
        """
        text, _ = await self._worker.run(read_note, self.vault, path)
        return text

    async def close(self) -> None:
        """End the thread."""
        await self._worker.aclose()

    def _append(self, path: str, text: str, heading: str) -> None:
        for left in reversed(range(TRIES)):
            try:
                append_note(self.vault, path, text, heading=heading or None, expected_hash=None)
                return
            except NoteChanged:
                if not left:
                    raise
