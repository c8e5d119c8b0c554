"""No call crosses namespaces: whatever is called, nothing from outside is returned, nothing outside is changed."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from benchai.errors import SourceError, UnknownMemory
from benchai.memory.audit import audit
from benchai.memory.database import Database
from benchai.memory.distil import Summaries
from benchai.memory.export import export_lines, export_markdown
from benchai.memory.facts import Fact, Facts
from benchai.memory.forget import Forgetting, Target
from benchai.memory.howtos import Howtos
from benchai.memory.importing import import_lines
from benchai.memory.namespace import Namespace
from benchai.memory.store import Store
from benchai.memory.turns import Turns
from tests.integration.memory_helpers import check, document, found, said

LEVELS = [
    Namespace(user, project, thread) for user in ("ann", "bob") for project in ("", "p", "q") for thread in ("", "t")
]
TABLES = ("documents", "turns", "facts", "howtos", "summaries", "labels", "passages")
TAG = re.compile(r"tag(\d+)")


def tag(ns: Namespace) -> str:
    """A word that only rows of a namespace say."""
    return f"tag{LEVELS.index(ns)}"


def tags(levels: Callable[[Namespace], bool]) -> set[str]:
    return {tag(level) for level in LEVELS if levels(level)}


Rows = dict[int, list[tuple[Any, ...]]]


def rows(database: Database) -> Rows:
    """All rows by the number of their namespace, and what they were derived from."""
    kept: Rows = defaultdict(list)
    for table in TABLES:
        for row in database.connection.execute(f"SELECT ns, * FROM {table} ORDER BY id"):
            kept[row[0]].append((table, *row))
    for kind, table in (("fact", "facts"), ("howto", "howtos"), ("summary", "summaries")):
        asked = f"SELECT o.ns, d.* FROM derived d JOIN {table} o ON o.id = d.child WHERE d.kind = ?"
        for row in database.connection.execute(asked, (kind,)):
            kept[row[0]].append(("derived", *row))
    return kept


def outside(database: Database, kept: Rows, reach: Callable[[Namespace], bool]) -> Rows:
    """The rows of namespaces that a call must not reach."""
    inside = {database.own(level) for level in LEVELS if reach(level)}
    return {number: lines for number, lines in kept.items() if number not in inside}


class World:
    """A memory, and the calls on it with arguments that are made of small numbers."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.turns, self.facts, self.howtos = Turns(database), Facts(database), Howtos(database)
        self.summaries, self.forgetting, self.store = Summaries(database), Forgetting(database), Store(database)

    # ---- writing: what they return is not looked at

    def record(self, ns: Namespace, number: int) -> None:
        texts = said(f"{tag(ns)} says word{number}", "yes", "no")
        kept = self.turns.record(ns, f"thread{number % 2}", f"run{number % 3}", texts)
        assert {turn.id for turn in self.turns.turns_of(ns, f"thread{number % 2}")} >= {f"t{one}" for one in kept}

    def learn(self, ns: Namespace, number: int) -> None:
        city = f"{tag(ns)} city{number}"
        fact = Fact(subject="user", relation="lives_in", value=city, text=f"The user lives in {city}")
        self.facts.add(ns, fact, [number] if number % 2 else [], "tiny")

    def note(self, ns: Namespace, number: int) -> None:
        self.facts.note(ns, f"{tag(ns)} note {number % 3}", [number] if number % 2 else [])

    def edit(self, ns: Namespace, number: int) -> None:
        self.facts.edit(ns, f"f{number}", text=f"{tag(ns)} edited")

    def work(self, ns: Namespace, number: int) -> None:
        self.howtos.learned(ns, f"{tag(ns)} task {number % 3}", ["step"], "react", [number] if number % 2 else [])

    def summarise(self, ns: Namespace, number: int) -> None:
        for work in self.summaries.due(ns, 1):
            assert found_tags(work) <= {tag(ns)}
            self.summaries.keep(ns, work, f"{tag(ns)} summary", "tiny")

    def drop_summary(self, ns: Namespace, number: int) -> None:
        self.summaries.drop(ns, f"s{number}")

    def put(self, ns: Namespace, number: int) -> None:
        self.store.put(ns, [document(f"/{number % 3}", f"{tag(ns)} piece {number}", "same piece")])

    def drop(self, ns: Namespace, number: int) -> None:
        self.store.drop(ns, [f"/{number % 3}"])

    def move(self, ns: Namespace, number: int) -> None:
        if f"/{number % 2 + 1}" not in self.store.known(ns):
            self.store.move(ns, f"/{number % 3}", f"/{number % 2 + 1}")

    # ---- forgetting and reading in: these reach below

    def forget(self, ns: Namespace, number: int, which: int) -> object:
        targets = (
            Target(ids=(f"t{number}",)),
            Target(ids=(f"f{number}", f"f{number}"), sources=True),
            Target(ids=(f"p{number}",)),
            Target(ids=(f"d{number}",)),
            Target(matching=f"word{number}"),
            Target(matching="tag"),
            Target(thread=f"thread{number % 2}"),
            Target(thread="t"),
            Target(source="/*"),
            Target(everything=True),
        )
        return self.forgetting.forget(ns, targets[which % len(targets)]).model_dump(exclude={"remaining"})

    def stale(self, ns: Namespace, number: int) -> object:
        return self.summaries.stale(ns)

    def export(self, ns: Namespace, number: int) -> object:
        lines: list[str] = []
        export_lines(self.database, ns, lines.append)
        text = list(lines)
        export_markdown(self.database, ns, text.append)
        return text

    # ---- reading: what they return is of what is visible

    def look(self, ns: Namespace, number: int) -> object:
        ids = [self.one(read, ns, number) for read in (self.turns.show, self.facts.show, self.facts.why)]
        ids += [self.one(read, ns, number) for read in (self.howtos.show, self.summaries.show)]
        return [
            ids,
            self.turns.turns_of(ns, "thread0"),
            self.turns.threads(ns),
            self.facts.holding(ns),
            self.facts.holding(ns, as_of=2e9),
            self.howtos.all(ns),
            self.summaries.all(ns),
            audit(self.database, ns),
            self.store.known(ns),
            found(self.database, ns, f"word{number} note city piece summary tag0 tag1 tag2 tag3 tag7 tag9"),
        ]

    def one(self, read: Callable[[Namespace, str], object], ns: Namespace, number: int) -> object:
        letter = {"Turns": "t", "Facts": "f", "Howtos": "h", "Summaries": "s"}[type(read.__self__).__name__]  # type: ignore[attr-defined]
        try:
            return read(ns, f"{letter}{number}")
        except UnknownMemory:
            return None


