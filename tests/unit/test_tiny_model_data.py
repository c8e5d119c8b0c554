"""The data of the tiny model: the two sides of its split never meet, and a seed fixes what is made."""

from __future__ import annotations

import json
import random
from itertools import islice

import pytest

from scripts.tiny_model import data, words
from scripts.tiny_model.conversation import Conversation
from scripts.tiny_model.split import Draw, expand, is_held_out, phrasings, words_of
from scripts.tiny_model.template import render

POOLS = (words.NAMES, words.WORDS, words.STEMS, words.FOLDERS, words.ZONES)


def drawn(held_out: bool, each: int) -> dict[str, set[str]]:
    """Every number, word and phrasing that `each` conversations of each task are filled with."""
    draw = Draw(random.Random(5), held_out)
    for make in data.TASKS.values():
        for _ in range(each):
            data._fresh(draw, make)
    return draw.drawn


@pytest.fixture(scope="module")
def sides() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """What some thousand conversations of either side hold."""
    return drawn(False, 120), drawn(True, 80)


@pytest.mark.parametrize("kind", ["number", "word", "phrase"])
def test_training_and_held_out_values_are_disjoint(
    sides: tuple[dict[str, set[str]], dict[str, set[str]]], kind: str
) -> None:
    training, held_out = (side[kind] for side in sides)
    assert len(training) > 300
    assert len(held_out) > 50
    assert training.isdisjoint(held_out)


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_is_cut_into_two_parts(pool: tuple[str, ...]) -> None:
    training, held_out = words_of(pool, False), words_of(pool, True)
    assert training
    assert held_out
    assert {*training, *held_out} == set(pool)
    assert not {*training} & {*held_out}


def test_a_group_of_phrasings_is_cut_into_two_parts() -> None:
    group = ("=What is {e}?", "[Please c|C]ompute {e}[.|]")
    training, held_out = (sum(phrasings(group, side), ()) for side in (False, True))
    assert "What is {e}?" in training
    assert held_out
    assert not {*training} & {*held_out}
    assert {*training, *held_out} == {"What is {e}?", *expand(group[1])}


def test_held_out_questions_hold_no_number_that_training_may_show() -> None:
    calculator = data.held_out("calculator", 200)
    for conversation in calculator:
        expression = json.loads(conversation.messages[2]["tool_calls"][0]["function"]["arguments"])["expression"]
        operands = [
            part.split(".")[0].strip("()") for part in expression.split() if part[0].isdigit() or part[0] == "("
        ]
        formats = {"100", "2", "3"}  # of a percentage, an average, a square or a cube
        assert all(is_held_out("number", operand) or operand in formats for operand in operands), expression


@pytest.mark.parametrize("task", list(data.TASKS))
def test_a_seed_fixes_the_held_out_conversations(task: str) -> None:
    first, again = data.held_out(task, 5, seed=3), data.held_out(task, 5, seed=3)
    assert first == again
    assert first != data.held_out(task, 5, seed=4)


def test_a_seed_fixes_the_training_conversations() -> None:
    first, again = (list(islice(data.training(11), 50)) for _ in range(2))
    assert first == again
    assert first != list(islice(data.training(12), 50))


def well_formed(conversation: Conversation) -> bool:
    """Roles alternate as the wire wants them, and every called tool is offered."""
    offered = {tool["function"]["name"] for tool in conversation.tools}
    calls = [call for message in conversation.messages for call in message.get("tool_calls", ())]
    roles = [message["role"] for message in conversation.messages if message["role"] != "system"]
    return (
        roles[0] == "user" and roles[-1] == "assistant" and all(call["function"]["name"] in offered for call in calls)
    )


def test_conversations_are_well_formed() -> None:
    for conversation in islice(data.training(1), 400):
        assert well_formed(conversation), conversation
        assert render(conversation.messages, conversation.tools).endswith("<|im_end|>\n")


def test_the_agent_chooses_among_three_to_six_tools() -> None:
    sizes = {len(conversation.tools) for conversation in data.held_out("calculator", 200)}
    assert {3, 4, 5, 6} <= sizes
    assert max(sizes) <= 6
