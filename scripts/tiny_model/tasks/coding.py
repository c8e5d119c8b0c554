"""Conversations of the coder (write, write tests, repair) and of the reviewer."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import Any

from scripts.tiny_model import words
from scripts.tiny_model.conversation import Conversation
from scripts.tiny_model.prompts import system_prompt
from scripts.tiny_model.split import Draw
from scripts.tiny_model.tasks.functions import FAMILIES, Family

ASK = (
    "=Write a function {s} that {d}.",
    "[Write|Implement|Define|Create|Make] a [|Python |short |small ]function {s} that {d}[.|]",
    "[Write|Implement|Define|Create] {s}[. It|: it|, a function that] {d}[.|]",
    "[Please write|I need|Give me] a [|Python ]function {s} that {d}[.|]",
    "[Write|Implement|Define] a function [called|named] {f} with [the arguments|the parameters] {l} that {d}[.|]",
    "[Write|Implement] a [|Python ]function {s}[, which|. It] {d}[.|]",
    "[The function|A function] {s} {d}[. Write it.|. Implement it.|: write it]",
)
MESSAGES = (
    "assert {call} == {right}\nAssertionError: got {got}",
    "assert {call} == {right}\nAssertionError: got {got}",
    "assert {call} == {right}\nAssertionError",
    "E       assert {got} == {right}\nE        +  where {got} = {call}",
    'Traceback (most recent call last):\n  File "test.py", line 2, in <module>\n'
    "    assert {call} == {right}\nAssertionError",
    "FAILED: {call} returned {got}, expected {right}",
)


@dataclass(frozen=True)
class Function:
    """A function to be written: its family with its names filled in."""

    family: Family
    name: str
    arguments: tuple[str, ...]
    does: str

    @property
    def signature(self) -> str:
        """For example add(a, b)."""
        return f"{self.name}({', '.join(self.arguments)})"

    def fill(self, text: str) -> str:
        """A text of the family with the arguments' names."""
        return text.format(**dict(zip("abc", self.arguments, strict=False)))

    def code(self, body: str, name: str = "") -> str:
        """The definition with a body."""
        head = f"def {name or self.name}({', '.join(self.arguments)}):"
        return head + "\n" + textwrap.indent(self.fill(body), "    ")

    def call(self, values: tuple[Any, ...]) -> str:
        """The call with values."""
        return f"{self.name}({', '.join(map(repr, values))})"


def identifier(draw: Draw) -> str:
    """A name for a function."""
    first = draw.invented() if draw.chance(0.5) else words.thing(draw)
    return first if draw.chance(0.55) else f"{first}_{words.thing(draw)}"


def function(draw: Draw) -> Function:
    """A function of a random family; in training it bears the family's own names now and then."""
    family = draw.rng.choice(FAMILIES)
    own = not draw.held_out and draw.chance(0.35)
    name = draw.rng.choice(family.names) if own else identifier(draw)
    arguments = draw.rng.choice(family.arguments)
    if not own or draw.chance(0.2):
        arguments = tuple(words.things(draw, len(arguments)))
    does = draw.rng.choice(family.does)
    return Function(family, name, arguments, does.format(**dict(zip("abc", arguments, strict=False))))


def task(draw: Draw, wanted: Function) -> str:
    """The task in words."""
    spoken = wanted.arguments[-1]
    if len(wanted.arguments) > 1:
        spoken = ", ".join(wanted.arguments[:-1]) + " and " + spoken
    return draw.pick(*ASK).format(s=wanted.signature, f=wanted.name, d=wanted.does, l=spoken)


def block(code: str) -> str:
    """Code in a fence."""
    return f"```python\n{code}\n```"


def run(code: str, call: str) -> str:
    """What a call gives, as its text; the error's text when it raises. The code is our own."""
    space: dict[str, Any] = {}
    try:
        exec(code, space)  # noqa: S102
        return repr(eval(call, space))  # noqa: S307
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def asserts(wanted: Function) -> list[str]:
    """Tests that the right function passes."""
    code = wanted.code(wanted.family.body)
    calls = [wanted.call(values) for values in wanted.family.inputs]
    return [f"assert {call} == {run(code, call)}" for call in calls]


def steps(wanted: Function) -> list[str]:
    """The plan for a function."""
    return [
        f"Write {wanted.signature} so that it {wanted.does}",
        f"Write tests for {wanted.name}",
        f"Run the tests and repair {wanted.name}",
    ]


def numbered(lines: list[str]) -> str:
    """Lines with their numbers."""
    return "\n".join(f"{place}. {line}" for place, line in enumerate(lines, 1))


def conversation(draw: Draw, name: str, role: str, user: str, reply: str) -> Conversation:
    """One question to a role and its answer."""
    made = Conversation(name)
    made.user(user)
    made.reply(reply)
    made.system(system_prompt(draw, role))
    return made


