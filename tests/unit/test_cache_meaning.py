"""The verifier of similar requests, and the estimate of how often it is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchai.runtime.router.cache.meaning import LONGEST, difference, same_meaning
from benchai.runtime.router.cache.shadow import Estimate, same_reply, wilson

SAME = [
    ("How do I install NumPy on Debian?", "how can i install numpy on debian"),
    ("What is the capital of France?", "what's the capital of france"),
    ("How tall is the Eiffel Tower?", "What is the height of the Eiffel Tower?"),
    ("Please write a poem.", "Could you write a poem?"),
    ("Explain recursion", "describe  recursion!"),
    ("Tell me the time in Rome", "the time in Rome"),
    ("Don't stop", "Do not stop"),
    ("Hello, list big cities of Spain", "list large cities of Spain, please"),
    ("say “hi”", 'say "hi"'),
    ("It's over", "it’s over."),
]
DIFFERENT = [
    ("Who won in 2023?", "Who won in 2024?", "numbers"),
    ("Is 3 more than 5?", "Is 5 more than 3?", "numbers"),
    ("5 apples", "5.5 apples", "numbers"),
    ("version 1,000", "version 1.000", "numbers"),
    ("Is it safe to eat?", "Is it not safe to eat?", "negations"),
    ("Can I eat it?", "Can't I eat it?", "negations"),
    ("with sugar", "without sugar", "negations"),
    ("Es ist kein Hund", "Es ist ein Hund", "negations"),
    ("the capital of France", "the capital of Germany", "words"),
    ("the capital of france", "the capital of germany", "words"),
    ("Where is Berlin", "Where is Bern", "words"),
    ("Did you tell US?", "Did you tell us?", "names"),
    ("how to polish it", "how to Polish it", "names"),
    ('translate "good morning"', 'translate "good evening"', "quotations"),
    ("translate 'Good'", "translate 'good'", "quotations"),
    ("what does `x = 1` do", "what does `x = 2` do", "code"),
    ("run\n```\nls\n```", "run\n```\nls -a\n```", "code"),
    ("Is A larger than B?", "Is A smaller than B?", "words"),
    ("increase the volume", "decrease the volume", "words"),
    ("the hottest day", "the coldest day", "words"),
    ("before lunch", "after lunch", "words"),
    ("flights from Rome to Oslo", "flights to Rome from Oslo", "words"),
    ("dog bites man", "man bites dog", "words"),
    ("who is president", "who was president", "words"),
    ("may I go", "must I go", "words"),
    ("How do I work?", "How do you work?", "words"),
    ("Is Python fast?", "Python is fast.", "words"),
    ("What is the matter?", "What is matter?", "words"),
    ("a few people came", "few people came", "words"),
    ("all of them", "some of them", "words"),
    ("5 % of it", "5 € of it", "signs"),
    ("(2+3)*4", "2+3*4", "formulas"),
    ("what is 5!", "what is 5", "formulas"),
    ("what is 7 - 2", "what is 7, 2", "formulas"),
    ("what is -7", "what is 7", "formulas"),
    ("about c++", "about c", "formulas"),
    ("about __init__", "about init", "formulas"),
    ("add --force", "add force", "formulas"),
    ("delete .git", "delete git", "formulas"),
    ("f'(x) at 0", "f(x) at 0", "formulas"),
    ("x" * (LONGEST + 1), "X" * (LONGEST + 1), "length"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_what_means_the_same(a: str, b: str) -> None:
    assert difference(a, b) is None


@pytest.mark.parametrize(("a", "b", "what"), DIFFERENT)
def test_what_does_not(a: str, b: str, what: str) -> None:
    assert difference(a, b) == difference(b, a) == what


@given(st.text(max_size=60), st.text(max_size=60))
def test_it_is_symmetric_and_takes_any_text(a: str, b: str) -> None:
    assert difference(a, b) == difference(b, a)
    assert same_meaning(a, a)


WORDS = st.lists(
    st.sampled_from(["cat", "dog", "from", "to", "most", "least", "with", "all", "some", "up", "down", "7", "8", "no"]),
    min_size=1,
)


@given(WORDS, st.data())
def test_no_word_can_be_left_out_or_moved(words: list[str], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(words) - 1))
    assert not same_meaning(" ".join(words), " ".join(words[:at] + words[at + 1 :]))
    moved = data.draw(st.permutations(words))
    assume(moved != words)
    assert not same_meaning(" ".join(words), " ".join(moved))


@given(st.text("ab 12.,()+-'\"`!_:", min_size=1, max_size=12), st.integers(0, 9))
def test_another_digit_is_another_question(text: str, digit: int) -> None:
    assert not same_meaning(f"{text} {digit}", f"{text} {(digit + 1) % 10}")


@pytest.mark.parametrize(
    ("false", "runs", "low", "high"),
    [
        (0, 0, 0, 1),
        # Wilson (1927); figures from R's binom.confint(method = "wilson")
        (0, 10, 0.0, 0.2775),
        (1, 10, 0.0179, 0.4042),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (0, 73, 0.0, 0.0500),
    ],
)
def test_bounds_of_a_share(false: int, runs: int, low: float, high: float) -> None:
    assert wilson(false, runs) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_share_is_within_its_bounds(false: int, right: int) -> None:
    low, high = wilson(false, false + right)
    share = false / (false + right) if false + right else 0
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1


@pytest.mark.parametrize(
    ("false", "runs", "verdict"),
    [
        (0, 0, "trial"),
        (0, 72, "trial"),
        (0, 74, "on"),
        (1, 74, "trial"),
        (1, 1, "off"),
        (3, 10, "off"),
        (9, 1000, "on"),
    ],
)
def test_verdicts(false: int, runs: int, verdict: str) -> None:
    assert Estimate("s", runs, false).verdict(0.05) == verdict


def reply(content: Any = None, *calls: tuple[str, str]) -> dict[str, Any]:
    tools = [{"id": str(i), "function": {"name": name, "arguments": text}} for i, (name, text) in enumerate(calls)]
    return {"choices": [{"message": {"content": content, "tool_calls": tools}}]}


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (reply("It is 5."), reply("It is 5"), True),
        (reply("It is 5."), reply("It is 6."), False),
        (reply("Yes"), reply("No"), False),
        (reply(None, ("f", '{"a": 1}')), reply("", ("f", '{"a":1}')), True),
        (reply(None, ("f", '{"a": 1}')), reply(None, ("f", '{"a": 2}')), False),
        (reply(None, ("f", "{}")), reply(None, ("g", "{}")), False),
        (reply(None, ("f", "{broken")), reply(None, ("f", "{broken")), True),
        (reply(None, ("f", "{}")), reply(None), False),
        (reply([{"text": "a"}]), reply([{"text": "b"}]), False),
        ({"error": {}}, reply("Yes"), False),
    ],
)
def test_replies_that_say_the_same(a: dict[str, Any], b: dict[str, Any], same: bool) -> None:
    assert same_reply(a, b) is same_reply(b, a) is same
