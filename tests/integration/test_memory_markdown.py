"""Markdown: what export wrote comes back the same, what others wrote comes in as notes, and nothing is lost unsaid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchai.errors import SourceError
from benchai.memory.database import Database
from benchai.memory.facts import Facts
from benchai.memory.importing import import_lines
from benchai.memory.importing_files import import_markdown
from benchai.memory.labels import label
from benchai.memory.namespace import Namespace
from benchai.memory.store import Store
from tests.integration.memory_helpers import A, B, check, document, everything, found
from tests.integration.test_memory_exchange import ANN, HEAD, as_markdown, exported, filled


@pytest.fixture
def database() -> Iterator[Database]:
    with Database(Path(":memory:")) as database:
        yield database
        check(database)


@pytest.fixture
def other() -> Iterator[Database]:
    with Database(Path(":memory:")) as other:
        yield other
        check(other)


def notes(database: Database, ns: Namespace = ANN) -> list[str]:
    return [fact.text for fact in Facts(database).holding(ns)]


def test_a_memory_comes_back_from_markdown(database: Database, other: Database) -> None:
    filled(database)
    text = as_markdown(database)
    done = import_markdown(other, ANN, {"all.md": text})
    assert done.added == {"document": 2, "turn": 5, "fact": 3, "howto": 1, "summary": 1, "label": 4}
    assert done.known == done.skipped == {}
    assert exported(other) == exported(database)
    assert as_markdown(other) == text
    again = import_markdown(other, ANN, {"all.md": text, "copy.md": text.replace("\n", " \r\n")})
    assert again.added == {}
    assert again.known["turn"] == 10


def test_text_that_looks_like_a_comment_is_text(database: Database, other: Database) -> None:
    Facts(database).note(A, 'a --> b <!-- benchai 1 0123456789ab {"kind":"turn"} --> c ---- \\-- é')
    Facts(database).note(A, "<!-- benchai-namespace other -->")
    Store(database).put(A, [document("/--> <b>", "# x <!-- benchai-namespace home -->", title="<!-- -->")])
    import_markdown(other, ANN, {"": as_markdown(database)})
    assert exported(other) == exported(database)


def test_what_people_add_to_an_export_comes_in_as_notes(database: Database, other: Database) -> None:
    filled(database)
    lines = as_markdown(database).split("\n")
    at = next(number for number, line in enumerate(lines) if line.startswith("- The user lives in Rome"))
    lines[at:at] = ["- She has a bike", "", "  - red"]
    done = import_markdown(other, ANN, {"": "\n".join(lines)})
    assert done.added["fact"] == 5
    assert notes(other, A)[-2:] == ["She has a bike", "She has a bike: red"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lives in Rome (", "lives in Oslo (", "'- The user lives in Oslo"),
        ("> I live in Bern", "> I live in Oslo", "'**user**"),
        ("2. copy all", "2. copy none", "'### deploy'"),
        ('"user","relation":"note"', '"","relation":"note"', "subject = ''"),
        ('"kind":"howto"', '"kind":"king"', "'king'"),
        ('"kind":"howto"', '"kind""howto"', "it = "),
        ("benchai-memory 1", "benchai-memory 2", "the format 2 is not 1"),
        ("benchai-namespace work/t", "benchai-namespace home", ""),
    ],
)
def test_what_was_changed_is_named_with_its_line(
    database: Database, other: Database, old: str, new: str, message: str
) -> None:
    filled(database)
    text = as_markdown(database)
    assert old in text
    changed = text.replace(old, new)
    if not message:
        # the records name their namespaces themselves
        assert import_markdown(other, ANN, {"": changed}).added["turn"] == 5
        return
    number = 1 + next(
        place
        for place, lines in enumerate(zip(text.split("\n"), changed.split("\n"), strict=True))
        if len({*lines}) > 1
    )
    number -= {">": 2, "2": 3}.get(old[0], 0)
    before = everything(other)
    with pytest.raises(SourceError) as raised:
        import_markdown(other, ANN, {"good.md": "- a note", "all.md": changed})
    assert raised.value.message.startswith(f"'all.md', line {number} of the import: ")
    assert message in raised.value.message
    assert everything(other) == before


def test_a_namespace_that_is_not_below_is_refused(database: Database, other: Database) -> None:
    filled(database)
    with pytest.raises(SourceError, match="namespace = '' is not 'work' or below it"):
        import_markdown(other, A, {"": as_markdown(database)})


def test_notes_of_others_are_kept_once(other: Database) -> None:
    text = "# About me\n\n- Likes tea\n- Uses:\n  - vim\n  - zsh\n\n---\n\nWorks at home\nand elsewhere.\n"
    done = import_markdown(other, A, {"me.md": text})
    assert (done.added, done.known, done.skipped) == ({"fact": 4}, {}, {"headings": 1, "rules": 1})
    assert sorted(notes(other, A)) == [
        "About me: Likes tea",
        "About me: Uses: vim",
        "About me: Uses: zsh",
        "About me: Works at home and elsewhere.",
    ]
    assert [passage.text for passage in found(other, A, "tea")] == ["About me: Likes tea"]
    again = import_markdown(other, A, {"me.md": text, "more.md": "About me: likes tea\n\n* new\n"})
    assert (again.added, again.known) == ({"fact": 1}, {"fact": 5})
    assert notes(other, ANN) == notes(other, B) == []


def test_a_comment_without_an_end_is_named(other: Database) -> None:
    with pytest.raises(SourceError, match=r"^'a/b\.md', line 3 of the import: the comment"):
        import_markdown(other, A, {"a/b.md": "one\n\n<!-- two\nthree"})
    assert notes(other, A) == []


def test_labels_follow_the_passage_that_they_are_of(database: Database, other: Database) -> None:
    Store(database).put(A, [document("/a", "same", "other", "same")])
    Facts(database).note(ANN, "seen from below")
    places = {place: f"p{number}" for number, place in database.connection.execute("SELECT id, place FROM passages")}
    label(database, A, "which?", places[2], good=True)
    label(database, A, "which?", places[1], good=False)
    label(database, A, "from below?", found(database, A, "below")[0].id, good=True)
    lines = exported(database)
    # of the project alone, what its passages do not include is left out
    assert sum('"kind":"label"' in line for line in exported(database, A)) == 2
    Facts(other).note(A, "another row")
    import_lines(other, ANN, lines)
    rows = "SELECT l.query, p.place, p.text, l.good FROM labels l JOIN passages p ON p.id = l.passage ORDER BY l.id"
    assert other.connection.execute(rows).fetchall() == [
        ("which?", 2, "same", 1),
        ("which?", 1, "other", 0),
        ("from below?", 0, "seen from below", 1),
    ]
    (passage,) = other.connection.execute("SELECT passage FROM labels ORDER BY id").fetchone()
    label(other, A, "which?", f"p{passage}", good=False)
    assert import_lines(other, ANN, lines).known["label"] == 3
    assert other.connection.execute("SELECT good FROM labels WHERE query = 'which?'").fetchall() == [(0,), (0,)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"owner":1', '"owner":7', "owner = 7: no line is a document of that id"),
        ('"place":0', '"place":-1', "place = -1"),
        ('"part_of":"document"', '"part_of":"king"', "part_of = 'king'"),
        ('"namespace":"work"', '"namespace":""', "can't be seen"),
    ],
)
def test_a_wrong_label_is_named(database: Database, other: Database, old: str, new: str, message: str) -> None:
    Store(database).put(A, [document("/a", "text")])
    label(database, A, "which?", "p1", good=True)
    head, kept, noted = exported(database)
    assert head.strip() == HEAD
    assert old in noted
    with pytest.raises(SourceError, match="line 3 of the import") as raised:
        import_lines(other, ANN, [head, kept, noted.replace(old, new)])
    assert message in raised.value.message


def test_a_label_of_a_passage_that_is_not_there_is_counted(database: Database, other: Database) -> None:
    Store(database).put(A, [document("/a", "text")])
    label(database, A, "which?", "p1", good=True)
    head, kept, noted = exported(database)
    done = import_lines(other, ANN, [head, kept, noted.replace('"text":"text"', '"text":"other"')])
    assert (done.added, done.skipped) == ({"document": 1}, {"labels of passages that are not there": 1})
