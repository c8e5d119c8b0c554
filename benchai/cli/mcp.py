"""``benchai mcp``: workflows, memory and documents for a client that starts BenchAI as an MCP server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchai.cli.options import ConfigOption, say

if TYPE_CHECKING:
    from benchai.config import LoadedConfig


def mcp(
    config: ConfigOption = None,
    workspace: Annotated[
        Path | None,
        typer.Option("--workspace", "-w", help="The folder that file tools see; default: the current one."),
    ] = None,
) -> None:
    """Serve workflows, the memory and its documents by MCP on stdin and stdout, until stdin ends.

    A running 'benchai serve' of this user lends its models; it serves the same over HTTP, at /mcp.
    """
    from benchai.cli.asyncrun import run_async
    from benchai.config import load_config

    _check()
    if sys.stdin.isatty():
        say("speaks MCP on stdin and stdout, for a client that starts it; Ctrl-C ends it", err=True)
    run_async(_serve(load_config(config), workspace))


def _check() -> None:
    """Refuse to go on without the package, or without a client.

    Raises:
        UsageError: the package is not installed, or stdin or stdout is closed.
    """
    from benchai.errors import UsageError
    from benchai.server.mcp.door import MEND, MISSING

    try:
        import mcp  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(MISSING, hint=MEND) from error
    # where one is closed, its number is that of a file which is opened later
    if sys.__stdin__ is None or sys.__stdout__ is None or sys.__stderr__ is None:
        raise UsageError("stdin, stdout or stderr is closed", hint="an MCP client starts this program with pipes")


async def _serve(loaded: LoadedConfig, workspace: Path | None) -> None:
    from contextlib import nullcontext

    from benchai.bench import Bench
    from benchai.cli.opening import opened_endpoints
    from benchai.graphs.memories import Memories
    from benchai.server.mcp.house import House
    from benchai.server.mcp.stdio import serve_stdio

    async with opened_endpoints(loaded) as endpoints, Memories(loaded, endpoints) as memories:
        async with Bench.open(loaded, workspace=workspace, endpoints=endpoints, memories=memories) as bench:
            await serve_stdio(House(lambda: nullcontext(bench), memories))