def write(draw: Draw) -> Conversation:
    """Write a function, sometimes with a plan and with tests."""
    wanted = function(draw)
    user = task(draw, wanted)
    if draw.chance(0.4):
        user += "\n\nPlan:\n" + numbered(steps(wanted))
    if draw.chance(0.4):
        user += "\n\nTests:\n" + block("\n".join(asserts(wanted)))
    return conversation(draw, "coder", "coder", user, block(wanted.code(wanted.family.body)))


def write_tests(draw: Draw) -> Conversation:
    """Write tests for a function that does not exist yet."""
    wanted = function(draw)
    user = f"Write tests for: {task(draw, wanted)}"
    if draw.chance(0.4):
        user += "\n\nPlan:\n" + numbered(steps(wanted))
    return conversation(draw, "tests", "coder", user, block("\n".join(asserts(wanted))))


def broken(draw: Draw, wanted: Function) -> tuple[str, str]:
    """Wrong code for a function, and what a reviewer says of it."""
    way = draw.rng.random()
    if way < 0.55:
        body, fault = draw.rng.choice(wanted.family.faults)
        return wanted.code(body), wanted.fill(fault)
    if way < 0.7:
        kept = wanted.family.body.rpartition("return ")
        return wanted.code(f"{kept[0]}result = {kept[2]}"), "It returns nothing."
    if way < 0.85:
        other = identifier(draw)
        return wanted.code(wanted.family.body, other), f"The function is called {other} instead of {wanted.name}."
    unknown = words.thing(draw)
    while unknown in wanted.arguments:
        unknown = words.thing(draw)
    changed = Function(wanted.family, wanted.name, (unknown, *wanted.arguments[1:]), wanted.does)
    code = wanted.code("pass").split("\n")[0] + "\n" + changed.code(wanted.family.body).split("\n", 1)[1]
    return code, f"It uses the unknown name {unknown}."


def failing(draw: Draw, wanted: Function, code: str) -> str:
    """The message of a test that the code fails; "" when it passes all."""
    right = wanted.code(wanted.family.body)
    for values in draw.rng.sample(wanted.family.inputs, len(wanted.family.inputs)):
        call = wanted.call(values)
        got, expected = run(code, call), run(right, call)
        if got != expected:
            if "Error: " in got:
                return f"assert {call} == {expected}\n{got}"
            return draw.rng.choice(MESSAGES).format(call=call, right=expected, got=got)
    return ""


def repair(draw: Draw) -> Conversation:
    """Repair a function after a failing test, or after a review that names its fault in either form."""
    wanted = function(draw)
    code, fault = broken(draw, wanted)
    message = failing(draw, wanted, code)
    while not message:
        code, fault = broken(draw, wanted)
        message = failing(draw, wanted, code)
    user = f"Task: {task(draw, wanted)}\n\nCode:\n{block(code)}"
    if draw.chance(0.7):
        user += f"\n\nFailing test:\n```\n{message}\n```"
    else:
        user += "\n\nReview:\n" + (reviewed(wanted, code)[1] if draw.chance(0.6) else f"REJECTED: {fault}")
    return conversation(draw, "repair", "coder", user, block(wanted.code(wanted.family.body)))


def body_of(code: str) -> str:
    """The body of a definition in one line."""
    return "; ".join(line.strip() for line in code.split("\n")[1:])


_WORDS = re.compile(r"\w+|\s+|[^\w\s]")


def compared(what: str, wanted: str, found: str) -> str:
    """What must be beside what is, up to the first word that differs, and whether they are the same.

    Whether a word differs can be seen where it stands; to look back over a whole line is far harder to learn.
    """
    if found == wanted:
        return f"{what}: {wanted}, found {found}: yes."
    there, here = _WORDS.findall(wanted), _WORDS.findall(found)
    same = next((place for place, pair in enumerate(zip(there, here, strict=False)) if pair[0] != pair[1]), len(there))
    return f"{what}: {wanted}, found {''.join(here[: same + 1])}: no."


def reviewed(wanted: Function, code: str) -> tuple[str, str]:
    """What a reviewer says of code: the comparison of its name and body with what they must be, and the verdict."""
    name, found_name = wanted.name, code[len("def ") : code.index("(")]
    body, found_body = body_of(wanted.code(wanted.family.body)), body_of(code)
    verdict = "APPROVED"
    if name != found_name:
        verdict = f"REJECTED: The name must be {name}."
    elif body != found_body:
        verdict = f"REJECTED: The body must be {body}."
    return f"{compared('Name', name, found_name)} {compared('Body', body, found_body)}", verdict


def review(draw: Draw) -> Conversation:
    """Compare name and body of code with what they must be, then approve it or name its fault."""
    wanted = function(draw)
    code = broken(draw, wanted)[0] if draw.chance(0.58) else wanted.code(wanted.family.body)
    user = f"Task: {task(draw, wanted)}\n\nCode:\n{block(code)}"
    return conversation(draw, "reviewer", "reviewer", user, "\n".join(reviewed(wanted, code)))
