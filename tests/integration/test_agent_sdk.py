"""The agent wire as langgraph_sdk calls it, both clients unmodified, on one server of graphs that need no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessageChunk
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError, UnprocessableEntityError

from tests.integration.agent_helpers import GRAPHS, NOBODY, Sdk, Server, aside, new_id, place, topic

pytestmark = pytest.mark.timeout(60)
DONE = ["first", "third"]
SLOWLY = ["first", "second", "third"]
SUM = "What is 48 * 52?"
MODES = ["values", "updates", "custom", "tasks", "checkpoints", "debug", "events"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("agent")
    with place(folder) as made, made.served() as running:
        yield running
        running.end()


@pytest.fixture(params=["async", "sync"])
def sdk(server: Server, request: pytest.FixtureRequest) -> Iterator[Sdk]:
    with Sdk(server, request.param) as client:
        yield client


def thread_of(sdk: Sdk, **more: Any) -> str:
    return str(sdk(sdk.threads.create(**more))["thread_id"])


def wait(sdk: Sdk, thread: str | None, graph: str, about: str, **more: Any) -> Any:
    return sdk(sdk.runs.wait(thread, graph, input={"topic": about}, **more))


def status(sdk: Sdk, thread: str) -> str:
    return str(sdk(sdk.threads.get(thread))["status"])


def begun(sdk: Sdk, server: Server, thread: str, graph: str = "slow", **more: Any) -> tuple[str, str]:
    """A run that has come to its gate: its id, and its topic."""
    about = topic(graph)
    run = sdk(sdk.runs.create(thread, graph, input={"topic": about}, **more))
    server.gates.reached(about)
    return str(run["run_id"]), about


# --- assistants ---


def test_assistants(sdk: Sdk) -> None:
    found = sdk(sdk.assistants.search(limit=100))
    assert {*GRAPHS, "react", "rag"} <= {one["graph_id"] for one in found}
    [one] = sdk(sdk.assistants.search(graph_id="instant"))
    assert one == sdk(sdk.assistants.get("instant")) == sdk(sdk.assistants.get(one["assistant_id"]))
    assert (one["graph_id"], one["name"], one["version"]) == ("instant", "instant", 1)
    assert {"config", "context", "metadata", "description", "created_at", "updated_at"} <= set(one)
    page = sdk(sdk.assistants.search(limit=1, response_format="object"))
    assert (len(page["assistants"]), page["next"]) == (1, "1")
    assert sdk(sdk.assistants.count(graph_id="instant")) == 1
    with pytest.raises(NotFoundError, match="'nope'"):
        sdk(sdk.assistants.search(graph_id="nope"))
    with pytest.raises(NotFoundError):
        sdk(sdk.assistants.get(NOBODY))


def test_what_an_assistant_is_made_of(sdk: Sdk) -> None:
    graph = sdk(sdk.assistants.get_graph("nested"))
    assert {one["id"] for one in graph["nodes"]} == {"__start__", "child", "after", "__end__"}
    assert {"source": "child", "target": "after"}.items() <= graph["edges"][1].items()
    inside = sdk(sdk.assistants.get_graph("nested", xray=True))
    assert {"child:first", "child:third"} <= {one["id"] for one in inside["nodes"]}
    schemas = sdk(sdk.assistants.get_schemas("instant"))
    assert schemas["graph_id"] == "instant"
    assert {"messages", "topic", "steps", "answer"} == set(schemas["state_schema"]["properties"])
    assert list(sdk(sdk.assistants.get_subgraphs("nested"))) == ["child"]


def test_an_assistant_of_ones_own(sdk: Sdk) -> None:
    made = sdk(sdk.assistants.create("asking", name="mine", metadata={"a": 1}))
    key = made["assistant_id"]
    assert wait(sdk, None, key, "x")["__interrupt__"][0]["value"] == {"question": "x"}
    changed = sdk(sdk.assistants.update(key, graph_id="instant", metadata={"b": 2}))
    assert (changed["version"], changed["metadata"]) == (2, {"a": 1, "b": 2})
    assert wait(sdk, None, key, "x")["steps"] == DONE
    assert [one["version"] for one in sdk(sdk.assistants.get_versions(key))] == [2, 1]
    assert sdk(sdk.assistants.set_latest(key, 1))["graph_id"] == "asking"
    sdk(sdk.assistants.delete(key))
    with pytest.raises(httpx.HTTPStatusError, match="422"):
        wait(sdk, None, key, "x")


# --- threads and their states ---


def test_threads(sdk: Sdk, server: Server) -> None:
    mark, given = topic("mark"), new_id()
    thread = sdk(sdk.threads.create(thread_id=given, metadata={"mark": mark}))
    assert (thread["thread_id"], thread["status"], thread["values"]) == (given, "idle", None)
    with pytest.raises(ConflictError):
        sdk(sdk.threads.create(thread_id=given))
    assert sdk(sdk.threads.create(thread_id=given, if_exists="do_nothing"))["metadata"] == {"mark": mark}
    assert sdk(sdk.threads.update(given, metadata={"b": 2}))["metadata"] == {"mark": mark, "b": 2}
    wait(sdk, given, "instant", mark)
    thread = sdk(sdk.threads.get(given))
    assert (thread["status"], thread["values"]["steps"], thread["interrupts"]) == ("idle", DONE, {})
    assert thread["metadata"].items() >= {"mark": mark, "b": 2, "graph_id": "instant"}.items()
    other = thread_of(sdk, metadata={"mark": mark})
    assert {one["thread_id"] for one in sdk(sdk.threads.search(metadata={"mark": mark}))} == {given, other}
    assert [one["thread_id"] for one in sdk(sdk.threads.search(values={"topic": mark}))] == [given]
    assert sdk(sdk.threads.count(metadata={"mark": mark})) == 2
    copied = sdk(sdk.threads.copy(given))
    assert copied["thread_id"] not in (given, other)
    assert sdk(sdk.threads.get_state(copied["thread_id"]))["values"]["steps"] == DONE
    sdk(sdk.threads.delete(given))
    with pytest.raises(NotFoundError):
        sdk(sdk.threads.get(given))
    with server.http("bob") as bob, pytest.raises(httpx.HTTPStatusError, match="404"):
        bob.get(f"/threads/{other}").raise_for_status()


def test_the_state_of_a_thread(sdk: Sdk) -> None:
    thread = thread_of(sdk)
    wait(sdk, thread, "asking", "x")
    state = sdk(sdk.threads.get_state(thread))
    assert (state["next"], state["values"]["steps"]) == (["asks"], ["first"])
    [task] = state["tasks"]
    assert (task["name"], task["interrupts"][0]["value"], task["error"]) == ("asks", {"question": "x"}, None)
    assert state["checkpoint"]["thread_id"] == thread
    assert state["parent_checkpoint"]["thread_id"] == thread
    updated = sdk(sdk.threads.update_state(thread, {"steps": ["by hand"]}, as_node="asks"))
    after = sdk(sdk.threads.get_state(thread))
    assert (after["next"], after["values"]["steps"]) == (["third"], ["first", "by hand"])
    assert after["checkpoint"] == {**after["checkpoint"], **updated["checkpoint"]}
    assert wait_on(sdk, thread, "asking")["steps"] == ["first", "by hand", "third"]
    history = sdk(sdk.threads.get_history(thread, limit=100))
    assert [one["next"] for one in history] == [[], ["third"], ["asks"], ["first"], ["__start__"]]
    for newer, older in pairwise(history):
        assert newer["parent_checkpoint"]["checkpoint_id"] == older["checkpoint"]["checkpoint_id"]
    [before] = sdk(sdk.threads.get_history(thread, limit=1, before=history[2]["checkpoint"]))
    assert before["next"] == ["first"]
    old = sdk(sdk.threads.get_state(thread, checkpoint=history[2]["checkpoint"]))
    assert old["values"]["steps"] == ["first"]
    with pytest.raises(BadRequestError, match="'nowhere'"):
        sdk(sdk.threads.update_state(thread, {"steps": []}, as_node="nowhere"))


def wait_on(sdk: Sdk, thread: str, graph: str, **more: Any) -> Any:
    """Go on with a thread."""
    return sdk(sdk.runs.wait(thread, graph, **more))


def test_the_state_inside_of_a_nested_graph(sdk: Sdk) -> None:
    thread = thread_of(sdk)
    wait(sdk, thread, "deep", "x")
    [task] = sdk(sdk.threads.get_state(thread, subgraphs=True))["tasks"]
    assert (task["name"], task["state"]["values"]["steps"], task["state"]["next"]) == ("child", ["first"], ["asks"])
    assert task["state"]["checkpoint"]["checkpoint_ns"].startswith("child:")
    assert task["state"]["checkpoint"]["thread_id"] == thread
    [task] = sdk(sdk.threads.get_state(thread))["tasks"]
    assert task["state"] is None


# --- runs: made, found, awaited ---


def test_a_run_on_a_thread(sdk: Sdk, server: Server) -> None:
    thread = thread_of(sdk)
    told: list[Any] = []
    about = topic()
    run = sdk(sdk.runs.create(thread, "slow", input={"topic": about}, metadata={"a": 1}, on_run_created=told.append))
    key = run["run_id"]
    assert (told[0]["run_id"], told[0]["thread_id"]) == (key, thread)
    server.gates.reached(about)
    found = sdk(sdk.runs.get(thread, key))
    assert (found["status"], found["metadata"]["a"], found["multitask_strategy"]) == ("running", 1, "enqueue")
    assert found["kwargs"]["input"] == {"topic": about}
    assert status(sdk, thread) == "busy"
    with Sdk(server, sdk.kind) as other, aside(lambda: other(other.runs.join(thread, key))) as joined:
        server.gates.open(about)
        assert joined.result()["answer"] == f"done {about}"
    # once more when it is over
    assert sdk(sdk.runs.join(thread, key))["steps"] == SLOWLY
    assert sdk(sdk.runs.get(thread, key))["status"] == "success"
    assert status(sdk, thread) == "idle"
    second = sdk(sdk.runs.create(thread, "slow", command={"update": {"topic": about}, "goto": "third"}))
    sdk(sdk.runs.join(thread, second["run_id"]))
    assert [one["run_id"] for one in sdk(sdk.runs.list(thread))] == [second["run_id"], key]
    assert [one["run_id"] for one in sdk(sdk.runs.list(thread, limit=1, offset=1))] == [key]
    assert sdk(sdk.runs.list(thread, status="error")) == []
    sdk(sdk.runs.delete(thread, key))
    with pytest.raises(NotFoundError):
        sdk(sdk.runs.get(thread, key))
    assert server.place.effects(about) == ["first", "second begins", "second", "third", "third"]


def test_a_run_that_fails(sdk: Sdk) -> None:
    thread = thread_of(sdk)
    with pytest.raises(Exception, match="ValueError: boom!"):
        wait(sdk, thread, "failing", "x")
    assert wait(sdk, thread, "failing", "x", raise_error=False) == {
        "__error__": {"error": "ValueError", "message": "boom!"}
    }
    parts = sdk.all(sdk.runs.stream(thread, "failing", input={"topic": "x"}))
    assert parts[0].event == "metadata"
    assert (parts[-1].event, parts[-1].data) == ("error", {"error": "ValueError", "message": "boom!"})
    assert status(sdk, thread) == "error"
    assert {one["status"] for one in sdk(sdk.runs.list(thread))} == {"error"}
    [task] = sdk(sdk.threads.get_state(thread))["tasks"]
    assert (task["name"], task["error"]) == ("fails", "ValueError('boom!')")


def test_what_is_refused(sdk: Sdk) -> None:
    thread = thread_of(sdk)
    for graph, more in (
        ("nope", {}),
        (NOBODY, {}),
        ("instant", {"multitask_strategy": "bogus"}),
        ("instant", {"stream_mode": "bogus"}),
        ("instant", {"interrupt_before": ["bogus"]}),
        ("instant", {"config": {"recursion_limit": "many"}}),
        ("instant", {"config": {"configurable": {"budget": {"seconds": -1}}}}),
    ):
        with pytest.raises(UnprocessableEntityError):
            sdk(sdk.runs.create(thread, graph, input={"topic": "x"}, **more))
    for more in (
        {"input": {"bogus": 1}},
        {"input": ["x"]},
        {"command": {"goto": "bogus"}},
        {"command": {"goto": ["third", {"node": "bogus", "input": {}}]}},
        {"command": {"update": {"bogus": 1}}},
        {"command": {"update": [1]}},
        {"webhook": "ftp://example.org"},
    ):
        with pytest.raises(UnprocessableEntityError):
            sdk(sdk.runs.create(thread, "instant", **more))
    with pytest.raises(NotFoundError):
        sdk(sdk.runs.create(NOBODY, "instant", input={"topic": "x"}))
    for call in (sdk.runs.get, sdk.runs.cancel, sdk.runs.delete):
        with pytest.raises(NotFoundError):
            sdk(call(thread, NOBODY))
    assert sdk(sdk.runs.list(thread)) == []
    assert status(sdk, thread) == "idle"


def test_what_is_anothers(sdk: Sdk, server: Server) -> None:
    thread = thread_of(sdk)
    key, about = begun(sdk, server, thread)
    with Sdk(server, sdk.kind, "bob") as bob:
        for call in (bob.runs.get, bob.runs.cancel, bob.runs.delete):
            with pytest.raises(NotFoundError):
                bob(call(thread, key))
        for made in (
            lambda: bob.runs.list(thread),
            lambda: bob.runs.create(thread, "slow", input={"topic": "x"}),
            lambda: bob.runs.cancel_many(status="all"),
            lambda: bob.runs.cancel_many(thread_id=thread, run_ids=[key]),
            lambda: bob.threads.get_state(thread),
        ):
            with pytest.raises(NotFoundError):
                bob(made())
        for stream in (bob.runs.join_stream(thread, key), bob.threads.join_stream(thread)):
            with pytest.raises(NotFoundError):
                bob.all(stream)
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            bob(bob.runs.join(thread, key))
        # a thread of the same id is another one
        assert wait(bob, thread, "instant", "x", if_not_exists="create")["steps"] == DONE
        server.gates.open(about)
        assert sdk(sdk.runs.join(thread, key))["steps"] == SLOWLY
        assert bob(bob.threads.get_state(thread))["values"]["steps"] == DONE
        assert len(bob(bob.runs.list(thread))) == len(sdk(sdk.runs.list(thread))) == 1


def test_a_thread_that_is_not_there_yet(sdk: Sdk) -> None:
    thread = new_id()
    assert wait(sdk, thread, "instant", "x", if_not_exists="create")["steps"] == DONE
    assert sdk(sdk.threads.get(thread))["values"]["steps"] == DONE


def test_runs_without_a_thread(sdk: Sdk) -> None:
    assert wait(sdk, None, "instant", "x")["steps"] == DONE
    parts = sdk.all(sdk.runs.stream(None, "instant", input={"topic": "x"}))
    assert [part.event for part in parts] == ["metadata", "values", "values", "values"]
    assert parts[-1].data["steps"] == DONE
    alone = sdk(sdk.runs.create(None, "instant", input={"topic": "x"}))
    # its thread is not listed, but can be asked about
    assert sdk(sdk.runs.join(alone["thread_id"], alone["run_id"]))["steps"] == DONE
    batch = [{"assistant_id": name, "input": {"topic": "x"}} for name in ("instant", "nested")]
    made = sdk(sdk.runs.create_batch(batch))
    ends = [sdk(sdk.runs.join(one["thread_id"], one["run_id"])) for one in made]
    assert [len(one["steps"]) for one in ends] == [2, 3]
    listed = {one["thread_id"] for one in sdk(sdk.threads.search(limit=1000))}
    assert listed.isdisjoint({alone["thread_id"], *(one["thread_id"] for one in made)})
    with pytest.raises(UnprocessableEntityError):
        sdk(sdk.runs.create_batch([batch[0], {"assistant_id": "nope"}]))


def test_a_budget_in_the_request(sdk: Sdk, server: Server) -> None:
    thread, about = thread_of(sdk), topic("budget")
    config = {"configurable": {"budget": {"seconds": 0.05}}}
    end = wait(sdk, thread, "slow", about, config=config, raise_error=False)
    assert end["__error__"]["error"] == "TimeoutError"
    server.gates.empty(about)
    assert sdk(sdk.runs.list(thread))[0]["status"] == "timeout"
    loop = wait(sdk, None, "instant", "x", config={"recursion_limit": 1}, raise_error=False)
    assert loop["__error__"]["error"] == "GraphRecursionError"


# --- streams ---


def streamed(sdk: Sdk, graph: str, modes: Any, **more: Any) -> list[Any]:
    parts = sdk.all(sdk.runs.stream(None, graph, input={"topic": "x"}, stream_mode=modes, **more))
    assert parts[0].event == "metadata"
    assert set(parts[0].data) == {"run_id", "attempt"}
    ids = [int(part.id) for part in parts]
    assert ids == sorted(set(ids))
    return parts[1:]


def test_each_mode(sdk: Sdk) -> None:
    values = streamed(sdk, "instant", "values")
    assert [part.data.get("steps") for part in values] == [[], ["first"], DONE]
    updates = streamed(sdk, "instant", "updates")
    assert [list(part.data) for part in updates] == [["first"], ["third"]]
    assert updates[0].data == {"first": {"steps": ["first"]}}
    assert [part.data for part in streamed(sdk, "instant", "custom")] == [{"at": "first"}]
    tasks = [part.data for part in streamed(sdk, "instant", "tasks")]
    assert [(one["name"], "result" in one) for one in tasks] == [
        ("first", False), ("first", True), ("third", False), ("third", True),
    ]  # fmt: skip
    points = [part.data for part in streamed(sdk, "instant", "checkpoints")]
    assert [one["next"] for one in points] == [["__start__"], ["first"], ["third"], []]
    debug = [part.data for part in streamed(sdk, "instant", "debug")]
    assert Counter(one["type"] for one in debug) == {"checkpoint": 4, "task": 2, "task_result": 2}
    events = [part.data for part in streamed(sdk, "instant", "events")]
    assert {("on_chain_start", "first"), ("on_chain_end", "third")} <= {(one["event"], one["name"]) for one in events}


def test_a_list_of_modes_is_each_of_them(sdk: Sdk) -> None:
    for graph, modes in (("instant", MODES), ("nested", ["values", "updates", "tasks"])):
        together = Counter(part.event for part in streamed(sdk, graph, modes))
        alone: Counter[str] = Counter()
        for mode in modes:
            found = Counter(part.event for part in streamed(sdk, graph, mode))
            assert list(found) == [mode]
            alone += found
        # LangChain's events tell of the graph's own stream, too: those grow with the modes
        grown = {"events"} if "events" in modes else set()
        assert {key: value for key, value in together.items() if key not in grown} == {
            key: value for key, value in alone.items() if key not in grown
        }


def test_nested_graphs_stream_when_asked(sdk: Sdk) -> None:
    parts = streamed(sdk, "nested", ["updates", "custom", "values"], stream_subgraphs=True)
    inner = [part for part in parts if "|" in part.event]
    assert {part.event.partition("|")[0] for part in inner} == {"updates", "custom", "values"}
    [place_of_child] = {part.event.partition("|")[2] for part in inner}
    assert place_of_child.startswith("child:")
    assert [list(part.data) for part in inner if part.event.startswith("updates|")] == [["first"], ["third"]]
    assert [list(part.data) for part in parts if part.event == "updates"] == [["child"], ["after"]]
    assert not [part for part in streamed(sdk, "nested", ["updates", "custom"]) if "|" in part.event]


def test_a_stream_comes_as_it_happens(sdk: Sdk, server: Server) -> None:
    thread, about = thread_of(sdk), topic()
    parts = sdk.each(sdk.runs.stream(thread, "slow", input={"topic": about}, stream_mode=["custom", "updates"]))
    assert [next(parts).event for _ in range(3)] == ["metadata", "custom", "updates"]
    for _ in range(3):
        server.gates.tick(about)
        assert next(parts).data == {"tick": about}
    server.gates.open(about)
    assert [list(part.data) for part in parts] == [["second"], ["third"]]


def test_joining_a_stream(sdk: Sdk, server: Server) -> None:
    thread = thread_of(sdk)
    key, about = begun(sdk, server, thread, stream_mode=["values", "updates", "custom"])
    server.gates.tick(about, 2)
    joined = sdk.each(sdk.runs.join_stream(thread, key))
    missed = [next(joined) for _ in range(5)]
    assert [part.event for part in missed] == ["metadata", "values", "custom", "updates", "values"]
    server.gates.open(about)
    everything = [*missed, *joined]
    assert [part.data.get("tick") for part in everything if part.event == "custom"] == [None, about, about]
    assert everything == sdk.all(sdk.runs.join_stream(thread, key))
    assert everything[4:] == sdk.all(sdk.runs.join_stream(thread, key, last_event_id=everything[3].id))
    only = sdk.all(sdk.runs.join_stream(thread, key, stream_mode="updates"))
    assert [part.event for part in only] == ["metadata", "updates", "updates", "updates"]
    two = sdk.all(sdk.runs.join_stream(thread, key, stream_mode=["updates", "custom"]))
    assert [part for part in everything if part.event != "values"] == two


def test_the_stream_of_a_thread(sdk: Sdk, server: Server) -> None:
    thread, about = thread_of(sdk), topic()
    # the client is there before the runs are
    with Sdk(server, sdk.kind) as other:
        wait(sdk, thread, "slow", about, interrupt_before=["second"])
        [before] = sdk(sdk.runs.list(thread))
        known = sdk.all(sdk.runs.join_stream(thread, before["run_id"]))
        parts = other.each(other.threads.join_stream(thread, last_event_id=known[1].id))
        # what was missed comes first
        assert [next(parts) for _ in known[2:]] == known[2:]
        runs = [sdk(sdk.runs.create(thread, "slow", input={"topic": about}))["run_id"] for _ in range(2)]
        for run_id in runs:
            begins = next(parts)
            assert (begins.event, begins.data["run_id"]) == ("metadata", run_id)
            assert [next(parts).event for _ in range(2)] == ["values", "values"]
            server.gates.open(about)
            assert [next(parts).event for _ in range(2)] == ["values", "values"]
        parts.close()


@pytest.mark.parametrize("task", [SUM, "Write one sentence about rain."])
def test_messages_in_pieces(sdk: Sdk, task: str) -> None:
    thread = thread_of(sdk)
    asked = {"messages": [{"role": "user", "content": task}]}
    modes = ["messages-tuple", "messages", "values"]
    parts = sdk.all(sdk.runs.stream(thread, "react", input=asked, stream_mode=modes))
    state = sdk(sdk.threads.get_state(thread))["values"]
    assert parts[-1].data["messages"] == state["messages"]
    ids = [one["id"] for one in state["messages"]]
    assert len(ids) == len(set(ids)), "two messages of one id"
    assert [one["type"] for one in state["messages"]][:2] == ["human", "ai"]
    assert any(one.get("tool_calls") for one in state["messages"]) == (task == SUM)
    check_pieces(parts, state["messages"])
    check_grown(parts, state["messages"])


def check_pieces(parts: list[Any], messages: list[Any]) -> None:
    """messages-tuple: what has come of a message adds up to it; one that came whole came once."""
    pieces: dict[str, Any] = {}
    whole: list[str] = []
    for message, metadata in (part.data for part in parts if part.event == "messages"):
        assert metadata["langgraph_node"]
        assert metadata["thread_id"]
        if message["type"] == "AIMessageChunk":
            chunk = AIMessageChunk(**{key: value for key, value in message.items() if key != "type"})
            pieces[message["id"]] = pieces[message["id"]] + chunk if message["id"] in pieces else chunk
        else:
            whole.append(message["id"])
    known = {one["id"]: one for one in messages}
    assert sorted([*pieces, *whole]) == sorted(one["id"] for one in messages if one["type"] != "human")
    for key, message in pieces.items():
        assert message.content == known[key]["content"]
        calls = [(call["name"], call["args"], call["id"]) for call in message.tool_calls]
        assert calls == [(call["name"], call["args"], call["id"]) for call in known[key]["tool_calls"]]
        assert message.usage_metadata == known[key]["usage_metadata"]


def check_grown(parts: list[Any], messages: list[Any]) -> None:
    """messages: each event is a message as far as it has come, the last one whole."""
    grown: dict[str, Any] = {}
    complete: list[str] = []
    for part in parts:
        if part.event in ("messages/partial", "messages/complete"):
            [message] = part.data
            before = grown.get(message["id"], {"content": ""})["content"]
            assert message["content"].startswith(before)
            assert message["id"] not in complete, "it goes on after it was complete"
            grown[message["id"]] = message
            complete += [message["id"]] if part.event == "messages/complete" else []
    told = [next(iter(part.data)) for part in parts if part.event == "messages/metadata"]
    assert sorted(told) == sorted(grown) == sorted(complete)
    for message in messages:
        if message["type"] != "human":
            assert grown[message["id"]]["content"] == message["content"]
            assert grown[message["id"]]["type"] == message["type"]
            assert grown[message["id"]].get("tool_calls") == message.get("tool_calls")


# --- interrupts, decisions, commands ---


def test_an_interrupt_and_its_answer(sdk: Sdk) -> None:
    thread, about = thread_of(sdk), topic()
    parts = sdk.all(sdk.runs.stream(thread, "asking", input={"topic": about}, stream_mode=["updates", "values"]))
    [asked] = parts[-1].data["__interrupt__"]
    assert asked["value"] == {"question": about}
    assert [part.data["__interrupt__"] for part in parts if "__interrupt__" in part.data] == [[asked], [asked]]
    thread_now = sdk(sdk.threads.get(thread))
    assert (thread_now["status"], sdk(sdk.runs.list(thread))[0]["status"]) == ("interrupted", "success")
    [[kept]] = thread_now["interrupts"].values()
    assert kept == {"id": asked["id"], "value": asked["value"]}
    answer = {"text": "yes", "n": [1, None]}
    end = wait_on(sdk, thread, "asking", command={"resume": answer})
    assert end["answer"] == f"done {about}"
    assert end["steps"] == ["first", "asks", "third"]
    assert (status(sdk, thread), sdk(sdk.threads.get(thread))["interrupts"]) == ("idle", {})
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        wait_on(sdk, thread, "asking", command={"resume": answer})


def test_two_questions_at_a_time(sdk: Sdk) -> None:
    thread = thread_of(sdk)
    ids = {one["value"]: one["id"] for one in wait(sdk, thread, "pair", "x")["__interrupt__"]}
    assert set(ids) == {"left?", "right?"}
    found = wait_on(sdk, thread, "pair", command={"resume": {ids["left?"]: "L"}})
    assert [one["value"] for one in found["__interrupt__"]] == ["right?"]
    end = wait_on(sdk, thread, "pair", command={"resume": {ids["right?"]: "R"}})
    assert sorted(end["steps"]) == ["left L", "right R"]


def test_a_decision_on_one_of_two_questions_is_taken_once(sdk: Sdk) -> None:
    thread = thread_of(sdk)
    ids = {one["value"]: one["id"] for one in wait(sdk, thread, "pair", "x")["__interrupt__"]}
    answer = {"resume": {ids["left?"]: "L"}}
    wait_on(sdk, thread, "pair", command=answer)
    for wrong in (answer, {"resume": {"f" * 32: "x"}}, {"resume": {ids["left?"]: "L", ids["right?"]: "R"}}):
        with pytest.raises(httpx.HTTPStatusError, match="409"):
            wait_on(sdk, thread, "pair", command=wrong)
    assert status(sdk, thread) == "interrupted"
    end = wait_on(sdk, thread, "pair", command={"resume": "R"})
    assert sorted(end["steps"]) == ["left L", "right R"]


def test_an_answer_for_a_nested_graph(sdk: Sdk, server: Server) -> None:
    thread, about = thread_of(sdk), topic()
    wait(sdk, thread, "deep", about)
    with Sdk(server, sdk.kind) as other:
        with aside(lambda: wait_on(other, thread, "deep", command={"resume": "yes"})) as ended:
            server.gates.open(about)
            assert ended.result()["steps"] == ["first", "asks", "second", "third"]


def test_a_command_updates_and_goes(sdk: Sdk) -> None:
    thread, about = thread_of(sdk), topic()
    wait(sdk, thread, "asking", about)
    end = wait_on(sdk, thread, "asking", command={"resume": "yes", "update": {"steps": ["update"]}})
    assert end["steps"] == ["first", "update", "asks", "third"]
    end = wait_on(sdk, thread, "asking", command={"goto": "third"})
    assert end["steps"] == ["first", "update", "asks", "third", "third"]
    end = wait_on(sdk, thread, "asking", command={"goto": {"node": "third", "input": {"topic": "sent"}}})
    assert end["answer"] == "done sent"
    end = wait_on(sdk, thread, "asking", command={"update": {"topic": "other"}, "goto": ["third"]})
    assert end["answer"] == "done other"


def test_stops_before_and_after_nodes(sdk: Sdk) -> None:
    thread = thread_of(sdk)
    assert wait(sdk, thread, "instant", "x", interrupt_before=["third"])["steps"] == ["first"]
    state = sdk(sdk.threads.get_state(thread))
    assert (state["next"], status(sdk, thread)) == (["third"], "interrupted")
    assert wait_on(sdk, thread, "instant")["steps"] == DONE
    thread = thread_of(sdk)
    assert wait(sdk, thread, "instant", "x", interrupt_after="*")["steps"] == ["first"]
    assert wait_on(sdk, thread, "instant", interrupt_after="*")["steps"] == DONE
    assert status(sdk, thread) == "idle"


def test_a_run_from_an_earlier_checkpoint(sdk: Sdk) -> None:
    thread, about = thread_of(sdk), topic()
    wait(sdk, thread, "instant", about)
    second = next(one for one in sdk(sdk.threads.get_history(thread)) if one["next"] == ["third"])
    checkpoint = {"checkpoint_id": second["checkpoint"]["checkpoint_id"]}
    assert wait_on(sdk, thread, "instant", checkpoint=checkpoint)["steps"] == DONE
    assert wait_on(sdk, thread, "instant", checkpoint_id=checkpoint["checkpoint_id"])["steps"] == DONE
    # a new task there, too
    assert wait(sdk, thread, "instant", about, **{"checkpoint_id": checkpoint["checkpoint_id"]})["steps"] == [
        "first", *DONE,
    ]  # fmt: skip
    steps = sdk(sdk.threads.get_state(thread))["values"]["steps"]
    for more in ({"input": {"topic": about}}, {}):
        with pytest.raises(httpx.HTTPStatusError, match=r"4(04|22)"):
            wait_on(sdk, thread, "instant", checkpoint_id=new_id(), **more)
    assert sdk(sdk.threads.get_state(thread))["values"]["steps"] == steps


def test_nothing_to_go_on_with(sdk: Sdk) -> None:
    """What is refused leaves the thread as it was, in words that are the wire's."""
    thread = thread_of(sdk)
    wait(sdk, thread, "asking", "x")
    told = []
    for command in ({}, {"resume": None}, {"goto": []}):
        with pytest.raises(httpx.HTTPStatusError) as empty:
            sdk(sdk.runs.http.post(f"/threads/{thread}/runs", json={"assistant_id": "asking", "command": command}))
        told.append((empty.value.response.status_code, str(empty.value)))
    with pytest.raises(httpx.HTTPStatusError) as awaits:
        wait_on(sdk, thread, "asking")
    told.append((awaits.value.response.status_code, awaits.value.response.text))
    assert (status(sdk, thread), len(sdk(sdk.runs.list(thread)))) == ("interrupted", 1)
    assert wait_on(sdk, thread, "asking", command={"resume": "yes"})["steps"] == ["first", "asks", "third"]
    with pytest.raises(httpx.HTTPStatusError) as ended:
        wait_on(sdk, thread, "asking")
    told.append((ended.value.response.status_code, ended.value.response.text))
    assert [code for code, _ in told] == [422, 422, 422, 409, 409]
    assert "@" not in str(told)
    assert "--" not in str(told)


