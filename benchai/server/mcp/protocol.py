"""The MCP server itself: which requests it answers, with what."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    ListResourcesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
)

from benchai import __version__
from benchai.errors import BenchAIError
from benchai.server.mcp.calls import Calls, Context, owner_of
from benchai.server.mcp.documents import Documents
from benchai.server.mcp.house import House
from benchai.server.mcp.tools import Tools

P = TypeVar("P")
R = TypeVar("R")
logger = logging.getLogger(__name__)
# a library that logs to nobody must not fall back on our stderr
logging.getLogger("mcp").addHandler(logging.NullHandler())
INSTRUCTIONS = (
    "Each workflow is a tool: give it a task in words; it may take minutes, and tells its progress. "
    "memory_search looks into the user's documents, memory_recall into earlier conversations."
)


def make_server(house: House, calls: Calls) -> Server[Any]:
    """A server over a house; ``calls`` holds what is under way, to be closed before the house."""
    tools, documents = Tools(house), Documents(house)

    async def list_tools(context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        if params is not None and params.cursor is not None:
            raise MCPError(INVALID_PARAMS, f"the cursor {params.cursor[:100]!r} is none of this server's")
        return ListToolsResult(tools=await tools.listed())

    async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        return await calls.run(context, tools.call(context, params))

    async def list_resources(context: Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
        return await documents.listed(owner_of(context), params.cursor if params is not None else None)

    async def read_resource(context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        return await documents.read(owner_of(context), params.uri)

    remembers = house.memories.enabled
    return Server(
        "benchai",
        title="BenchAI",
        version=__version__,
        instructions=INSTRUCTIONS,
        get_tool_input_schema=tools.schema,
        on_list_tools=_told(list_tools),
        on_call_tool=_told(call_tool),
        on_list_resources=_told(list_resources) if remembers else None,
        on_read_resource=_told(read_resource) if remembers else None,
    )


def _told(handler: Callable[[Context, P], Awaitable[R]]) -> Callable[[Context, P], Awaitable[R]]:
    """The same, with errors as the protocol has them: what is a defect of ours goes to the log alone."""

    @wraps(handler)
    async def answer(context: Context, params: P) -> R:
        try:
            return await handler(context, params)
        except BenchAIError as error:
            text = f"{error.message}; {error.hint}" if error.hint else error.message
            raise MCPError(INVALID_PARAMS if error.status < 500 else INTERNAL_ERROR, text) from error
        except MCPError:
            raise
        except Exception as error:
            logger.exception("an MCP request failed")
            raise MCPError(INTERNAL_ERROR, "the server failed; its log says why") from error

    return answer
