"""The tools that a run may call, by name.

A registry keeps the order in which tools were added, so that the schemas in a request, and with them the
prefix that the server has cached, stay the same from call to call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchai.errors import ToolError, UsageError
from benchai.tools.calculator import CALCULATOR
from benchai.tools.clock import CURRENT_TIME
from benchai.tools.files import LIST_FILES, READ_FILE
from benchai.tools.memory import MEMORY_TOOLS
from benchai.tools.run_code import PYTHON, SHELL
from benchai.tools.search import SEARCH_FILES
from benchai.tools.tool import (
    Permission,
    Tool,
    ToolArgs,
    ToolContext,
    ToolResult,
    failure,
    guess_for,
    shorten,
)
from benchai.tools.web import WEB_FETCH
from benchai.tools.writing import EDIT_FILE, WRITE_FILE

__all__ = ["Permission", "Tool", "ToolArgs", "ToolContext", "ToolRegistry", "ToolResult", "builtin_tools"]


class ToolRegistry:
    """Tools by name, in the order in which they were added."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        """Start with `tools`. Raises ValueError when two have one name."""
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            self.add(tool)

    def add(self, tool: Tool) -> None:
        """Add a tool. Raises ValueError when its name is taken."""
        if tool.name in self._tools:
            raise ValueError(f"there is already a tool {tool.name!r}")
        self._tools[tool.name] = tool

    def get(self, name: str) -> Tool:
        """Return the tool of that name. Raises ToolError that lists the tools there are."""
        tool = self._tools.get(name)
        if tool is None:
            guess = guess_for(name, self._tools)
            known = ", ".join(self._tools) or "none"
            raise ToolError(f"there is no tool {shorten(name)}; tools: {known}{guess}")
        return tool

    def names(self) -> tuple[str, ...]:
        """Return the names of all tools."""
        return tuple(self._tools)

    def schemas(self, names: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Return the OpenAI schemas of all tools, or of those named, in the order given.

        Raises ToolError for a name that is not known.
        """
        return [self.get(name).schema() for name in (self._tools if names is None else names)]

    async def invoke(self, name: str, arguments: Mapping[str, Any] | str, ctx: ToolContext) -> ToolResult:
        """Call a tool as a model asked for it; see `Tool.invoke`. An unknown name is a result, too."""
        try:
            tool = self.get(name)
        except ToolError as error:
            return failure(error, UsageError)
        return await tool.invoke(arguments, ctx)


def builtin_tools() -> ToolRegistry:
    """Return a new registry with every tool of the package; `benchai.tools.selection` says which are offered."""
    every = (CALCULATOR, CURRENT_TIME, LIST_FILES, READ_FILE, SEARCH_FILES, WRITE_FILE, EDIT_FILE, SHELL, PYTHON)
    return ToolRegistry([*every, WEB_FETCH, *MEMORY_TOOLS])
