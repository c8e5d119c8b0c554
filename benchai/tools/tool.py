"""What a tool is: its name, its arguments, its coroutine, and what comes back from a call.

A call made by a model is never trusted and never fatal: every mistake of the model comes back as a
`ToolResult` whose text says what was wrong and what is valid, so that the model can mend the call.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from benchai.errors import ToolError, UsageError, nearest
from benchai.tools.schema import compact_schema, signature

if TYPE_CHECKING:
    from benchai.tools.memory import Recollection

__all__ = ["RESULTS", "Permission", "Tool", "ToolArgs", "ToolContext", "ToolResult", "guess_for", "shorten"]

logger = logging.getLogger(__name__)

RESULTS = "@results/"
Permission = Literal["read", "write", "execute", "network"]


class ToolArgs(BaseModel):
    """Base of the argument models of tools: an argument that is not declared is a mistake."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class ToolContext:
    """What a tool may know of the run that calls it.

    `workspace` is the only folder that file tools touch; it is stored resolved. `results` is where results that
    are too long for a model are kept whole; read_file finds them under `@results/`. `memory` is what the run may
    search and keep; None where there is none.
    """

    workspace: Path
    results: Path | None = None
    memory: Recollection | None = None

    def __post_init__(self) -> None:
        """Resolve the workspace."""
        object.__setattr__(self, "workspace", Path(self.workspace).resolve())

    def spill(self, name: str, text: str) -> str:
        """Keep a text whole and return the path under which read_file finds it. Raises OSError."""
        if self.results is None:
            raise OSError("there is no folder for results")
        self.results.mkdir(parents=True, exist_ok=True)
        file = "".join(char if char.isalnum() else "_" for char in name)[:60] + ".txt"
        (self.results / file).write_text(text, encoding="utf-8")
        return RESULTS + file


@dataclass(frozen=True)
class ToolResult:
    """The text that goes back to the model; `ok` is False when it tells of an error.

    `error` names what went wrong where that is known: ToolError, UsageError for an unknown tool or wrong arguments,
    Refused, TimeoutError, or the class of what the tool raised.
    """

    ok: bool
    text: str
    error: str | None = None


@dataclass(frozen=True)
class Tool:
    """One function that a model can call.

    `run` gets an instance of `args` and the context, and returns the text for the model. It raises
    `ToolError` for what the model can mend. Raises ValueError when `args` would accept unknown arguments.

    `permission` is its kind: tools of the kind "read" have no side effects and may run again after an interruption.
    What a tool that is not `trusted` returns was written by others (a web page, another's server) and is fenced as
    data. A `polling` tool is meant to be called again with the same arguments.
    """

    name: str
    description: str
    args: type[BaseModel]
    run: Callable[[Any, ToolContext], Awaitable[str]]
    permission: Permission = "read"
    trusted: bool = True
    polling: bool = False

    def __post_init__(self) -> None:
        """Refuse argument models that would let unknown arguments pass."""
        if self.args.model_config.get("extra") != "forbid":
            raise ValueError(f"arguments of {self.name!r} must forbid extra fields; derive from ToolArgs")

    def schema(self) -> dict[str, Any]:
        """Return the tool as an entry of `tools` in an OpenAI chat request."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters()}
        return {"type": "function", "function": function}

    def parameters(self) -> dict[str, Any]:
        """Return the compact JSON schema of the arguments; callers share it and must not change it."""
        return _parameters_of(self.args)

    async def invoke(self, arguments: Mapping[str, Any] | str, ctx: ToolContext) -> ToolResult:
        """Validate `arguments` (JSON text when a str) and run the tool; only cancellation is raised."""
        try:
            validated = self.validate(arguments)
        except ToolError as error:
            return failure(error, UsageError)
        try:
            return ToolResult(ok=True, text=await self.run(validated, ctx))
        except ToolError as error:
            return failure(error)
        except Exception as error:
            logger.exception("tool %r failed", self.name)
            kind = type(error).__name__
            return ToolResult(ok=False, text=f"Error: {kind}: {error}", error=kind)

    def validate(self, arguments: Mapping[str, Any] | str) -> BaseModel:
        """Return the arguments as an instance of `args`.

        Raises ToolError that names each wrong argument, its value and the arguments that are valid.
        """
        values = self._parse(arguments) if isinstance(arguments, str) else dict(arguments)
        try:
            return self.args.model_validate(values)
        except ValidationError as error:
            complaints = ", ".join(self._complaints(error))
            raise ToolError(f"{complaints}; {self._usage()}") from error

    def _parse(self, text: str) -> dict[str, Any]:
        # Servers send "" for a call without arguments
        try:
            values = json.loads(text) if text.strip() else {}
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", type(error).__name__)
            raise ToolError(f"arguments {shorten(text)} are not JSON ({reason}); {self._usage()}") from error
        if not isinstance(values, dict):
            raise ToolError(f"arguments {shorten(text)} are not a JSON object; {self._usage()}")
        return values

    def _usage(self) -> str:
        return f"{self.name} takes {signature(self.parameters())}"

    def _complaints(self, error: ValidationError) -> list[str]:
        return [self._complaint(item) for item in error.errors(include_url=False)[:5]]

    def _complaint(self, item: Any) -> str:
        name = ".".join(str(part) for part in item["loc"])
        if item["type"] == "missing":
            return f"argument {name!r} is missing"
        if item["type"] == "extra_forbidden":
            guess = guess_for(name, self.args.model_fields)
            return f"argument {shorten(name)} is unknown{guess}"
        reason = item["msg"][:1].lower() + item["msg"][1:]
        return f"argument {name!r} = {shorten(item['input'])} is wrong: {reason}"


@cache
def _parameters_of(args: type[BaseModel]) -> dict[str, Any]:
    # pydantic makes a schema anew each time, which takes longer than most tools
    return compact_schema(args.model_json_schema())


def failure(error: ToolError, kind: type[Exception] | None = None) -> ToolResult:
    """Return the result that tells a model about `error`; lines of it that show a file stay lines.

    `kind` is what went wrong; by default it is read from `error`, which a time-out may have caused.
    """
    text = f"{error}; {error.hint}" if error.hint else str(error)
    words = f"Error: {text if chr(10) in text else ' '.join(text.split())}"
    late = isinstance(error.__cause__ or error.__context__, TimeoutError)
    return ToolResult(ok=False, text=words, error=(kind or (TimeoutError if late else type(error))).__name__)


def shorten(value: object, limit: int = 80) -> str:
    """`repr(value)`, cut in the middle to `limit` characters."""
    text = repr(value)
    if len(text) <= limit:
        return text
    return f"{text[: limit - 20]}...{text[-17:]}"


def guess_for(name: str, valid: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the valid name nearest to `name`, or nothing."""
    close = nearest(name[:100], valid)
    return f" (did you mean {close!r}?)" if close else ""
