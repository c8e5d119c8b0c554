"""Graphs of users as workflows: a graph, a compiled graph, or a function that makes one, checked before they run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, cast

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel

from benchai.errors import ConfigError, UsageError
from benchai.graphs.context import RunContext
from benchai.graphs.declared import declaration_of
from benchai.graphs.importing import failure, line_of
from benchai.graphs.registry import TaskInput, TextOutput, Workflow

AnyGraph = StateGraph[Any, Any, Any, Any]
Compiled = CompiledStateGraph[Any, Any, Any, Any]


@dataclass(frozen=True)
class Origin:
    """Where a workflow comes from: how messages call it, and the file."""

    label: str
    path: Path | None = None
    attribute: str | None = None

    def at(self, found: object = None) -> str:
        """The label, with file and line where they are known."""
        code = getattr(inspect.unwrap(found), "__code__", None) if callable(found) else None
        path = Path(code.co_filename) if code else self.path
        line = code.co_firstlineno if code else None
        if line is None and path and self.attribute:
            line = line_of(path, self.attribute)
        if path is None:
            return self.label
        return f"{self.label}: {path.name}, line {line}" if line else f"{self.label}: {path.name}"


class _WithOwnContext(Compiled):
    """Runs with the context that the graph declares, in place of a ``RunContext``."""

    def astream(self, input: Any, config: Any = None, *, context: Any = None, **settings: Any) -> Any:
        """As in LangGraph; of ``context``, what the caller gave for this graph is handed on."""
        given = context.given if isinstance(context, RunContext) else {}
        return super().astream(input, config, context=_made(self.context_schema, given), **settings)


class ForeignGraph(AnyGraph):
    """A graph that was made for LangGraph alone: keeps its own context, store and cache."""

    def compile(self, checkpointer: Any = None, **settings: Any) -> Compiled:
        """As in LangGraph."""
        compiled = super().compile(checkpointer, **{**self.kept, **settings})
        if self.context_schema not in (None, RunContext):
            compiled.__class__ = _WithOwnContext
        return compiled

    @classmethod
    def of(cls, graph: AnyGraph, **kept: Any) -> ForeignGraph:
        """The same graph; ``kept`` are settings that it was compiled with."""
        foreign = cls.__new__(cls)
        foreign.__dict__.update(graph.__dict__)
        foreign.kept = kept
        return foreign

    kept: dict[str, Any]


def has_store(graph: AnyGraph) -> bool:
    """Whether a graph was compiled with a store of its own."""
    return isinstance(graph, ForeignGraph) and graph.kept.get("store") is not None


def workflow_from(name: str, found: Any, origin: Origin, description: str | None = None) -> Workflow:
    """A workflow of what a user's file holds under a name.

    Raises:
        ConfigError: it is no graph, makes none, or cannot be run; names the file and the line.
    """
    if isinstance(found, Workflow):
        return replace(found, name=name)
    if isinstance(found, StateGraph | CompiledStateGraph):
        graph = checked(found, origin)
        return Workflow(name, description or f"custom graph of {_named(origin)}", lambda: graph, ())
    if not callable(found):
        raise ConfigError(f"{origin.label} is no StateGraph but {type(found).__name__!r}{_place(origin)}")
    _check_parameters(found, origin)
    return _declared(name, found, origin, description)


def _declared(name: str, function: Callable[..., Any], origin: Origin, description: str | None) -> Workflow:
    """The workflow of a function, with what ``@workflow`` said of it."""
    declared = declaration_of(function)
    doc = inspect.getdoc(function) if inspect.isroutine(function) else None
    told = (declared.description if declared else None) or description or (doc or "").strip().partition("\n")[0]
    made = Workflow(name, told or f"custom graph of {_named(origin)}", lambda: _build(function, origin), ())
    if declared is None:
        return made
    return replace(
        made,
        roles=declared.roles,
        input=declared.input or TaskInput,
        output=declared.output or TextOutput,
        steps=declared.steps or Workflow.steps,
        reset=declared.reset or {},
    )


def _named(origin: Origin) -> str:
    return origin.path.name if origin.path else origin.label


def _place(origin: Origin) -> str:
    return origin.at().removeprefix(origin.label).replace(": ", " (", 1) + ")" if origin.path else ""


def _check_parameters(function: Callable[..., Any], origin: Origin) -> None:
    """Whether a function can be called with nothing, or with a LangGraph configuration.

    Raises:
        ConfigError: it wants more.
    """
    wanted = _wanted(function)
    if len(wanted) > 1 or any("ServerRuntime" in str(one.annotation) for one in wanted):
        names = ", ".join(one.name for one in wanted)
        hint = "give the parameters defaults; at most one, a RunnableConfig, may be without"
        raise ConfigError(f"{origin.at(function)}: the function wants {names}", hint=hint)


def _wanted(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one for one in parameters if one.default is inspect.Parameter.empty and one.kind not in variable]


def _build(function: Callable[..., Any], origin: Origin) -> AnyGraph:
    """The graph that a function makes, checked.

    Raises:
        ConfigError: the function fails, or its graph cannot be run; names the file and the line.
    """
    try:
        made = _call(function)
    except (Exception, SystemExit) as error:
        code = getattr(inspect.unwrap(function), "__code__", None)
        raise failure(origin.label, Path(code.co_filename) if code else origin.path, error) from error
    if isinstance(made, AbstractContextManager | AbstractAsyncContextManager):
        raise ConfigError(f"{origin.at(function)}: it yields its graph", hint="return the graph, without a context")
    if not isinstance(made, StateGraph | CompiledStateGraph):
        raise ConfigError(f"{origin.at(function)}: it returns no StateGraph but {type(made).__name__!r}")
    return checked(made, origin, function)


def _call(function: Callable[..., Any]) -> Any:
    config: dict[str, Any] = {"configurable": {}}
    wanted = _wanted(function)
    if wanted and wanted[0].kind is inspect.Parameter.KEYWORD_ONLY:
        made = function(**{wanted[0].name: config})
    else:
        made = function(*([config] if wanted else []))
    return _awaited(made) if inspect.isawaitable(made) else made


def _awaited(made: Awaitable[Any]) -> Any:
    """What an async function returns; it has a loop of its own, since ours cannot wait for it here."""

    async def wait() -> Any:
        return await made

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, wait()).result()


def checked(graph: AnyGraph | Compiled, origin: Origin, function: Callable[..., Any] | None = None) -> AnyGraph:
    """A graph that can be run as a workflow.

    Raises:
        ConfigError: it cannot: no way in or out, no ``messages``, a checkpointer or breakpoints of its own, or a
            context that wants values.
    """
    at = origin.at(function)
    if isinstance(graph, StateGraph):
        _check(graph, at)
        return ForeignGraph.of(graph)
    if graph.checkpointer is not None:
        hint = "compile it without: BenchAI keeps the threads"
        raise ConfigError(f"{at}: the graph is compiled with a checkpointer of its own", hint=hint)
    if graph.interrupt_before_nodes or graph.interrupt_after_nodes:
        hint = "call langgraph.types.interrupt in the node, or let tools ask by their permissions"
        raise ConfigError(
            f"{at}: the graph is compiled with breakpoints (interrupt_before, interrupt_after)", hint=hint
        )
    _check(graph.builder, at)
    return ForeignGraph.of(graph.builder, store=graph.store, cache=graph.cache)


def _check(graph: AnyGraph, at: str) -> None:
    try:
        graph.validate()
    except ValueError as error:
        raise ConfigError(f"{at}: {error}", hint="add the edge where the graph is made") from error
    if not _may_end(graph):
        hint = "add an edge to langgraph.graph.END, or a node that no edge leads away from"
        raise ConfigError(f"{at}: the graph has no end: every node leads to another one", hint=hint)
    for what, schema in (
        ("state", graph.state_schema),
        ("input", graph.input_schema),
        ("output", graph.output_schema),
    ):
        keys = sorted(graph.schemas.get(schema, {}))
        if "messages" not in keys:
            raise ConfigError(
                f"{at}: the graph's {what} has no 'messages', only {', '.join(keys) or 'nothing'}",
                hint="the task comes in as a message, and the last message of a model is the answer",
            )
    _check_context(graph.context_schema, at)


def _may_end(graph: AnyGraph) -> bool:
    """Whether some way leads from START to a node where the graph ends."""
    seen: set[str] = set()
    to_see = [START]
    while to_see:
        node = to_see.pop()
        following = _following(graph, node)
        if following is None or not following or END in following:
            return True
        seen.add(node)
        to_see += following - seen
    return False


def _following(graph: AnyGraph, node: str) -> set[str] | None:
    """The nodes after a node; None where any may come."""
    branches = graph.branches.get(node, {}).values()
    if any(branch.ends is None for branch in branches):
        return None
    found = {end for start, end in graph.edges if start == node}
    found |= {end for starts, end in graph.waiting_edges if node in starts}
    found |= {end for branch in branches for end in (branch.ends or {}).values()}
    return found | (set(graph.nodes[node].ends or ()) if node in graph.nodes else set())


def _check_context(schema: Any, at: str) -> None:
    if schema in (None, RunContext):
        return
    try:
        _made(schema, {})
    except Exception as error:
        wanted = ", ".join(_without_default(schema)) or str(error)
        hint = "give every field a default, or take RunContext as context_schema"
        raise ConfigError(f"{at}: its context_schema {schema.__name__} wants {wanted}", hint=hint) from error


def _made(schema: Any, given: Mapping[str, Any]) -> Any:
    """A context of a graph's own schema.

    Raises:
        UsageError: what is given does not fit it.
    """
    try:
        return schema(**given)
    except Exception as error:
        if not given:
            raise
        raise UsageError(f"the context {dict(given)!r} does not fit {schema.__name__}: {error}") from error


def _without_default(schema: Any) -> list[str]:
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return [name for name, one in schema.model_fields.items() if one.is_required()]
    if is_dataclass(schema):
        return [one.name for one in fields(cast(Any, schema)) if one.default is one.default_factory is MISSING]
    return []