# --- several runs on a thread, and their end ---


def test_a_second_run_is_refused(sdk: Sdk, server: Server) -> None:
    thread = thread_of(sdk)
    key, about = begun(sdk, server, thread)
    with pytest.raises(ConflictError):
        sdk(sdk.runs.create(thread, "slow", input={"topic": "x"}, multitask_strategy="reject"))
    assert len(sdk(sdk.runs.list(thread))) == 1
    server.gates.open(about)
    assert sdk(sdk.runs.join(thread, key))["steps"] == SLOWLY


def test_a_second_run_waits(sdk: Sdk, server: Server) -> None:
    thread = thread_of(sdk)
    key, about = begun(sdk, server, thread)
    later = topic("later")
    made = [
        sdk(sdk.runs.create(thread, "slow", input={"topic": later}, multitask_strategy="enqueue")) for _ in range(2)
    ]
    assert [sdk(sdk.runs.get(thread, one["run_id"]))["status"] for one in made] == ["pending", "pending"]
    assert server.gates.nobody(later)
    server.gates.open(about)
    assert sdk(sdk.runs.join(thread, key))["steps"] == SLOWLY
    server.gates.open(later)
    assert sdk(sdk.runs.join(thread, made[0]["run_id"]))["steps"] == SLOWLY * 2
    assert status(sdk, thread) == "busy"
    server.gates.open(later)
    assert sdk(sdk.runs.join(thread, made[1]["run_id"]))["steps"] == SLOWLY * 3
    assert status(sdk, thread) == "idle"


