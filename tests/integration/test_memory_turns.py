"""Turns are kept verbatim, once, in the order in which they were said."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchai.errors import StoreFull, UnknownMemory
from benchai.memory.database import Database
from benchai.memory.namespace import Namespace
from benchai.memory.turns import LONGEST, Said, Turns, parts
from tests.integration.memory_helpers import A, B, check, contexts, everything, found, said, store_in, texts_found


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with store_in(tmp_path) as database:
        yield database
        check(database)


def test_turns_are_verbatim_and_found_by_their_words(database: Database) -> None:
    turns = Turns(database)
    text = "  My bicycle\n\nis *blue*, 27\u00a0gears \x00 ✓ "
    turns.record(A, "talk", "r1", [Said(role="user", text=text, name="Ann")])
    (turn,) = turns.turns_of(A, "talk")
    assert (turn.text, turn.role, turn.name, turn.thread, turn.run, turn.namespace) == (
        text, "user", "Ann", "talk", "r1", "work",
    )  # fmt: skip
    (passage,) = found(database, A, "bicycles")
    assert (passage.kind, passage.owner, passage.source) == ("turn", turn.id, "thread:talk")
    assert passage.heading.startswith("Ann, ")
    assert turns.show(A, turn.id) == turn


def test_half_a_surrogate_pair_is_kept_as_a_replacement_character(database: Database) -> None:
    Turns(database).record(A, "talk", "r1", [Said(role="tool", text="broken \ud83d emoji", name="\udc00")])
    (turn,) = Turns(database).turns_of(A, "talk")
    assert (turn.text, turn.name) == ("broken \ufffd emoji", "\ufffd")


def test_what_a_resumed_run_records_again_is_kept_once(database: Database) -> None:
    turns = Turns(database)
    first = turns.record(A, "talk", "r1", said("yes", "Really?"))
    assert turns.record(A, "talk", "r1", said("yes", "Really?")) == first
    again = turns.record(A, "talk", "r1", said("yes", "Really?", "yes", "Good"))
    assert again[:2] == first
    assert turns.record(A, "talk", "r1", []) == []
    assert [turn.text for turn in turns.turns_of(A, "talk")] == ["yes", "Really?", "yes", "Good"]


def test_another_run_may_say_the_same(database: Database) -> None:
    turns = Turns(database)
    turns.record(A, "talk", "r1", said("yes"))
    turns.record(A, "talk", "r2", said("yes"))
    turns.record(A, "other", "r1", said("yes"))
    assert len(turns.turns_of(A, "talk")) == 2
    assert [(thread.thread, thread.turns, thread.size) for thread in turns.threads(A)] == [
        ("other", 1, 3),
        ("talk", 2, 6),
    ]


def test_a_turn_is_found_by_the_words_of_its_neighbours(database: Database) -> None:
    turns = Turns(database)
    turns.record(A, "talk", "r1", said("Where is the zebra?"))
    assert contexts(database) == [("Where is the zebra?", "")]
    turns.record(A, "talk", "r2", said("In the stable", "Thank you"))
    assert contexts(database) == [
        ("Where is the zebra?", "In the stable"),
        ("In the stable", "Where is the zebra?\nThank you"),
        ("Thank you", "In the stable"),
    ]
    assert texts_found(database, A, "zebra") == ["In the stable", "Where is the zebra?"]


def test_a_long_turn_is_found_in_parts(database: Database) -> None:
    text = "\n\n".join(f"Paragraph {number} on {'words ' * 30}" for number in range(40)) + " xylophone"
    Turns(database).record(A, "talk", "r1", said("before", text, "behind"))
    passages = found(database, A, "xylophone")
    assert max(len(passage.text) for passage in passages) <= LONGEST
    assert {passage.owner for passage in passages} == {"t2", "t3"}
    assert Turns(database).turns_of(A, "talk")[1].text == text


def test_a_turn_without_a_text_is_kept_and_not_found(database: Database) -> None:
    Turns(database).record(A, "talk", "r1", said("", " \n"))
    assert len(Turns(database).turns_of(A, "talk")) == 2
    assert contexts(database) == []


@given(st.text(max_size=400), st.integers(8, 60))
def test_parts_leave_out_nothing_but_blanks(text: str, longest: int) -> None:
    found = parts(text, longest)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(0 < len(part) <= longest for part in found)


def test_the_order_is_that_of_speaking_whatever_the_clock_says(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, began = Turns(database), time.time()
    for number, moved in enumerate((0, -3600, 5, -86_400)):
        monkeypatch.setattr(time, "time", lambda moved=moved: began + moved)
        turns.record(A, "talk", f"r{number}", said(f"turn {number}"))
    kept = turns.turns_of(A, "talk")
    assert [turn.text for turn in kept] == ["turn 0", "turn 1", "turn 2", "turn 3"]
    assert [turn.at for turn in kept] == sorted(turn.at for turn in kept)
    turns.record(A, "talk", "r9", [Said(role="user", text="long ago", at=1.0)])
    assert [turn.at for turn in turns.turns_of(A, "talk")][-1] == 1.0
    assert "1970" in found(database, A, "ago")[0].heading


def test_others_see_nothing_of_it(database: Database) -> None:
    turns = Turns(database)
    turns.record(A, "talk", "r1", said("secret plan"))
    below, above, beside = Namespace("ann", "work", "t"), Namespace("ann"), Namespace("ann", "home")
    assert [turn.text for turn in turns.turns_of(below, "talk")] == ["secret plan"]
    for other in (B, above, beside, Namespace("bob")):
        assert turns.turns_of(other, "talk") == []
        assert turns.threads(other) == []
        assert found(database, other, "secret") == []
        with pytest.raises(UnknownMemory, match="'t1'"):
            turns.show(other, "t1")
    for other in (B, above, beside, Namespace("bob")):
        turns.record(other, "talk", "r1", said("secret plan"))
    assert len(turns.turns_of(A, "talk")) == 2  # its own, and that of the level above


@pytest.mark.parametrize("id", ["", "t", "t0", "x1", "f1", "t-1", "t1.5", "t٣", "t" + "9" * 40, "t999"])
def test_what_is_no_id_of_a_turn_is_said(database: Database, id: str) -> None:
    with pytest.raises(UnknownMemory):
        Turns(database).show(A, id)


def test_a_full_disk_keeps_nothing_of_the_call_and_all_before_it(tmp_path: Path) -> None:
    with store_in(tmp_path) as database:
        turns = Turns(database)
        turns.record(A, "talk", "r1", said("before"))
        pages = database.connection.execute("PRAGMA page_count").fetchone()[0]
        database.connection.execute(f"PRAGMA max_page_count={pages + 4}")
        before = everything(database)
        with pytest.raises(StoreFull, match="full"):
            turns.record(B, "talk", "r2", said(*("long " * 300 for _ in range(50))))
        assert everything(database) == before
        turns.record(A, "talk", "r3", said("short"))
        database.connection.execute("PRAGMA max_page_count=100000")
        turns.record(B, "talk", "r2", said(*("long " * 300 for _ in range(50))))
        assert len(turns.turns_of(B, "talk")) == 50
        check(database)
    with store_in(tmp_path) as database:
        assert [turn.text for turn in Turns(database).turns_of(A, "talk")] == ["before", "short"]
