"""The calculator tool: exact arithmetic on an expression that a model wrote.

The expression is read by a precedence-climbing parser of its own; nothing is handed to Python's evaluator.
From loose to tight: `+ -`, then `* / // %`, then signs, then `^` (also `**`), which binds to the right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn

from pydantic import Field

from benchai.errors import ToolError
from benchai.tools.exact import BINARY, CONSTANTS, FUNCTIONS, Number, UndefinedError, literal, negate, render
from benchai.tools.tool import Tool, ToolArgs, ToolContext, guess_for, shorten

__all__ = ["CALCULATOR", "calculate", "evaluate"]

MAX_LENGTH = 1_000
MAX_DEPTH = 100

_BINDING = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "^": 4}
_SIGN_BINDING = 3
_OPERATORS = re.compile(r"\*\*|//|[-+*/%^(),×÷·⋅∙∗−–]")
_CANONICAL = {"**": "^", "×": "*", "·": "*", "⋅": "*", "∙": "*", "∗": "*", "÷": "/", "−": "-", "–": "-"}
_FRACTION = r"(?:\.(?P<fraction>[0-9]*))?(?:[eE](?P<exponent>[+-]?[0-9]+))?"
_GROUPED = re.compile(r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9_]))" + _FRACTION)
_PLAIN = re.compile(r"(?P<whole>[0-9]+(?:_[0-9]+)*|(?=\.[0-9]))" + _FRACTION)
_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_TIMES = re.compile(r"[xX](?![A-Za-z_])")
_ZERO_GROUP = re.compile(r",0[0-9]{2}(?![0-9])")

Kind = Literal["number", "name", "operator", "end"]


class CalculatorArgs(ToolArgs):
    """Arguments of calculator."""

    expression: str = Field(description="For example (12 + 3) * 4")


@dataclass(frozen=True)
class Token:
    """A piece of an expression: `text` as written at `position` (from 1), `symbol` as understood."""

    kind: Kind
    text: str
    position: int
    symbol: str = ""
    number: Number | None = None


def calculate(expression: str) -> str:
    """Return the value of an arithmetic expression as text.

    Whole numbers and terminating decimals are exact; others have 12 significant digits and say that they
    are rounded. Raises ToolError that names the position of the mistake and what was expected there.
    """
    return render(evaluate(expression))


def evaluate(expression: str) -> Number:
    """Return the value of an arithmetic expression. Raises ToolError; see `calculate`."""
    if len(expression) > MAX_LENGTH:
        raise ToolError(f"the expression has {len(expression):,} characters, more than {MAX_LENGTH:,}")
    text = expression.rstrip(" \t\r\n=?")
    if not text.strip():
        raise ToolError(f"the expression {shorten(expression)} is empty: write for example (12 + 3) * 4")
    return _Parser(text).parse()


class _Tokenizer:
    """Cuts an expression into tokens; knows where a comma is part of a number."""

    def __init__(self, text: str) -> None:
        self.text = text
        # One entry for each open parenthesis: the function it belongs to, or ""
        self.calls: list[str] = []
        self.last_name = ""

    def tokens(self) -> Iterator[Token]:
        at = 0
        while at < len(self.text):
            if self.text[at].isspace():
                at += 1
                continue
            token = self._next(at)
            yield token
            at += len(token.text)
        yield Token("end", "", len(self.text) + 1)

    def _next(self, at: int) -> Token:
        token = self._number(at) or self._operator(at) or self._word(at)
        if token is None:
            expected = "a number, an operator or a function was"
            fail(self.text, at + 1, f"unexpected {self.text[at]!r}", expected)
        self._follow(token)
        return token

    def _number(self, at: int) -> Token | None:
        grouped = None if self._commas_separate() else _GROUPED.match(self.text, at)
        match = grouped or _PLAIN.match(self.text, at)
        if match is None:
            return None
        if match[0] == "0" and _TIMES.match(self.text, match.end()):
            fail(self.text, at + 1, "'0x' looks like a hexadecimal number", "decimal numbers are")
        whole = re.sub("[,_]", "", match["whole"])
        try:
            number = literal(whole, match["fraction"] or "", match["exponent"] or "")
        except UndefinedError as error:
            fail(self.text, at + 1, str(error))
        return Token("number", match[0], at + 1, number=number)

    def _operator(self, at: int) -> Token | None:
        match = _OPERATORS.match(self.text, at)
        if match is not None:
            if match[0] == "," and self._commas_separate() and _ZERO_GROUP.match(self.text, at):
                message = f"',' could separate thousands or arguments of {self.calls[-1]}"
                fail(self.text, at + 1, message, "numbers without thousands separators are")
            return Token("operator", match[0], at + 1, _CANONICAL.get(match[0], match[0]))
        times = _TIMES.match(self.text, at)
        return Token("operator", times[0], at + 1, "*") if times else None

    def _word(self, at: int) -> Token | None:
        match = _NAME.match(self.text, at)
        return Token("name", match[0], at + 1, match[0].lower()) if match else None

    def _commas_separate(self) -> bool:
        function = FUNCTIONS.get(self.calls[-1]) if self.calls else None
        return function is not None and function.most != 1

    def _follow(self, token: Token) -> None:
        if token.symbol == "(":
            self.calls.append(self.last_name)
        elif token.symbol == ")" and self.calls:
            self.calls.pop()
        self.last_name = token.symbol if token.kind == "name" else ""


class _Parser:
    """Reads tokens and computes at once; `depth` counts expressions within expressions."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _Tokenizer(text).tokens()
        self.token = next(self.tokens)
        self.depth = 0

    def parse(self) -> Number:
        value = self._expression(0)
        if self.token.kind != "end":
            self._unexpected("an operator or the end was")
        return value

    def _advance(self) -> Token:
        token, self.token = self.token, next(self.tokens, self.token)
        return token

    def _expression(self, floor: int) -> Number:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            fail(self.text, self.token.position, f"more than {MAX_DEPTH} levels of nesting")
        left = self._operand()
        while _BINDING.get(self.token.symbol, -1) >= max(floor, 1):
            left = self._binary(left)
        self.depth -= 1
        return left

    def _binary(self, left: Number) -> Number:
        operator = self._advance()
        binding = _BINDING[operator.symbol]
        if operator.symbol == "%" and self.token.kind == "end":
            self._unexpected("a number was", "% is the remainder; for percent divide by 100")
        right = self._expression(binding if operator.symbol == "^" else binding + 1)
        try:
            return BINARY[operator.symbol](left, right)
        except UndefinedError as error:
            fail(self.text, operator.position, str(error))

    def _operand(self) -> Number:
        token = self.token
        if token.number is not None:
            self._advance()
            return token.number
        if token.symbol in {"+", "-"}:
            self._advance()
            value = self._expression(_SIGN_BINDING)
            return negate(value) if token.symbol == "-" else value
        if token.symbol == "(":
            self._advance()
            value = self._expression(0)
            self._close()
            return value
        return self._named() if token.kind == "name" else self._unexpected("a number was")

    def _named(self) -> Number:
        name = self._advance()
        if name.symbol in CONSTANTS:
            return CONSTANTS[name.symbol]
        if name.symbol not in FUNCTIONS:
            known = [*FUNCTIONS, *CONSTANTS]
            message = f"unknown name {shorten(name.text)}{guess_for(name.symbol, known)}"
            fail(self.text, name.position, message, f"one of {', '.join(known)} was")
        if self.token.symbol != "(":
            self._unexpected(f"'(' after {name.symbol} was")
        return self._call(name)

    def _call(self, name: Token) -> Number:
        arguments: list[Number] = []
        function = FUNCTIONS[name.symbol]
        while not arguments or self.token.symbol == ",":
            self._advance()
            arguments.append(self._expression(0))
        self._close()
        if function.most is not None and len(arguments) > function.most:
            message = f"{name.symbol} takes at most {function.most} argument(s), not {len(arguments)}"
            fail(self.text, name.position, message)
        try:
            return function.call(*arguments)
        except UndefinedError as error:
            fail(self.text, name.position, str(error))

    def _close(self) -> None:
        if self.token.symbol != ")":
            self._unexpected("an operator or ')' was")
        self._advance()

    def _unexpected(self, expected: str, note: str = "") -> NoReturn:
        found = f"unexpected {shorten(self.token.text)}" if self.token.text else "unexpected end"
        fail(self.text, self.token.position, found, expected, note)


def fail(text: str, position: int, message: str, expected: str = "", note: str = "") -> NoReturn:
    """Raise the ToolError that places `message` in the expression and says what was expected."""
    expectation = f": {expected} expected" if expected else ""
    addition = f" ({note})" if note else ""
    raise ToolError(f"{message} at position {position} in {shorten(text, 100)}{expectation}{addition}")


async def _run(args: CalculatorArgs, ctx: ToolContext) -> str:
    return calculate(args.expression)


CALCULATOR = Tool(
    "calculator",
    "Evaluate an arithmetic expression exactly. Use it for every calculation.",
    CalculatorArgs,
    _run,
)
