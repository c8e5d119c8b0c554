"""Tools beside those of the package: of the configured vault, and of MCP servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchai.config import LoadedConfig
from benchai.errors import BenchAIError
from benchai.tools.mcp import mcp_tools
from benchai.tools.tool import Tool


@asynccontextmanager
async def further_tools(loaded: LoadedConfig, workspace: Path, problems: list[str]) -> AsyncIterator[list[Tool]]:
    """The tools of a configuration's vault and MCP servers, for as long as the context is open.

    Args:
        loaded: The configuration.
        workspace: Where servers that are programs run.
        problems: Gets a line for each server whose tools are missing.

    Raises:
        UsageError: the vault is none.
    """
    servers = loaded.config.tools.mcp

    def problem(name: str, error: BenchAIError) -> None:
        problems.append(f"the tools of {name!r} are missing: {error.message}")

    async with AsyncExitStack() as stack:
        tools = await stack.enter_async_context(_vault_tools(loaded)) if loaded.config.memory.vault else []
        if servers:
            tools += await stack.enter_async_context(mcp_tools(servers, workspace, on_problem=problem))
        yield tools


@asynccontextmanager
async def _vault_tools(loaded: LoadedConfig) -> AsyncIterator[list[Tool]]:
    from benchai.memory.vault.notes import VaultNotes
    from benchai.memory.vault.vault import find_vault
    from benchai.tools.notes import note_tools

    assert loaded.config.memory.vault is not None
    notes = VaultNotes(find_vault(Path(loaded.resolve(loaded.config.memory.vault))))
    try:
        yield list(note_tools(notes))
    finally:
        await notes.close()
