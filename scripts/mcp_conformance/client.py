"""BenchAI's MCP client under a client scenario: connect to the URL, and call each tool once.

``python -m scripts.mcp_conformance.client URL``
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchai.config.models import McpServer
from benchai.tools.mcp import mcp_tools
from benchai.tools.tool import ToolContext

ARGUMENTS: dict[str, dict[str, Any]] = {"mcp__conformance__add_numbers": {"a": 5, "b": 3}}


async def main(url: str) -> int:
    """The exit code: 0 where the server could be used."""
    problems: list[str] = []
    servers = {"conformance": McpServer(url=url)}
    with tempfile.TemporaryDirectory() as folder:
        report = lambda _, problem: problems.append(str(problem))  # noqa: E731
        async with mcp_tools(servers, Path(folder), on_problem=report) as tools:
            for tool in tools:
                result = await tool.invoke(ARGUMENTS.get(tool.name, {}), ToolContext(Path(folder)))
                print(tool.name, "ok" if result.ok else "failed", result.text[:200])
    print(*problems, sep="\n", file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
