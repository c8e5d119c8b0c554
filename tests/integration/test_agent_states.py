"""States of threads on the agent wire: read, followed back, and changed from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client

from benchai.server.agent.thread_rows import turn
from tests.integration.agent_app import FLOWS, Agent, agent
from tests.integration.helpers import write_config
from tests.integration.serve_helpers import serving

pytestmark = pytest.mark.anyio
UNKNOWN = "1f1e71b5-9d7e-64ad-8006-d7f5f248fba0"


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Agent]:
    async with agent(tmp_path) as found:
        yield found


def steps(states: list[Any]) -> list[tuple[str, int]]:
    return [(one["metadata"]["source"], one["metadata"]["step"]) for one in states]


async def test_a_thread_without_a_run_has_an_empty_state(wire: Agent) -> None:
    empty = {
        "values": {},
        "next": [],
        "tasks": [],
        "metadata": None,
        "created_at": None,
        "checkpoint": None,
        "parent_checkpoint": None,
        "interrupts": [],
        "checkpoint_id": None,
        "parent_checkpoint_id": None,
    }
    for thread in (await wire.thread(), await wire.thread(metadata={"graph_id": "flat"})):
        at = f"/threads/{thread}"
        assert await wire.get(f"{at}/state") == empty
        assert await wire.get(f"{at}/history") == await wire.post(f"{at}/history") == []
        assert (await wire.refused("GET", f"{at}/state/{UNKNOWN}"))[0] == 404
    status, detail = await wire.refused("POST", f"/threads/{await wire.thread()}/state", {"values": {}})
    assert status == 400
    assert "graph_id" in detail
    lost = await wire.thread(metadata={"graph_id": "gone"})
    for call in (("GET", "state", None), ("POST", "state", {"values": {}}), ("GET", "history", None)):
        status, detail = await wire.refused(call[0], f"/threads/{lost}/{call[1]}", call[2])
        assert (status, "'gone'" in detail) == (404, True)


async def test_history_is_followed_back_and_filtered(wire: Agent) -> None:
    at = f"/threads/{await wire.ran()}"
    state, history = await wire.get(f"{at}/state"), await wire.get(f"{at}/history")
    assert steps(history) == [("loop", 2), ("loop", 1), ("loop", 0), ("input", -1)]
    assert history[0] == state
    assert [one["next"] for one in history] == [[], ["work"], ["plan"], ["__start__"]]
    assert history[1]["tasks"][0]["result"]["answer"] == "done"
    assert [one["parent_checkpoint"] for one in history] == [*(one["checkpoint"] for one in history[1:]), None]
    for before in (history[1]["checkpoint"], history[1]["checkpoint_id"]):
        assert await wire.post(f"{at}/history", {"before": before}) == history[2:]
    assert await wire.get(f"{at}/history?limit=1&before={history[1]['checkpoint_id']}") == [history[2]]
    assert await wire.post(f"{at}/history", {"metadata": {"source": "loop"}, "limit": 2}) == history[:2]
    assert await wire.post(f"{at}/history", {"metadata": {"step": -1}}) == history[3:]
    assert await wire.post(f"{at}/history", {"metadata": {"parents": {}, "source": "none"}}) == []
    for place in (history[2]["checkpoint"], {"checkpoint_id": history[2]["checkpoint_id"]}):
        assert await wire.post(f"{at}/state/checkpoint", {"checkpoint": place}) == history[2]
    assert await wire.get(f"{at}/state/{history[2]['checkpoint_id']}") == history[2]


async def test_a_long_history_is_filtered_page_by_page(wire: Agent) -> None:
    at = f"/threads/{await wire.ran()}"
    for number in range(55):
        await wire.post(f"{at}/state", {"values": {"answer": str(number)}, "as_node": "work"})
    found = await wire.post(f"{at}/history", {"metadata": {"source": "input"}, "limit": 3})
    assert steps(found) == [("input", -1)]
    assert len(await wire.get(f"{at}/history?limit=1000")) == 59


async def test_only_what_is_selected_goes_out(wire: Agent) -> None:
    at = f"/threads/{await wire.ran()}"
    assert await wire.get(f"{at}/state?select=next,values.answer") == {"values": {"answer": "done"}, "next": []}
    assert await wire.get(f"{at}/state?select=next&select=values.none") == {"values": {}, "next": []}
    assert set(await wire.get(f"{at}/state?select=values")) == {"values"}
    [state] = await wire.post(f"{at}/history", {"limit": 1, "select": ["values.steps", "metadata"]})
    assert (state["values"], set(state)) == ({"steps": ["plan", "work"]}, {"values", "metadata"})
    status, detail = await wire.refused("GET", f"{at}/state?select=owner")
    assert (status, "'owner'" in detail, "parent_checkpoint" in detail) == (422, True, True)


async def test_a_failed_and_an_asking_thread_say_so(wire: Agent) -> None:
    failed = await wire.get(f"/threads/{await wire.ran('boom')}/state")
    assert (failed["next"], failed["tasks"][0]["error"]) == (["work"], "ValueError('boom!')")
    thread = await wire.ran("ask")
    state, shown = await wire.get(f"/threads/{thread}/state"), await wire.get(f"/threads/{thread}")
    [asked] = state["interrupts"]
    assert asked["value"] == {"question": "go on?"}
    assert state["tasks"][0]["interrupts"] == [asked]
    assert shown["interrupts"] == {state["tasks"][0]["id"]: [asked]}
    assert (state["values"]["odd"], state["metadata"]["thread_id"]) == ([1, 2], thread)


async def test_a_nested_graph_has_a_state_of_its_own(wire: Agent) -> None:
    at = f"/threads/{await wire.ran('ask', 'nested')}"
    state, deep = await wire.get(f"{at}/state"), await wire.get(f"{at}/state?subgraphs=true")
    [task], [nested] = state["tasks"], deep["tasks"]
    assert task["checkpoint"]["checkpoint_ns"] == f"child:{task['id']}"
    assert (task["state"], nested["checkpoint"]) == (None, None)
    inner = nested["state"]
    assert (inner["next"], inner["values"]["steps"]) == (["work"], ["plan"])
    assert await wire.post(f"{at}/state/checkpoint", {"checkpoint": task["checkpoint"]}) == inner
    history = await wire.post(f"{at}/history", {"checkpoint": task["checkpoint"]})
    assert history[0] == inner
    assert steps(history) == [("loop", 1), ("loop", 0), ("input", -1)]

    changed = await wire.post(f"{at}/state", {"values": {"topic": "x"}, "checkpoint": task["checkpoint"]})
    assert changed["checkpoint"]["checkpoint_ns"] == task["checkpoint"]["checkpoint_ns"]
    deep = await wire.get(f"{at}/state?subgraphs=true")
    assert deep["tasks"][0]["state"]["values"]["topic"] == "x"
    # the thread's own values are those of its graph, not of the nested one
    assert (await wire.get(at))["values"] == deep["values"]
    assert deep["values"]["topic"] == "ask"

    for namespace, status in (("child:none", 404), ("nope:1", 404), ("a\0b", 422), ("x" * 1001, 422)):
        body: Any = {"values": {"topic": "x"}, "checkpoint": {"checkpoint_ns": namespace}}
        assert (await wire.refused("POST", f"{at}/state", body))[0] == status
    nowhere = await wire.post(f"{at}/state/checkpoint", {"checkpoint": {"checkpoint_ns": "nope:1"}})
    assert (nowhere["values"], nowhere["checkpoint"]) == ({}, None)


async def test_a_state_is_changed_as_if_a_node_had(wire: Agent) -> None:
    thread = await wire.ran()
    at = f"/threads/{thread}"
    before = await wire.get(f"{at}/history")
    messages = [{"role": "user", "content": "hi", "id": "u"}]
    body = {"values": {"topic": "y", "messages": messages, "steps": ["own"]}, "as_node": "plan"}
    changed = await wire.post(f"{at}/state", body)
    assert changed["checkpoint"] == changed["configurable"]
    assert set(changed["checkpoint"]) == {"thread_id", "checkpoint_ns", "checkpoint_id"}
    state, shown = await wire.get(f"{at}/state"), await wire.get(at)
    assert (state["checkpoint"], state["parent_checkpoint"]) == (changed["checkpoint"], before[0]["checkpoint"])
    assert state["metadata"] == {"source": "update", "step": 3, "parents": {}, "graph_id": "flat", "thread_id": thread}
    assert state["values"]["steps"] == ["plan", "work", "own"]
    assert [one["type"] for one in state["values"]["messages"]] == ["ai", "human"]
    assert state["next"] == ["work"]
    assert (shown["values"], shown["status"]) == (state["values"], "interrupted")
    ended = await wire.post(f"{at}/runs/wait", {"assistant_id": "flat", "input": None})
    assert ended["steps"] == ["plan", "work", "own", "work"]

    # from an earlier checkpoint on, as the node that ran last there
    fork = {"values": {"topic": "z"}, "checkpoint_id": before[1]["checkpoint_id"]}
    await wire.post(f"{at}/state", fork)
    state = await wire.get(f"{at}/state")
    assert (state["values"]["topic"], state["values"]["steps"], state["next"]) == ("z", ["plan"], ["work"])
    assert state["parent_checkpoint"] == before[1]["checkpoint"]
    await wire.post(f"{at}/state", {"values": None, "as_node": "__end__"})
    assert ((await wire.get(f"{at}/state"))["next"], (await wire.get(at))["status"]) == ([], "idle")


async def test_a_question_is_gone_when_the_state_moves_on(wire: Agent) -> None:
    thread = await wire.ran("ask")
    await wire.post(f"/threads/{thread}/state", {"values": {"answer": "mine"}, "as_node": "work"})
    shown = await wire.get(f"/threads/{thread}")
    assert (shown["status"], shown["interrupts"], shown["values"]["answer"]) == ("idle", {}, "mine")
    resumed = {"assistant_id": "flat", "command": {"resume": "late"}}
    assert (await wire.refused("POST", f"/threads/{thread}/runs/wait", resumed))[0] == 409


async def test_a_state_that_cannot_be_is_refused_and_changes_nothing(wire: Agent) -> None:
    at = f"/threads/{await wire.ran()}"
    before = await wire.get(f"{at}/history"), await wire.get(at)
    wrong: tuple[tuple[Any, int, tuple[str, ...]], ...] = (
        ({"values": {"topic": "x"}, "as_node": "nonode"}, 400, ("'nonode'", "plan, work")),
        ({"values": {"nokey": 1, "topic": "x"}, "as_node": "plan"}, 422, ("'nokey'", "messages")),
        ({"values": [{"topic": "x"}], "as_node": "plan"}, 400, ("plan, work",)),
        ({"values": "x"}, 422, ("values", "an object, a list or null is wanted")),
        ({"values": {"steps": "no list"}, "as_node": "plan"}, 422, ("concatenate",)),
        ({"values": {"messages": [{"no": "message"}]}, "as_node": "plan"}, 422, ("no",)),
        ({"values": None, "as_node": "__input__"}, 400, ("input",)),
        ({"values": {"topic": "x"}, "checkpoint_id": UNKNOWN}, 404, (UNKNOWN,)),
        ({"values": {"topic": "x"}, "checkpoint": {"checkpoint_id": "x"}}, 422, ("'x'",)),
        ({"values": {"topic": "x"}, "checkpoint": {"checkpoint_map": {"": "x"}}}, 422, ("'x'",)),
        ({"values": {"topic": 2**70}}, 422, ("64-bit",)),
    )
    for body, status, named in wrong:
        got, detail = await wire.refused("POST", f"{at}/state", body)
        assert (got, [part for part in named if part not in detail]) == (status, []), (body, detail)
    for path, body, status in (
        ("state/nope", None, 422),
        (f"state/{UNKNOWN}", None, 404),
        ("history?limit=0", None, 422),
        ("history?before=x", None, 422),
    ):
        assert (await wire.refused("GET", f"{at}/{path}", body))[0] == status
    assert (await wire.refused("POST", f"{at}/history", {"limit": 2000}))[0] == 422
    assert (await wire.get(f"{at}/history"), await wire.get(at)) == before


async def test_no_state_is_changed_under_a_run(wire: Agent) -> None:
    thread = await wire.thread()
    at = f"/threads/{thread}"
    run = await wire.post(f"{at}/runs", {"assistant_id": "flat", "input": {"topic": "slow"}})
    status, detail = await wire.refused("POST", f"{at}/state", {"values": {"topic": "x"}, "as_node": "plan"})
    assert (status, thread in detail) == (409, True)
    await wire.ask("POST", f"{at}/runs/{run['run_id']}/cancel?wait=1")
    await wire.post(f"{at}/state", {"values": {"topic": "x"}, "as_node": "plan"})

    # a run of another process holds the thread
    async with wire.service.workshop.bench() as bench:
        async with bench.threads.lock(thread):
            status, detail = await wire.refused("POST", f"{at}/state", {"values": {"topic": "y"}, "as_node": "plan"})
            assert (status, thread in detail) == (409, True)
            assert (await wire.refused("DELETE", at))[0] == 409
    # changes at the same time wait for each other
    bodies = [{"values": {"steps": [str(n)]}, "as_node": "plan"} for n in range(5)]
    await asyncio.gather(*(wire.post(f"{at}/state", body) for body in bodies))
    assert {*(await wire.get(at))["values"]["steps"]} >= {str(n) for n in range(5)}


async def test_a_run_waits_for_a_change_that_is_being_made(wire: Agent) -> None:
    thread = await wire.ran()
    at, body = f"/threads/{thread}/runs", {"assistant_id": "flat", "input": {"topic": "y"}}
    async with wire.service.workshop.bench() as bench:
        async with turn(thread), bench.threads.lock(thread):
            run = await wire.post(at, body)
            for _ in range(50):
                # its own questions to the same database are answered before this one
                await bench.threads.has_checkpoint(thread, "none")
                assert (await wire.get(f"{at}/{run['run_id']}"))["status"] in ("pending", "running")
        assert (await wire.get(f"{at}/{run['run_id']}/join"))["topic"] == "y"


async def test_a_state_of_ten_megabytes_goes_in_and_out(wire: Agent) -> None:
    at = f"/threads/{await wire.thread(metadata={'graph_id': 'flat'})}"
    large = {"topic": "x" * 10_000_000, "odd": [{"n": n} for n in range(1000)]}
    await wire.post(f"{at}/state", {"values": large, "as_node": "work"})
    assert (await wire.get(f"{at}/state"))["values"]["topic"] == large["topic"]
    assert (await wire.get(at))["values"]["odd"] == large["odd"]
    copy = await wire.post(f"{at}/copy")
    assert copy["values"]["topic"] == large["topic"]


async def test_a_state_may_be_changed_before_any_run(wire: Agent) -> None:
    thread = await wire.thread(metadata={"graph_id": "flat"})
    await wire.post(f"/threads/{thread}/state", {"values": {"steps": ["mine"]}, "as_node": "plan"})
    async with wire.service.workshop.bench() as bench:
        # 'benchai threads' shows and deletes it like any other
        assert [(one.thread_id, one.workflow) for one in await bench.threads.threads()] == [(thread, "flat")]
    wrong = {"assistant_id": "nested", "input": {"topic": "x"}}
    assert (await wire.refused("POST", f"/threads/{thread}/runs/wait", wrong))[0] == 422
    ended = await wire.post(f"/threads/{thread}/runs/wait", {"assistant_id": "flat", "input": None})
    assert ended["steps"] == ["mine", "work"]


async def test_langgraphs_client_reads_and_writes_them(tmp_path: Path) -> None:
    """Against a real server: every call of the client that this part answers."""
    (tmp_path / "flows.py").write_text(FLOWS, encoding="utf-8")
    config = {"models": {"m": {"endpoint": "http://127.0.0.1:9/v1", "model": "m"}}}
    write_config(tmp_path, config | {"workflows": {"flat": "./flows.py:flat"}})
    with serving(tmp_path) as server:
        client = get_client(url=server.record["url"], api_key=None)
        threads = client.threads
        made = await threads.create(metadata={"k": 1}, graph_id="flat", ttl=60)
        thread = made["thread_id"]
        assert await threads.create(thread_id=thread, if_exists="do_nothing") == made
        placed = await threads.update_state(thread, {"steps": ["mine"], "topic": "x"}, as_node="plan")
        state = await threads.get_state(thread, subgraphs=True)
        assert state["checkpoint"] == placed["checkpoint"]
        assert await threads.get_state(thread, checkpoint=placed["checkpoint"]) == state
        assert await threads.get_state(thread, checkpoint_id=placed["checkpoint_id"]) == state
        assert await threads.get_state(thread, select=["values.topic"]) == {"values": {"topic": "x"}}
        assert await threads.get_history(thread, before=placed["checkpoint"]) == []
        assert await threads.get_history(thread, metadata={"source": "update"}, limit=1) == [state]
        found = await threads.search(
            metadata={"k": 1}, values={"topic": "x"}, status="interrupted", sort_by="created_at", sort_order="asc",
            select=["thread_id"], extract={"first": "values.steps[0]"},
        )  # fmt: skip
        assert found == [{"thread_id": thread, "extracted": {"first": "mine"}}]
        assert await threads.count(metadata={"k": 1}) == 1
        assert (await threads.get(thread, include=["ttl"]))["ttl"]["strategy"] == "delete"
        assert (await threads.update(thread, metadata={"k": 2}, ttl=5))["metadata"]["k"] == 2
        assert await threads.update(thread, metadata={"k": 3}, return_minimal=True) is None
        copy: Any = await threads.copy(thread)
        assert copy["values"] == state["values"]
        assert await threads.prune([thread]) == {"pruned_count": 1}
        await threads.delete(copy["thread_id"])
        assert await threads.search() == []
        await client.aclose()
