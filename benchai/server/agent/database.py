"""The SQLite file of the agent wire: threads, runs, their events, assistants and the store's items.

One process owns it, `benchai serve`, and uses it from its event loop: a statement takes a hundredth to a tenth of a
millisecond in WAL mode, less than a hop to a thread. What is decided between two ``await`` is decided alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from benchai.errors import StoreError
from benchai.server.agent.schema import TABLES

if TYPE_CHECKING:
    from benchai.graphs.saver import Durable

Row = sqlite3.Row
BUSY_SECONDS = 5.0


class AgentDatabase:
    """One connection; see the module."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows that a query finds; columns by name or number.

        Raises:
            StoreError: the file cannot be read.
        """
        with _told():
            return self._db.execute(statement, values).fetchall()

    def one(self, statement: str, values: Sequence[Any] = ()) -> Row | None:
        """The first row that a query finds."""
        with _told():
            found: Row | None = self._db.execute(statement, values).fetchone()
            return found

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement, in a transaction of its own unless one is open; returns how many rows it changed.

        Raises:
            StoreError: it cannot be written; nothing has changed.
        """
        with _told():
            return self._db.execute(statement, values).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements in the context are kept, or none. There must be no ``await`` in it.

        Raises:
            StoreError: it cannot be written; nothing has changed.
        """
        if self._db.in_transaction:
            yield
            return
        with _told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as error:
        raise StoreError(f"the threads and runs of the server cannot be kept: {error}") from error


@contextmanager
def open_agent_database(file: Path, durable: Durable = "normal") -> Iterator[AgentDatabase]:
    """Open the database; it is made where it is not there.

    Args:
        file: The database.
        durable: What a power loss may cost; see ``graphs.saver.Durable``.

    Raises:
        StoreError: the file cannot be made or opened, or is no SQLite database.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise _cannot_open(file, error) from error
    try:
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={durable.upper()}")
            connection.executescript(TABLES)
            # it holds what was said
            file.chmod(0o600)
        except (OSError, sqlite3.Error) as error:
            raise _cannot_open(file, error) from error
        yield AgentDatabase(connection)
    finally:
        connection.close()


def _cannot_open(file: Path, error: Exception) -> StoreError:
    hint = "check its folder's permissions, move the file away if it is damaged, or set BENCHAI_HOME"
    return StoreError(f"the threads and runs in {str(file)!r} cannot be opened: {error}", hint=hint)


def as_json(value: Any) -> str:
    """Plain data as it is kept in a column."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def from_json(text: str | None) -> Any:
    """What a column holds; None for NULL."""
    return None if text is None else orjson.loads(text)
