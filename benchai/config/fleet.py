"""The sections ``engine:``, ``router:`` and ``fleet:`` of benchai.yaml: how models are served and kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from benchai.config.section import CORE_ROLES, Count, Host, Natural, Port, Seconds, Section


class EngineConfig(Section):
    """The program that serves GGUF files."""

    path: str | None = Field(None, description="The llama-server program; default: PATH, then the embedded engine")
    kind: Literal["auto", "llama-server", "native"] = Field("auto", description="Which engine to use")
    stall_timeout: Seconds = Field(120, description="A start without log line, I/O or memory growth for so long failed")
    stop_grace: Seconds = Field(5, description="Time between SIGTERM and SIGKILL")


class Timeouts(Section):
    """Idle time-outs: no token for so many seconds ends a call. ``total`` caps the whole call."""

    gpu: Seconds = 90
    cpu: Seconds = 300
    total: Seconds = Field(3600, description="A call may take so long in all")


class TokenCaps(Section):
    """Tokens of one reply at most, by where the model runs."""

    gpu: Count = 1024
    cpu: Count = Field(512, description="On the CPU")
    cpu_reasoning: Count = Field(768, description="On the CPU, for the roles planner and research")


class RouterConfig(Section):
    """The address of the fleet, and the limits of each role."""

    host: Host = "127.0.0.1"
    port: Port = 8085
    health_check_interval: Seconds = Field(60, description="The slow check, beside the immediate detection of an exit")
    max_concurrent: dict[str, Count] = Field(
        default_factory=dict, description="Requests at a time by role; general and planner 2, others 1"
    )
    timeouts: Timeouts = Field(default_factory=Timeouts)
    max_tokens: TokenCaps = Field(default_factory=TokenCaps)
    fallback: dict[str, list[str]] = Field(
        default_factory=dict, description="Role -> models that serve it while its own has failed or keeps it waiting"
    )
    copies: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Role -> copies of its model (one on the CPU, say); a request goes where it is to end soonest",
    )
    aliases: dict[str, str] = Field(
        default_factory=dict, description="Names that clients insist on -> auto, a role, a model or workflow:NAME"
    )
    keep_alive: Seconds = Field(5, description="A stream that is silent for so long gets a comment")
    max_queue: Count = Field(64, description="Requests of a role that may wait; one more is refused (HTTP 429)")
    max_wait: Seconds = Field(60, description="After so long nobody is served ahead of a waiting request")
    max_passes: Count = Field(8, description="Requests that may be served ahead of a waiting one to save swaps")


class MemoryConfig(Section):
    """What the models may use of this machine's memory, in MiB."""

    vram: Count | None = Field(
        None, description="Of each GPU; default: what NVML measures. Without a GPU: for models with placement: gpu"
    )
    ram: Count | None = Field(None, description="Of the RAM; default: what is available")
    reserve: Natural = Field(1000, description="Kept free on each GPU and of the RAM (driver, desktop)")
    release_deadline: Seconds = Field(15, description="A stopped model must have given its memory back by then")


class FleetConfig(Section):
    """How the fleet keeps its models."""

    core: list[str] = Field(
        default_factory=lambda: list(CORE_ROLES), description="Roles whose models benchai serve starts and keeps up"
    )
    ttl: Seconds = Field(600, description="Models of other roles are stopped after so many idle seconds")
    vision_hold: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = Field(
        30, description="Idle seconds after which a vision model gives its place back"
    )
    max_restarts: Count = Field(5, description="Restarts in a row, after which a model that ends again has failed")
    probe_deadline: Seconds = Field(10, description="A probe that does work must be answered by then")
    drain_timeout: Seconds = Field(30, description="Requests under way may take so long when the fleet ends")
    slot_cache: Natural = Field(4096, description="MiB of saved KV caches in all; 0 saves none")
    memory: MemoryConfig = Field(default_factory=MemoryConfig)
