"""Workflows by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import HumanMessage
from langgraph.graph import StateGraph
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchai.errors import BenchAIError, UnknownWorkflow, UsageError, did_you_mean
from benchai.graphs.names import BUILTIN


class TaskInput(BaseModel):
    """What a workflow is given."""

    model_config = ConfigDict(extra="forbid")

    task: str = Field(description="The task, in words")


class TextOutput(BaseModel):
    """What a workflow returns."""

    output: str = Field(description="The answer")


def _nothing(_: Mapping[str, Any]) -> str:
    return ""


@dataclass(frozen=True)
class Workflow:
    """A registered graph: its state holds ``messages``, the task comes in as the first of a run.

    Attributes:
        name: What ``benchai run`` is given.
        description: One line.
        build: Makes the graph.
        roles: Roles that must be served; those that have a substitute are left out.
        input: What it is given; fields beside ``task`` become keys of the state.
        output: What it returns.
        steps: Calls of a model that a run may make, unless the configuration says otherwise.
        reset: Keys of the state that a new task on a thread begins with.
        written: The best text so far, from the state of a run that ended before its answer.
        exact: Whether blanks around the answer belong to it, as in a diff.
    """

    name: str
    description: str
    build: Callable[[], StateGraph[Any, Any, Any, Any]]
    roles: tuple[str, ...]
    input: type[BaseModel] = TaskInput
    output: type[BaseModel] = TextOutput
    steps: int = 12
    reset: Mapping[str, Any] = field(default_factory=dict)
    written: Callable[[Mapping[str, Any]], str] = _nothing
    exact: bool = False

    def start(self, question: HumanMessage, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What a run begins with.

        Raises:
            UsageError: an input is unknown, missing or wrong.
        """
        try:
            given = self.input.model_validate({"task": str(question.text), **inputs})
        except ValidationError as error:
            raise UsageError(f"{self.name}: {_complaint(error)}", hint=self._inputs()) from error
        return {"messages": [question], **self.reset, **given.model_dump(exclude={"task"})}

    def defaults(self) -> dict[str, Any]:
        """The inputs beside the task where the user gives none."""
        return self.input.model_validate({"task": "-"}).model_dump(exclude={"task"})

    def _inputs(self) -> str:
        names = [name for name in self.input.model_fields if name != "task"]
        return f"inputs of {self.name}: {', '.join(names) or 'none beside the task'}"


def _complaint(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"the input {name!r} is unknown"
    return f"the input {name} = {first['input']!r} is wrong: {first['msg'][:1].lower()}{first['msg'][1:]}"


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
            missing = f"; could not be loaded: {', '.join(self.broken)}" if self.broken else ""
            hint = did_you_mean(name, self._workflows) + missing
            raise UnknownWorkflow(f"there is no workflow {name!r}", hint=hint)
        return self._workflows[name]

    def all(self) -> list[Workflow]:
        """All workflows that can be run, by name."""
        return [self._workflows[name] for name in sorted(self._workflows) if name not in self.broken]

    def check(self) -> None:
        """Make every graph that is not built in once; one that cannot be made is broken from now on."""
        for workflow in self.all():
            if workflow.name not in BUILTIN:
                try:
                    workflow.build()
                except BenchAIError as error:
                    self.add_broken(workflow.name, error)


def builtin_workflows() -> WorkflowRegistry:
    """The workflows that BenchAI brings, one module of this package each."""
    modules = (importlib.import_module(f"benchai.graphs.{name.replace('-', '_')}") for name in BUILTIN)
    return WorkflowRegistry(module.WORKFLOW for module in modules)
