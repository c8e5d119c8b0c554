"""The section ``agent:`` of benchai.yaml: how `benchai serve` runs what clients of the agent wire ask for."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from benchai.config.section import Count, Natural, Seconds, Section, VariableName

#: A host or a glob of hosts, with a port where only that one is meant; IPv6 addresses stand in brackets.
HOST_GLOB = re.compile(r"(\[[0-9A-Fa-f:.*?]+\]|[A-Za-z0-9._*?-]+)(:(\*|[0-9]{1,5}))?")
HostGlob = Annotated[str, Field(max_length=255, pattern=rf"^{HOST_GLOB.pattern}$")]


class AgentConfig(Section):
    """Runs, their queue, what is kept of them, and who is told of their end."""

    concurrency: Count = Field(8, description="Runs at a time")
    per_key: Count | None = Field(None, description="Runs of one API key at a time; default: any")
    queue: Natural = Field(1000, description="Runs that wait for their turn at most; 0: none waits")
    resume_after_restart: bool = Field(
        True, description="Whether runs that the server's end broke off go on from their checkpoint when it starts"
    )
    keep_events_hours: Seconds = Field(24.0, description="Hours after a run's end for which its events can be replayed")
    keep_stateless_seconds: Seconds = Field(
        600.0, description="Seconds after its end for which a run without a thread can be asked about"
    )
    webhook_secret_env: VariableName | None = Field(
        None,
        description="Environment variable with the secret that signs webhooks, whsec_ and base64; default: unsigned",
    )
    webhook_hosts: list[HostGlob] = Field(
        default_factory=list,
        description='Globs of hosts that webhooks may reach beside public ones: "hooks.lan", "127.0.0.1:9000"',
    )
