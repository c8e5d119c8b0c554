"""Workflows by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from langgraph.graph import StateGraph
from pydantic import BaseModel, Field

from benchai.errors import BenchAIError, UnknownWorkflow, UsageError, did_you_mean

BUILTIN = ("react",)


class TaskInput(BaseModel):
    """What a workflow is given."""

    task: str = Field(description="The task, in words")


class TextOutput(BaseModel):
    """What a workflow returns."""

    output: str = Field(description="The answer")


@dataclass(frozen=True)
class Workflow:
    """A registered graph: its state holds ``messages``, the task comes in as the first of a run."""

    name: str
    description: str
    build: Callable[[], StateGraph[Any, Any, Any, Any]]
    roles: tuple[str, ...]
    input: type[BaseModel] = TaskInput
    output: type[BaseModel] = TextOutput


class WorkflowRegistry:
    """Names to workflows."""

    def __init__(self, workflows: Iterable[Workflow] = ()) -> None:
        self._workflows: dict[str, Workflow] = {}
        self.broken: dict[str, BenchAIError] = {}
        for workflow in workflows:
            self.add(workflow)

    def add(self, workflow: Workflow) -> None:
        """Register a workflow.

        Raises:
            UsageError: the name is taken.
        """
        if workflow.name in self._workflows:
            raise UsageError(f"the workflow {workflow.name!r} is registered twice", hint="rename one of them")
        self._workflows[workflow.name] = workflow

    def add_broken(self, name: str, error: BenchAIError) -> None:
        """Remember why a workflow cannot be loaded; the others are there all the same."""
        self.broken[name] = error

    def get(self, name: str) -> Workflow:
        """The workflow of a name.

        Raises:
            UnknownWorkflow: there is none; names the nearest.
            BenchAIError: it cannot be loaded.
        """
        if name in self.broken:
            raise self.broken[name]
        if name not in self._workflows:
            raise UnknownWorkflow(f"there is no workflow {name!r}", hint=did_you_mean(name, self._workflows))
        return self._workflows[name]

    def all(self) -> list[Workflow]:
        """All workflows, by name."""
        return [self._workflows[name] for name in sorted(self._workflows)]


def builtin_workflows() -> WorkflowRegistry:
    """The workflows that BenchAI brings, one module of this package each."""
    modules = (importlib.import_module(f"benchai.graphs.{name.replace('-', '_')}") for name in BUILTIN)
    return WorkflowRegistry(module.WORKFLOW for module in modules)
