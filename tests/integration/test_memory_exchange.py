"""An export holds all, and reading it in gives the same memory again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchai.errors import SourceError, StoreFull
from benchai.memory.database import Database
from benchai.memory.distil import Summaries
from benchai.memory.export import export_lines, export_markdown
from benchai.memory.facts import Fact, Facts
from benchai.memory.forget import Forgetting, Target
from benchai.memory.howtos import Howtos
from benchai.memory.importing import import_lines
from benchai.memory.importing_files import import_markdown
from benchai.memory.labels import label
from benchai.memory.namespace import Namespace
from benchai.memory.store import Store
from benchai.memory.turns import Said, Turns
from benchai.memory.types import Document, Link, Piece
from tests.integration.memory_helpers import A, B, check, contexts, everything, found, said, store_in

ANN = Namespace("ann")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with store_in(tmp_path) as database:
        yield database
        check(database)


def exported(database: Database, ns: Namespace = ANN) -> list[str]:
    lines: list[str] = []
    export_lines(database, ns, lines.append)
    return lines


def as_markdown(database: Database, ns: Namespace = ANN) -> str:
    written: list[str] = []
    export_markdown(database, ns, written.append)
    return "".join(written)


def filled(database: Database) -> None:
    """Something of everything, with gaps in the numbers and a fact that was superseded."""
    turns, facts = Turns(database), Facts(database)
    turns.record(A, "gone", "r", said("to be forgotten"))
    numbers = turns.record(A, "talk", "r", said("I live in Bern", "Nice ✓", "x\u2028y \x00 " * 200, ""))
    turns.record(Namespace("ann", "work", "t"), "talk", "r", [Said(role="tool", text="42", name="calculator", at=5.5)])
    for city, at in (("Bern", 100.25), ("Rome", 200.5)):
        fact = Fact(subject="user", relation="lives_in", value=city, text=f"The user lives in {city}", valid_at=at)
        facts.add(A, fact, numbers[:1], "tiny/1")
    facts.note(ANN, "bins on Monday")
    Howtos(database).learned(A, "deploy", ["build", "copy\nall"], "coding", numbers[1:2])
    Howtos(database).learned(A, "deploy", ["build", "copy\nall"], "coding")
    (work, *_) = Summaries(database).due(A, 100)
    Summaries(database).keep(A, work, "They talked about Bern", "tiny/1")
    pieces = (Piece(text="one", heading="A > B", line=1, end_line=2), Piece(text="two", page=3), Piece(text="one"))
    links = (Link(target="other", part="^block", kind="embed"), Link(target="nowhere"))
    meta: dict[str, Any] = {"tags": ["a", "ü"], "year": 2023, "draft": True}
    note = Document(
        source="/n.md",
        title="Note",
        media="note",
        hash="h1",
        size=9,
        mtime_ns=2**60,
        meta=meta,
        pieces=pieces,
        links=links,
    )
    Store(database).put(A, [note, note.model_copy(update={"source": "/other.md", "links": ()})])
    Forgetting(database).forget(A, Target(thread="gone"))
    for words, good in (("Bern", True), ("deploy", True), ("one", False), ("bins", True)):
        label(database, A, f"what of {words}?", found(database, A, words)[0].id, good=good)


def test_a_round_trip_gives_the_same_memory(database: Database) -> None:
    filled(database)
    lines = exported(database)
    assert [json.loads(line)["kind"] for line in lines] == [
        "benchai-memory",
        *["document"] * 2,
        *["turn"] * 5,
        *["fact"] * 3,
        "howto",
        "summary",
        *["label"] * 4,
    ]
    with Database(Path(":memory:")) as other:
        imported = import_lines(other, ANN, lines)
        assert imported.added == {"document": 2, "turn": 5, "fact": 3, "howto": 1, "summary": 1, "label": 4}
        assert imported.known == imported.skipped == {}
        assert exported(other) == lines
        assert contexts(other) == contexts(database)
        for words in ("Bern", "deploy", "one two", "Monday", "calculator"):
            texts = [(passage.text, passage.heading, passage.kind) for passage in found(database, A, words)]
            assert [(passage.text, passage.heading, passage.kind) for passage in found(other, A, words)] == texts
        why = Facts(other).why(A, "f2")
        assert [(fact.value, fact.invalid_at, fact.superseded_by) for fact in why.history] == [
            ("Bern", 200.5, "f2"),
            ("Rome", None, None),
        ]
        assert [turn.text for turn in why.sources] == ["I live in Bern"]
        check(other)


def test_reading_in_again_adds_nothing(database: Database) -> None:
    filled(database)
    lines = exported(database)
    before = everything(database)
    again = import_lines(database, ANN, lines)
    assert again.added == {}
    assert sum(again.known.values()) == len(lines) - 1
    assert everything(database) == before


def test_another_user_gets_a_copy(database: Database) -> None:
    filled(database)
    lines = exported(database)
    import_lines(database, Namespace("bob"), lines)
    assert exported(database, Namespace("bob")) == lines == exported(database)


def test_what_was_learned_meanwhile_stays_on_its_line(database: Database) -> None:
    filled(database)
    lines = exported(database)
    with Database(Path(":memory:")) as other:
        for city, at in (("Oslo", 150.0), ("Lima", 300.0)):
            Facts(other).add(
                A, Fact(subject="user", relation="lives_in", value=city, text=f"User is in {city}", valid_at=at)
            )
        import_lines(other, ANN, lines)
        history = Facts(other).why(A, "f1").history
        assert [(fact.value, fact.invalid_at) for fact in history] == [
            ("Bern", 150.0),
            ("Oslo", 200.5),
            ("Rome", 300.0),
            ("Lima", None),
        ]
        check(other)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
SOME = st.lists(
    st.one_of(
        st.tuples(st.just("turn"), st.sampled_from(["a", "b"]), st.sampled_from(["r", "s"]), TEXT),
        st.tuples(st.just("fact"), st.sampled_from(["lives_in", "likes", "note"]), TEXT, st.integers(0, 5)),
        st.tuples(st.just("howto"), TEXT, st.lists(TEXT, min_size=1, max_size=3), st.just(0)),
        st.tuples(st.just("document"), st.sampled_from(["/a", "/b"]), st.lists(TEXT, max_size=3), st.just(0)),
        st.tuples(st.just("forget"), st.sampled_from(["a", "b"]), st.just(0), st.just(0)),
    ),
    max_size=15,
)


@settings(max_examples=40)
@given(SOME)
def test_any_memory_comes_back_as_it_was(steps: list[tuple[Any, ...]]) -> None:
    with Database(Path(":memory:")) as database, Database(Path(":memory:")) as other:
        for place, (kind, one, two, three) in enumerate(steps):
            ns = (ANN, A)[place % 2]
            if kind == "turn":
                Turns(database).record(ns, one, two, said(three))
            elif kind == "fact":
                fact = Fact(subject="user", relation=one, value=two, text=f"u {two}", valid_at=float(three))
                asked = "SELECT t.id FROM turns t JOIN namespaces n ON n.id = t.ns WHERE project = '' LIMIT ?"
                sources = [number for (number,) in database.connection.execute(asked, (three,))]
                Facts(database).add(ns, fact, sources, "tiny")
            elif kind == "howto":
                Howtos(database).learned(ns, one, two, "react")
            elif kind == "document":
                pieces = tuple(Piece(text=text) for text in two)
                Store(database).put(
                    ns, [Document(source=one, title="t", media="text", hash=repr(two), size=1, pieces=pieces)]
                )
            else:
                Forgetting(database).forget(ns, Target(thread=one))
        lines = exported(database)
        import_lines(other, ANN, lines)
        assert exported(other) == lines
        assert import_lines(other, ANN, lines).added == {}
        check(other)
        with Database(Path(":memory:")) as third:
            import_markdown(third, ANN, {"": as_markdown(database)})
            assert exported(third) == lines


HEAD = '{"kind":"benchai-memory","format":1}'
TURN = {
    "kind": "turn",
    "namespace": "work",
    "id": 1,
    "thread": "a",
    "run": "r",
    "role": "user",
    "name": "",
    "text": "x",
}
TURN |= {"at": 1.5}
NOTE = {"kind": "fact", "namespace": "work", "id": 1, "subject": "user", "relation": "note", "value": "v", "text": "t"}
NOTE |= {"confidence": 1, "valid_at": 1, "extractor": "user", "at": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no json", "line 3 of the import: it = 'no json'"),
        ("[]", "line 3"),
        ('{"kind": "other"}', "kind"),
        (json.dumps(TURN | {"id": 2, "role": "king"}), "role = 'king'"),
        (json.dumps(TURN | {"id": 2, "extra": 1}), "extra = 1"),
        (json.dumps(TURN | {"id": 2, "at": "NaN"}), "at = 'NaN'"),
        (json.dumps(TURN | {"id": 2, "at": 1e30}), "at = 1e"),
        (json.dumps(TURN), "id = 1: another turn has it"),
        (json.dumps(TURN | {"id": 2, "namespace": "a/b/c"}), "namespace = 'a/b/c'"),
        (json.dumps(TURN | {"id": 2, "namespace": "home"}), "namespace = 'home' is not 'work' or below it"),
        (json.dumps(TURN | {"id": 2, "namespace": ""}), "namespace = '' is not 'work' or below it"),
        (json.dumps(NOTE | {"sources": [9]}), "sources = 9"),
        (json.dumps(NOTE | {"value": ""}), "value = ''"),
        (json.dumps(NOTE | {"confidence": 2}), "confidence = 2"),
        ('{"kind": "benchai-memory", "format": 2}', "format = 2"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_kept(database: Database, line: str, message: str) -> None:
    before = everything(database)
    with pytest.raises(SourceError) as raised:
        import_lines(database, A, [HEAD, json.dumps(TURN), line])
    assert raised.value.message.startswith("line 3 of the import: ")
    assert message in raised.value.message
    assert everything(database) == before


@pytest.mark.parametrize("size", [2**63, -(2**70)])
def test_a_number_that_no_file_can_hold_is_refused(database: Database, size: int) -> None:
    document = {"source": "/a", "title": "", "media": "text", "hash": "", "size": size}
    line = json.dumps({"kind": "document", "namespace": "work", "id": 1, "at": 1, "document": document})
    with pytest.raises(SourceError, match="line 2"):
        import_lines(database, A, [HEAD, line])


def test_a_file_of_another_kind_is_refused(database: Database) -> None:
    with pytest.raises(SourceError, match=r"line 1 .* before the line that names the format"):
        import_lines(database, A, [json.dumps(TURN)])
    assert import_lines(database, A, [HEAD, "", " \n"]).added == {}


def test_a_source_above_cannot_be_given_to_what_does_not_see_it(database: Database) -> None:
    lines = [HEAD, json.dumps(TURN), json.dumps(NOTE | {"namespace": "", "sources": [1]})]
    with pytest.raises(SourceError, match="can't be seen"):
        import_lines(database, ANN, lines)


def test_a_full_disk_keeps_nothing_of_an_import(database: Database) -> None:
    with Database(Path(":memory:")) as other:
        Turns(other).record(A, "talk", "r", said(*("word " * 500 for _ in range(100))))
        lines = exported(other)
    before = everything(database)
    pages = database.connection.execute("PRAGMA page_count").fetchone()[0]
    database.connection.execute(f"PRAGMA max_page_count={pages + 5}")
    with pytest.raises(StoreFull):
        import_lines(database, ANN, lines)
    assert everything(database) == before


def test_people_can_read_it(database: Database) -> None:
    filled(database)
    # as a viewer shows it
    text = re.sub(r" <!--.*?-->", "", as_markdown(database))
    for part in (
        "# ann\n\n## Facts\n\n- bins on Monday (since ",
        "# work\n",
        "- The user lives in Rome (since 1970-01-01)",
        "### No longer\n\n- The user lives in Bern (1970-01-01 to 1970-01-01)",
        "### deploy\n\n1. build\n2. copy all\n\nWorked 2 times (coding).",
        "They talked about Bern",
        "**user**, ",
        "> I live in Bern",
        "# work/t\n",
        "- Note: `/n.md`",
        "- what of one?: not answered by “one”",
    ):
        assert part in text
    assert exported(database, B) == [HEAD + "\n"]
