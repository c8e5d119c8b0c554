"""Which passages the vector index lacks, and which it holds too many: kept in the SQLite file, nothing is lost."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from benchai.memory.database import Database, marks
from benchai.memory.left import PLACE, leave

FINGERPRINT = "fingerprint"


class Pending:
    """What is still to be done to the vector index; everything may be done twice."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def use(self, fingerprint: str | None) -> None:
        """From now on vectors are kept, those of this embedder; None: no longer."""
        with self._database.writing() as connection:
            self._database.set(FINGERPRINT, fingerprint)
            if fingerprint is None:
                connection.execute("DELETE FROM gone")

    def forget_all(self) -> None:
        """The index is empty: every passage is to be embedded."""
        with self._database.writing() as connection:
            connection.execute("UPDATE passages SET vector = NULL WHERE vector IS NOT NULL")
            connection.execute("DELETE FROM gone")

    def noted(self, fingerprint: str) -> tuple[str | None, int]:
        """Where the index was last, and how many vectors of this embedder it should hold, those to go included."""
        with self._database.looking() as connection:
            asked = "SELECT (SELECT count(*) FROM passages WHERE vector = ?) + (SELECT count(*) FROM gone)"
            return self._database.setting(PLACE), int(connection.execute(asked, (fingerprint,)).fetchone()[0])

    def reconcile(self, held: Collection[int], fingerprint: str, place: str) -> None:
        """Note what the index in a place really holds: what it lacks is to be embedded, what nobody keeps is to go.

        From now on it is the place in use; one that was in use before is noted as left.
        """
        with self._database.writing() as connection:
            kept = {row[0] for row in connection.execute("SELECT id FROM passages")}
            noted = {row[0] for row in connection.execute("SELECT id FROM passages WHERE vector = ?", (fingerprint,))}
            lacking = [(number,) for number in noted.difference(held)]
            connection.executemany("UPDATE passages SET vector = NULL WHERE id = ?", lacking)
            connection.execute("DELETE FROM gone")
            strange = [(number,) for number in set(held) - kept]
            connection.executemany("INSERT INTO gone VALUES (?)", strange)
            leave(self._database, place)

    def differences(self, held: Collection[int], fingerprint: str) -> tuple[int, int]:
        """How many vectors the index lacks, and how many it holds too many, beside those noted to come or go."""
        with self._database.looking() as connection:
            noted = {row[0] for row in connection.execute("SELECT id FROM passages WHERE vector = ?", (fingerprint,))}
            other = {
                row[0] for row in connection.execute("SELECT id FROM passages WHERE vector IS NOT ?", (fingerprint,))
            }
            gone = {row[0] for row in connection.execute("SELECT passage FROM gone")}
            return len(noted.difference(held)), len(set(held) - noted - other - gone)

    def pending(self, fingerprint: str, limit: int, after: int = 0) -> list[tuple[int, int, str]]:
        """Passages without a vector of this embedder: number, number of the namespace, text; in order of the number."""
        with self._database.looking() as connection:
            rows = connection.execute(
                "SELECT id, ns, title, heading, text FROM passages WHERE vector IS NOT ? AND id > ? "
                "ORDER BY id LIMIT ?",
                (fingerprint, after, limit),
            )
            return [(number, ns, _embedded(title, heading, text)) for number, ns, title, heading, text in rows]

    def count_pending(self, fingerprint: str) -> int:
        """How many passages have no vector of this embedder."""
        with self._database.looking() as connection:
            asked = (fingerprint,)
            return int(connection.execute("SELECT count(*) FROM passages WHERE vector IS NOT ?", asked).fetchone()[0])

    def indexed(self, numbers: Sequence[int], fingerprint: str) -> None:
        """The index holds these; those that were deleted meanwhile are to go again."""
        with self._database.writing() as connection:
            connection.executemany(
                "UPDATE passages SET vector = ? WHERE id = ?", [(fingerprint, number) for number in numbers]
            )
            rows = connection.execute(f"SELECT id FROM passages WHERE id IN ({marks(list(numbers))})", numbers)  # noqa: S608
            late = set(numbers) - {row[0] for row in rows}
            connection.executemany("INSERT OR IGNORE INTO gone VALUES (?)", [(number,) for number in late])

    def gone(self, limit: int) -> list[int]:
        """Passages that were deleted, whose vectors the index may still hold."""
        with self._database.looking() as connection:
            return [row[0] for row in connection.execute("SELECT passage FROM gone LIMIT ?", (limit,))]

    def gone_done(self, numbers: Sequence[int]) -> None:
        """The index holds these no longer."""
        with self._database.writing() as connection:
            connection.executemany("DELETE FROM gone WHERE passage = ?", [(number,) for number in numbers])


def _embedded(title: str, heading: str, text: str) -> str:
    above = " > ".join(part for part in (title, heading) if part)
    return f"{above}\n{text}" if above else text
