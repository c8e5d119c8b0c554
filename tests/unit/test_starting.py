"""What a graph begins with, from the input of a client that knows its state."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, SystemMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel, Field

from benchai.errors import UsageError
from benchai.graphs import rag, react
from benchai.graphs.checks import MAX_TASK_BYTES
from benchai.graphs.execution import Graph
from benchai.graphs.registry import TaskInput, Workflow
from benchai.graphs.starting import started


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    topic: str
    steps: Annotated[list[str], operator.add]


class Tasks(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    task: Any


class Plain(TypedDict, total=False):
    messages: Annotated[list[Any], operator.add]


class Inputs(TaskInput):
    size: int = Field(3, ge=1)


class Needy(TaskInput):
    size: int


async def node(state: Any) -> dict[str, Any]:
    return {}


def workflow(schema: Any = State, input: type[BaseModel] = TaskInput, **reset: Any) -> Workflow:
    """A user's."""

    def build() -> StateGraph[Any, Any, Any, Any]:
        graph = StateGraph(schema)
        graph.add_node("node", node)
        graph.add_edge(START, "node")
        return graph

    return Workflow("mine", "A graph", build, (), input=input, reset=reset)


def begun(made: Workflow, given: Any) -> tuple[dict[str, Any], str]:
    graph: Graph = made.build().compile()
    return started(made, graph, given)


def texts(state: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one.type, str(one.text)) for one in state["messages"]]


@pytest.mark.parametrize(
    "given",
    [
        "Add 2 and 2",
        {"task": "Add 2 and 2"},
        {"messages": "Add 2 and 2"},
        {"messages": ["Add 2 and 2"]},
        {"messages": {"role": "user", "content": "Add 2 and 2"}},
        {"messages": [{"role": "user", "content": "Add 2 and 2"}]},
        {"messages": [{"type": "human", "content": "Add 2 and 2"}]},
        {"messages": [["user", "Add 2 and 2"]]},
        {"messages": [("human", "Add 2 and 2")]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Add 2 and 2"}]}]},
        {"messages": HumanMessage("Add 2 and 2")},
    ],
)
@pytest.mark.parametrize("made", [react.WORKFLOW, workflow()], ids=["react", "mine"])
def test_forms_of_a_task(made: Workflow, given: Any) -> None:
    state, task = begun(made, given)
    assert (texts(state), task) == ([("human", "Add 2 and 2")], "Add 2 and 2")


def test_a_whole_conversation() -> None:
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello", "id": "mine"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Bye"},
    ]
    state, task = begun(react.WORKFLOW, {"messages": talk})
    assert [type(one) for one in state["messages"]] == [SystemMessage, HumanMessage, AIMessage, HumanMessage]
    assert (task, state["messages"][1].id) == ("Bye", "mine")


def test_an_image_belongs_to_its_message() -> None:
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    state, task = begun(react.WORKFLOW, {"messages": [{"role": "user", "content": content}]})
    assert (task, state["messages"][0].content) == ("What is it?", content)


def test_inputs_of_a_workflow() -> None:
    state, _ = begun(rag.WORKFLOW, {"task": "x", "passages": 2})
    assert (state["passages"], state["always"]) == (2, False)
    state, _ = begun(workflow(input=Inputs, steps=["reset"]), {"task": "x", "topic": "rain"})
    assert (state["size"], state["topic"], state["steps"]) == (3, "rain", ["reset"])
    # what is given goes before what each task begins with
    state, _ = begun(workflow(steps=["reset"]), {"task": "x", "steps": ["given"]})
    assert state["steps"] == ["given"]


@pytest.mark.parametrize(
    ("made", "given", "part"),
    [
        (react.WORKFLOW, {"task": "x", "bogus": 1}, "the input 'bogus' is unknown"),
        (workflow(), {"bogus": 1}, "the input 'bogus' is unknown"),
        (rag.WORKFLOW, {"task": "x", "passages": 0}, "passages = 0"),
        (rag.WORKFLOW, {"task": "x", "passages": "many"}, "passages = 'many'"),
        (workflow(input=Needy), {"task": "x"}, "size"),
        (workflow(input=Inputs), {"task": "x", "size": 0}, "size = 0"),
    ],
)
def test_inputs_that_do_not_fit(made: Workflow, given: Any, part: str) -> None:
    with pytest.raises(UsageError) as refused:
        begun(made, given)
    assert part in refused.value.message
    assert refused.value.hint


