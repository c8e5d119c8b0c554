"""How tools are described to MCP clients."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from mcp_types import Tool, ToolAnnotations

from benchai.graphs.registry import TextOutput, Workflow
from benchai.tools.memory import SearchArgs

SEARCH, RECALL = "memory_search", "memory_recall"
LONGEST_NAME = 128
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FOREIGN = re.compile(r"[^A-Za-z0-9_.-]")
_ENDED: dict[str, Any] = {
    "stop_reason": {
        "type": "string",
        "description": "completed; or why it ended before its answer: budget_steps, budget_tokens, budget_time, loop, "
        "cancelled, error, awaiting_approval",
    },
    "thread_id": {"type": "string", "description": "Thread of the run; one that awaits an approval goes on there"},
    "awaiting": {"type": "array", "items": {"type": "object"}, "description": "What the run awaits approval of"},
}
_FOUND: dict[str, Any] = {
    "type": "object",
    "properties": {
        "passages": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("id", "place", "date", "text")},
                "required": ["id", "place", "date", "text"],
            },
        }
    },
    "required": ["passages"],
}


def named(workflows: Iterable[Workflow]) -> dict[str, Workflow]:
    """The workflows by the names of their tools, in letters, digits and ``_.-``; the memory's names are taken."""
    found: dict[str, Workflow] = {}
    for one in workflows:
        name = _FOREIGN.sub("_", one.name)[:LONGEST_NAME]
        if name in found or name in MEMORY_TOOLS:
            mark = hashlib.sha256(one.name.encode()).hexdigest()[:8]
            name = f"{name[: LONGEST_NAME - 9]}_{mark}"
        found[name] = one
    return found


def workflow_tool(name: str, workflow: Workflow) -> Tool:
    """A workflow as a tool."""
    return Tool(
        name=name,
        title=workflow.name,
        description=workflow.description,
        input_schema={"$schema": DIALECT, **workflow.input.model_json_schema()},
        output_schema=output_schema(workflow),
        annotations=ToolAnnotations(read_only_hint=False, open_world_hint=True),
    )


def output_schema(workflow: Workflow) -> dict[str, Any]:
    """What a run returns: the workflow's output, none of which is sure where it ends early, and how it ended."""
    schema = workflow.output.model_json_schema()
    schema.pop("additionalProperties", None)
    text = TextOutput.model_json_schema()["properties"]
    schema["properties"] = text | schema.get("properties", {}) | _ENDED
    schema["required"] = ["output", "stop_reason", "thread_id"]
    return schema


def _memory_tool(name: str, description: str) -> Tool:
    return Tool(
        name=name,
        description=description,
        input_schema=SearchArgs.model_json_schema(),
        output_schema=_FOUND,
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )


MEMORY_TOOLS = {
    SEARCH: _memory_tool(SEARCH, "Find passages in the documents that the memory keeps."),
    RECALL: _memory_tool(RECALL, "Find what was said, learned and done in earlier conversations."),
}
