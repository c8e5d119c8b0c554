"""The calculator: exact results, helpful errors, and no expression that takes long."""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchai.errors import ToolError
from benchai.tools.calculator import calculate, evaluate
from benchai.tools.exact import MAX_DIGITS, MAX_FACTORIAL

VALUES = [
    ("2+2", "4"),
    ("(12 + 3) * 4", "60"),
    ("2 + 3 * 4 - 5", "9"),
    ("0.1 + 0.2", "0.3"),
    ("abs(-3.50)", "3.5"),
    ("-0.25", "-0.25"),
    ("1/3", "0.333333333333 (rounded; exactly 1/3)"),
    ("10 / 4", "2.5"),
    ("7 // 2", "3"),
    ("-7 // 2", "-4"),
    ("-7 % 3", "2"),
    ("7.5 % 2", "1.5"),
    ("-2**2", "-4"),
    ("2^3^2", "512"),
    ("2^-3", "0.125"),
    ("2 * -3", "-6"),
    ("--5", "5"),
    ("0^0", "1"),
    ("(-1)^99999999999999999999", "-1"),
    ("1,234,567 * 2", "2469134"),
    ("1_000 + 1", "1001"),
    ("3 x 4", "12"),
    ("3x4X2", "24"),
    ("6 ÷ 2 × 3 − 1 · 1", "8"),
    ("2+2=", "4"),
    ("2 + 2 = ?", "4"),
    ("1.5e3 + 1E-1", "1500.1"),
    (".5 + 5.", "5.5"),
    ("sqrt(16/9)", "1.33333333333 (rounded; exactly 4/3)"),
    ("sqrt(1,024)", "32"),
    ("sqrt(2)", "1.41421356237 (rounded)"),
    ("sqrt(2) * sqrt(2)", "2 (rounded)"),
    ("27^(1/3)", "3"),
    ("0.25^0.5", "0.5"),
    ("2^0.5", "1.41421356237 (rounded)"),
    ("max(1, 234) + min(3,2,5)", "236"),
    ("MAX(1,2)", "2"),
    ("max((1,234), 5)", "1234"),
    ("round(2.5)", "3"),
    ("round(-2.675, 2)", "-2.68"),
    ("round(1234, -2)", "1200"),
    ("factorial(20)", "2432902008176640000"),
    ("pi * 2", "6.28318530718 (rounded)"),
    ("1.0005^3650", "6.19996658194 (rounded)"),
    ("10^5000 / 3", "3.33333333333E+4999 (rounded)"),
    ("10^9999 % 7", str(10**9999 % 7)),
]

MISTAKES = [
    ("3 + )", "unexpected ')' at position 5 in '3 + )': a number was expected"),
    ("3 +", "unexpected end at position 4 in '3 +': a number was expected"),
    ("(1", "unexpected end at position 3 in '(1': an operator or ')' was expected"),
    ("2(3)", "unexpected '(' at position 2 in '2(3)': an operator or the end was expected"),
    ("1/0", "division by zero at position 2 in '1/0'"),
    ("1 // (2-2)", "division by zero at position 3"),
    ("1 % 0", "division by zero at position 3"),
    ("0^-1", "division by zero"),
    ("", "is empty"),
    ("= ?", "is empty"),
    ("sqr(2)", "unknown name 'sqr' (did you mean 'sqrt'?) at position 1"),
    ("sqrt", "'(' after sqrt was expected"),
    ("sqrt()", "a number was expected"),
    ("sqrt(-1)", "square root of a negative number"),
    ("(-8)^(1/3)", "negative number to a fractional power"),
    ("round(1, 2, 3)", "round takes at most 2 argument(s), not 3"),
    ("round(1, 1.5)", "digits of round must be a whole number"),
    ("factorial(1.5)", "factorial needs a whole number"),
    ("max(1,000, 2)", "',' could separate thousands or arguments of max at position 6"),
    ("3,5", "unexpected ',' at position 2"),
    ("50%", "% is the remainder; for percent divide by 100"),
    ("0x10", "looks like a hexadecimal number"),
    ("$5", "unexpected '$' at position 1"),
    ("²", "unexpected '²' at position 1"),
    ("__import__('os')", "unknown name '__import__'"),
    ("1" * 1001, "1,001 characters"),
    ("(" * 200, "more than 100 levels of nesting"),
    ("-" * 200 + "1", "more than 100 levels of nesting"),
    ("9**9**9", "too large or too small"),
    ("1e999999999", "too large or too small"),
    ("10^-9999999", "too large or too small"),
    ("10^10000", "too large or too small"),
    ("factorial(3249)", "too large or too small"),
    ("2^9^9^9^9^9", "too large or too small"),
    ("1.5^(10^30)", "too large or too small"),
]


