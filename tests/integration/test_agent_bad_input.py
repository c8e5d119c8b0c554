"""What clients of the agent wire should not send, and what they should not do: told in words, and nothing is harmed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.integration.agent_helpers import NOBODY, Server, aside, asked, new_thread, place, read_stream, topic

pytestmark = pytest.mark.timeout(60)
HALF = "\\ud800"
LARGE = 10 * 2**20
DEEP = '{"a":' * 10**5 + "1" + "}" * 10**5
#: Bodies as they are sent: what is wrong with them stands in the answer.
RUNS: dict[str, tuple[str, set[int], str]] = {
    "no JSON": ("{", {400, 422}, "JSON"),
    "no object": ("[1]", {422}, "malformed"),
    "no graph": ("{}", {422}, "assistant_id"),
    "NUL in an id": ('{"assistant_id": "instant\\u0000"}', {422}, "assistant"),
    "half a character in an id": (f'{{"assistant_id": "{HALF}"}}', {422}, ""),
    "unknown graph": ('{"assistant_id": "instnt"}', {422}, "instant"),
    "unknown key of the state": ('{"assistant_id": "instant", "input": {"tpic": 1}}', {422}, "'tpic'"),
    "no message": ('{"assistant_id": "instant", "input": {"messages": [{"role": "user"}]}}', {422}, "messages"),
    "unknown mode": ('{"assistant_id": "instant", "stream_mode": ["all"]}', {422}, "stream_mode"),
    "unknown strategy": ('{"assistant_id": "instant", "multitask_strategy": "queue"}', {422}, "multitask_strategy"),
    "unknown node to stop at": ('{"assistant_id": "instant", "interrupt_before": ["no"]}', {422}, "'no'"),
    "budget of a wrong type": (
        '{"assistant_id": "instant", "config": {"configurable": {"budget": 5}}}', {422}, "budget"
    ),
    "budget below nothing": (
        '{"assistant_id": "instant", "config": {"configurable": {"budget": {"steps": -1}}}}', {422}, "steps"
    ),
    "unknown budget": (
        '{"assistant_id": "instant", "config": {"configurable": {"budget": {"euros": 1}}}}', {422}, "euros"
    ),
    "priority of a wrong type": (
        '{"assistant_id": "instant", "config": {"configurable": {"priority": "high"}}}', {400, 422}, "priority"
    ),
    "an hour that is none": ('{"assistant_id": "instant", "after_seconds": NaN}', {400, 422}, ""),
    "a webhook into the house": ('{"assistant_id": "instant", "webhook": "http://127.0.0.1:1/x"}', {422}, "webhook"),
    "a webhook that is none": ('{"assistant_id": "instant", "webhook": "javascript:1"}', {422}, "webhook"),
    "a number of 5,000 digits": (
        f'{{"assistant_id": "instant", "input": {{"topic": {"9" * 5000}}}}}', {200, 400, 422}, ""
    ),
    "100,000 levels": (f'{{"assistant_id": "instant", "metadata": {DEEP}}}', {400, 422}, ""),
}  # fmt: skip
#: Odd, but no reason to refuse: the run takes it or says in words why not.
ODD = {
    "NUL": '{"topic": "a\\u0000b"}',
    "half a character": f'{{"topic": "{HALF}"}}',
    "beyond 64 bits": '{"topic": 123456789012345678901234567890}',
    "600 levels": f'{{"topic": {"[" * 600}{"]" * 600}}}',
    "no number": '{"topic": NaN}',
    "another type": '{"topic": {"a": [null, true]}}',
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with place(tmp_path_factory.mktemp("bad"), agent={"concurrency": 4, "queue": 4}) as made, made.served() as running:
        yield running
        running.end()


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    """After each test the server has all its places still."""
    with server.http() as client:
        yield client
        for _ in range(5):
            assert finished(client)["answer"] == "done"


def finished(http: httpx.Client, graph: str = "instant", about: str | None = None) -> Any:
    body = asked(graph, about) if about else {"assistant_id": graph, "input": {}}
    found = http.post("/runs/wait", json=body).raise_for_status().json()
    return found | {"answer": "done"} if "first" in found.get("steps", ()) else found


def sent(http: httpx.Client, path: str, body: str, **headers: str) -> httpx.Response:
    return http.post(path, content=body.encode(), headers={"content-type": "application/json", **headers})


def detail(answer: httpx.Response, *statuses: int) -> str:
    assert answer.status_code in statuses, (answer.status_code, answer.text[:500])
    told = answer.json()["detail"]
    assert isinstance(told, str)
    assert told
    assert "Traceback" not in told
    assert len(told) < 5000
    return told


@pytest.mark.parametrize("case", RUNS)
def test_a_run_that_cannot_be(server: Server, case: str) -> None:
    body, statuses, word = RUNS[case]
    with server.http() as http:
        for path in ("/runs/wait", "/runs", f"/threads/{new_thread(http)}/runs/stream"):
            answer = sent(http, path, body)
            if answer.status_code != 200:
                assert word in detail(answer, *statuses)
            assert answer.status_code in statuses


@pytest.mark.parametrize("case", ODD)
def test_an_input_that_is_odd(http: httpx.Client, case: str) -> None:
    for more in ("", ', "metadata": {"a": [1]}', f', "metadata": {ODD[case]}', f', "context": {ODD[case]}'):
        body = f'{{"assistant_id": "instant", "input": {ODD[case]}{more}}}'
        for headers in ({}, {"Idempotency-Key": f"{case} {len(more)}"}):
            answer = sent(http, "/runs/wait", body, **headers)
            assert answer.status_code in (200, 400, 422), answer.text[:500]
            if answer.status_code != 200:
                detail(answer, 400, 422)


def test_ids_that_nothing_has(http: httpx.Client) -> None:
    thread = new_thread(http)
    at, none = f"/threads/{thread}/runs/{NOBODY}", f"/threads/{NOBODY}/runs"
    run: dict[str, Any] = {"assistant_id": "instant", "input": {}}
    for method, path, body in (
        ("GET", at, None),
        ("GET", f"{at}/join", None),
        ("GET", f"{at}/stream", None),
        ("POST", f"{at}/cancel", None),
        ("DELETE", at, None),
        ("GET", none, None),
        ("POST", none, run),
        ("POST", f"{none}/wait", run),
        ("POST", f"{none}/stream", run),
        ("GET", f"/threads/{NOBODY}/stream", None),
        ("GET", f"/threads/{NOBODY}/state", None),
        ("GET", f"/threads/{thread}/state/{NOBODY}", None),
        ("POST", "/runs/cancel", {"thread_id": NOBODY, "run_ids": [NOBODY]}),
        ("GET", f"/assistants/{NOBODY}", None),
    ):
        assert detail(http.request(method, path, json=body), 404), (method, path)
    for path in ("/threads/x/runs", "/threads/%00/runs", f"/threads/{thread}/runs/1", f"{at[:-1]}%ED%A0%80"):
        detail(http.get(path), 422)
    ended = http.post(f"/threads/{thread}/runs/wait", json=run)
    detail(http.get(ended.headers["content-location"] + "/stream", headers={"Last-Event-ID": "x"}), 422)
    detail(http.get(ended.headers["content-location"] + "/stream?stream_mode=all"), 422)


def test_a_checkpoint_that_is_not_there_costs_nothing(http: httpx.Client) -> None:
    thread = new_thread(http)
    http.post(f"/threads/{thread}/runs/wait", json=asked("instant", "kept"))
    before = http.get(f"/threads/{thread}/state").json()
    for more in (
        {"checkpoint_id": "1f000000-0000-6000-8000-000000000000"},
        {"checkpoint": {"checkpoint_id": "nonsense"}},
        {"config": {"configurable": {"checkpoint_id": {"a": 1}}}},
    ):
        answer = http.post(f"/threads/{thread}/runs/wait", json=asked("instant", "lost", **more))
        assert answer.status_code in (400, 404, 422) or "__error__" in answer.json(), answer.text
        assert http.get(f"/threads/{thread}/state").json()["values"] == before["values"]


def test_a_large_state_comes_back_whole(http: httpx.Client) -> None:
    text, thread = "ü" * (LARGE // 2), new_thread(http)
    ran = http.post(f"/threads/{thread}/runs/wait", json=asked("instant", "large") | {"input": {"answer": text}})
    assert ran.json()["steps"] == ["first", "third"]
    http.post(f"/threads/{thread}/state", json={"values": {"answer": text}, "as_node": "first"}).raise_for_status()
    assert http.get(f"/threads/{thread}/state").json()["values"]["answer"] == text
    assert http.get(f"/threads/{thread}").json()["values"]["answer"] == text
    asked_for = {"assistant_id": "asking", "input": {"answer": text}}
    other = new_thread(http)
    events = [event.name for event in read_stream(http, location(http, other, asked_for) + "/stream")]
    assert events[0] == "metadata"
    assert events.count("values") >= 2


def location(http: httpx.Client, thread: str, body: dict[str, Any]) -> str:
    return str(http.post(f"/threads/{thread}/runs", json=body).raise_for_status().headers["content-location"])


def test_a_body_beyond_the_cap(server: Server) -> None:
    with server.http() as http:
        body = b'{"assistant_id": "instant", "input": {"topic": "' + b"a" * (40 * 2**20) + b'"}}'
        answer = http.post("/runs/wait", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_a_state_for_a_node_that_is_not_there(http: httpx.Client) -> None:
    thread = new_thread(http)
    http.post(f"/threads/{thread}/runs/wait", json=asked("instant", "state"))
    before = http.get(f"/threads/{thread}/history").json()
    for body, word in (
        ({"values": {"answer": "x"}, "as_node": "fourth"}, "third"),
        ({"values": {"answr": "x"}, "as_node": "first"}, "answr"),
        ({"values": 5, "as_node": "first"}, ""),
    ):
        assert word in detail(http.post(f"/threads/{thread}/state", json=body), 400, 422)
    assert http.get(f"/threads/{thread}/history").json() == before


def test_cancelled_twice(server: Server, http: httpx.Client) -> None:
    thread, about = new_thread(http), topic("twice")
    at = location(http, thread, asked("slow", about))
    server.gates.reached(about)
    with ThreadPoolExecutor(4) as pool:
        # all at once, and one after the other
        answers = list(pool.map(lambda _: http.post(f"{at}/cancel?wait=1").status_code, range(4)))
    assert set(answers) <= {200, 404, 409}
    assert 200 in answers
    assert http.get(at).json()["status"] == "interrupted"
    detail(http.post(f"{at}/cancel"), 404, 409)
    assert http.get(f"/threads/{thread}").json()["status"] == "interrupted"
    server.gates.empty(about)


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_cancelled_before_it_has_begun(http: httpx.Client, action: str) -> None:
    for _ in range(8):
        thread = new_thread(http)
        http.post(f"/threads/{thread}/runs/wait", json=asked("asking", "early"))
        at = location(http, thread, {"assistant_id": "asking", "command": {"resume": "no"}})
        # it may have ended by now
        assert http.post(f"{at}/cancel", params={"wait": 1, "action": action}).status_code in (200, 404, 409)
        found = http.get(f"/threads/{thread}").json()
        assert found["status"] == ("interrupted" if found["interrupts"] else "idle")
        if found["interrupts"]:
            ended = http.post(
                f"/threads/{thread}/runs/wait", json={"assistant_id": "asking", "command": {"resume": "yes"}}
            )
            assert ended.json()["answer"].startswith("done")


def test_many_at_once_that_interrupt_each_other(http: httpx.Client) -> None:
    thread = new_thread(http)

    def ask(number: int) -> int:
        body = asked("instant", f"number{number}", multitask_strategy=("interrupt", "rollback")[number % 2])
        return http.post(f"/threads/{thread}/runs", json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(16))) <= {200, 429}
    last = http.post(f"/threads/{thread}/runs/wait", json=asked("instant", "last")).json()
    assert last["answer"] == "done last"
    assert {run["status"] for run in http.get(f"/threads/{thread}/runs?limit=50").json()} <= {"success", "interrupted"}


def test_a_decision_rolled_back_is_asked_for_again(server: Server, http: httpx.Client) -> None:
    for graph in ("held", "deep"):
        thread, about = new_thread(http), topic(graph)
        http.post(f"/threads/{thread}/runs/wait", json=asked(graph, about))
        before = http.get(f"/threads/{thread}/state").json()
        at = location(http, thread, {"assistant_id": graph, "command": {"resume": "no"}})
        server.gates.reached(about)
        http.post(f"{at}/cancel?wait=1&action=rollback").raise_for_status()
        server.gates.empty(about)
        assert http.get(f"/threads/{thread}/state").json() == before
        with aside(server.gates.open, about):
            body = {"assistant_id": graph, "command": {"resume": "yes"}}
            ended = http.post(f"/threads/{thread}/runs/wait", json=body).json()
        assert "second" in ended["steps"]
        assert server.place.effects(about) == [
            "first",
            "asked no",
            "second begins",
            "asked yes",
            "second begins",
            "second",
            "third",
        ]


def test_resumed_when_nothing_is_asked(http: httpx.Client) -> None:
    thread = new_thread(http)
    resume = {"assistant_id": "asking", "command": {"resume": "yes"}}
    for path in ("wait", "stream"):
        detail(http.post(f"/threads/{thread}/runs/{path}", json=resume), 409)
    http.post(f"/threads/{thread}/runs/wait", json=asked("asking", "resumed"))
    assert http.post(f"/threads/{thread}/runs/wait", json=resume).json()["answer"] == "done resumed"
    detail(http.post(f"/threads/{thread}/runs/wait", json=resume), 409)
    assert http.get(f"/threads/{thread}/state").json()["values"]["steps"] == ["first", "asks", "third"]


def test_a_run_is_deleted_while_it_is_followed(server: Server, http: httpx.Client) -> None:
    thread, about = new_thread(http), topic("gone")
    at = location(http, thread, asked("slow", about))
    server.gates.reached(about)
    with aside(read_stream, http, f"{at}/stream") as followed, aside(http.get, f"{at}/join") as joined:
        server.gates.tick(about)
        assert http.delete(at).status_code == 204
        assert followed.result()[0].name == "metadata"
        assert joined.result().status_code in (200, 404)
    detail(http.get(at), 404)
    server.gates.empty(about)


def test_a_thread_is_deleted_while_it_runs_and_more_waits(server: Server, http: httpx.Client) -> None:
    thread, about = new_thread(http), topic("deleted")
    location(http, thread, asked("slow", about))
    server.gates.reached(about)
    for _ in range(2):
        location(http, thread, asked("slow", about))
    with ThreadPoolExecutor(3) as pool:
        # runs that come meanwhile are taken and cancelled, or refused
        deleted = pool.submit(http.delete, f"/threads/{thread}")
        later = [pool.submit(http.post, f"/threads/{thread}/runs", json=asked("slow", about)) for _ in range(6)]
        assert deleted.result().status_code in (204, 409)
        assert {one.result().status_code for one in later} <= {200, 404, 429}
    assert http.delete(f"/threads/{thread}").status_code in (204, 404)
    detail(http.get(f"/threads/{thread}"), 404)
    server.gates.empty(about)


def test_a_batch_is_made_whole_or_not_at_all(server: Server, http: httpx.Client) -> None:
    busy = [topic("batch") for _ in range(4)]
    held = [http.post("/runs", json=asked("slow", about)).json() for about in busy]
    for about in busy:
        server.gates.reached(about)
    bodies = [asked("instant", "batched") for _ in range(6)]
    # four of them might wait
    detail(http.post("/runs/batch", json=bodies), 429, 503)
    detail(http.post("/runs/batch", json=[]), 422)
    detail(http.post("/runs/batch", json=[*bodies[:2], {"assistant_id": "no"}]), 422)
    made = http.post("/runs/batch", json=bodies[:4])
    assert made.status_code == 200
    # the queue is full, for a thread of its own and for one that is busy
    detail(http.post("/runs", json=asked("instant", "x")), 429, 503)
    detail(http.post(f"/threads/{held[0]['thread_id']}/runs", json=asked("slow", "x")), 429, 503)
    for about in busy:
        server.gates.open(about)
    for run in made.json():
        assert http.get(f"/threads/{run['thread_id']}/runs/{run['run_id']}/join").json()["answer"] == "done batched"
    assert sorted(server.place.effects("batched")) == ["first"] * 4 + ["third"] * 4


def test_the_queue_has_an_end_for_what_waits_for_its_time(http: httpx.Client) -> None:
    thread = new_thread(http)
    body = asked("instant", "later", after_seconds=1000)
    answers = [http.post(f"/threads/{thread}/runs", json=body) for _ in range(8)]
    assert [one.status_code for one in answers].count(200) <= 5
    detail(answers[-1], 429, 503)
    assert http.delete(f"/threads/{thread}").status_code == 204
