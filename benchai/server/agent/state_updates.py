"""Changing a thread's state from outside, as if one of its graph's nodes had."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.errors import EmptyInputError, InvalidUpdateError
from langgraph.pregel import Pregel
from langgraph.types import StateSnapshot, StateUpdate

from benchai.errors import BenchAIError, UsageError
from benchai.server.agent.database import AgentDatabase, Row
from benchai.server.agent.service import Conflict, Unprocessable
from benchai.server.agent.thread_rows import find_thread, is_busy, keep_state, turn

if TYPE_CHECKING:
    from benchai.bench import Bench
    from benchai.graphs.checkpoints import ThreadStore

#: What LangGraph takes for a node beside the graph's own: an input, the end of all that was to run, a copy.
SPECIAL = ("__start__", "__input__", "__end__", "__copy__")
_ROOT = "__root__"
_SHOWN = 500
_TITLE = "(begun by a client's state)"


@asynccontextmanager
async def sole(database: AgentDatabase, threads: ThreadStore, row: Row) -> AsyncIterator[None]:
    """The right to change a thread's checkpoints; changes wait for each other, and not for runs.

    Raises:
        Conflict: a run waits or is under way on it.
        UnknownItem: it was deleted meanwhile.
    """
    hint = "wait for it, or cancel it, and try again"
    busy = Conflict(f"a run is under way on the thread {row['thread_id']!r}", hint=hint)
    if is_busy(database, row["owner"], row["thread_id"]):
        raise busy
    async with turn(row["inner_id"]), AsyncExitStack() as stack:
        find_thread(database, row["owner"], row["thread_id"])
        if is_busy(database, row["owner"], row["thread_id"]):
            raise busy
        try:
            await stack.enter_async_context(threads.lock(row["inner_id"]))
        except UsageError as error:
            raise busy from error
        yield


async def update_state(
    database: AgentDatabase,
    bench: Bench,
    row: Row,
    graph_id: str,
    config: RunnableConfig,
    steps: Sequence[Sequence[StateUpdate]],
) -> RunnableConfig:
    """Apply updates one after the other, those of a step together; returns where the state is then.

    Raises:
        UsageError: a node is unknown, or LangGraph cannot tell for which one it is.
        Unprocessable: a key is unknown, or a value is none that the state takes.
        Conflict: a run waits or is under way on the thread.
    """
    graph = bench.graph(graph_id)
    target = _addressed(graph, str(config["configurable"].get("checkpoint_ns", "")))
    for update in (one for step in steps for one in step):
        _check(target, update)
    async with sole(database, bench.threads, row):
        await note_thread(bench.threads, row["inner_id"], graph_id)
        place = await _apply(graph, target, {**config, "metadata": {"graph_id": graph_id}}, steps)
        keep_state(database, row, graph_id, await graph.aget_state(root_of(row)))
    return place


def root_of(row: Row) -> RunnableConfig:
    """Where a thread's last state is."""
    return {"configurable": {"thread_id": row["inner_id"]}}


async def note_thread(
    threads: ThreadStore, inner: str, graph_id: str, title: str = _TITLE, snapshot: StateSnapshot | None = None
) -> None:
    """Make a thread known to the store, which may know it already; ``snapshot`` tells what a new one is at."""
    await threads.begin(inner, graph_id, title)
    if snapshot is None or (snapshot.next and not snapshot.interrupts):
        # as after a kill: there is something to go on with
        await threads.take_back(inner)
    else:
        await threads.end(inner, "awaiting_approval" if snapshot.interrupts else "completed")


async def _apply(
    graph: Pregel[Any, Any, Any, Any], target: Pregel[Any, Any, Any, Any], config: RunnableConfig, steps: Any
) -> RunnableConfig:
    try:
        return await graph.abulk_update_state(config, steps)
    except (InvalidUpdateError, EmptyInputError) as error:
        raise UsageError(f"the state cannot be updated: {_short(error)}", hint=_nodes(target)) from error
    except (BenchAIError, sqlite3.Error, OSError):
        raise
    except Exception as error:
        # a reducer, or a condition of an edge: code of the graph, given these values
        what = f"the state does not take these values: {type(error).__name__}: {_short(error)}"
        raise Unprocessable(what, hint="its schema is at /assistants/{id}/schemas") from error


def _check(target: Pregel[Any, Any, Any, Any], update: StateUpdate) -> None:
    if update.as_node is not None and update.as_node not in (*target.nodes, *SPECIAL):
        raise UsageError(f"there is no node {_short(update.as_node)!r}", hint=_nodes(target))
    keys = _keys(target)
    if not isinstance(update.values, dict) or keys is None or update.as_node == "__copy__":
        return
    unknown = [key for key in update.values if key not in keys]
    if unknown:
        named = ", ".join(repr(_short(key)) for key in unknown[:5])
        raise Unprocessable(f"the state has no key {named}", hint=f"its keys: {', '.join(sorted(keys))}")


def _addressed(graph: Pregel[Any, Any, Any, Any], namespace: str) -> Pregel[Any, Any, Any, Any]:
    """The graph that a namespace names: the ids of tasks are no part of its name."""
    if not namespace:
        return graph
    path = "|".join(part.partition(":")[0] for part in namespace.split("|") if not part.isdigit())
    for _, found in graph.get_subgraphs(namespace=path, recurse=True):
        return cast("Pregel[Any, Any, Any, Any]", found)
    raise UsageError(f"there is no nested graph {_short(path)!r}", hint="a state's tasks name their checkpoints")


def _keys(target: Any) -> set[str] | None:
    """The keys of a graph's state; None where it is no object."""
    builder = getattr(target, "builder", None)
    channels = set(builder.channels) if builder is not None else {_ROOT}
    return None if _ROOT in channels else channels


def _nodes(target: Pregel[Any, Any, Any, Any]) -> str:
    return f"its nodes: {', '.join(name for name in target.nodes if not name.startswith('__'))}"


def _short(found: object) -> str:
    text = str(found).partition("\nFor troubleshooting")[0]
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
