"""The store of the agent wire over a SQLite file: what it keeps, finds, ranks and refuses, each owner for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.store.base import GetOp, Op, PutOp, SearchOp

from benchai.errors import UsageError
from benchai.server.agent.bodies import contains
from benchai.server.agent.database import AgentDatabase, open_agent_database
from benchai.server.agent.items import ItemStore
from benchai.server.agent.service import UnknownItem, Unprocessable
from benchai.server.agent.versions import Assistant, Versions, changed, joined, system_assistant

PLACE = ("a", "b")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[AgentDatabase]:
    with open_agent_database(tmp_path / "agent.db") as opened:
        yield opened


@pytest.fixture
def store(database: AgentDatabase) -> ItemStore:
    return ItemStore(database, "ann")


def keys(store: ItemStore, place: tuple[str, ...] = PLACE, **wanted: Any) -> list[str]:
    return [item.key for item in store.search(place, **wanted)]


def test_an_item_is_kept_replaced_and_deleted(store: ItemStore) -> None:
    assert store.get(PLACE, "k") is None
    store.put(PLACE, "k", {"n": 1})
    first = store.get(PLACE, "k")
    store.put(PLACE, "k", {"m": [None, True, "é"]})
    second = store.get(PLACE, "k")
    assert first is not None
    assert second is not None
    assert (second.namespace, second.key, second.value) == (PLACE, "k", {"m": [None, True, "é"]})
    assert second.created_at == first.created_at < second.updated_at
    store.delete(PLACE, "k")
    store.delete(PLACE, "k")
    assert store.get(PLACE, "k") is None


def test_it_outlives_the_connection(tmp_path: Path) -> None:
    for expected in (None, {"n": 1}):
        with open_agent_database(tmp_path / "agent.db") as opened:
            store = ItemStore(opened, "")
            found = store.get(PLACE, "k")
            assert (found.value if found else None) == expected
            store.put(PLACE, "k", {"n": 1})


def test_a_batch_is_done_in_order_and_wholly_or_not_at_all(store: ItemStore) -> None:
    done: list[Op] = [PutOp(PLACE, "k", {"n": 1}), GetOp(PLACE, "k"), PutOp(PLACE, "k", None), GetOp(PLACE, "k")]
    results = store.batch(done)
    assert [getattr(one, "value", one) for one in results] == [None, {"n": 1}, None, None]
    with pytest.raises(UsageError):
        store.batch([PutOp(PLACE, "k", {"n": 1}), PutOp(("a.b",), "k", {})])
    assert store.get(PLACE, "k") is None


FILTERED = {
    "one": {"n": 1, "s": "b", "o": {"p": 1, "q": 2}, "l": [1, 2], "t": True, "big": 2**63},
    "two": {"n": 2.5, "s": "c", "o": {"p": 2}, "l": [], "t": False},
    "null": {"n": None, "s": "ü y", "ö-k.1": "x"},
    "text": {"n": "1"},
}
MET = [
    ({}, "one two null text"),
    ({"n": 1}, "one"),
    ({"n": 1.0}, "one"),
    ({"n": "1"}, "text"),
    ({"n": True}, ""),
    ({"n": None}, "null"),
    ({"t": True}, "one"),
    ({"t": 1}, ""),
    ({"t": None}, "null text"),
    ({"n": {"$eq": 2.5}}, "two"),
    ({"n": {"$ne": 1}}, "two null text"),
    ({"missing": {"$ne": 1}}, "one two null text"),
    ({"missing": None}, "one two null text"),
    ({"n": {"$gt": 1}}, "two"),
    ({"n": {"$gte": 1, "$lt": 2}}, "one"),
    ({"n": {"$lte": "1"}}, "text"),
    ({"s": {"$gt": "b"}}, "two null"),
    ({"s": {"$gt": 0}}, ""),
    ({"o": {"p": 1}}, "one"),
    ({"o": {"p": {"$gte": 1}}}, "one two"),
    ({"o": {}}, "one two"),
    ({"o": {"$eq": {"p": 2}}}, "two"),
    ({"o.p": 1}, ""),
    ({"l": [1, 2]}, "one"),
    ({"l": [1]}, ""),
    ({"l": []}, "two"),
    ({"s": "b", "n": 1}, "one"),
    ({"s": "b", "n": 2}, ""),
    ({"s": "ü y"}, "null"),
    ({"ö-k.1": "x"}, "null"),
    ({"big": {"$gt": 2**62}}, "one"),
    ({"big": {"$lt": 10**300}}, "one"),
]


def test_a_filter_finds_what_meets_it(store: ItemStore) -> None:
    for key, value in FILTERED.items():
        store.put(PLACE, key, value)
    found = {repr(wanted): set(keys(store, filter=wanted)) for wanted, _ in MET}
    assert found == {repr(wanted): set(names.split()) for wanted, names in MET}


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"n": {"$in": [1]}}, "the operator '$in' is unknown"),
        ({"n": {"$gt": None}}, "$gt cannot compare with None"),
        ({"n": {"$gt": True}}, "$gt cannot compare with True"),
        ({"n": {"$gt": 1, "x": 2}}, "the operator 'x' is unknown"),
        ({'x") OR 1=1 --': 1}, "cannot be searched for"),
        ({"a'b": 1}, "cannot be searched for"),
        ({"a\\": 1}, "cannot be searched for"),
        ({"": 1}, "cannot be searched for"),
        ({"a": {"[0]": 1}}, "cannot be searched for"),
        ({"a" * 129: 1}, "cannot be searched for"),
        ({"a": "\ud800"}, "cannot be compared"),
        ({"a": "x\0y"}, "holds a zero byte"),
        ({"a": 10**400}, "cannot be compared"),
        ({"a": ["\ud800"]}, "cannot be compared"),
        ({str(n): 1 for n in range(65)}, "65 conditions"),
    ],
)
def test_a_filter_that_cannot_be_taken_is_refused(store: ItemStore, wanted: dict[str, Any], told: str) -> None:
    store.put(PLACE, "k", {"n": 1})
    with pytest.raises(UsageError) as refused:
        store.search(PLACE, filter=wanted)
    assert told in refused.value.message
    assert refused.value.status in (400, 422)


def test_a_key_of_sql_finds_nothing_and_breaks_nothing(store: ItemStore) -> None:
    """Were keys part of the text, one of these would be a syntax error, or true for all."""
    store.put(PLACE, "k", {"n": 1})
    for key in ("n -- ", "1 OR 1", "value", "owner", "n:x", "@n"):
        assert keys(store, filter={key: 1}) == []
    assert keys(store, filter={"n": "1 OR 1=1"}) == []


def test_pages_have_the_last_written_first(store: ItemStore) -> None:
    for key in "abcd":
        store.put(PLACE, key, {})
    store.put(PLACE, "b", {"again": True})
    assert keys(store) == ["b", "d", "c", "a"]
    assert keys(store, limit=2, offset=1) == ["d", "c"]
    assert keys(store, limit=0) == keys(store, offset=9) == []
    assert keys(store, limit=10**30) == ["b", "d", "c", "a"]


def test_a_query_ranks_by_words_in_common(store: ItemStore) -> None:
    store.put(PLACE, "fox", {"text": "The QUICK, brown fox", "deep": [{"note": "Straße 42"}]})
    store.put(PLACE, "dog", {"text": "a quick dog", "n": 42})
    store.put(PLACE, "hidden", {"text": "quick fox"}, index=False)
    store.put(PLACE, "part", {"title": "fox", "text": "quick"}, index=["title", "none[*].x"])

    def ranked(query: str) -> list[tuple[str, float | None]]:
        return [(item.key, item.score) for item in store.search(PLACE, query=query)]

    assert ranked("quick fox") == [("fox", 1.0), ("part", 0.5), ("dog", 0.5), ("hidden", 0.0)]
    assert ranked("STRASSE 42")[:2] == [("fox", 1.0), ("dog", 0.5)]
    # no part of a word
    assert {score for _, score in ranked("qui")} == {0.0}
    assert ranked("?!") == [("part", None), ("hidden", None), ("dog", None), ("fox", None)]
    assert ranked("quick " + " ".join(f"x{n}" for n in range(1_000)))[-1] == ("hidden", 0.0)
    with pytest.raises(Unprocessable):
        store.put(PLACE, "k", {}, index=["{" * 1_000])


def test_a_prefix_is_of_whole_labels(store: ItemStore) -> None:
    places = [("a",), ("a", "b"), ("a", "b", "c"), ("a", "bc"), ("a-b",), ("A", "b"), ("*", "b")]
    for place in places:
        store.put(place, "k", {})
    assert {item.namespace for item in store.search(("a", "b"))} == {("a", "b"), ("a", "b", "c")}
    assert {item.namespace for item in store.search(("a",))} == set(places[:4])
    assert {item.namespace for item in store.search(())} == set(places)
    assert store.list_namespaces() == sorted(places)
    assert store.list_namespaces(prefix=("a", "*")) == [("a", "b"), ("a", "b", "c"), ("a", "bc")]
    assert store.list_namespaces(suffix=("b",)) == [("*", "b"), ("A", "b"), ("a", "b")]
    assert store.list_namespaces(prefix=("a",), suffix=("*", "c")) == [("a", "b", "c")]
    assert store.list_namespaces(max_depth=1) == [("*",), ("A",), ("a",), ("a-b",)]
    assert store.list_namespaces(max_depth=1, limit=2, offset=1) == [("A",), ("a",)]


def test_an_item_is_kept_for_its_minutes_after_it_was_used(database: AgentDatabase) -> None:
    time = 1_000.0
    store = ItemStore(database, "ann", lambda: time)
    store.put(PLACE, "short", {"n": 1}, ttl=1)
    store.put(PLACE, "read", {"n": 1}, ttl=2)
    store.put(PLACE, "always", {"n": 1})
    time += 59
    assert sorted(keys(store, refresh_ttl=False)) == ["always", "read", "short"]
    assert store.get(PLACE, "read") is not None
    assert store.get(PLACE, "short", refresh_ttl=False) is not None
    time += 2
    assert store.get(PLACE, "short") is None
    assert sorted(keys(store)) == ["always", "read"]
    time += 119
    assert sorted(keys(store, refresh_ttl=False)) == ["always", "read"]
    time += 2
    assert (keys(store), store.list_namespaces()) == (["always"], [PLACE])
    store.put(("other",), "k", {})
    assert [row["key"] for row in database.read("SELECT key FROM items ORDER BY key")] == ["always", "k"]
    # what comes in the place of one that is gone is new
    store.put(PLACE, "short", {}, ttl=1)
    time += 61
    store.put(PLACE, "short", {})
    found = store.get(PLACE, "short")
    assert found is not None
    assert found.created_at.timestamp() == time


@pytest.mark.parametrize("minutes", [0, -1, float("nan")])
def test_no_time_to_live_is_refused(store: ItemStore, minutes: float) -> None:
    with pytest.raises(Unprocessable):
        store.put(PLACE, "k", {}, ttl=minutes)


@pytest.mark.parametrize(
    ("place", "status"), [((), 400), (("langgraph", "x"), 400), (("a.b",), 422), (("",), 422), (("a\nb",), 400)]
)
def test_a_namespace_that_cannot_be_taken_is_refused(store: ItemStore, place: tuple[str, ...], status: int) -> None:
    with pytest.raises(UsageError) as refused:
        store.batch([PutOp(place, "k", {})])
    assert refused.value.status == status


@pytest.mark.parametrize("value", [{"x": "\ud800"}, {"x": 2**70}, {"x": object()}])
def test_a_value_that_is_no_json_is_refused(store: ItemStore, value: dict[str, Any]) -> None:
    with pytest.raises(Unprocessable):
        store.put(PLACE, "k", value)
    with pytest.raises(Unprocessable):
        store.put(PLACE, "\ud800", {})
    assert keys(store) == []


async def from_threads(database: AgentDatabase) -> list[Any]:
    """A node that is a plain function calls from a thread, some from an event loop of their own."""
    store = ItemStore(database, "ann")
    await store.aput(PLACE, "home", {})
    found: list[Any] = []

    def here() -> None:
        store.put(PLACE, "thread", {})
        found.append(keys(store))
        asyncio.run(store.aput(PLACE, "loop", {}))

    await asyncio.to_thread(here)
    store.put(PLACE, "beside", {})
    return [*found, keys(store)]


def test_it_can_be_called_from_any_thread(database: AgentDatabase) -> None:
    assert asyncio.run(from_threads(database)) == [["thread", "home"], ["beside", "loop", "thread", "home"]]


LABELS = st.sampled_from(["a", "b", "a b", "'", '"', "%", "_", "ü"])
PLACES = st.lists(st.sampled_from(["a", "b", "a-b"]), min_size=1, max_size=2).map(tuple)
VALUES = st.dictionaries(st.sampled_from("xyz"), st.none() | st.booleans() | st.integers(-3, 3) | LABELS, max_size=2)
KEYS = st.sampled_from(["k", "'", '"%'])
CALLS = st.lists(st.tuples(st.sampled_from(["ann", "bob"]), PLACES, KEYS, st.none() | VALUES), max_size=20)


@settings(max_examples=60)
@given(calls=CALLS, prefix=st.just(()) | PLACES, wanted=VALUES)
def test_owners_have_a_store_each(
    tmp_path_factory: pytest.TempPathFactory, calls: list[Any], prefix: tuple[str, ...], wanted: dict[str, Any]
) -> None:
    """Whatever two owners put and delete, each finds what a dictionary of its own would hold."""
    with open_agent_database(tmp_path_factory.mktemp("owners") / "agent.db", "off") as database:
        stores = {owner: ItemStore(database, owner) for owner in ("ann", "bob")}
        kept: dict[str, dict[Any, Any]] = {"ann": {}, "bob": {}}
        for owner, place, key, value in calls:
            stores[owner].batch([PutOp(place, key, value)])
            kept[owner].pop((place, key), None)
            kept[owner].update({} if value is None else {(place, key): value})
        for owner, store in stores.items():
            expected = {
                at: value
                for at, value in kept[owner].items()
                if at[0][: len(prefix)] == prefix and all(contains(value.get(key), one) for key, one in wanted.items())
            }
            [found] = store.batch([SearchOp(prefix, filter=wanted, limit=100)])
            assert isinstance(found, list)
            assert {(item.namespace, item.key): item.value for item in found} == expected  # type: ignore[union-attr]
            assert store.list_namespaces() == sorted({place for place, _ in kept[owner]})
            for _, place, key, _ in calls:
                [one] = store.batch([GetOp(place, key)])
                assert getattr(one, "value", None) == kept[owner].get((place, key))


@pytest.mark.parametrize(
    ("whole", "part", "held"),
    [
        ({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1}}, True),
        ({"a": {"b": 1}}, {"a": {"c": None}}, False),
        ({"a": None}, {"a": None}, True),
        ({"l": [1, {"x": 1, "y": 2}]}, {"l": [{"x": 1}]}, True),
        ({"l": [1]}, {"l": [1, 2]}, False),
        ({"l": [1]}, {"l": 1}, False),
        ({"n": 1}, {"n": 1.0}, True),
        ({"n": 1}, {"n": True}, False),
        ({"n": 0}, {"n": False}, False),
        ({}, {}, True),
        (5, {}, False),
    ],
)
def test_containment(whole: Any, part: Any, held: bool) -> None:
    assert contains(whole, part) is held


def an_assistant(**fields: Any) -> Assistant:
    empty: dict[str, Any] = {"config": {}, "context": {}, "metadata": {}, "description": None}
    return Assistant(**{"assistant_id": "1", "graph_id": "g", "name": "n", "version": 1, **empty, **fields})


def test_assistants_outlive_the_connection_with_their_versions(tmp_path: Path) -> None:
    with open_agent_database(tmp_path / "agent.db") as opened:
        kept = Versions(opened, "ann")
        assert kept.add(an_assistant(metadata={"a": 1}, created=1.0, updated=1.0))
        assert not kept.add(an_assistant(name="other", created=1.0, updated=1.0))
        kept.change("1", lambda old: changed(old, {"name": "m", "metadata": {"b": 2}}))
        seen = system_assistant(opened, "flow", "about")
    with open_agent_database(tmp_path / "agent.db") as opened:
        kept = Versions(opened, "ann")
        [new, old] = kept.versions("1")
        assert (new.name, new.metadata, new.version) == ("m", {"a": 1, "b": 2}, 2)
        assert (old.name, old.metadata, old.version, old.created) == ("n", {"a": 1}, 1, 1.0)
        assert kept.all() == [kept.get("1")]
        assert (kept.go_back("1", 1).name, kept.all()[0].name) == ("n", "n")
        with pytest.raises(UnknownItem):
            kept.go_back("1", 3)
        assert system_assistant(opened, "flow", "about") == seen
        other = Versions(opened, "bob")
        with pytest.raises(UnknownItem):
            other.change("1", lambda old: old)
        other.delete("1")
        assert (other.all(), other.versions("1"), len(kept.versions("1"))) == ([], [], 2)
        kept.delete("1")
        assert (kept.all(), kept.versions("1")) == ([], [])


def test_what_fails_in_a_change_leaves_the_assistant_as_it_was(database: AgentDatabase) -> None:
    kept = Versions(database, "ann")
    kept.add(an_assistant(created=1.0, updated=1.0))
    before = kept.all()
    with pytest.raises(UsageError):
        kept.change("1", lambda old: changed(old, {"config": {"configurable": {"a": 1}}, "context": {"a": 1}}))
    assert (kept.all(), kept.versions("1")) == (before, before)


def test_context_and_configurable_are_one() -> None:
    assert joined({"context": {"a": 1}}) == {"context": {"a": 1}, "config": {"configurable": {"a": 1}}}
    assert joined({"config": {"configurable": {"a": 1}, "tags": []}})["context"] == {"a": 1}
    assert joined({"context": {}}, {"configurable": {"a": 1}, "tags": []}) == {"context": {}, "config": {"tags": []}}
    assert joined({"config": {"tags": []}, "context": None}) == {"config": {"tags": []}}
    for config, status in (({"configurable": {"b": 1}}, 400), ({"configurable": 5}, 422)):
        with pytest.raises(UsageError) as refused:
            joined({"context": {"a": 1}, "config": config})
        assert refused.value.status == status
