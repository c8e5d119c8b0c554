"""What clients ask of runs: which bodies fit, what stands in for what is not said, what an assistant brings."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from benchai.errors import UsageError
from benchai.graphs.guards import Budget
from benchai.server.agent.requests import BudgetBody, CancelBody, Mode, RunBody, RunConfig, merged, mode_of


def body(**given: Any) -> RunBody:
    return RunBody.model_validate({"assistant_id": "react", **given})


def configured(**configurable: Any) -> RunConfig:
    return body(config={"configurable": configurable}).config


def test_what_is_not_said() -> None:
    plain = body()
    assert (plain.input, plain.command, plain.metadata, plain.context) == (None, None, {}, None)
    assert (plain.stream_mode, plain.stream_subgraphs) == (["values"], False)
    assert (plain.multitask_strategy, plain.if_not_exists) == ("enqueue", "reject")
    assert (plain.on_disconnect, plain.on_completion, plain.begins_at) == ("continue", "delete", None)
    assert (plain.config.tags, plain.config.recursion_limit, plain.config.own) == ([], None, {})
    # as the reference's clients in other languages send what they leave out
    assert body(config=None, metadata=None, stream_mode=None, context=None, command=None) == plain


def test_unknown_fields_are_ignored() -> None:
    more = {"feedback_keys": ["a"], "langsmith_tracer": {}, "durability": "async", "checkpoint_during": True}
    assert body(**more, config={"callbacks": None}) == body()


def test_modes() -> None:
    assert body(stream_mode="updates").stream_mode == ["updates"]
    assert body(stream_mode=list(get_args(Mode))).stream_mode == list(get_args(Mode))
    assert body(stream_mode=[]).stream_mode == ["values"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"assistant_id": 5},
        {"assistant_id": None},
        {"stream_mode": "bogus"},
        {"stream_mode": ["values", "bogus"]},
        {"stream_mode": 5},
        {"multitask_strategy": "bogus"},
        {"if_not_exists": "bogus"},
        {"on_disconnect": "bogus"},
        {"on_completion": "bogus"},
        {"metadata": []},
        {"config": []},
        {"config": {"recursion_limit": 0}},
        {"config": {"recursion_limit": "many"}},
        {"config": {"configurable": []}},
        {"config": {"tags": "a"}},
        {"context": []},
        {"command": "resume"},
        {"command": {"goto": 5}},
        {"command": {"goto": {"input": {}}}},
        {"command": {"update": "a"}},
        {"interrupt_before": "all"},
        {"interrupt_after": [5]},
        {"after_seconds": -1},
        {"after_seconds": 10**9},
        {"checkpoint": "a"},
        {"checkpoint_id": 5},
        {"webhook": "https://" + "a" * 8_000},
    ],
)
def test_what_does_not_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        body(**wrong)
    assert next(iter(wrong)) in str(refused.value)


def test_commands() -> None:
    command = body(command={"resume": False, "update": [["a", 1]], "goto": ["x", {"node": "y", "input": 1}]}).command
    assert command is not None
    assert (command.resume, command.update) == (False, [["a", 1]])
    assert isinstance(command.goto, list)
    name, sent = command.goto
    assert name == "x"
    assert (getattr(sent, "node", None), getattr(sent, "input", None)) == ("y", 1)
    single = body(command={"goto": "x"}).command
    assert single is not None
    assert (single.goto, single.update, single.resume) == ("x", None, None)


def test_where_it_begins() -> None:
    assert body(checkpoint_id="a").begins_at == "a"
    assert body(checkpoint={"checkpoint_id": "b", "checkpoint_map": {}}).begins_at == "b"
    assert body(config={"configurable": {"checkpoint_id": "c"}}).begins_at == "c"
    assert body(checkpoint={"checkpoint_id": "b"}, config={"configurable": {"checkpoint_id": "c"}}).begins_at == "b"
    assert body(checkpoint_id="a", checkpoint={"checkpoint_id": "b"}).begins_at == "a"
    assert body(checkpoint={}).begins_at is None


def test_budgets() -> None:
    default = Budget(steps=12, tokens=1000, seconds=60.0)
    assert configured().budget.over(default) == default
    assert configured(budget={"seconds": 2}).budget.over(default) == Budget(12, 1000, 2.0)
    full = configured(budget={"steps": 1, "tokens": 2, "seconds": 0.5}).budget.over(default)
    assert full == Budget(1, 2, 0.5)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"steps": "x"}, {"tokens": -1}, {"seconds": 0}, {"seconds": float("nan")}, {"money": 1}, [1]],
)
def test_budgets_that_are_none(wrong: Any) -> None:
    with pytest.raises((ValidationError, UsageError)):
        _ = configured(budget=wrong).budget


@pytest.mark.parametrize(("given", "found"), [({}, 0), ({"priority": 7}, 7), ({"priority": -100}, -100)])
def test_priorities(given: dict[str, Any], found: int) -> None:
    assert configured(**given).priority == found


@pytest.mark.parametrize("wrong", [101, -101, 1.5, "high", True, None, [], "x" * 500])
def test_priorities_that_are_none(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"priority = .* is no whole number from -100 to 100") as refused:
        _ = configured(priority=wrong).priority
    assert len(refused.value.message) < 250


def test_what_of_the_configuration_the_graph_gets() -> None:
    given = {"thread_id": "t", "checkpoint_id": "c", "checkpoint_ns": "n", "run_id": "r", "budget": {}, "priority": 1}
    assert configured(**given, __pregel_send=1, colour="red", thread="mine").own == {"colour": "red", "thread": "mine"}


def test_what_an_assistant_brings() -> None:
    config = {"configurable": {"colour": "red", "size": 1}, "tags": ["a"], "recursion_limit": 5}
    assistant = {"config": config, "context": {"tone": "dry", "words": 3}}
    plain = merged(assistant, body())
    assert plain.config == RunConfig.model_validate(config)
    assert plain.context == assistant["context"]
    given = {"configurable": {"colour": "blue"}, "tags": ["b"], "recursion_limit": 7}
    own = merged(assistant, body(config=given, context={"tone": "wet"}))
    assert own.config.configurable == {"colour": "blue", "size": 1}
    assert (own.config.tags, own.config.recursion_limit) == (["a", "b"], 7)
    assert own.context == {"tone": "wet", "words": 3}
    assert config["tags"] == ["a"]
    nothing = merged({"config": None, "context": None}, body(input={"a": 1}))
    assert nothing == body(input={"a": 1})


@pytest.mark.parametrize(
    ("event", "modes"),
    [
        ("metadata", ()),
        ("error", ()),
        ("end", ()),
        ("values", ("values",)),
        ("values|child:1", ("values",)),
        ("messages", ("messages-tuple",)),
        ("messages|child:1", ("messages-tuple",)),
        ("messages/partial", ("messages",)),
        ("messages/complete|child:1", ("messages",)),
        ("messages/metadata", ("messages",)),
        ("custom", ("custom",)),
    ],
)
def test_the_modes_of_an_event(event: str, modes: tuple[str, ...]) -> None:
    assert mode_of(event) == modes


def test_what_is_cancelled() -> None:
    assert CancelBody.model_validate({"status": "all"}).status == "all"
    assert CancelBody.model_validate({"thread_id": "t", "run_ids": ["a"]}).run_ids == ["a"]
    with pytest.raises(ValidationError):
        CancelBody.model_validate({"status": "success"})
    assert BudgetBody() == BudgetBody.model_validate({})
