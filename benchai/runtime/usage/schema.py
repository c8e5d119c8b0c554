"""The SQLite file of the usage rows: its tables, how it is opened and brought up to date."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchai.config import paths
from benchai.errors import AmbiguousRequest, BenchAIError, UnknownRequest
from benchai.runtime.usage.row import COLUMNS

_REQUESTS = """
CREATE TABLE requests (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL, time REAL NOT NULL, key TEXT, session TEXT, asked TEXT, role TEXT, model TEXT, workflow TEXT,
    score REAL, reason TEXT, tokens_in INTEGER, tokens_out INTEGER, tokens_cached INTEGER, queue_s REAL, swap_s REAL,
    first_token_s REAL, total_s REAL NOT NULL, tokens_per_s REAL, cache TEXT NOT NULL, outcome TEXT NOT NULL,
    status INTEGER NOT NULL, feedback REAL, comment TEXT
)"""
#: One entry for each version of the file: the statements that lead to it from the one before. Never change one.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        _REQUESTS,
        "CREATE INDEX requests_by_time ON requests (time)",
        "CREATE INDEX requests_by_id ON requests (id)",
        "CREATE TABLE contents (id TEXT NOT NULL, time REAL NOT NULL, request TEXT, reply TEXT)",
        "CREATE INDEX contents_by_time ON contents (time)",
        "CREATE TABLE services (id TEXT PRIMARY KEY, pid INTEGER NOT NULL, started REAL NOT NULL, seen REAL NOT NULL,"
        " ended INTEGER NOT NULL, core TEXT NOT NULL)",
        "CREATE TABLE states (service TEXT NOT NULL, time REAL NOT NULL, model TEXT NOT NULL, previous TEXT NOT NULL,"
        " state TEXT NOT NULL)",
        "CREATE INDEX states_by_service ON states (service, time)",
        "CREATE TABLE gpus (time REAL NOT NULL, memory REAL NOT NULL, compute REAL)",
        "CREATE INDEX gpus_by_time ON gpus (time)",
    ),
    (
        "ALTER TABLE requests ADD COLUMN request_id TEXT",
        "CREATE INDEX requests_by_request_id ON requests (request_id) WHERE request_id IS NOT NULL",
    ),
)
# in rows of the file's first version the id was the client's: of those of one id it is the last
_OWN = "SELECT max(number) FROM requests WHERE id = ?"
_NAMED = "SELECT number, id FROM requests WHERE request_id = ? ORDER BY number DESC LIMIT ?"
_GIVE = "UPDATE requests SET feedback = ?, comment = ? WHERE number = ?"
#: Ids that an error lists.
LISTED = 5
INSERT = f"INSERT INTO requests ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - names of ours


def usage_file() -> Path:
    """The SQLite file of this user's rows."""
    return paths.data_dir() / "usage.sqlite"


def connect(file: Path, *, wait: float, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> sqlite3.Connection:
    """Open the file, make it where it is not there, and bring it up to date.

    Args:
        file: The database; it becomes readable for this user alone.
        wait: Seconds to wait for others that write.
        migrations: The statements of each version.

    Raises:
        BenchAIError: a newer BenchAI wrote it.
        sqlite3.Error, OSError: it cannot be opened or written.
    """
    # keys' names, sessions and perhaps contents stand in it
    paths.make_private(file)
    connection = sqlite3.connect(file, timeout=wait, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = ON")
        # VACUUM would leave a copy of it in the folder for temporary files
        connection.execute("PRAGMA temp_store = MEMORY")
        migrate(connection, migrations)
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the file to the last version, in one transaction; several processes may try at once.

    Raises:
        BenchAIError: a newer BenchAI wrote it.
        sqlite3.Error: it cannot be written.
    """
    if _version(connection) == len(migrations):
        return
    with transaction(connection):
        found = _version(connection)
        if found > len(migrations):
            message = f"the usage rows were written by a newer BenchAI (version {found} of the file)"
            raise BenchAIError(message, hint=f"this one knows {len(migrations)}: upgrade it, or move the file away")
        for statement in (one for version in migrations[found:] for one in version):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # a full disk may have rolled it back already
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


@contextmanager
def opened(file: Path, wait: float = 10.0) -> Iterator[sqlite3.Connection]:
    """The file for the time of a command.

    Raises:
        BenchAIError: it cannot be opened, read or written.
    """
    try:
        with contextlib.closing(connect(file, wait=wait)) as connection:
            yield connection
    except (OSError, sqlite3.Error) as error:
        hint = "check its folder's permissions and the disk, move the file away if it is damaged, or set BENCHAI_HOME"
        raise BenchAIError(f"the usage rows in {str(file)!r} cannot be used: {error}", hint=hint) from error


def give_feedback(connection: sqlite3.Connection, request: str, value: float, comment: str | None) -> None:
    """Attach feedback to a row, in place of what was there.

    Args:
        connection: The file.
        request: The row's id, or what its client called the request, where no other request is called so.
        value: From -1 to 1.
        comment: Further words.

    Raises:
        UnknownRequest: there is no such row.
        AmbiguousRequest: the clients of several requests called them so.
        sqlite3.Error: it cannot be written.
    """
    connection.execute(_GIVE, (value, comment, _number_of(connection, request.encode("utf-8", "replace").decode())))


def _number_of(connection: sqlite3.Connection, request: str) -> int:
    [(number,)] = connection.execute(_OWN, (request,)).fetchall()
    if number is not None:
        return int(number)
    named = connection.execute(_NAMED, (request, LISTED + 1)).fetchall()
    if not named:
        hint = "the header X-BenchAI-Id of a reply names it, benchai stats --last 10 lists the last ones"
        raise UnknownRequest(f"there is no request {request[:120]!r} in the usage rows", hint=hint)
    if len(named) > 1:
        ids = ", ".join(one for _, one in named[:LISTED])
        more = ", ..." if len(named) > LISTED else ""
        hint = f"give the id of one, from the header X-BenchAI-Id of its reply; the newest first: {ids}{more}"
        raise AmbiguousRequest(f"several requests are called {request[:120]!r}", hint=hint)
    return int(named[0][0])


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
