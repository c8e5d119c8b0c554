"""BenchAI as an MCP server: workflows and the memory as tools, documents as resources, over HTTP and on stdio.

Nothing here imports the package ``mcp`` before a client comes: ``door`` answers 501 where it is missing.
"""

from benchai.server.mcp.door import PATH, McpDoor
from benchai.server.mcp.house import House

__all__ = ["PATH", "House", "McpDoor"]
