"""What the ``model`` of a request may be: ``auto``, a role, a configured model, ``workflow:NAME``, or an alias.

A name can be both a role and a model (the short form of benchai.yaml): then it is the role, whose fallbacks may serve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchai.config import LoadedConfig
from benchai.errors import UnknownModel, did_you_mean
from benchai.server.openai.errors import unknown_model

AUTO = "auto"
WORKFLOW = "workflow:"
OWNER = "benchai"


@dataclass(frozen=True)
class Target:
    """Who is to answer.

    Attributes:
        role: The role whose limits count; "" while ``auto`` has not decided.
        models: Models that may serve it, the first one preferred.
        workflow: The workflow that answers instead of a model.
    """

    role: str = ""
    models: tuple[str, ...] = ()
    workflow: str = ""

    @property
    def auto(self) -> bool:
        """Whether the router decides."""
        return not (self.role or self.models or self.workflow)


class Names:
    """Resolves names against a configuration."""

    def __init__(self, loaded: LoadedConfig) -> None:
        self.loaded = loaded
        self.roles = loaded.config.role_map()

    def target(self, name: str) -> Target:
        """What a name stands for.

        Raises:
            UnknownModel: nothing of that name is there.
        """
        config = self.loaded.config
        name = config.router.aliases.get(name, name)
        if name == AUTO:
            return Target()
        if name.startswith(WORKFLOW):
            return Target(workflow=name.removeprefix(WORKFLOW))
        if name in self.roles:
            return self.of_role(name)
        if name in config.models:
            return Target((config.roles_of(name) or ["general"])[0], (name,))
        raise unknown_model(name, self.all())

    def of_role(self, role: str) -> Target:
        """The target that a role is.

        Raises:
            UnknownModel: no model serves it.
        """
        if role not in self.roles:
            raise UnknownModel(f"no model serves the role {role!r}", hint=did_you_mean(role, self.roles))
        return Target(role, tuple(self.loaded.config.models_of(role)))

    def all(self, workflows: Iterable[str] = ()) -> list[str]:
        """All names, each once, in the order in which they are listed."""
        config = self.loaded.config
        named: Iterable[str] = (
            AUTO,
            *self.roles,
            *config.models,
            *config.router.aliases,
            *(f"{WORKFLOW}{name}" for name in workflows),
        )
        return list(dict.fromkeys(named))

    def describe(self, name: str, workflows: Mapping[str, str]) -> dict[str, Any]:
        """One entry of ``/v1/models``: OpenAI's fields, and ours under ``benchai``.

        Args:
            name: One of ``all``, or what stands for one.
            workflows: Workflow -> what it does.

        Raises:
            UnknownModel: nothing of that name is there.
        """
        target = self.target(name)
        about: dict[str, Any] = {"kind": "auto"}
        if target.workflow:
            if target.workflow not in workflows:
                raise unknown_model(name, self.all(workflows))
            about = {"kind": "workflow", "description": workflows[target.workflow]}
        elif target.models:
            kind = "role" if name in self.roles else "model"
            about = {"kind": kind, "roles": [target.role], "models": list(target.models)}
            about["context"] = self.loaded.config.models[target.models[0]].context
        return {"id": name, "object": "model", "created": 0, "owned_by": OWNER, "benchai": about}