def test_a_second_run_interrupts(sdk: Sdk, server: Server) -> None:
    thread = thread_of(sdk)
    key, about = begun(sdk, server, thread)
    new = topic("new")
    second = sdk(sdk.runs.create(thread, "slow", input={"topic": new}, multitask_strategy="interrupt"))
    server.gates.empty(about)
    server.gates.open(new)
    # what the first one had done by then is kept
    assert sdk(sdk.runs.join(thread, second["run_id"]))["steps"] == ["first", *SLOWLY]
    assert sdk(sdk.runs.get(thread, key))["status"] == "interrupted"
    assert status(sdk, thread) == "idle"
    assert server.place.effects(about) == ["first", "second begins"]


def test_a_second_run_rolls_back(sdk: Sdk, server: Server) -> None:
    thread = thread_of(sdk)
    wait(sdk, thread, "slow", "x", interrupt_before=["second"])
    key, about = begun(sdk, server, thread)
    new = topic("new")
    second = sdk(sdk.runs.create(thread, "slow", input={"topic": new}, multitask_strategy="rollback"))
    server.gates.empty(about)
    server.gates.open(new)
    assert sdk(sdk.runs.join(thread, second["run_id"]))["steps"] == ["first", *SLOWLY]
    with pytest.raises(NotFoundError):
        sdk(sdk.runs.get(thread, key))
    history = sdk(sdk.threads.get_history(thread, limit=100))
    assert not [one for one in history if one["metadata"].get("run_id") == key]
    assert not [one for one in history if one["values"].get("topic") == about]


