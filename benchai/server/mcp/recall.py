"""The memory's tools: what a key's user may find, and nothing of another one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcp_types import CallToolResult, TextContent
from pydantic import ValidationError

from benchai.errors import UsageError
from benchai.graphs.memories import Memories
from benchai.graphs.remembering import RunMemory
from benchai.server.mcp.catalog import SEARCH
from benchai.tools.memory import Recalled, SearchArgs

#: Stands for a thread and a run where there is neither: nothing is kept under it.
NOWHERE = "mcp"


async def find(memories: Memories, tool: str, arguments: Mapping[str, Any], owner: str) -> CallToolResult:
    """What the memory holds on a question.

    Raises:
        UsageError: the arguments are wrong.
        BenchAIError: the memory can't be read.
    """
    try:
        asked = SearchArgs.model_validate(dict(arguments))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UsageError(f"{tool}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    memory = RunMemory(memories, NOWHERE, NOWHERE, owner or None)
    found = await (memory.search if tool == SEARCH else memory.recall)(asked.query, asked.count)
    structured = {"passages": [one._asdict() for one in found]}
    return CallToolResult(content=[TextContent(text=_shown(found))], structured_content=structured)


def _shown(found: Sequence[Recalled]) -> str:
    return "\n\n".join(f"[{one.id}] {one.place} ({one.date})\n{one.text}" for one in found) or "nothing matches"
