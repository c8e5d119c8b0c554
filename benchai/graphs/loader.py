"""Custom workflows of a user: ``workflows:`` in benchai.yaml, each ``./file.py:attribute``."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

from benchai.config import LoadedConfig
from benchai.errors import ConfigError
from benchai.graphs.registry import Workflow, WorkflowRegistry, builtin_workflows


def load_workflows(loaded: LoadedConfig) -> WorkflowRegistry:
    """The built-in workflows and those of the configuration; one that cannot be loaded is kept as broken.

    Raises:
        UsageError: a name is taken.
    """
    registry = builtin_workflows()
    for name, target in loaded.config.workflows.items():
        try:
            registry.add(_load(name, target, loaded.folder))
        except ConfigError as error:
            registry.add_broken(name, error)
    return registry


def _load(name: str, target: str, folder: Path) -> Workflow:
    path, _, attribute = target.rpartition(":")
    if not path or not attribute:
        raise ConfigError(f"workflows.{name} = {target!r} is not of the form ./file.py:attribute")
    module = _import(name, (folder / path).resolve())
    if not hasattr(module, attribute):
        raise ConfigError(f"workflows.{name} = {target!r}: {path} has no {attribute!r}")
    found = getattr(module, attribute)
    if isinstance(found, Workflow):
        return found
    doc = (getattr(found, "__doc__", None) if callable(found) else module.__doc__) or f"custom graph of {path}"
    return Workflow(name=name, description=doc.strip().splitlines()[0], build=_builder(name, target, found), roles=())


def _import(name: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"workflows.{name}: the file {str(path)!r} is missing")
    module_name = f"benchai_workflow_{name.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"workflows.{name}: {str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise ConfigError(f"workflows.{name}: {path.name} fails: {type(error).__name__}: {error}") from error
    return module


def _builder(name: str, target: str, found: Any) -> Callable[[], StateGraph[Any, Any, Any, Any]]:
    """A function that builds the graph, from a graph, a compiled graph or a factory of one."""

    def build() -> StateGraph[Any, Any, Any, Any]:
        graph = found() if callable(found) and not isinstance(found, StateGraph | CompiledStateGraph) else found
        if isinstance(graph, CompiledStateGraph):
            graph = graph.builder
        if not isinstance(graph, StateGraph):
            raise ConfigError(f"workflows.{name} = {target!r} is no StateGraph but {type(graph).__name__!r}")
        return graph

    return build