def test_a_run_is_cancelled(sdk: Sdk, server: Server) -> None:
    thread = thread_of(sdk)
    key, about = begun(sdk, server, thread)
    sdk(sdk.runs.cancel(thread, key, wait=True))
    server.gates.empty(about)
    assert sdk(sdk.runs.get(thread, key))["status"] == "interrupted"
    assert sdk(sdk.threads.get_state(thread))["next"] == ["second"]
    with pytest.raises(NotFoundError):
        sdk(sdk.runs.cancel(thread, key))
    # the thread goes on where it was
    with Sdk(server, sdk.kind) as other, aside(lambda: wait_on(other, thread, "slow")) as ended:
        server.gates.open(about)
        assert ended.result()["steps"] == SLOWLY
    assert server.place.effects(about).count("first") == 1


def test_a_cancelled_run_is_rolled_back(sdk: Sdk, server: Server) -> None:
    thread = thread_of(sdk)
    key, about = begun(sdk, server, thread)
    with Sdk(server, sdk.kind) as other:
        joined = other.each(other.runs.join_stream(thread, key))
        assert next(joined).event == "metadata"
        sdk(sdk.runs.cancel(thread, key, wait=True, action="rollback"))
        joined.close()
    server.gates.empty(about)
    with pytest.raises(NotFoundError):
        sdk(sdk.runs.get(thread, key))
    state = sdk(sdk.threads.get_state(thread))
    assert (state["values"], state["next"], status(sdk, thread)) == ({}, [], "idle")


