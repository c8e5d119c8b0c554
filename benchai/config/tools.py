"""The section ``tools:`` of benchai.yaml: which tools there are, what they may do, and servers of further ones."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from benchai.config.section import Seconds, Section, VariableName

Decision = Literal["allow", "ask", "deny"]
ToolKind = Literal["read", "write", "execute", "network"]
ServerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")]
Glob = Annotated[str, Field(min_length=1, max_length=1000)]
_OPEN_HOST = re.compile(r"[^/:]*://[^/]*[*?\]]")


class PermissionRule(Section):
    """One rule on calls of tools; which one wins is told in ``benchai.tools.permissions``."""

    tool: Glob | None = Field(None, description="Glob on the names of tools; default: all")
    kind: ToolKind | None = Field(None, description="What the tools do; default: any kind")
    arguments: dict[str, str] = Field(
        default_factory=dict, description="Globs on the whole values of arguments, by name; all must match"
    )
    decision: Decision = Field(description="What happens to the calls that match")

    @model_validator(mode="after")
    def _says_what_it_is_about(self) -> PermissionRule:
        if self.tool is None and self.kind is None:
            raise ValueError('tool or kind is needed; tool: "*" stands for all tools')
        return self

    @model_validator(mode="after")
    def _closes_the_host(self) -> PermissionRule:
        for name, glob in self.arguments.items():
            if self.decision == "allow" and _OPEN_HOST.fullmatch(glob):
                reason = "also allows other hosts that start like this one"
                raise ValueError(f"{name}: {glob!r} {reason}; end the host with a slash, as in https://example.org/*")
        return self


class McpServer(Section):
    """A server of tools (Model Context Protocol): a ``command`` that is started, or the ``url`` of one that runs."""

    command: str | None = Field(None, min_length=1, description="Program that is started and spoken to over pipes")
    args: list[str] = Field(default_factory=list, description="Arguments of the command")
    env: dict[VariableName, str] = Field(default_factory=dict, description="Environment variables of the command")
    env_from: list[VariableName] = Field(
        default_factory=list, description="Environment variables that are handed on to the command"
    )
    url: str | None = Field(None, description="Address of a server that runs already")
    headers_env: dict[HeaderName, VariableName] = Field(
        default_factory=dict, description="Header -> environment variable that holds its value"
    )
    timeout: Seconds = Field(30, description="A start, and a call, may take so long")
    tools: list[Glob] | None = Field(None, description="Globs of the tools that are offered; default: all")

    @model_validator(mode="after")
    def _one_way_in(self) -> McpServer:
        if (self.command is None) == (self.url is None):
            given = "none" if self.command is None else "both"
            raise ValueError(f"exactly one of command and url is needed, {given} given")
        other, keys = ("url", ["headers_env"]) if self.command is not None else ("command", ["args", "env", "env_from"])
        misplaced = [key for key in keys if getattr(self, key)]
        if misplaced:
            raise ValueError(f"{', '.join(misplaced)}: only with {other}")
        twice = sorted(set(self.env) & set(self.env_from))
        if twice:
            raise ValueError(f"{', '.join(twice)}: in env and in env_from")
        return self

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^/\s]", value):
            raise ValueError("a URL is expected, for example http://127.0.0.1:8000/mcp")
        return value


class ToolsConfig(Section):
    """The tools that agents may call."""

    enabled: list[str] | None = Field(
        None,
        description="Names of the tools that are offered, or [all]; "
        "default: calculator, current_time, list_files, read_file",
    )
    permissions: list[PermissionRule] = Field(
        default_factory=list, description="Rules on calls: deny wins, then the first that matches, then the defaults"
    )
    mcp: dict[ServerName, McpServer] = Field(default_factory=dict, description="Servers of further tools by name")
