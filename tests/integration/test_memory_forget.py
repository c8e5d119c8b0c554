"""What is forgotten is gone with all that came of it, and the bytes of the files prove it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from benchai.errors import StoreError, StoreFull, UnknownMemory
from benchai.memory.database import Database
from benchai.memory.distil import Distiller, Summaries, distil, rederive
from benchai.memory.facts import Fact, Facts
from benchai.memory.forget import Forgetting, Forgotten, Target
from benchai.memory.howtos import Howtos
from benchai.memory.namespace import Namespace
from benchai.memory.prove import Proof, prove
from benchai.memory.store import Store
from benchai.memory.turns import Turns
from benchai.memory.worker import Worker
from tests.integration.memory_helpers import (
    A,
    B,
    check,
    contexts,
    document,
    everything,
    found,
    said,
    store_in,
    texts_found,
)

SECRET = "My locker at the Xanthippe swimming pool opens with the code 4-8-15-16, do not tell anybody about it"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with store_in(tmp_path) as database:
        yield database
        check(database)


@pytest.fixture
def forget(database: Database) -> Forgetting:
    return Forgetting(database)


def fact(value: str, relation: str = "likes") -> Fact:
    return Fact(subject="user", relation=relation, value=value, text=f"The user {relation} {value}")


def filled(database: Database) -> None:
    """Four turns, a document, facts and how-tos from them, and a label."""
    one, two, three, four = Turns(database).record(A, "talk", "r", said("I swim", SECRET, "Good", "We cycle"))
    facts, howtos = Facts(database), Howtos(database)
    facts.add(A, fact("swimming"), [one], "tiny/1")
    facts.add(A, fact("Xanthippe pool"), [two], "tiny/1")
    facts.add(A, fact("sports"), [two, four], "tiny/1")
    facts.note(A, "bins on Monday")
    howtos.learned(A, "open the locker", ["turn", "type the code"], "react", [two, three])
    Store(database).put(A, [document("/a/one.md", "about cats"), document("/b/two.md", "about dogs")])
    with database.writing() as connection:
        connection.execute(
            "INSERT INTO labels (ns, query, passage, good, at) VALUES (?, ?, 2, 1, 0)",
            (ns_number(database), "Where is my locker"),
        )


def ns_number(database: Database) -> int:
    return database.visible(A)[0]


def left(database: Database) -> dict[str, int]:
    tables = ("documents", "turns", "facts", "howtos", "summaries", "labels", "passages", "derived")
    counts = {table: database.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
    return {table: count for table, count in counts.items() if count}


def test_with_a_turn_goes_what_came_of_it_alone(database: Database, forget: Forgetting) -> None:
    filled(database)
    forgotten = forget.forget(A, Target(ids=("t2",)))
    assert forgotten.counts == {"turn": 1, "fact": 1, "label": 1}
    assert set(forgotten.texts) == {SECRET, "The user likes Xanthippe pool", "Where is my locker"}
    assert forgotten.passages == (2, 6)
    assert [known.value for known in Facts(database).holding(A)] == ["swimming", "sports", "bins on Monday"]
    assert Facts(database).show(A, "f3").sources == ("t4",)
    assert Howtos(database).show(A, "h1").sources == ("t3",)
    assert found(database, A, "Xanthippe") == []
    assert contexts(database) == [("I swim", "Good"), ("Good", "I swim\nWe cycle"), ("We cycle", "Good")]


def test_what_would_be_forgotten_is_what_is_forgotten(database: Database, forget: Forgetting) -> None:
    filled(database)
    before = everything(database)
    would = forget.would(A, Target(thread="talk"))
    assert everything(database) == before
    assert forget.forget(A, Target(thread="talk")) == would
    assert would.counts == {"turn": 4, "fact": 3, "howto": 1, "label": 1}
    assert left(database) == {"documents": 2, "facts": 1, "passages": 3}


@pytest.mark.parametrize(
    ("target", "counts"),
    [
        (Target(source="/a/*"), {"document": 1}),
        (Target(source="*.md"), {"document": 2}),
        (Target(source="/c/*"), {}),
        (Target(ids=("p1",)), {"turn": 1, "fact": 1}),
        (Target(ids=("d1", "h1", "f4")), {"document": 1, "howto": 1, "fact": 1}),
        (Target(ids=("f2",), sources=True), {"turn": 1, "fact": 1, "label": 1}),
        (Target(matching="xanthippe  POOL"), {"fact": 1}),
        (Target(matching="xanthippe"), {"turn": 1, "fact": 1, "label": 1}),
        (Target(matching="my locker"), {"turn": 1, "fact": 1, "label": 1}),
        (Target(matching="about"), {"document": 2, "turn": 1, "fact": 1, "label": 1}),
        (Target(matching="nobody said this"), {}),
        (Target(everything=True), {"document": 2, "turn": 4, "fact": 4, "howto": 1, "label": 1}),
    ],
)
def test_each_target_reaches_what_it_names(
    database: Database, forget: Forgetting, target: Target, counts: dict[str, int]
) -> None:
    filled(database)
    assert forget.forget(A, target).counts == counts
    check(database)
    assert forget.would(A, target if not target.ids else Target(matching="nobody said this")).counts == {}


def test_a_fact_that_is_forgotten_by_its_id_tells_which_turns_still_say_it(
    database: Database, forget: Forgetting
) -> None:
    filled(database)
    assert forget.forget(A, Target(ids=("f3",))).remaining == ("t2", "t4")
    assert len(Turns(database).turns_of(A, "talk")) == 4


def test_a_text_over_the_border_of_two_pieces_is_found(database: Database, forget: Forgetting) -> None:
    Store(database).put(A, [document("/a", "one two", "three four"), document("/b", "three", "one two")])
    assert forget.forget(A, Target(matching="two three")).counts == {"document": 1}
    assert list(Store(database).known(A)) == ["/b"]


@pytest.mark.parametrize(
    "wrong",
    [{}, {"matching": " a "}, {"matching": ""}, {"ids": ("t1",), "everything": True}, {"source": ""}, {"thread": ""}],
)
def test_a_target_names_one_thing(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Target.model_validate(wrong)


@pytest.mark.parametrize("id", ["t1", "f1", "h1", "d1", "p1", "s1", "x1", "t0"])
def test_from_elsewhere_nothing_can_be_forgotten(database: Database, forget: Forgetting, id: str) -> None:
    filled(database)
    before = everything(database)
    for other in (B, Namespace("ann", "home"), Namespace("ann", "work", "t"), Namespace("bob")):
        with pytest.raises(UnknownMemory):
            forget.forget(other, Target(ids=(id,)))
        for target in (Target(everything=True), Target(thread="talk"), Target(matching="about"), Target(source="*")):
            assert forget.forget(other, target) == Forgotten(texts=(target.matching,) if target.matching else ())
    assert everything(database) == before


def test_from_above_all_below_is_reached_and_nothing_beside(database: Database, forget: Forgetting) -> None:
    turns = Turns(database)
    for ns in (
        A,
        B,
        Namespace("ann"),
        Namespace("ann", "work", "t"),
        Namespace("ann", "home"),
        Namespace("ann", "", "t"),
    ):
        turns.record(ns, "talk", "r", said("about the zebra"))
    assert forget.forget(A, Target(matching="zebra")).counts == {"turn": 2}
    assert forget.forget(Namespace("ann"), Target(thread="t")).counts == {"turn": 1}
    assert forget.forget(Namespace("ann"), Target(everything=True)).counts == {"turn": 2}
    assert [turn.text for turn in turns.turns_of(B, "talk")] == ["about the zebra"]


def test_a_source_above_stays_when_a_fact_below_is_forgotten(database: Database, forget: Forgetting) -> None:
    below = Namespace("ann", "work", "t")
    turns = Turns(database).record(A, "talk", "r", said("I like tea"))
    Facts(database).add(below, fact("tea"), turns, "tiny/1")
    forgotten = forget.forget(below, Target(ids=("f1",), sources=True))
    assert (forgotten.counts, forgotten.remaining) == ({"fact": 1}, ("t1",))
    assert len(Turns(database).turns_of(A, "talk")) == 1


def test_a_full_disk_forgets_nothing(database: Database, forget: Forgetting) -> None:
    for number in range(30):
        Turns(database).record(A, "talk", f"r{number}", said("word " * 200 + str(number)))
    pages = database.connection.execute("PRAGMA page_count").fetchone()[0]
    assert database.connection.execute(f"PRAGMA max_page_count={pages}").fetchone()[0] == pages
    before = everything(database)
    try:
        forget.forget(A, Target(everything=True))
    except StoreFull:
        assert everything(database) == before
    else:
        assert left(database) == {}


# ---- summaries


def distiller(answers: list[str]) -> Distiller:
    async def call(system: str, user: str, schema: dict[str, object]) -> dict[str, object]:
        answers.append(user)
        return {"summary": f"Summary {len(answers)} of {len(user.splitlines())} turns"}

    return Distiller(call, "tiny")


@pytest.mark.anyio
async def test_a_thread_above_its_budget_is_summarised_and_again_when_a_turn_goes(
    database: Database, forget: Forgetting
) -> None:
    summaries, asked, worker = Summaries(database), list[str](), Worker("memory")
    writer = distiller(asked)
    Turns(database).record(A, "talk", "r", said(*(f"turn {number} {'word ' * 20}" for number in range(10))))
    Turns(database).record(A, "short", "r", said("one"))
    try:
        assert await distil(worker.run, summaries, writer, A, 1_000) == []
        (summary,) = await distil(worker.run, summaries, writer, A, 200)
        assert summary.sources == ("t1", "t2", "t3", "t4", "t5", "t6", "t7")
        assert await distil(worker.run, summaries, writer, A, 200) == []
        assert texts_found(database, A, "summary") == [summary.text]

        forgotten = forget.forget(A, Target(ids=("t2",)))
        assert (forgotten.stale, forgotten.counts) == (("s1",), {"turn": 1})
        assert summary.text in forgotten.texts
        assert summaries.show(A, "s1").text == ""
        assert found(database, A, "summary") == []
        (again,) = await rederive(worker.run, summaries, writer, Namespace("ann"))
        assert (again.id, again.stale, len(again.sources)) == ("s1", False, 6)
        assert "turn 1 " not in asked[-1]
        assert texts_found(database, A, "summary") == [again.text]
        assert await rederive(worker.run, summaries, writer, A) == []

        forget.forget(A, Target(thread="talk"))
        assert summaries.all(A) == []
    finally:
        worker.close()


@pytest.mark.anyio
async def test_a_summary_of_what_was_forgotten_meanwhile_is_not_kept(database: Database, forget: Forgetting) -> None:
    summaries = Summaries(database)
    Turns(database).record(A, "talk", "r", said(*("word " * 100 for _ in range(4))))
    (work,) = summaries.due(A, 100)
    forget.forget(A, Target(ids=("t1",)))
    assert summaries.keep(A, work, "late", "tiny/1") is None
    assert summaries.due(B, 1) == summaries.stale(B) == []


# ---- the proof


def vector(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=32).astype(np.float32)


def proved(folder: Path, database: Database, forgotten: Forgotten, **more: object) -> Proof:
    return prove(folder, database, None, forgotten.texts, **more)  # type: ignore[arg-type]


def test_without_the_proof_the_bytes_are_still_there(tmp_path: Path, database: Database, forget: Forgetting) -> None:
    """What makes the proof worth its name: before the files are written anew, the text stands in them."""
    filled(database)
    forget.forget(A, Target(ids=("t2",)))
    assert any(SECRET.encode() in file.read_bytes() for file in tmp_path.iterdir() if file.is_file())


def test_after_the_proof_nothing_of_it_stands_in_any_file(
    tmp_path: Path, database: Database, forget: Forgetting
) -> None:
    filled(database)
    forgotten = forget.forget(A, Target(ids=("t2",)))
    proof = proved(tmp_path, database, forgotten)
    assert proof.clean, proof.findings
    assert proof.files >= 2
    assert proof.bytes > 4096
    assert {"xanthipp", "4", "15"} <= set(proof.words)
    for file in tmp_path.iterdir():
        if file.is_file():
            assert b"Xanthippe" not in file.read_bytes()
            assert b"xanthipp" not in file.read_bytes()
    assert [turn.text for turn in Turns(database).turns_of(A, "talk")] == ["I swim", "Good", "We cycle"]
    assert database.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(
    ("copy", "what"),
    [
        (SECRET.encode(), "part"),
        (SECRET.encode("utf-16-le"), "part"),
        (json.dumps({"t": SECRET}).encode(), "part"),
        (SECRET.encode()[11:95], "part"),
        (b"index:xanthipp:", "word"),
        (vector(1).tobytes(), "vector"),
    ],
)
@pytest.mark.parametrize("outside", [False, True])
def test_a_planted_copy_is_found(
    tmp_path: Path, database: Database, forget: Forgetting, copy: bytes, what: str, outside: bool
) -> None:
    filled(database)
    forgotten = forget.forget(A, Target(ids=("t2",)))
    folder = tmp_path / "deep" / "down"
    memory = tmp_path / "memory"
    folder.mkdir(parents=True)
    memory.mkdir()
    file = (folder if outside else memory) / "copy.bin"
    file.write_bytes(b"\x00" * 1_048_570 + copy)
    elsewhere = [("checkpoints of threads", tmp_path / "deep")]
    proof = proved(memory, database, forgotten, vectors=[vector(2), vector(1)], elsewhere=elsewhere)
    assert not proof.clean
    first = proof.findings[0]
    assert (first.what, first.file, first.place) == (what, str(file), elsewhere[0][0] if outside else "memory")
    assert file.read_bytes()[first.offset : first.offset + 8] in copy


def test_a_copy_in_another_database_beside_its_log_is_found(
    tmp_path: Path, database: Database, forget: Forgetting
) -> None:
    filled(database)
    forgotten = forget.forget(A, Target(ids=("t2",)))
    (tmp_path / "memory").mkdir()
    other = sqlite3.connect(tmp_path / "usage.sqlite", isolation_level=None)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("CREATE TABLE rows (text)")
    other.execute("INSERT INTO rows VALUES (?)", (SECRET,))
    proof = proved(tmp_path / "memory", database, forgotten, elsewhere=[("usage", tmp_path / "usage.sqlite")])
    other.close()
    assert [finding.place for finding in proof.findings if finding.what == "part"] == ["usage"]
    assert proof.findings[0].file.endswith("-wal")


def test_what_is_kept_after_a_proof_is_not_lost(tmp_path: Path, database: Database, forget: Forgetting) -> None:
    look = (
        f"import sqlite3; c = sqlite3.connect({str(database.file)!r}); print(*c.execute('SELECT count(*) FROM turns'))"
    )
    seen = []
    for number in range(3):
        Turns(database).record(A, "talk", f"r{number}", said("Anna"))
        assert proved(tmp_path, database, forget.forget(A, Target(thread="none"))).clean
        Turns(database).record(A, "talk", f"s{number}", said("Bob"))
        # it would remove the log at its end if it took itself for the last
        seen.append(subprocess.run([sys.executable, "-c", look], capture_output=True, check=True).stdout)
    assert seen == [b"(2,)\n", b"(4,)\n", b"(6,)\n"]


def test_what_others_still_say_is_told_and_not_taken_for_a_copy(
    tmp_path: Path, database: Database, forget: Forgetting
) -> None:
    turns = Turns(database)
    turns.record(A, "talk", "r", said("I like Lisbon", "no", SECRET))
    turns.record(B, "talk", "r", said("I like Lisbon"))
    forgotten = forget.forget(A, Target(everything=True))
    proof = proved(tmp_path, database, forgotten)
    assert proof.clean, proof.findings
    assert (proof.elsewhere, proof.short) == ((0,), (1,))


def test_vectors_are_made_anew_before_the_scan(tmp_path: Path, database: Database) -> None:
    old = tmp_path / "vectors"
    old.mkdir()
    (old / "data.bin").write_bytes(vector(1).tobytes())
    assert not prove(tmp_path, database, None, [], [vector(1)]).clean
    assert prove(tmp_path, database, (old / "data.bin").unlink, [], [vector(1)]).clean


def test_a_file_that_cannot_be_read_proves_nothing(tmp_path: Path, database: Database) -> None:
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere" / "gone.log"
    file.write_text("x")

    def rebuild() -> None:
        pass

    file.chmod(0)
    proof = prove(tmp_path, database, rebuild, ["some text"])
    try:
        file.read_bytes()
    except PermissionError:
        assert not proof.clean
        assert list(proof.unread) == [str(file)]
    else:  # the super user reads all
        assert proof.clean


def test_somebody_who_reads_keeps_the_log_from_being_emptied(tmp_path: Path, database: Database) -> None:
    filled(database)
    database.connection.execute("PRAGMA busy_timeout=50")
    with Database(tmp_path / "memory.sqlite", reading=True) as reader, reader.looking() as connection:
        connection.execute("SELECT count(*) FROM turns").fetchone()
        with pytest.raises(StoreError, match="somebody reads it"):
            prove(tmp_path, database, None, [])
    assert prove(tmp_path, database, None, []).clean
