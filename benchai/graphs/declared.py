"""``@workflow("name")``: what a function that builds a graph tells of it. Cheap to import: nothing of LangGraph."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from benchai.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

F = TypeVar("F", bound=Callable[..., Any])
_ATTRIBUTE = "__benchai_workflow__"
_NAME = re.compile(r"\w[\w.-]{0,99}")


@dataclass(frozen=True)
class Declaration:
    """What ``@workflow`` was given; None where it was given nothing."""

    name: str
    function: Callable[..., Any]
    description: str | None = None
    input: type[BaseModel] | None = None
    output: type[BaseModel] | None = None
    roles: tuple[str, ...] = ()
    steps: int | None = None
    reset: Mapping[str, Any] | None = None


_of_the_program: dict[str, Declaration] = {}
_of_a_file: ContextVar[list[Declaration] | None] = ContextVar("declared", default=None)


def workflow(
    name: str,
    *,
    description: str | None = None,
    input: type[BaseModel] | None = None,
    output: type[BaseModel] | None = None,
    roles: tuple[str, ...] = (),
    steps: int | None = None,
    reset: Mapping[str, Any] | None = None,
) -> Callable[[F], F]:
    """Declare that a function returns the graph of a workflow; the function itself stays as it is.

    A ``Bench`` that is opened later in the same program knows it; a file is named under ``workflows:``.

    Args:
        name: What ``bench.run`` and ``benchai run`` are given: letters, digits, ``_``, ``-`` and ``.``.
        description: One line; default: the first of the function's docstring.
        input: What it is given: ``task``, and fields that become keys of the state; default: the task alone.
        output: What it returns; default: a text.
        roles: Roles that a model must serve before it can run.
        steps: Calls of a model that a run may make.
        reset: Keys of the state that a new task on a thread begins with.

    Raises:
        UsageError: the name cannot be used, or what is decorated is no function.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        hint = 'give it a name without blanks: @workflow("haiku")'
        raise UsageError(f"@workflow: {name!r} is no name of a workflow", hint=hint)

    def declare(function: F) -> F:
        if not callable(function):
            raise UsageError(
                f"@workflow({name!r}) is on {function!r}", hint="put it on a function that returns a graph"
            )
        declared = Declaration(name, function, description, input, output, roles, steps, reset)
        setattr(function, _ATTRIBUTE, declared)
        found = _of_a_file.get()
        if found is None:
            # a cell of a notebook runs again: the last one stands
            _of_the_program[name] = declared
        else:
            found.append(declared)
        return function

    return declare


def declaration_of(found: object) -> Declaration | None:
    """What ``@workflow`` said of a function; None where it is not decorated."""
    declared = getattr(found, _ATTRIBUTE, None)
    return declared if isinstance(declared, Declaration) else None


def declared_by_the_program() -> list[Declaration]:
    """What the running program itself has declared, files of ``workflows:`` left out."""
    return list(_of_the_program.values())


@contextmanager
def collecting() -> Iterator[list[Declaration]]:
    """Collect what is declared while the context is open, instead of keeping it for the whole program."""
    found: list[Declaration] = []
    token = _of_a_file.set(found)
    try:
        yield found
    finally:
        _of_a_file.reset(token)