@pytest.mark.parametrize(("expression", "text"), VALUES)
def test_value(expression: str, text: str) -> None:
    assert calculate(expression) == text


@pytest.mark.parametrize(("expression", "message"), MISTAKES)
def test_mistake(expression: str, message: str) -> None:
    with pytest.raises(ToolError) as raised:
        calculate(expression)
    assert message in str(raised.value)
    assert len(str(raised.value)) < 400


def test_largest_results_are_exact() -> None:
    assert calculate("10^9999") == "1" + "0" * 9999
    digits = calculate(f"factorial({MAX_FACTORIAL})")
    assert len(digits) <= MAX_DIGITS
    assert digits.endswith("000")
    assert evaluate(f"factorial({MAX_FACTORIAL})").value == math.factorial(MAX_FACTORIAL)
    assert math.factorial(MAX_FACTORIAL + 1) >= 10**MAX_DIGITS


@pytest.mark.parametrize(
    "expression",
    ["9**9**9", "9^9^9^9^9^9^9", "+".join(["(7^9997)^(1/100)"] * 55), "+".join(["sqrt(7^9998+1)"] * 66)],
)
def test_bombs_are_defused(expression: str) -> None:
    # A naive evaluation takes minutes, or all memory
    with contextlib.suppress(ToolError):
        calculate(expression)


Tree = tuple[str, Fraction | None]


def _leaf(number: int, places: int) -> Tree:
    value = Fraction(number, 10**places)
    text = f"{number // 10**places}"
    return (f"{text}.{number % 10**places:0{places}d}" if places else text), value


def _node(left: Tree, operator: str, right: Tree) -> Tree:
    return f"({left[0]} {operator} {right[0]})", _apply(left[1], operator, right[1])


def _apply(a: Fraction | None, operator: str, b: Fraction | None) -> Fraction | None:
    """The answer of Fraction itself; None where there is none."""
    if a is None or b is None or (b == 0 and operator in {"/", "//", "%"}):
        return None
    results = {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b}
    results |= {"//": lambda: Fraction(a // b), "%": lambda: a % b}
    return results[operator]()


LEAVES = st.builds(_leaf, st.integers(0, 10**6), st.integers(0, 3))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.builds(_node, inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_agrees_with_fractions(tree: Tree) -> None:
    expression, expected = tree
    if expected is None:
        with pytest.raises(ToolError, match="division by zero"):
            evaluate(expression)
    else:
        number = evaluate(expression)
        assert number.exact
        assert number.value == expected


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**30), 10**30), st.integers(0, 12))
def test_terminating_decimals_round_trip(number: int, places: int) -> None:
    value = Fraction(number, 10**places)
    assert Fraction(calculate(f"{number} / 10^{places}")) == value


ALPHABET = st.sampled_from([*"0123456789.,_ ()+-*/%^xe=?", "**", "//", "sqrt(", "max(", "round(", "factorial("])


@settings(max_examples=100, deadline=None)
@given(st.lists(ALPHABET, max_size=25).map("".join) | st.text(max_size=40))
def test_any_text_answers_or_raises_tool_error(expression: str) -> None:
    with contextlib.suppress(ToolError):
        assert calculate(expression)