def test_many_runs_are_cancelled(sdk: Sdk, server: Server) -> None:
    thread, other = thread_of(sdk), thread_of(sdk)
    key, about = begun(sdk, server, thread)
    waits = sdk(sdk.runs.create(thread, "slow", input={"topic": "never"}))["run_id"]
    stays, word = begun(sdk, server, other)
    sdk(sdk.runs.cancel_many(thread_id=thread, run_ids=[waits]))
    assert "__error__" not in (sdk(sdk.runs.join(thread, waits)) or {})
    assert sdk(sdk.runs.get(thread, waits))["status"] == "interrupted"
    assert sdk(sdk.runs.get(thread, key))["status"] == "running"
    waits = sdk(sdk.runs.create(thread, "slow", input={"topic": "never"}))["run_id"]
    sdk(sdk.runs.cancel_many(status="pending"))
    sdk(sdk.runs.join(thread, waits))
    assert sdk(sdk.runs.get(thread, key))["status"] == "running"
    sdk(sdk.runs.cancel_many(status="running"))
    for place_of, run_id in ((thread, key), (other, stays)):
        sdk(sdk.runs.join(place_of, run_id))
        assert sdk(sdk.runs.get(place_of, run_id))["status"] == "interrupted"
    server.gates.empty(about)
    server.gates.empty(word)
    with pytest.raises(NotFoundError):
        sdk(sdk.runs.cancel_many(status="all"))
    assert server.gates.nobody("never")


