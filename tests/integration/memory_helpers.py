"""What the tests of the memory share: a store in a folder, and what must hold of it at any time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchai.memory.database import Database
from benchai.memory.namespace import Namespace
from benchai.memory.search import Query, choose, lexical_leg
from benchai.memory.turns import Said
from benchai.memory.types import Document, Passage, Piece

OWNERS = {
    "document": "documents",
    "turn": "turns",
    "fact": "facts",
    "howto": "howtos",
    "summary": "summaries",
}
A, B = Namespace("ann", "work"), Namespace("bob", "work")


def store_in(folder: Path) -> Database:
    return Database(folder / "memory.sqlite")


def said(*texts: str) -> list[Said]:
    """Turns, in turn of the user and of the assistant."""
    return [Said(role="user" if place % 2 == 0 else "assistant", text=text) for place, text in enumerate(texts)]


def document(source: str, *texts: str, title: str = "A title") -> Document:
    pieces = tuple(Piece(text=text, line=place) for place, text in enumerate(texts, 1))
    return Document(source=source, title=title, media="text", hash=str(hash(texts)), size=9, pieces=pieces)


def found(database: Database, ns: Namespace, words: str) -> list[Passage]:
    """What a search for words finds."""
    query = Query(text=words, count=100)
    _, ranking = lexical_leg(database, ns, query)
    return choose(database, ns, query, {"lexical": ranking}, {"lexical": 1.0})


def texts_found(database: Database, ns: Namespace, words: str) -> list[str]:
    return sorted(passage.text for passage in found(database, ns, words))


def contexts(database: Database) -> list[tuple[str, str]]:
    rows = database.connection.execute("SELECT text, context FROM passages WHERE kind = 'turn' ORDER BY owner, place")
    return [(text, context) for text, context in rows]


def everything(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables."""
    tables = ("namespaces", "documents", "links", "turns", "facts", "howtos", "summaries", "derived", "labels")
    rows = {table: database.connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    return rows | {"passages": database.connection.execute("SELECT * FROM passages").fetchall()}


def of_users(database: Database, users: Sequence[str]) -> dict[str, list[tuple[object, ...]]]:
    """All rows of some users."""
    marks = ",".join("?" * len(users))
    numbers = f"SELECT id FROM namespaces WHERE user IN ({marks})"
    tables = ("documents", "turns", "facts", "howtos", "summaries", "labels", "passages")
    return {
        table: database.connection.execute(
            f"SELECT * FROM {table} WHERE ns IN ({numbers}) ORDER BY id", users
        ).fetchall()
        for table in tables
    }


def check(database: Database) -> None:
    """What must hold at any time: the file is whole, its indexes are those of its rows, no passage is an orphan."""
    connection = database.connection
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")
    for kind, table in OWNERS.items():
        rows = connection.execute(
            f"SELECT p.id FROM passages p LEFT JOIN {table} o ON o.id = p.owner AND o.ns = p.ns "
            "WHERE p.kind = ? AND o.id IS NULL",
            (kind,),
        ).fetchall()
        assert rows == [], f"{kind} passages without an owner: {rows}"
        rows = connection.execute(
            f"SELECT child FROM derived LEFT JOIN {table} o ON o.id = child WHERE kind = ? AND o.id IS NULL", (kind,)
        ).fetchall()
        assert rows == [], f"sources of a {kind} that is not there: {rows}"
    check_facts(database)
    check_contexts(database)


def check_facts(database: Database) -> None:
    """Of each line of facts one holds; each other ends where the next begins; what holds is found."""
    connection = database.connection
    rows = connection.execute(
        "SELECT count(*) FROM facts f LEFT JOIN passages p ON p.kind = 'fact' AND p.owner = f.id "
        "WHERE (f.invalid_at IS NULL) <> (p.id IS NOT NULL) OR (p.id IS NOT NULL AND p.text <> f.text)"
    ).fetchone()
    assert rows == (0,)
    rows = connection.execute(
        "SELECT count(*) FROM facts f LEFT JOIN facts n ON n.id = f.superseded_by "
        "WHERE f.invalid_at IS NOT n.valid_at OR (n.id IS NOT NULL AND (n.key <> f.key OR n.ns <> f.ns))"
    ).fetchone()
    assert rows == (0,)


def check_contexts(database: Database) -> None:
    """The context of each passage of a turn is what stands beside it in its thread."""
    rows = database.connection.execute(
        "SELECT p.context, p.text, lag(p.text) OVER line, lead(p.text) OVER line FROM passages p "
        "JOIN turns t ON p.kind = 'turn' AND p.owner = t.id "
        "WINDOW line AS (PARTITION BY t.ns, t.thread ORDER BY t.id, p.place)"
    )
    for context, text, before, behind in rows:
        assert context == "\n".join(part for part in (before, behind) if part is not None), text
