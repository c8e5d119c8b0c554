"""Tools that agents call."""

from benchai.tools.registry import (
    Permission,
    Tool,
    ToolArgs,
    ToolContext,
    ToolRegistry,
    ToolResult,
    builtin_tools,
)

__all__ = ["Permission", "Tool", "ToolArgs", "ToolContext", "ToolRegistry", "ToolResult", "builtin_tools"]
