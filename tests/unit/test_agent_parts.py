"""What a graph streams, in the words of the agent wire."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk

from benchai.graphs.streaming import Part
from benchai.server.agent.parts import Wording, graph_modes
from benchai.server.agent.shapes import jsonable

OUTER = "00000000-0000-4000-8000-000000000001"
INNER = f"{OUTER}@ann"
META = {"langgraph_node": "agent", "thread_id": INNER, "__pregel_x": 1, "checkpoint_ns": "agent:1"}
TOLD = {"langgraph_node": "agent", "thread_id": OUTER, "checkpoint_ns": "agent:1"}


def wording(*modes: str) -> Wording:
    return Wording(modes, INNER, OUTER)


def events(words: Wording, mode: str, data: Any, *namespace: str) -> list[tuple[str, Any]]:
    return list(words.events(Part(mode=mode, namespace=namespace, data=data)))


def said(words: Wording, message: Any, *namespace: str) -> list[tuple[str, Any]]:
    return events(words, "messages", (message, META), *namespace)


@pytest.mark.parametrize(
    ("modes", "graph"),
    [
        ([], {"values"}),
        (["updates"], {"values", "updates"}),
        (["messages"], {"values", "messages"}),
        (["messages-tuple", "messages", "custom"], {"values", "messages", "custom"}),
        (["events", "debug", "tasks", "checkpoints"], {"values", "events", "debug", "tasks", "checkpoints"}),
    ],
)
def test_what_the_graph_is_asked_for(modes: list[str], graph: set[str]) -> None:
    assert graph_modes(modes) == graph


def test_only_what_was_asked_for_is_told() -> None:
    words = wording("updates")
    assert events(words, "updates", {"node": {"a": 1}}) == [("updates", {"node": {"a": 1}})]
    assert events(words, "values", {"a": 1}) == []
    assert events(words, "custom", {"a": 1}) == []
    assert said(words, AIMessage("x", id="one")) == []


def test_events_tell_the_threads_own_id() -> None:
    event = {"event": "on_chain_start", "data": {"input": {"__kept": 1}}, "metadata": META}
    assert events(wording("events"), "events", event) == [("events", {**event, "metadata": TOLD})]
    assert events(wording("values"), "events", event) == []


@pytest.mark.parametrize("mode", ["values", "updates", "custom", "tasks", "checkpoints", "debug", "messages-tuple"])
def test_nested_runs_are_named(mode: str) -> None:
    part = "messages" if mode == "messages-tuple" else mode
    data = (AIMessage("x", id="one"), META) if part == "messages" else {}
    [(name, _)] = events(wording(mode), part, data, "child:1", "inner:2")
    assert name == f"{part}|child:1|inner:2"


def test_a_message_with_its_metadata() -> None:
    message = AIMessage("x", id="one")
    assert said(wording("messages-tuple"), message) == [("messages", [message, TOLD])]
    # the thread's id is the wire's, and of another thread it stays what it is
    other = {"thread_id": "else", "langgraph_step": 1}
    assert events(wording("messages-tuple"), "messages", (message, other)) == [("messages", [message, other])]


def test_a_whole_message_is_complete_at_once() -> None:
    result = ToolMessage("4", tool_call_id="call", id="one")
    assert said(wording("messages"), result) == [
        ("messages/metadata", {"one": {"metadata": TOLD}}),
        ("messages/complete", [result]),
    ]


def test_a_message_grows() -> None:
    words = wording("messages")
    call = tool_call_chunk(name="add", args='{"a": 1}', id="call", index=0)
    pieces = [
        AIMessageChunk("I ", id="one"),
        AIMessageChunk("add", id="one"),
        AIMessageChunk("", id="one", tool_call_chunks=[call], chunk_position="last"),
    ]
    found = [event for piece in pieces for event in said(words, piece)]
    assert [name for name, _ in found] == [
        "messages/metadata", "messages/partial", "messages/partial", "messages/complete",
    ]  # fmt: skip
    texts = [jsonable(data)[0]["content"] for name, data in found if name != "messages/metadata"]
    assert texts == ["I ", "I add", "I add"]
    last = jsonable(found[-1][1])[0]
    assert (last["type"], last["id"]) == ("ai", "one")
    assert [(one["name"], one["args"], one["id"]) for one in last["tool_calls"]] == [("add", {"a": 1}, "call")]
    assert "tool_call_chunks" not in last


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=4)), max_size=30))
def test_pieces_of_several_messages_at_a_time(pieces: list[tuple[str, str]]) -> None:
    words = wording("messages", "messages-tuple")
    whole: dict[str, str] = {}
    told: list[str] = []
    for key, text in pieces:
        whole[key] = whole.get(key, "") + text
        found = said(words, AIMessageChunk(text, id=key))
        assert found[0][0] == "messages"
        assert found[0][1][0].content == text
        names = [name for name, _ in found[1:]]
        assert names == ["messages/partial"] if key in told else ["messages/metadata", "messages/partial"]
        told += [] if key in told else [key]
        assert jsonable(found[-1][1])[0]["content"] == whole[key]
    for key, text in whole.items():
        [(_, [end])] = said(wording("messages"), AIMessageChunk(text, id=key, chunk_position="last"))[1:]
        assert jsonable(end)["content"] == text


def test_the_inner_id_stays_inside() -> None:
    config = {"configurable": {"thread_id": INNER, "checkpoint_id": "c", "__pregel_y": 1, "mine": INNER}}
    values = {"thread_id": INNER, "__own": 1}
    data = {"step": 1, "payload": {"config": config, "parent_config": None, "values": values, "tasks": [config]}}
    for mode in ("debug", "checkpoints", "tasks"):
        [(_, told)] = events(wording(mode), mode, data)
        payload = told["payload"]
        assert payload["config"]["configurable"] == {"thread_id": OUTER, "checkpoint_id": "c", "mine": INNER}
        assert payload["tasks"][0]["configurable"]["thread_id"] == OUTER
        # what the state holds is the graph's own
        assert payload["values"] == values
    assert data["payload"]["config"] is config
    assert config["configurable"]["thread_id"] == INNER, "what the graph was given has changed"


def test_what_a_state_holds_is_left_alone() -> None:
    for mode in ("values", "updates", "custom"):
        data = {"thread_id": INNER, "__interrupt__": [1], "deep": {"__x": HumanMessage("a", id="m")}}
        assert events(wording(mode), mode, data) == [(mode, data)]