def test_the_hint_names_what_it_takes() -> None:
    with pytest.raises(UsageError) as refused:
        begun(workflow(input=Inputs), {"sizes": 1})
    assert refused.value.hint == "it takes messages, size, steps, task, topic"


@pytest.mark.parametrize("given", [None, 5, True, ["x"], [{"role": "user", "content": "x"}], b"x", 1.5])
@pytest.mark.parametrize("made", [react.WORKFLOW, workflow()], ids=["react", "mine"])
def test_what_is_no_input(made: Workflow, given: Any) -> None:
    with pytest.raises(UsageError, match="is no object"):
        begun(made, given)


@pytest.mark.parametrize(
    "messages",
    [5, [5], [None], [{"role": "user"}], [{"role": "bogus", "content": "x"}], [{"content": "x"}], [["user"]], [{}]],
)
@pytest.mark.parametrize("made", [react.WORKFLOW, workflow()], ids=["react", "mine"])
def test_messages_that_are_none(made: Workflow, messages: Any) -> None:
    with pytest.raises(UsageError, match="messages") as refused:
        begun(made, {"messages": messages})
    assert len(refused.value.message) < 3_000


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({}, "the last message must be of the role 'user'"),
        ({"messages": []}, "the last message must be of the role 'user'"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "the last message must be of the role 'user'"),
        ({"messages": [("user", "x"), ("ai", "y")]}, "the last message must be of the role 'user'"),
        ({"messages": [("user", " ")]}, "the task is empty"),
        ({"task": ""}, "the task is empty"),
        ("\n", "the task is empty"),
        ({"task": 5}, "task = 5 is no text"),
        ({"task": None}, "the last message must be of the role 'user'"),
        ({"task": ["x"]}, "task = ['x'] is no text"),
        ({"task": "x", "messages": [("user", "y")]}, "is given messages and a task"),
        ({"task": "x" * (MAX_TASK_BYTES + 1)}, "at most 1,048,576 are taken"),
        ({"messages": [("user", "x" * (MAX_TASK_BYTES + 1))]}, "at most 1,048,576 are taken"),
    ],
)
def test_a_built_in_workflow_answers_a_user(given: Any, part: str) -> None:
    with pytest.raises(UsageError) as refused:
        begun(react.WORKFLOW, given)
    assert part in refused.value.message
    assert len(refused.value.message) < 500


def test_a_users_graph_needs_no_task() -> None:
    state, task = begun(workflow(), {"topic": "rain", "steps": ["a"]})
    assert (state["topic"], state["steps"], task) == ("rain", ["a"], "")
    assert begun(workflow(), {})[1] == ""
    state, task = begun(workflow(), {"messages": [("user", "first"), ("ai", "answer")]})
    assert (texts(state), task) == ([("human", "first"), ("ai", "answer")], "first")
    state, _ = begun(workflow(), {"messages": [{"type": "remove", "id": "old", "content": ""}]})
    assert isinstance(state["messages"][0], RemoveMessage)


def test_a_key_that_was_not_given_is_not_set() -> None:
    """A ``messages`` without a reducer would lose what the thread has."""
    assert "messages" not in begun(workflow(), {"topic": "rain"})[0]
    assert begun(workflow(), {"topic": "rain"})[0] == {"topic": "rain"}


def test_a_users_state_may_have_a_task() -> None:
    assert begun(workflow(Tasks), {"task": "x"})[0]["task"] == "x"
    assert begun(workflow(Tasks), {"task": {"id": 5}})[0]["task"] == {"id": 5}
    both = begun(workflow(Tasks), {"task": "x", "messages": [("user", "y")]})
    assert (both[0]["task"], texts(both[0]), both[1]) == ("x", [("human", "y")], "y")


def test_a_graph_that_keeps_messages_of_its_own_gets_them_as_they_are() -> None:
    given = [{"role": "user", "content": "x"}, {"any": "thing"}]
    assert begun(workflow(Plain), {"messages": given})[0]["messages"] == given
    assert begun(workflow(Plain), {"messages": given[:1]}) == ({"messages": given[:1]}, "x")


def test_what_is_given_is_not_changed() -> None:
    given = {"messages": [{"role": "user", "content": "x"}], "steps": ["a"]}
    begun(workflow(), given)
    assert given == {"messages": [{"role": "user", "content": "x"}], "steps": ["a"]}
