"""What is kept, as the vector index asks for it, in the least SQLite that will do; and an embedder of words."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchai.errors import ContextExceeded
from benchai.memory.embed import unit

DIMENSION = 16

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS passages (id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER, text TEXT, vector TEXT);
CREATE TABLE IF NOT EXISTS gone (passage INTEGER PRIMARY KEY);
CREATE TRIGGER IF NOT EXISTS went AFTER DELETE ON passages BEGIN INSERT INTO gone VALUES (old.id); END;
"""


class Rows:
    """A source of passages."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.executescript(SCHEMA)

    def add(self, rows: Sequence[tuple[int, str]]) -> None:
        with self.connection:
            self.connection.executemany("INSERT INTO passages (ns, text) VALUES (?, ?)", rows)

    def drop(self, numbers: Sequence[int]) -> None:
        with self.connection:
            self.connection.executemany("DELETE FROM passages WHERE id = ?", [(number,) for number in numbers])

    def forget_all(self) -> None:
        self.connection.executescript("BEGIN; UPDATE passages SET vector = NULL; DELETE FROM gone; COMMIT;")

    def all(self) -> dict[int, tuple[int, str]]:
        return {number: (ns, text) for number, ns, text in self.connection.execute("SELECT id, ns, text FROM passages")}

    def pending(self, fingerprint: str, limit: int, after: int = 0) -> list[tuple[int, int, str]]:
        asked = "SELECT id, ns, text FROM passages WHERE vector IS NOT ? AND id > ? ORDER BY id LIMIT ?"
        return self.connection.execute(asked, (fingerprint, after, limit)).fetchall()

    def count_pending(self, fingerprint: str) -> int:
        asked = "SELECT count(*) FROM passages WHERE vector IS NOT ?"
        return int(self.connection.execute(asked, (fingerprint,)).fetchone()[0])

    def indexed(self, numbers: Sequence[int], fingerprint: str) -> None:
        with self.connection:
            self.connection.executemany(
                "UPDATE passages SET vector = ? WHERE id = ?", [(fingerprint, number) for number in numbers]
            )

    def gone(self, limit: int) -> list[int]:
        return [row[0] for row in self.connection.execute("SELECT passage FROM gone LIMIT ?", (limit,))]

    def gone_done(self, numbers: Sequence[int]) -> None:
        with self.connection:
            self.connection.executemany("DELETE FROM gone WHERE passage = ?", [(number,) for number in numbers])


class WordEmbedder:
    """Each word has a direction, a text the sum of them; a text with the word ``LONG`` is too long."""

    def __init__(self, name: str = "words", dimension: int = DIMENSION) -> None:
        self.fingerprint = f"{name}:{dimension}:unit"
        self.dimension = dimension
        self.truncated = 0
        self.calls: list[list[str]] = []
        self._words: dict[str, NDArray[np.float64]] = {}

    async def prepare(self) -> None:
        """Nothing to do."""

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        self.calls.append(list(texts))
        self.truncated += sum("CUT" in text for text in texts)
        if any("LONG" in text for text in texts):
            raise ContextExceeded("the text is too long")
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        rows = [sum((self._word(word) for word in text.split()), np.zeros(self.dimension)) for text in texts]
        return unit(rows, len(texts), self.dimension, "words")

    async def close(self) -> None:
        """Nothing to do."""

    def _word(self, word: str) -> NDArray[np.float64]:
        if word not in self._words:
            self._words[word] = np.random.default_rng(zlib.crc32(word.encode())).normal(size=self.dimension)
        return self._words[word]
