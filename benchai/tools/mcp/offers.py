"""The tools that MCP servers offer, as tools of ours: names, descriptions, and which of them are taken."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from benchai.errors import BenchAIError, ConfigError, ToolError
from benchai.tools.json_args import json_tool
from benchai.tools.json_shown import plain_text
from benchai.tools.mcp.results import result_text
from benchai.tools.tool import Permission, Tool, ToolContext, shorten

if TYPE_CHECKING:
    from benchai.tools.mcp.link import Link, Offer

__all__ = ["tool_name", "tools_of"]

MAX_NAME = 64
MAX_DESCRIPTION = 300
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]")


def tools_of(
    link: Link,
    offers: Sequence[Offer],
    globs: Sequence[str] | None,
    permission: Permission,
    taken: set[str],
    on_problem: Callable[[str, BenchAIError], None],
) -> list[Tool]:
    """Return the offered tools that match `globs`, all when None; their names are added to `taken`.

    What cannot be used is reported and left out.
    """
    tools: list[Tool] = []
    for offer in _chosen(link.name, offers, globs, on_problem):
        try:
            tools.append(_tool(link, offer, permission, taken))
        except ValueError as error:
            text = f"tool {shorten(offer.name)} of MCP server {link.name!r} is left out: {error}"
            on_problem(link.name, ToolError(text))
    return tools


def tool_name(server: str, tool: str, taken: Iterable[str] = ()) -> str:
    """Return `mcp__SERVER__TOOL` in letters, digits, "_" and "-", at most 64 of them, none of `taken`.

    A hash makes a name unique that was cut or would clash; a tool gets the same name in each run.
    """
    name = _FOREIGN.sub("_", f"mcp__{server}__{tool}")
    if len(name) <= MAX_NAME and name not in taken:
        return name
    mark = hashlib.sha256(f"{server}\0{tool}".encode(errors="replace")).hexdigest()[:8]
    return f"{name[: MAX_NAME - 9]}_{mark}"


def _chosen(
    server: str, offers: Sequence[Offer], globs: Sequence[str] | None, on_problem: Callable[[str, BenchAIError], None]
) -> list[Offer]:
    if globs is None:
        return list(offers)
    for glob in globs:
        if not any(fnmatchcase(offer.name, glob) for offer in offers):
            known = ", ".join(plain_text(offer.name, 60) for offer in offers[:20]) or "none"
            text = f"tools.mcp.{server}.tools: {glob!r} matches no tool of the server"
            on_problem(server, ConfigError(text, hint=f"it offers: {known}"))
    return [offer for offer in offers if any(fnmatchcase(offer.name, glob) for glob in globs)]


def _tool(link: Link, offer: Offer, permission: Permission, taken: set[str]) -> Tool:
    if not offer.name:
        raise ValueError("it has no name")
    name = tool_name(link.name, offer.name, taken)
    if name in taken:
        raise ValueError("its name is taken")
    source = f"tool {shorten(offer.name)} of MCP server {link.name!r}"

    async def run(arguments: dict[str, Any], ctx: ToolContext) -> str:
        return result_text(await link.call(offer.name, arguments), source)

    tool = json_tool(name, _description(link.name, offer), offer.schema, run, permission)
    taken.add(name)
    return tool


def _description(server: str, offer: Offer) -> str:
    return plain_text(offer.description, MAX_DESCRIPTION) or f"{plain_text(offer.name, 60)}, of MCP server {server}"