def found_tags(shown: object) -> set[str]:
    return {f"tag{number}" for number in TAG.findall(repr(shown))}


WRITING = ("record", "record", "learn", "note", "edit", "work", "summarise", "drop_summary", "put", "drop", "move")
BELOW = ("forget", "export", "stale")
STEPS = st.lists(
    st.tuples(
        st.sampled_from((*WRITING, *BELOW, "forget", "look")),
        st.sampled_from(LEVELS),
        st.integers(1, 40),
        st.integers(0, 9),
    ),
    min_size=5,
    max_size=25,
)


def filled(world: World) -> None:
    """Something of everything at each level, so that most numbers are those of a row."""
    for place, ns in enumerate(LEVELS):
        world.record(ns, place)
        (turn, *_) = world.turns.turns_of(ns, f"thread{place % 2}")[-3:]
        world.learn(ns, int(turn.id[1:]) if int(turn.id[1:]) % 2 else 0)
        world.note(ns, 0)
        world.work(ns, 0)
        world.put(ns, place)


def step(world: World, name: str, ns: Namespace, number: int, which: int) -> object:
    try:
        return world.forget(ns, number, which) if name == "forget" else getattr(world, name)(ns, number)
    except UnknownMemory:
        return None


@settings(max_examples=40)
@given(STEPS)
def test_no_call_crosses_namespaces(steps: list[tuple[str, Namespace, int, int]]) -> None:
    with Database(Path(":memory:")) as database:
        world = World(database)
        filled(world)
        kept = rows(database)
        for name, ns, number, which in steps:
            shown = step(world, name, ns, number, which)
            reach = {"look": lambda level: False, **dict.fromkeys(BELOW, ns.holds)}.get(name, ns.__eq__)
            before, kept = kept, rows(database)
            assert outside(database, kept, reach) == outside(database, before, reach), name
            seen = ns.visible().__contains__ if name == "look" else ns.holds
            assert found_tags(shown) <= tags(seen), name
        check(database)


@settings(max_examples=20)
@given(STEPS, st.sampled_from(LEVELS), st.sampled_from(LEVELS))
def test_an_import_changes_nothing_outside(
    steps: list[tuple[str, Namespace, int, int]], origin: Namespace, target: Namespace
) -> None:
    with Database(Path(":memory:")) as database:
        world = World(database)
        filled(world)
        for name, ns, number, which in steps:
            step(world, name, ns, number, which)
        lines: list[str] = []
        export_lines(database, origin, lines.append)
        before = rows(database)
        if (origin.project, origin.thread) == (target.project, target.thread):
            import_lines(database, target, lines)
        else:
            with suppress(SourceError):
                import_lines(database, target, lines)
        assert outside(database, rows(database), target.holds) == outside(database, before, target.holds)
        check(database)


def test_the_check_itself_sees_what_crosses() -> None:
    with Database(Path(":memory:")) as database:
        world = World(database)
        world.record(LEVELS[0], 1)
        before = rows(database)
        world.record(LEVELS[1], 1)
        after = rows(database)
        assert outside(database, after, LEVELS[1].__eq__) == outside(database, before, LEVELS[1].__eq__)
        assert outside(database, after, LEVELS[2].__eq__) != outside(database, before, LEVELS[2].__eq__)
        assert found_tags(world.look(LEVELS[0], 1)) == {"tag0"}