def test_a_thread_is_deleted_under_a_run(sdk: Sdk, server: Server) -> None:
    thread = thread_of(sdk)
    key, about = begun(sdk, server, thread)
    sdk(sdk.threads.delete(thread))
    server.gates.empty(about)
    for call in (lambda: sdk.runs.get(thread, key), lambda: sdk.threads.get(thread)):
        with pytest.raises(NotFoundError):
            sdk(call())


# --- the rest ---


def test_the_store(sdk: Sdk) -> None:
    place_of = (topic("notes"), "ann")
    sdk(sdk.store.put_item(place_of, "one", {"n": 1, "text": "rain"}))
    sdk(sdk.store.put_item(place_of, "two", {"n": 2, "text": "sun"}))
    found = sdk(sdk.store.get_item(place_of, "one"))
    assert (found["namespace"], found["key"], found["value"]) == ([*place_of], "one", {"n": 1, "text": "rain"})
    assert {one["key"] for one in sdk(sdk.store.search_items(place_of[:1]))["items"]} == {"one", "two"}
    assert [one["key"] for one in sdk(sdk.store.search_items(place_of, filter={"n": {"$gt": 1}}))["items"]] == ["two"]
    assert sdk(sdk.store.search_items(place_of, query="rain"))["items"][0]["key"] == "one"
    assert sdk(sdk.store.list_namespaces(prefix=[place_of[0]]))["namespaces"] == [[*place_of]]
    sdk(sdk.store.delete_item(place_of, "one"))
    assert sdk(sdk.store.get_item(place_of, "one")) is None


def test_crons_are_not_there(sdk: Sdk) -> None:
    for made in (
        lambda: sdk.crons.create("instant", schedule="* * * * *", input={}),
        lambda: sdk.crons.create_for_thread(NOBODY, "instant", schedule="* * * * *", input={}),
        lambda: sdk.crons.search(),
        lambda: sdk.crons.delete(NOBODY),
    ):
        with pytest.raises(httpx.HTTPStatusError, match="there are no crons") as refused:
            sdk(made())
        assert refused.value.response.status_code == 501


def test_health(server: Server) -> None:
    with server.http() as client:
        assert client.get("/ok").json() == {"ok": True}
        assert {"version", "langgraph_py_version", "flags"} <= set(client.get("/info").json())
    assert httpx.get(f"{server.url}/ok", trust_env=False).status_code == 200
    assert httpx.get(f"{server.url}/info", trust_env=False).status_code == 401
