"""Tools of MCP servers (Model Context Protocol), local ones as child processes and remote ones by HTTP.

What a server says is data of a third party: names, descriptions, schemas and results are cleaned and bounded
before a model sees them, and all of its tools ask before they run, whatever they claim about themselves.

A child process ends with the `mcp_tools` block, with all processes of its group. When BenchAI itself is killed
by SIGKILL, the server sees its stdin close, which the protocol tells it to take as the end; one that does not
keep to that outlives us.

Needs the `mcp` package: ``pip install "benchai[mcp]"``.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from benchai.config.models import McpServer
from benchai.errors import BenchAIError, ConfigError
from benchai.tools.mcp.offers import tools_of
from benchai.tools.tool import Permission, Tool

if TYPE_CHECKING:
    from benchai.tools.mcp.link import Link, Offer, Transport

__all__ = ["child_environment", "mcp_tools"]

logger = logging.getLogger(__name__)

_INHERITED = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")


def _warn(server: str, problem: BenchAIError) -> None:
    logger.warning("%s", problem)


def _drop(server: str, line: str) -> None:
    logger.debug("%s: %s", server, line)


@asynccontextmanager
async def mcp_tools(
    servers: Mapping[str, McpServer],
    workspace: Path,
    *,
    on_problem: Callable[[str, BenchAIError], None] = _warn,
    on_log: Callable[[str, str], None] = _drop,
) -> AsyncIterator[list[Tool]]:
    """Connect to all servers at once and yield their tools; all connections are closed at the end.

    Tools are named `mcp__SERVER__TOOL`; those of a command have permission "execute", those of a URL "network".
    A server that cannot be used is reported to `on_problem` with its name, and the others go on; what its process
    writes to stderr goes to `on_log`, line by line. The list of tools does not change while the block lasts.

    Raises ConfigError when there are servers and the `mcp` package is not installed.
    """
    links = {name: _link(name, server, workspace, on_log) for name, server in servers.items()}
    try:
        found = await asyncio.gather(*(_offers(link, on_problem) for link in links.values()))
        taken: set[str] = set()
        tools: list[Tool] = []
        for link, offers in zip(links.values(), found, strict=True):
            server = servers[link.name]
            permission: Permission = "network" if server.url else "execute"
            tools += tools_of(link, offers, server.tools, permission, taken, on_problem)
        yield tools
    finally:
        await asyncio.gather(*(link.close() for link in links.values()))


def child_environment(server: McpServer, ours: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a server's process: what programs need to run, and what its entry names.

    Raises ConfigError for a variable of `env_from` that is not set.
    """
    basic = {name: ours[name] for name in _INHERITED if name in ours}
    return basic | {name: _variable(name, ours) for name in server.env_from} | dict(server.env)


async def _offers(link: Link, on_problem: Callable[[str, BenchAIError], None]) -> list[Offer]:
    try:
        return await link.offers()
    except BenchAIError as error:
        on_problem(link.name, error)
        return []


def _link(name: str, server: McpServer, workspace: Path, on_log: Callable[[str, str], None]) -> Link:
    try:
        import mcp  # noqa: F401
    except ModuleNotFoundError as error:
        hint = 'pip install "benchai[mcp]"'
        raise ConfigError(f"MCP server {name!r} needs the package 'mcp', which is not installed", hint=hint) from error
    from benchai.tools.mcp.http import Remote
    from benchai.tools.mcp.link import Link
    from benchai.tools.mcp.stdio import Child

    def transport() -> Transport:
        if server.url:
            return Remote(server.url, _headers(server, os.environ), server.timeout)
        assert server.command is not None, "the configuration has checked it"
        environment = child_environment(server, os.environ)
        return Child([server.command, *server.args], environment, workspace, lambda line: on_log(name, line))

    return Link(name, transport, server.timeout, metadata.version("benchai"))


def _headers(server: McpServer, ours: Mapping[str, str]) -> dict[str, str]:
    headers = {name: _variable(variable, ours).strip() for name, variable in server.headers_env.items()}
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            variable = server.headers_env[name]
            raise ConfigError(f"environment variable {variable!r} holds characters that no header can carry")
    return headers


def _variable(name: str, ours: Mapping[str, str]) -> str:
    if name not in ours:
        raise ConfigError(f"environment variable {name!r} is not set", hint=f"export {name}=...")
    return ours[name]
