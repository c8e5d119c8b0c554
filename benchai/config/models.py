"""The pydantic models of benchai.yaml.

Two forms load: the short one, in which a model's name is also its role, and the full one with ``roles:``.
Times are seconds, sizes of contexts and batches are tokens.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from benchai.config.agent import AgentConfig
from benchai.config.cache import CacheConfig
from benchai.config.fleet import EngineConfig, FleetConfig, RouterConfig, TokenCaps
from benchai.config.memory import MemoryConfig
from benchai.config.model import (
    BUILTIN,
    REMOTE_KEYS,
    TINY,
    TINY_DRAFT,
    TINY_VISION,
    DraftConfig,
    KVType,
    ModelConfig,
    NgramConfig,
)
from benchai.config.routing import RoutingConfig
from benchai.config.section import (
    REASONING_ROLES,
    ROLES,
    TEXT_ROLES,
    Count,
    Seconds,
    Section,
)
from benchai.config.server import ServerConfig
from benchai.config.threads import ThreadsConfig
from benchai.config.tools import Decision, McpServer, PermissionRule, ToolsConfig
from benchai.config.usage import UsageConfig

__all__ = [
    "BUILTIN",
    "REASONING_ROLES",
    "ROLES",
    "TINY",
    "TINY_DRAFT",
    "TINY_VISION",
    "Config",
    "Decision",
    "DraftConfig",
    "EngineConfig",
    "KVType",
    "McpServer",
    "ModelConfig",
    "NgramConfig",
    "PermissionRule",
    "RouterConfig",
    "ThreadsConfig",
    "TokenCaps",
    "ToolsConfig",
    "default_config",
]

#: Parallel requests of a model, where its roles may ask for more and it has no setting of its own.
MOST_SLOTS = 4
_NAME = re.compile(r"\w[^,/\\]{0,98}[^,/\\\s]|\w")


class BudgetConfig(Section):
    """What one run may spend."""

    steps: Count | None = Field(None, description="Calls of a model; default: the workflow's own, 12 for react")
    tokens: Count = Field(100_000, description="Prompt and completion tokens, as the engine counts them")
    seconds: Seconds = Field(1800, description="Wall time")


def _places(value: Any) -> Any:
    """A list of places as a mapping: what they bring has names of its own."""
    if not isinstance(value, list):
        return value
    wrong = next((place for place in value if not isinstance(place, str)), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} in the list is no file; names go with a mapping, name: ./file.py:attribute")
    return {place: place for place in value}


class Config(Section):
    """The whole of benchai.yaml."""

    models: dict[str, ModelConfig] = Field(min_length=1, description="Models by name")
    roles: dict[str, str] = Field(default_factory=dict, description="Role -> model")
    models_dir: str | None = Field(
        None, description="Where relative model files are looked for, after this file's folder"
    )
    engine: EngineConfig = Field(default_factory=EngineConfig)
    router: RouterConfig = Field(default_factory=RouterConfig)
    fleet: FleetConfig = Field(default_factory=FleetConfig)
    budgets: BudgetConfig = Field(default_factory=BudgetConfig)
    workflows: Annotated[
        dict[str, str], BeforeValidator(_places, json_schema_input_type=dict[str, str] | list[str])
    ] = Field(
        default_factory=dict,
        description="Custom workflows: name -> ./file.py:attribute; or files with @workflow and langgraph.json files",
    )
    tools: ToolsConfig = Field(default_factory=ToolsConfig)
    threads: ThreadsConfig = Field(default_factory=ThreadsConfig)
    routing: RoutingConfig = Field(default_factory=RoutingConfig)
    server: ServerConfig = Field(default_factory=ServerConfig)
    usage: UsageConfig = Field(default_factory=UsageConfig)
    cache: CacheConfig = Field(default_factory=CacheConfig)
    memory: MemoryConfig = Field(default_factory=MemoryConfig)
    agent: AgentConfig = Field(default_factory=AgentConfig)

    @field_validator("models")
    @classmethod
    def _names_can_be_used(cls, models: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
        # a name becomes a flag's value, an alias and a file name
        for name in models:
            if not _NAME.fullmatch(name) or not name.isprintable():
                expected = "a letter or digit first, then no comma, slash or backslash, at most 100 characters"
                raise ValueError(f"the model's name {name[:120]!r} cannot be used: {expected}")
        return models

    def as_data(self) -> dict[str, Any]:
        """Plain data that loads again, defaults written out; a remote model has no launch settings."""
        data = self.model_dump(exclude_none=True) | {"roles": self.role_map()}
        for name, model in self.models.items():
            if model.remote:
                data["models"][name] = model.model_dump(exclude_none=True, include=REMOTE_KEYS)
        return data

    def role_map(self) -> dict[str, str]:
        """Role -> model name.

        Without ``roles:`` each model's name is its role, and a single model that is not named as a role
        serves all roles that write text. A model named as one of the standard roles serves that role unless
        ``roles:`` says otherwise.
        """
        only = next(iter(self.models))
        if not self.roles and len(self.models) == 1 and only not in ROLES:
            return dict.fromkeys((*TEXT_ROLES, only), only)
        implied = self.models if not self.roles else [name for name in self.models if name in ROLES]
        return {name: name for name in implied} | self.roles

    def roles_of(self, model: str) -> list[str]:
        """The roles that a model serves, in the configuration's order."""
        return [role for role, name in self.role_map().items() if name == model]

    def models_of(self, role: str) -> list[str]:
        """The models that may serve a role: its own, the copies of that, those that stand in for it.

        Raises:
            KeyError: there is no such role.
        """
        others = (*self.router.copies.get(role, ()), *self.router.fallback.get(role, ()))
        return list(dict.fromkeys((self.role_map()[role], *others)))

    def copied_by(self, model: str) -> list[str]:
        """The roles whose model this one is a copy of."""
        return [role for role, copies in self.router.copies.items() if model in copies]

    def concurrency(self, role: str) -> int:
        """Requests at a time of a role, on all copies."""
        return self.router.max_concurrent.get(role, at_once(role) * (1 + len(self.router.copies.get(role, ()))))

    def slots_of(self, model: str) -> int:
        """Parallel requests of a model: its own setting, or what its roles may ask for, at most 4."""
        roles = dict.fromkeys(self.roles_of(model) + self.copied_by(model))
        wanted = sum(-(-self.concurrency(role) // (1 + len(self.router.copies.get(role, ())))) for role in roles)
        return self.models[model].slots or min(max(wanted, 1), MOST_SLOTS)


def at_once(role: str) -> int:
    """Requests at a time of a role on one model, by default: seed, "Concurrent Request Handling"."""
    return 2 if role in ("general", "planner") else 1


def default_config() -> Config:
    """The built-in configuration: every role on the bundled tiny models."""
    tiny = ModelConfig(file=TINY, threads=1, threads_batch=1, gpu_layers=0, temperature=0)
    vision = tiny.model_copy(update={"file": TINY_VISION, "mmproj": f"{TINY_VISION}-mmproj"})
    roles = dict.fromkeys(ROLES, "tiny") | {"vision": "tiny-vision"}
    return Config(models={"tiny": tiny, "tiny-vision": vision}, roles=roles)
