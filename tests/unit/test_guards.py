"""What a run may spend."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata

from benchai.events import Usage
from benchai.graphs.guards import Budget, BudgetSpent, Ledger

WIDE = Budget(steps=1000, tokens=10**9, seconds=1e6)


def reply(prompt: int, completion: int) -> AIMessage:
    usage = UsageMetadata(input_tokens=prompt, output_tokens=completion, total_tokens=prompt + completion)
    return AIMessage("x", usage_metadata=usage)


def test_steps_count_from_one_to_the_limit() -> None:
    ledger = Ledger(Budget(steps=2, tokens=100, seconds=1e6))
    assert [ledger.begin_step(), ledger.begin_step()] == [1, 2]
    with pytest.raises(BudgetSpent, match=r"stopped after 2 steps \(budgets\.steps") as spent:
        ledger.begin_step()
    assert spent.value.reason == "budget_steps"
    assert ledger.steps == 2


@pytest.mark.parametrize(("spent", "stops"), [(99, False), (100, True), (101, True)])
def test_tokens_stop_the_call_after_the_limit_is_reached(spent: int, stops: bool) -> None:
    ledger = Ledger(Budget(steps=9, tokens=100, seconds=1e6))
    ledger.begin_step()
    ledger.add(reply(spent - 1, 1))
    if not stops:
        assert ledger.begin_step() == 2
        return
    with pytest.raises(BudgetSpent, match=rf"stopped after {spent} tokens \(budgets\.tokens = 100\)") as raised:
        ledger.begin_step()
    assert raised.value.reason == "budget_tokens"
    assert ledger.steps == 1


def test_time() -> None:
    ledger = Ledger(Budget(steps=9, tokens=100, seconds=5), began=time.monotonic() - 6)
    assert -2 < ledger.seconds_left < -0.9
    with pytest.raises(BudgetSpent, match=r"stopped after 5 s \(budgets\.seconds\)") as raised:
        ledger.begin_step()
    assert raised.value.reason == "budget_time"


def test_time_that_is_left() -> None:
    ledger = Ledger(Budget(steps=9, tokens=100, seconds=50))
    assert 40 < ledger.seconds_left <= 50


def test_a_reply_without_usage_costs_nothing() -> None:
    ledger = Ledger(WIDE)
    ledger.add(AIMessage("x"))
    assert ledger.usage() == Usage()


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), max_size=10))
def test_the_ledger_adds_up(replies: list[tuple[int, int]]) -> None:
    ledger = Ledger(WIDE)
    for prompt, completion in replies:
        ledger.begin_step()
        ledger.add(reply(prompt, completion))
    usage = ledger.usage()
    assert usage.prompt_tokens == sum(prompt for prompt, _ in replies)
    assert usage.completion_tokens == sum(completion for _, completion in replies)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens == ledger.tokens
    assert ledger.steps == len(replies)


def spend(ledger: Ledger, costs: list[int]) -> str:
    """Make calls until a limit is reached; its reason, or nothing."""
    try:
        for cost in costs:
            ledger.begin_step()
            ledger.add(reply(cost, 0))
    except BudgetSpent as spent:
        return spent.reason
    return ""


@given(st.integers(1, 20), st.integers(1, 500), st.lists(st.integers(0, 100), max_size=40))
def test_no_call_is_begun_past_a_limit(steps: int, tokens: int, costs: list[int]) -> None:
    ledger = Ledger(Budget(steps=steps, tokens=tokens, seconds=1e6))
    reason = spend(ledger, costs)
    made = costs[: ledger.steps]
    assert ledger.tokens == sum(made)
    assert ledger.steps <= steps
    assert sum(made[:-1]) < tokens
    assert reason in {"", "budget_steps" if ledger.steps == steps else "budget_tokens"}
    assert (reason == "") == (ledger.steps == len(costs))
