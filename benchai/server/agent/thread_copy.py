"""Copying a thread: its checkpoints through the checkpointer's own interface, wherever they are kept."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from benchai.errors import UnknownThread
from benchai.runtime.background import in_background
from benchai.server.agent.database import Row, from_json
from benchai.server.agent.ids import new_id
from benchai.server.agent.service import AgentService
from benchai.server.agent.state_updates import note_thread, root_of
from benchai.server.agent.thread_rows import delete_rows, find_thread, graph_of, inner_id, insert_thread, keep_state

if TYPE_CHECKING:
    from benchai.bench import Bench
    from benchai.graphs.checkpoints import ThreadStore

# how many are held in memory at a time; each has all of its state
PAGE = 20
Saver = BaseCheckpointSaver[Any]


async def copy_thread(service: AgentService, row: Row) -> Row:
    """Make a thread that is at what another one is at, with its history; what waits there waits here, too.

    Raises:
        UnknownItem: the thread was deleted meanwhile.
    """
    graph_id, owner, new = graph_of(row), row["owner"], new_id()
    if graph_id is None:
        return insert_thread(service.database, owner, new, metadata=from_json(row["metadata"]))
    target = inner_id(owner, new)
    async with service.workshop.bench() as bench:
        try:
            return await _copied(service, bench, row, graph_id, new)
        except BaseException:
            # cancelled, too: nothing is to be left of half a copy
            await asyncio.shield(_undone(service, bench.threads, owner, new, target))
            raise


async def _copied(service: AgentService, bench: Bench, row: Row, graph_id: str, new: str) -> Row:
    owner, inner = row["owner"], inner_id(row["owner"], new)
    graph = bench.graph(graph_id)
    await copy_checkpoints(bench.threads.saver, row["inner_id"], inner)
    await in_background(_copy_results, bench.threads.results(row["inner_id"]), bench.threads.results(inner))
    # deleted meanwhile? then there is nothing to copy
    metadata = from_json(find_thread(service.database, owner, row["thread_id"])["metadata"])
    made = insert_thread(service.database, owner, new, metadata=metadata, graph_id=graph_id)
    snapshot = await graph.aget_state(root_of(made))
    await note_thread(bench.threads, inner, graph_id, f"copy of {row['thread_id']}", snapshot)
    keep_state(service.database, made, graph_id, snapshot)
    return find_thread(service.database, owner, new, state=True)


async def _undone(service: AgentService, threads: ThreadStore, owner: str, new: str, inner: str) -> None:
    delete_rows(service.database, owner, new)
    try:
        await threads.delete(inner)
    except UnknownThread:
        await threads.saver.adelete_thread(inner)
        await in_background(shutil.rmtree, threads.results(inner), ignore_errors=True)


def _copy_results(source: Path, target: Path) -> None:
    """The texts that were too long for the model, to which the conversation points."""
    if source.is_dir():
        shutil.copytree(source, target)


async def copy_checkpoints(saver: Saver, source: str, target: str) -> int:
    """Copy all checkpoints of a thread, those of nested graphs too, with what its nodes wrote; returns how many.

    Their ids stay: the ids of tasks, by which nested graphs are found and questions answered, are made of them.

    Args:
        saver: Where both threads are kept.
        source: The thread's id there.
        target: The id of a thread that has no checkpoints yet.
    """
    known: set[tuple[str, str, Any]] = set()
    count = 0
    async for found in _all(saver, source):
        namespace = str(found.config["configurable"].get("checkpoint_ns", ""))
        versions = found.checkpoint["channel_versions"]
        # a value is kept once, by its version, however many checkpoints have it
        new = {name: version for name, version in versions.items() if (namespace, name, version) not in known}
        known |= {(namespace, name, version) for name, version in new.items()}
        metadata: Any = {**found.metadata, "thread_id": target} if "thread_id" in found.metadata else found.metadata
        place = await saver.aput(_parent(found, target, namespace), found.checkpoint, metadata, new)
        await _copy_writes(saver, found, place)
        count += 1
    return count


async def _all(saver: Saver, thread_id: str) -> AsyncIterator[CheckpointTuple]:
    before: RunnableConfig | None = None
    while True:
        # without a namespace: those of all
        page = [one async for one in saver.alist({"configurable": {"thread_id": thread_id}}, before=before, limit=PAGE)]
        for one in page:
            yield one
        if len(page) < PAGE:
            return
        before = page[-1].config


def _parent(found: CheckpointTuple, target: str, namespace: str) -> RunnableConfig:
    place: dict[str, Any] = {"thread_id": target, "checkpoint_ns": namespace}
    if found.parent_config is not None:
        place["checkpoint_id"] = found.parent_config["configurable"]["checkpoint_id"]
    return {"configurable": place}


async def _copy_writes(saver: Saver, found: CheckpointTuple, place: RunnableConfig) -> None:
    by_task: dict[str, list[tuple[str, Any]]] = {}
    for task, channel, value in found.pending_writes or ():
        by_task.setdefault(task, []).append((channel, value))
    for number, (task, writes) in enumerate(by_task.items()):
        # the path is not told, only the order that it made
        await saver.aput_writes(place, writes, task, f"{number:08d}")
