"""The families of functions that the coder, the reviewer and the planner know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Family:
    """One kind of function. {a}, {b} and {c} stand for its arguments in all texts.

    `does` holds wordings of what it does, `faults` wrong bodies with what a reviewer says of them, and `inputs`
    the arguments that tests call it with.
    """

    names: tuple[str, ...]
    arguments: tuple[tuple[str, ...], ...]
    does: tuple[str, ...]
    body: str
    faults: tuple[tuple[str, str], ...]
    inputs: tuple[tuple[Any, ...], ...]


PAIR = (("a", "b"), ("x", "y"), ("left", "right"), ("first", "second"))
NUMBER = (("n",), ("number",), ("x",), ("value",))
LIST = (("items",), ("values",), ("numbers",), ("xs",))
TEXT = (("text",), ("s",), ("word",), ("line",))
_TWO = ((2, 3), (7, 4))
_ONE = ((3,), (8,))
_NUMBERS = (([3, 1, 2],), ([5, 8],))
_TEXTS = (("abc",), ("Hello",))

_ROWS: tuple[tuple[str, Any, str, str, str, Any], ...] = (
    (
        "add plus",
        PAIR,
        "returns the sum of {a} and {b}|adds {a} and {b}",
        "return {a} + {b}",
        "return {a} - {b}|It subtracts instead of adding.",
        _TWO,
    ),
    (
        "subtract minus",
        PAIR,
        "returns {a} minus {b}|subtracts {b} from {a}",
        "return {a} - {b}",
        "return {a} + {b}|It adds instead of subtracting.|return {b} - {a}|It subtracts in the wrong order.",
        _TWO,
    ),
    (
        "multiply product",
        PAIR,
        "returns the product of {a} and {b}|multiplies {a} by {b}",
        "return {a} * {b}",
        "return {a} + {b}|It adds instead of multiplying.",
        _TWO,
    ),
    (
        "divide quotient",
        PAIR,
        "returns {a} divided by {b}|divides {a} by {b}",
        "return {a} / {b}",
        "return {a} * {b}|It multiplies instead of dividing.",
        ((6, 3), (7, 2)),
    ),
    (
        "remainder modulo",
        PAIR,
        "returns the remainder of {a} divided by {b}",
        "return {a} % {b}",
        "return {a} // {b}|It returns the quotient.",
        ((7, 3), (9, 4)),
    ),
    (
        "power raised",
        PAIR,
        "returns {a} to the power of {b}|raises {a} to the power of {b}",
        "return {a} ** {b}",
        "return {a} * {b}|It multiplies instead of raising.",
        ((2, 3), (5, 2)),
    ),
    (
        "larger maximum",
        PAIR,
        "returns the larger of {a} and {b}",
        "return max({a}, {b})",
        "return min({a}, {b})|It returns the smaller value.",
        _TWO,
    ),
    (
        "smaller minimum",
        PAIR,
        "returns the smaller of {a} and {b}",
        "return min({a}, {b})",
        "return max({a}, {b})|It returns the larger value.",
        _TWO,
    ),
    (
        "average mean",
        PAIR,
        "returns the average of {a} and {b}|returns the mean of {a} and {b}",
        "return ({a} + {b}) / 2",
        "return {a} + {b} / 2|The brackets are missing.",
        ((2, 4), (7, 9)),
    ),
    (
        "clamp limit",
        (("value", "low", "high"), ("x", "lower", "upper")),
        "limits {a} to the range from {b} to {c}|keeps {a} between {b} and {c}|returns {a} limited to {b} and {c}",
        "return max({b}, min({a}, {c}))",
        "return min({a}, {c})|It ignores the lower limit {b}.|return max({a}, {b})|It ignores the upper limit {c}.",
        ((5, 1, 3), (0, 1, 3), (2, 1, 3)),
    ),
    (
        "is_even even",
        NUMBER,
        "tells whether {a} is even|returns True if {a} is even",
        "return {a} % 2 == 0",
        "return {a} % 2 == 1|It is true for odd numbers.",
        ((4,), (7,)),
    ),
    (
        "is_odd odd",
        NUMBER,
        "tells whether {a} is odd|returns True if {a} is odd",
        "return {a} % 2 == 1",
        "return {a} % 2 == 0|It is true for even numbers.",
        ((4,), (7,)),
    ),
    (
        "is_positive positive",
        NUMBER,
        "tells whether {a} is positive|returns True if {a} is greater than 0",
        "return {a} > 0",
        "return {a} < 0|It is true for negative numbers.",
        ((4,), (-2,)),
    ),
    (
        "square squared",
        NUMBER,
        "returns the square of {a}|squares {a}",
        "return {a} ** 2",
        "return {a} * 2|It doubles instead of squaring.",
        _ONE,
    ),
    (
        "double twice",
        NUMBER,
        "returns twice {a}|doubles {a}",
        "return {a} * 2",
        "return {a} ** 2|It squares instead of doubling.",
        _ONE,
    ),
    (
        "absolute magnitude",
        NUMBER,
        "returns the absolute value of {a}",
        "return abs({a})",
        "return -{a}|It only changes the sign.",
        ((3,), (-4,)),
    ),
    (
        "to_fahrenheit fahrenheit",
        (("celsius",), ("degrees",), ("t",)),
        "converts {a} from Celsius to Fahrenheit",
        "return {a} * 9 / 5 + 32",
        "return {a} * 9 / 5|It does not add 32.",
        ((0,), (100,)),
    ),
    (
        "factorial product_up_to",
        NUMBER,
        "returns the factorial of {a}",
        "result = 1\nfor i in range(2, {a} + 1):\n    result *= i\nreturn result",
        "result = 1\nfor i in range(2, {a}):\n    result *= i\nreturn result|The last factor is missing.",
        ((3,), (5,)),
    ),
    (
        "fibonacci fib",
        NUMBER,
        "returns the Fibonacci number {a}|returns the {a}-th Fibonacci number",
        "first, second = 0, 1\nfor _ in range({a}):\n    first, second = second, first + second\nreturn first",
        "first, second = 0, 1\nfor _ in range({a}):\n    first, second = second, first + second\nreturn second"
        "|It returns the next number.",
        ((3,), (7,)),
    ),
    (
        "total sum_of",
        LIST,
        "returns the sum of the numbers in {a}|adds up the numbers in {a}",
        "return sum({a})",
        "return len({a})|It counts instead of adding.",
        _NUMBERS,
    ),
    (
        "count size",
        LIST,
        "returns how many items {a} has|returns the number of items in {a}",
        "return len({a})",
        "return sum({a})|It adds instead of counting.",
        _NUMBERS,
    ),
    (
        "largest biggest",
        LIST,
        "returns the largest number in {a}",
        "return max({a})",
        "return min({a})|It returns the smallest number.",
        _NUMBERS,
    ),
    (
        "smallest least",
        LIST,
        "returns the smallest number in {a}",
        "return min({a})",
        "return max({a})|It returns the largest number.",
        _NUMBERS,
    ),
    (
        "mean_of average_of",
        LIST,
        "returns the average of the numbers in {a}",
        "return sum({a}) / len({a})",
        "return sum({a})|It does not divide by the count.",
        _NUMBERS,
    ),
    (
        "first_of head",
        LIST,
        "returns the first item of {a}",
        "return {a}[0]",
        "return {a}[1]|It returns the second item.",
        _NUMBERS,
    ),
    (
        "last_of tail",
        LIST,
        "returns the last item of {a}",
        "return {a}[-1]",
        "return {a}[0]|It returns the first item.",
        _NUMBERS,
    ),
    (
        "ordered sort_items",
        LIST,
        "returns the items of {a} in order|returns {a} sorted",
        "return sorted({a})",
        "return sorted({a}, reverse=True)|It sorts in the wrong direction.",
        _NUMBERS,
    ),
    (
        "evens even_numbers",
        LIST,
        "returns the even numbers in {a}",
        "return [x for x in {a} if x % 2 == 0]",
        "return [x for x in {a} if x % 2 == 1]|It returns the odd numbers.",
        _NUMBERS,
    ),
    (
        "unique distinct",
        LIST,
        "returns the items of {a} without repeats",
        "return list(dict.fromkeys({a}))",
        "return list({a})|It keeps the repeats.",
        (([1, 1, 2],), ([3, 3],)),
    ),
    (
        "is_empty empty",
        LIST,
        "tells whether {a} is empty|returns True if {a} is empty",
        "return len({a}) == 0",
        "return len({a}) > 0|It is true for full lists.",
        (([],), ([1],)),
    ),
    (
        "contains has",
        (("items", "item"), ("values", "value")),
        "tells whether {a} contains {b}",
        "return {b} in {a}",
        "return {b} not in {a}|It is true when {b} is missing.",
        (([1, 2], 2), ([1, 2], 3)),
    ),
    (
        "count_of occurrences",
        (("items", "item"), ("text", "letter")),
        "returns how often {b} occurs in {a}",
        "return {a}.count({b})",
        "return len({a})|It counts everything.",
        (([1, 2, 1], 1), ("hello", "l")),
    ),
    (
        "joined join_words",
        (("words", "mark"), ("parts", "glue")),
        "joins the words in {a} with {b}",
        "return {b}.join({a})",
        "return ''.join({a})|It leaves out {b}.",
        ((["a", "b"], "-"), (["x", "y"], ", ")),
    ),
    (
        "reverse backwards",
        TEXT,
        "returns the text {a} reversed|reverses the text {a}",
        "return {a}[::-1]",
        "return {a}[1:]|It cuts the text.",
        _TEXTS,
    ),
    (
        "upper shout",
        TEXT,
        "returns {a} in capital letters",
        "return {a}.upper()",
        "return {a}.lower()|It makes small letters.",
        _TEXTS,
    ),
    (
        "lower whisper",
        TEXT,
        "returns {a} in small letters",
        "return {a}.lower()",
        "return {a}.upper()|It makes capital letters.",
        _TEXTS,
    ),
    (
        "is_palindrome palindrome",
        TEXT,
        "tells whether {a} is a palindrome|returns True if {a} reads the same backwards",
        "return {a} == {a}[::-1]",
        "return {a} != {a}[::-1]|It is true for other texts.",
        (("level",), ("abc",)),
    ),
    (
        "word_count count_words",
        TEXT,
        "returns how many words {a} has|counts the words in {a}",
        "return len({a}.split())",
        "return len({a})|It counts letters.",
        (("one two",), ("a b c",)),
    ),
    (
        "greet greeting",
        (("name",), ("person",), ("who",)),
        "returns a greeting for {a}|greets {a}",
        "return f'Hello, {{{a}}}!'",
        "return f'Goodbye, {{{a}}}!'|It says goodbye.",
        (("Ann",), ("Bo",)),
    ),
)


def _family(row: tuple[str, Any, str, str, str, Any]) -> Family:
    names, arguments, does, body, faults, inputs = row
    parts = faults.split("|")
    pairs = tuple(zip(parts[::2], parts[1::2], strict=True))
    return Family(tuple(names.split()), arguments, tuple(does.split("|")), body, pairs, inputs)


FAMILIES = tuple(_family(row) for row in _ROWS)
