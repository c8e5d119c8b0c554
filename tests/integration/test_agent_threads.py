"""Threads of the agent wire: made, found, changed, copied, deleted, and out of sight for every other owner."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.agent_app import Agent, agent

pytestmark = pytest.mark.anyio
UNKNOWN = "11111111-1111-1111-1111-111111111111"
EVIL = ("' OR '1'='1", '"; DROP TABLE threads; --', "$.a' OR 1=1", "a\0b", "owner", "metadata", "%", '") OR ("1"="1')


WRONG: tuple[tuple[str, str, Any, int, str], ...] = (
    ("GET", "/threads/nope", None, 422, "'nope'"),
    ("GET", f"/threads/{UNKNOWN}", None, 404, UNKNOWN),
    ("PATCH", f"/threads/{UNKNOWN}", {"metadata": {}}, 404, UNKNOWN),
    ("DELETE", f"/threads/{UNKNOWN}", None, 404, UNKNOWN),
    ("POST", f"/threads/{UNKNOWN}/copy", None, 404, UNKNOWN),
    ("POST", "/threads", {"thread_id": "x"}, 422, "'x'"),
    ("POST", "/threads", {"metadata": 5}, 422, "metadata"),
    ("POST", "/threads", {"metadata": {"n": 2**70}}, 422, "64-bit"),
    ("POST", "/threads", {"if_exists": "bogus"}, 422, "if_exists"),
    ("POST", "/threads", {"ttl": 5}, 422, "ttl"),
    ("POST", "/threads", {"ttl": {"ttl": -1}}, 422, "ttl"),
    ("POST", "/threads", {"ttl": {"ttl": 1, "strategy": "keep_latest"}}, 422, "keep_latest"),
    ("POST", "/threads/search", {"limit": 0}, 422, "limit"),
    ("POST", "/threads/search", {"offset": 2**70}, 422, "offset"),
    ("POST", "/threads/search", {"status": "bogus"}, 422, "status"),
    ("POST", "/threads/search", {"sort_by": "created; DROP TABLE threads"}, 422, "sort_by"),
    ("POST", "/threads/search", {"select": ["owner"]}, 422, "select"),
    ("POST", "/threads/search", {"ids": ["x"]}, 422, "'x'"),
    ("POST", "/threads/search", {"extract": {"x": "owner.a"}}, 422, "owner.a"),
    ("POST", "/threads/search", {"extract": {"x": "values.a[*]"}}, 422, "values.a[*]"),
    ("POST", "/threads/prune", {"thread_ids": ["x"]}, 422, "'x'"),
    ("POST", "/threads/prune", {"thread_ids": [UNKNOWN], "strategy": "bogus"}, 422, "strategy"),
)


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Agent]:
    async with agent(tmp_path) as found:
        yield found


async def found(wire: Agent, **body: Any) -> set[str]:
    return {one["thread_id"] for one in await wire.post("/threads/search", {"limit": 1000, **body})}


async def test_a_thread_is_made_once_and_changed_by_key(wire: Agent) -> None:
    made = await wire.post("/threads", {"metadata": {"a": 1, "n": None}, "unknown": 1})
    thread = made["thread_id"]
    assert made == {
        "thread_id": thread,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
        "state_updated_at": made["created_at"],
        "metadata": {"a": 1, "n": None},
        "status": "idle",
        "config": {},
        "values": None,
        "error": None,
        "interrupts": {},
    }
    assert await wire.get(f"/threads/{thread}") == made
    assert await wire.get(f"/threads/{thread.upper()}") == made
    status, detail = await wire.refused("POST", "/threads", {"thread_id": thread})
    assert status == 409
    assert thread in detail
    assert "do_nothing" in detail
    assert await wire.post("/threads", {"thread_id": thread, "if_exists": "do_nothing", "metadata": {"x": 1}}) == made

    changed = await wire.ask("PATCH", f"/threads/{thread}", {"metadata": {"b": {"c": [1]}, "a": 2}})
    assert changed.json()["metadata"] == {"a": 2, "n": None, "b": {"c": [1]}}
    assert changed.json()["updated_at"] > made["updated_at"]
    minimal = await wire.ask(
        "PATCH", f"/threads/{thread}", {"metadata": {"d": 1}}, headers={"Prefer": "return=minimal"}
    )
    assert (minimal.status_code, minimal.content) == (204, b"")
    assert (await wire.get(f"/threads/{thread}"))["metadata"]["d"] == 1


async def test_what_cannot_be_is_named(wire: Agent) -> None:
    for method, path, body, status, named in WRONG:
        got, detail = await wire.refused(method, path, body)
        assert (got, named in detail) == (status, True), (method, path, body, got, detail)


async def test_half_characters_are_refused_before_they_reach_a_database(wire: Agent) -> None:
    for body in (b'{"metadata": {"a": "\\ud800"}}', b'{"metadata": {"\\ud800": 1}}', b'{"thread_id": "\\ud800"}'):
        answer = await wire.http.post("/threads", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422
        assert "detail" in answer.json()


async def test_search_finds_what_contains_what_is_asked_for(wire: Agent) -> None:
    one = await wire.thread(metadata={"user": "ann", "n": 1, "deep": {"a": {"b": 1}, "list": [1, {"x": 2}]}, "t": True})
    two = await wire.thread(metadata={"user": "bob", "n": 1.0, "é'\"": "x", "big": 2**63})
    ran = await wire.ran("x")
    asked = await wire.ran("ask", "nested")

    assert await found(wire) == {one, two, ran, asked}
    assert await found(wire, metadata={"user": "ann"}) == {one}
    assert await found(wire, metadata={"n": 1}) == {one, two}
    assert await found(wire, metadata={"t": True}) == {one}
    assert await found(wire, metadata={"n": True}) == await found(wire, metadata={"t": 1}) == set()
    assert await found(wire, metadata={"deep": {"a": {"b": 1}}}) == {one}
    assert await found(wire, metadata={"deep": {"list": [{"x": 2}]}}) == {one}
    assert await found(wire, metadata={"deep": {"list": [3]}}) == set()
    assert await found(wire, metadata={"é'\"": "x", "big": 2**63}) == {two}
    assert await found(wire, metadata={"user": None}) == set()
    assert await found(wire, values={"topic": "x"}) == {ran}
    assert await found(wire, values={"steps": ["plan"], "odd": [2]}, metadata={"graph_id": "flat"}) == {ran}
    assert await found(wire, values={"messages": [{"content": "done"}]}) == {ran}
    assert await found(wire, status="interrupted") == {asked}
    assert await found(wire, ids=[one, asked, UNKNOWN]) == {one, asked}
    assert await wire.post("/threads/count") == 4
    assert await wire.post("/threads/count", {"metadata": {"n": 1}}) == 2
    assert await wire.post("/threads/count", {"values": {"topic": "ask"}, "status": "interrupted"}) == 1


async def test_search_pages_sorts_selects_and_extracts(wire: Agent) -> None:
    threads = [await wire.thread(metadata={"n": n}) for n in range(5)]
    for body in ({}, {"metadata": {}}):
        answer = await wire.ask("POST", "/threads/search", {"limit": 2, "offset": 1, **body})
        assert [one["thread_id"] for one in answer.json()] == [threads[3], threads[2]]
        assert (answer.headers["x-pagination-total"], answer.headers["x-pagination-next"]) == ("5", "3")
    last = await wire.ask("POST", "/threads/search", {"limit": 2, "offset": 4, "sort_order": "asc"})
    assert [one["thread_id"] for one in last.json()] == [threads[4]]
    assert "x-pagination-next" not in last.headers
    beyond = await wire.ask("POST", "/threads/search", {"offset": 100})
    assert (beyond.json(), beyond.headers["x-pagination-total"]) == ([], "5")
    await wire.ask("PATCH", f"/threads/{threads[0]}", {"metadata": {"z": 1}})
    by_change = await wire.post("/threads/search", {"sort_by": "updated_at", "limit": 1, "select": ["thread_id"]})
    assert by_change == [{"thread_id": threads[0]}]

    ran = await wire.ran("x")
    extract = {
        "last": "values.messages[-1].content",
        "second": "values.steps[1]",
        "none": "values.nope.x",
        "beyond": "values.steps[9]",
        "graph": "metadata.graph_id",
    }
    [shown] = await wire.post("/threads/search", {"ids": [ran], "select": ["status"], "extract": extract})
    told = {"last": "done", "second": "work", "none": None, "beyond": None, "graph": "flat"}
    assert shown == {"status": "idle", "extracted": told}


async def test_a_thread_is_deleted_when_its_time_is_over(wire: Agent) -> None:
    from benchai.server.agent.threads import delete_expired

    thread = await wire.thread(ttl={"ttl": 5})
    ttl = (await wire.get(f"/threads/{thread}?include=ttl"))["ttl"]
    assert ttl["strategy"] == "delete"
    assert 4.9 < ttl["ttl_minutes"] <= 5
    assert "ttl" not in await wire.get(f"/threads/{thread}")
    kept = await wire.ran()
    assert await delete_expired(wire.service) == 0
    await wire.ask("PATCH", f"/threads/{thread}", {"ttl": {"ttl": 1e-9}})
    await wire.ask("PATCH", f"/threads/{kept}", {"ttl": {"ttl": 60}})
    assert await delete_expired(wire.service) == 1
    assert await found(wire) == {kept}


async def test_deleting_leaves_nothing(wire: Agent) -> None:
    thread, other = await wire.ran("ask", "nested"), await wire.ran()
    assert (await wire.ask("DELETE", f"/threads/{thread}")).status_code == 204
    assert (await wire.ask("DELETE", f"/threads/{thread}")).status_code == 404
    async with wire.service.workshop.bench() as bench:
        left = [one async for one in bench.threads.saver.alist({"configurable": {"thread_id": thread}})]
        assert left == []
        assert [one.thread_id for one in await bench.threads.threads()] == [other]
    # under the same id there is a new one
    assert (await wire.post("/threads", {"thread_id": thread}))["values"] is None
    assert (await wire.get(f"/threads/{thread}/state"))["values"] == {}
    db = wire.service.database
    runs = [row["run_id"] for row in db.read("SELECT run_id FROM runs")]
    assert len(runs) == 1
    assert db.read("SELECT * FROM events WHERE run_id <> ?", runs) == []


async def test_a_thread_is_deleted_while_it_runs(wire: Agent) -> None:
    thread = await wire.thread()
    runs = f"/threads/{thread}/runs"
    await wire.post(runs, {"assistant_id": "flat", "input": {"topic": "slow"}})
    await wire.post(runs, {"assistant_id": "flat", "input": {"topic": "x"}, "multitask_strategy": "enqueue"})
    assert (await wire.get(f"/threads/{thread}"))["status"] == "busy"
    assert (await wire.ask("DELETE", f"/threads/{thread}")).status_code == 204
    assert (await wire.ask("GET", f"/threads/{thread}")).status_code == 404
    assert wire.service.database.read("SELECT * FROM runs") == []
    async with wire.service.workshop.bench() as bench:
        assert [one async for one in bench.threads.saver.alist({"configurable": {"thread_id": thread}})] == []


async def test_pruning_deletes_what_is_named_and_ours(wire: Agent) -> None:
    mine, other = await wire.ran(), await wire.of("bob").thread()
    kept = await wire.thread()
    assert await wire.post("/threads/prune", {"thread_ids": [mine, mine, other, UNKNOWN]}) == {"pruned_count": 1}
    assert await found(wire) == {kept}
    assert await found(wire.of("bob")) == {other}
    assert await wire.post("/threads/prune", {"thread_ids": [other], "strategy": "keep_latest"}) == {"pruned_count": 0}


@pytest.mark.parametrize("kept_in", ["sqlite", "postgres"])
async def test_pruning_keeps_the_last_state(tmp_path: Path, kept_in: str, request: pytest.FixtureRequest) -> None:
    more: Any = {"threads": {"url": request.getfixturevalue("postgres_url")}} if kept_in == "postgres" else {}
    async with agent(tmp_path, **more) as wire:
        asked, ran = await wire.ran("ask", "nested"), await wire.ran("x", "nested")
        before = {one: await wire.get(f"/threads/{one}/state?subgraphs=true") for one in (asked, ran)}
        pruned = await wire.post("/threads/prune", {"thread_ids": [asked, ran], "strategy": "keep_latest"})
        assert pruned == {"pruned_count": 2}
        for one, state in before.items():
            assert len(await wire.get(f"/threads/{one}/history")) == 1
            after = await wire.get(f"/threads/{one}/state?subgraphs=true")
            assert after["parent_checkpoint"] is None
            assert (after["values"], after["next"]) == (state["values"], state["next"])
        async with wire.service.workshop.bench() as bench:
            left = [c async for c in bench.threads.saver.alist({"configurable": {"thread_id": ran}})]
            assert len(left) == 1
        answer = {"assistant_id": "nested", "command": {"resume": "yes"}}
        ended = await wire.post(f"/threads/{asked}/runs/wait", answer)
        assert (ended["answer"], ended["steps"]) == ("yes", ["plan", "work", "plan"])


async def copies(wire: Agent) -> None:
    thread = await wire.ran("ask", "nested")
    before = await wire.get(f"/threads/{thread}/state?subgraphs=true")
    history = await wire.get(f"/threads/{thread}/history?limit=100")
    copy = await wire.post(f"/threads/{thread}/copy")
    source = await wire.get(f"/threads/{thread}")
    same = ("metadata", "status", "values", "interrupts")
    assert [copy[name] for name in same] == [source[name] for name in same]
    assert copy["status"] == "interrupted"
    assert copy["interrupts"]

    def as_of(state: Any) -> Any:
        return json.loads(json.dumps(state).replace(copy["thread_id"], thread))

    assert as_of(await wire.get(f"/threads/{copy['thread_id']}/state?subgraphs=true")) == before
    assert as_of(await wire.get(f"/threads/{copy['thread_id']}/history?limit=100")) == history
    # what waits in the nested graph is answered in the copy alone
    answer = {"assistant_id": "nested", "command": {"resume": "yes"}}
    ended = await wire.post(f"/threads/{copy['thread_id']}/runs/wait", answer)
    assert (ended["answer"], ended["steps"]) == ("yes", ["plan", "work", "plan"])
    assert await wire.get(f"/threads/{thread}/state?subgraphs=true") == before
    ended = await wire.post(f"/threads/{thread}/runs/wait", {**answer, "command": {"resume": "no"}})
    assert ended["answer"] == "no"


async def test_a_copy_goes_its_own_way(wire: Agent) -> None:
    await copies(wire)
    empty = await wire.post(f"/threads/{await wire.thread(metadata={'k': 1})}/copy")
    assert (empty["metadata"], empty["values"]) == ({"k": 1}, None)


async def test_a_copy_goes_its_own_way_on_postgres(tmp_path: Path, postgres_url: str) -> None:
    async with agent(tmp_path, threads={"url": postgres_url}) as wire:
        await copies(wire)


async def test_a_long_thread_is_copied_whole_with_what_its_results_point_to(wire: Agent) -> None:
    thread = await wire.ran()
    for number in range(25):
        await wire.post(f"/threads/{thread}/state", {"values": {"answer": str(number)}, "as_node": "work"})
    async with wire.service.workshop.bench() as bench:
        results = bench.threads.results(thread)
        results.mkdir(parents=True)
        (results / "1.txt").write_text("long")
        copy = (await wire.post(f"/threads/{thread}/copy"))["thread_id"]
        assert (bench.threads.results(copy) / "1.txt").read_text() == "long"
    history = await wire.get(f"/threads/{copy}/history?limit=100")
    assert len(history) == len(await wire.get(f"/threads/{thread}/history?limit=100")) == 29
    assert [one["values"]["answer"] for one in history[:25]] == [str(number) for number in reversed(range(25))]


async def test_a_history_is_taken_over_or_nothing_is_made(wire: Agent) -> None:
    steps: list[Any] = [
        {"updates": [{"values": {"topic": "x"}, "as_node": "__input__"}]},
        {"updates": [{"values": {"steps": ["elsewhere"]}, "as_node": "plan"}]},
    ]
    made = await wire.post("/threads", {"metadata": {"graph_id": "flat"}, "supersteps": steps})
    assert (made["status"], made["values"]["steps"]) == ("interrupted", ["elsewhere"])
    state = await wire.get(f"/threads/{made['thread_id']}/state")
    assert (state["next"], state["metadata"]["step"]) == (["work"], 0)
    ended = await wire.post(f"/threads/{made['thread_id']}/runs/wait", {"assistant_id": "flat", "input": None})
    assert ended["steps"] == ["elsewhere", "work"]

    commanded = [*steps, {"updates": [{"as_node": "plan", "command": {"update": {"answer": "c"}, "goto": "work"}}]}]
    made = await wire.post("/threads", {"metadata": {"graph_id": "flat"}, "supersteps": commanded})
    assert made["values"]["answer"] == "c"

    before = await found(wire)
    assert (await wire.refused("POST", "/threads", {"supersteps": steps}))[0] == 400
    wrong = [*steps, {"updates": [{"values": {"nope": 1}, "as_node": "plan"}]}]
    body = {"metadata": {"graph_id": "flat"}, "supersteps": wrong, "thread_id": UNKNOWN}
    status, detail = await wire.refused("POST", "/threads", body)
    assert status == 422
    assert "'nope'" in detail
    assert await found(wire) == before
    assert (await wire.post("/threads", {"thread_id": UNKNOWN}))["values"] is None


async def everything(wire: Agent, thread: str) -> Any:
    """All that an owner can see of a thread."""
    state = await wire.get(f"/threads/{thread}/state")
    return [await wire.get(f"/threads/{thread}"), state, await wire.get(f"/threads/{thread}/history?limit=100")]


def calls(thread: str, text: str, data: Any) -> dict[str, tuple[str, str, Any]]:
    at = {"checkpoint": {"checkpoint_ns": text if text.isprintable() else ""}}
    return {
        "get": ("GET", f"/threads/{thread}", None),
        "patch": ("PATCH", f"/threads/{thread}", {"metadata": {text: data}, "ttl": {"ttl": 1e-9}}),
        "delete": ("DELETE", f"/threads/{thread}", None),
        "copy": ("POST", f"/threads/{thread}/copy", None),
        "state": ("GET", f"/threads/{thread}/state?subgraphs=true", None),
        "at": ("POST", f"/threads/{thread}/state/checkpoint", at),
        "by id": ("GET", f"/threads/{thread}/state/{thread}", None),
        "update": ("POST", f"/threads/{thread}/state", {"values": {"topic": data}, "as_node": "plan"}),
        "history": ("POST", f"/threads/{thread}/history", {"metadata": {text: data}}),
        "get history": ("GET", f"/threads/{thread}/history", None),
        "run": ("POST", f"/threads/{thread}/runs/wait", {"assistant_id": "flat", "input": {"topic": "x"}}),
        "runs": ("GET", f"/threads/{thread}/runs", None),
        "prune": ("POST", "/threads/prune", {"thread_ids": [thread]}),
        "search": ("POST", "/threads/search", {"metadata": {text: data}, "values": {text: data}, "limit": 1000}),
        "ids": ("POST", "/threads/search", {"ids": [thread]}),
        "count": ("POST", "/threads/count", {"metadata": {text: data}}),
        "extract": ("POST", "/threads/search", {"extract": {text: "metadata.k"}}),
        "sort": ("POST", "/threads/search", {"sort_by": text}),
        "select": ("POST", "/threads/search", {"select": [text]}),
    }


NAMES = sorted(calls("", "", None))
TEXTS = st.sampled_from(EVIL) | st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
DATA = st.recursive(
    TEXTS | st.integers(-(2**63), 2**64 - 1) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)


async def _foreign(wire: Agent, thread: str, name: str, text: str, data: Any) -> None:
    """A call on a thread of another owner is answered as if it were not there."""
    method, path, body = calls(thread, text, data)[name]
    answer = await wire.ask(method, path, body)
    assert answer.status_code < 500, answer.text
    if path.startswith(f"/threads/{thread}"):
        assert answer.status_code == 404, answer.text
    elif answer.status_code == 200:
        assert thread not in answer.text


async def test_nobody_reaches_what_is_anothers(wire: Agent) -> None:
    """Any sequence of calls by another owner is refused and changes nothing; filters are data, whatever they hold."""
    ann, eve = wire.of("ann"), wire.of("eve")
    thread = await ann.ran("ask", "flat")
    await ann.ask("PATCH", f"/threads/{thread}", {"metadata": {text: text for text in EVIL}})
    # under the same id another owner has another thread
    twin = await eve.post("/threads", {"thread_id": thread, "metadata": {"mine": 1}})
    assert (twin["thread_id"], twin["metadata"]) == (thread, {"mine": 1})
    assert (await eve.ask("DELETE", f"/threads/{thread}")).status_code == 204
    before, loop = await everything(ann, thread), asyncio.get_running_loop()

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.sampled_from(NAMES), TEXTS, DATA), min_size=1, max_size=6))
    def explored(sequence: list[tuple[str, str, Any]]) -> None:
        async def told() -> None:
            for name, text, data in sequence:
                await _foreign(eve, thread, name, text, data)
            assert await everything(ann, thread) == before

        asyncio.run_coroutine_threadsafe(told(), loop).result()

    await asyncio.to_thread(explored)
    for text in EVIL:
        # as data it is found, and nothing else is
        assert await found(ann, metadata={text: text}) == {thread}
        assert await found(eve, metadata={text: text}) == set()
        assert await found(ann, metadata={text: "no"}) == await found(ann, values={text: text}) == set()
    assert await wire.of("ann").post("/threads/count") == 1
    assert await wire.post("/threads/count") == 0
