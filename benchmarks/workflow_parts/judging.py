"""Whether an answer is right: pure readers of what a run has written."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from fractions import Fraction

from scripts.tiny_model.tasks import writing
from scripts.tiny_model.tasks.coding import Function
from scripts.tiny_model.tasks.functions import FAMILIES

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?!\w)")
_SIGNATURE = re.compile(r"Write a function (?P<name>\w+)\((?P<arguments>[^)]*)\) that (?P<does>.*)\.")
_BLOCK = re.compile(r"```(?:python)?\n(.*?)\n?```", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
#: Values are compared as the calculator rounds them.
NEAR = Fraction(1, 10**9)


def numbers(text: str) -> list[Fraction]:
    """The numbers in a text, in their order."""
    return [Fraction(found) for found in _NUMBER.findall(text)]


def near(one: Fraction, other: Fraction) -> bool:
    """Whether two values are the same but for rounding."""
    return abs(one - other) <= NEAR * max(1, abs(one))


def gives(text: str, values: Iterable[str]) -> bool:
    """Whether each value stands in a text as a result: at its end, or behind a sign of equality."""
    found = numbers(text)
    results = [Fraction(one) for one in re.findall(r"=\s*(-?\d+(?:\.\d+)?)(?!\w)", text)] + found[-1:]
    return all(any(near(Fraction(value), result) for result in results) for value in values)


def meets(text: str, item: writing.Piece) -> bool:
    """Whether a text has all that its task asks for: each name, word and number, its end, one sentence."""
    words = all(re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE) for value in item.values.values())
    ends = text.rstrip().endswith(item.kind.end)
    single = not item.kind.one_sentence or len(_SENTENCE_END.findall(text.strip())) == 1
    return words and ends and single


def function_of(task: str) -> Function:
    """The function that a sub-task of the coder asks for.

    Raises:
        ValueError: the task asks for none of the known ones.
    """
    found = _SIGNATURE.fullmatch(task)
    if found is not None:
        arguments = tuple(found["arguments"].split(", "))
        names = dict(zip("abc", arguments, strict=False))
        for family in (one for one in FAMILIES if len(one.arguments[0]) == len(arguments)):
            if found["does"] in [does.format(**names) for does in family.does]:
                return Function(family, found["name"], arguments, found["does"])
    raise ValueError(f"{task!r} asks for no known function")


def blocks(text: str) -> list[str]:
    """The code blocks of a text; all of it where there is none."""
    return _BLOCK.findall(text) or [text]


def same_code(code: str, wanted: Function) -> bool:
    """Whether code is the expected one but for its layout, so that it need not be run."""
    try:
        return ast.dump(ast.parse(code)) == ast.dump(ast.parse(wanted.code(wanted.family.body)))
    except (SyntaxError, ValueError):
        return False


def added(diff: str) -> dict[str, str]:
    """New files of a diff, by path."""
    files: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in diff.splitlines():
        if line.startswith("+++ b/"):
            lines = files.setdefault(line.removeprefix("+++ b/").strip(), [])
        elif line.startswith("+"):
            lines.append(line[1:])
    return {path: "\n".join(content) + "\n" for path, content in files.items()}
